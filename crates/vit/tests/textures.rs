//! Random features carry texture: a linear head on them tells the orientation of a grating, which the
//! colour mean and deviation of these images do not contain.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use arras_vit::{Architecture, Device, Vit};
use image::{DynamicImage, Rgb, RgbImage};

/// xorshift64*, enough for pictures.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / 16_777_216.0
    }
}

/// A grating of random phase, pitch, contrast and colour, along columns or along rows, in noise.
fn tile(along_rows: bool, random: &mut Random) -> DynamicImage {
    let [phase, pitch, contrast] =
        [6.3 * random.uniform(), 0.5 + 0.2 * random.uniform(), 20.0 + 30.0 * random.uniform()];
    let colour: [f32; 3] = std::array::from_fn(|_| 80.0 + 90.0 * random.uniform());
    DynamicImage::ImageRgb8(RgbImage::from_fn(90, 90, |x, y| {
        let position = if along_rows { x } else { y } as f32;
        let value = contrast * (pitch * position + phase).sin() + 30.0 * (random.uniform() - 0.5);
        Rgb(colour.map(|c| (c + value).clamp(0.0, 255.0) as u8))
    }))
}

/// Solves `(G + lambda I) a = y` for the symmetric positive definite Gram matrix of `rows`, by elimination.
fn dual_ridge(rows: &[Vec<f32>], y: &[f64], lambda: f64) -> Vec<f64> {
    let n = rows.len();
    let mut system: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let mut equation: Vec<f64> = rows.iter().map(|row| dot(&rows[i], row)).collect();
            equation[i] += lambda;
            equation.push(y[i]);
            equation
        })
        .collect();
    for pivot in 0..n {
        let row = system[pivot].clone();
        for other in (0..n).filter(|other| *other != pivot) {
            let factor = system[other][pivot] / row[pivot];
            for (value, pivot_value) in system[other].iter_mut().zip(&row) {
                *value -= factor * pivot_value;
            }
        }
    }
    (0..n).map(|i| system[i][n] / system[i][i]).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn a_linear_head_on_random_features_reads_orientation() {
    const TRAIN: usize = 128;
    const TEST: usize = 64;
    let vit = Vit::random(&Architecture::tiny(), 1, &Device::Cpu).unwrap();
    let mut random = Random(1);
    let pixels: Vec<_> = (0..TRAIN + TEST)
        .map(|index| vit.preprocessor().pixels(&tile(index.is_multiple_of(2), &mut random)).unwrap())
        .collect();
    let mut features: Vec<Vec<f32>> =
        pixels.chunks(32).flat_map(|batch| vit.embed_batch(batch).unwrap()).collect();
    let width = vit.config().width();
    let mean: Vec<f32> =
        (0..width).map(|j| features[..TRAIN].iter().map(|row| row[j]).sum::<f32>() / TRAIN as f32).collect();
    for row in &mut features {
        row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
    }
    let sign = |index: usize| if index.is_multiple_of(2) { 1.0 } else { -1.0 };
    let labels: Vec<f64> = (0..TRAIN).map(sign).collect();
    let scale = features[..TRAIN].iter().map(|row| dot(row, row)).sum::<f64>() / TRAIN as f64;
    let weights = dual_ridge(&features[..TRAIN], &labels, 1e-2 * scale);
    let right = (TRAIN..TRAIN + TEST)
        .filter(|&index| {
            let score: f64 =
                features[..TRAIN].iter().zip(&weights).map(|(row, a)| a * dot(row, &features[index])).sum();
            score * sign(index) > 0.0
        })
        .count();
    println!("{right} of {TEST}");
    assert!(right * 10 >= TEST * 9, "{right} of {TEST}");
}
