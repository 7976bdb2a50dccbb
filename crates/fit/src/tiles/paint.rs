//! From cells to pixels: stain densities, light, scanner, and the equalising last step.

use super::cells::{Cells, Lumen, Nucleus, Vector};
use super::{Patient, REFERENCE_SIZE, Site};
use crate::random::Stream;

/// Side of the lattice of a [`Noise`].
const LATTICE: usize = 32;
/// Scatter of a tile's colour around its patient's: mean and relative deviation per channel.
const MEAN_SCATTER: f32 = 0.015;
const DEVIATION_SCATTER: f32 = 0.06;

/// Paints a tile of `size` by `size` pixels, `[size][size][3]`.
pub(super) fn paint(
    stream: &mut Stream,
    size: usize,
    cells: &Cells,
    patient: &Patient,
    site: &Site,
) -> Vec<u8> {
    let mut canvas = Canvas::stroma(stream, size);
    cells.lumina.iter().for_each(|lumen| canvas.hollow(lumen));
    let chromatin = Noise::draw(stream);
    cells.nuclei.iter().for_each(|nucleus| canvas.nucleus(nucleus, &chromatin));

    let mut target = |channel: usize| {
        let mean = patient.mean[channel] + site.tint[channel] + MEAN_SCATTER * stream.bell();
        (mean, patient.deviation[channel] * (1.0 + DEVIATION_SCATTER * stream.bell()))
    };
    let targets = [target(0), target(1), target(2)];
    let mut rgb = vec![0; size * size * 3];
    for (channel, (mean, deviation)) in targets.into_iter().enumerate() {
        let mut plane = canvas.light(patient.haematoxylin[channel], patient.eosin[channel]);
        blur(&mut plane, size, site.blur);
        for value in &mut plane {
            *value += site.bend * *value * (1.0 - *value) + site.noise * stream.bell();
        }
        equalise(&mut plane, mean, deviation);
        for (pixel, value) in rgb.chunks_exact_mut(3).zip(plane) {
            // Float to integer saturates.
            pixel[channel] = (value * 255.0 + 0.5) as u8;
        }
    }
    rgb
}

/// Densities of the two stains, `[size][size]`.
struct Canvas {
    size: usize,
    /// Pixels per reference pixel.
    scale: f32,
    haematoxylin: Vec<f32>,
    eosin: Vec<f32>,
}

impl Canvas {
    /// Wavy fibres of eosin in a random direction.
    fn stroma(stream: &mut Stream, size: usize) -> Self {
        let scale = size as f32 / REFERENCE_SIZE;
        let (fibres, waves) = (Noise::draw(stream), Noise::draw(stream));
        let along = Vector::direction(stream);
        let strength = stream.uniform(0.2, 0.35);
        let density = |pixel: usize| {
            let (x, y) = ((pixel % size) as f32 / scale, (pixel / size) as f32 / scale);
            let wave = 6.0 * waves.at(x / 24.0, y / 24.0);
            let (u, v) = (along.x * x + along.y * y, along.x * y - along.y * x + wave);
            0.45 + strength * (fibres.at(u / 16.0, v / 2.6) - 0.5) + 0.15 * waves.at(y / 11.0, x / 11.0)
        };
        Canvas {
            size,
            scale,
            haematoxylin: vec![0.04; size * size],
            eosin: (0..size * size).map(density).collect(),
        }
    }

    /// Calls `change` with the index of each pixel within `reach` of a point and its offset from it, both
    /// lengths in reference pixels.
    fn around(&mut self, centre: Vector, reach: f32, mut change: impl FnMut(&mut Self, usize, Vector)) {
        let last = self.size as f32 - 1.0;
        let pixel = |length: f32| (length * self.scale).clamp(0.0, last) as usize;
        let (left, right) = (pixel(centre.x - reach), pixel(centre.x + reach));
        let (top, bottom) = (pixel(centre.y - reach), pixel(centre.y + reach));
        for row in top..=bottom {
            for column in left..=right {
                let (x, y) = (column as f32 / self.scale, row as f32 / self.scale);
                change(self, row * self.size + column, Vector { x: x - centre.x, y: y - centre.y });
            }
        }
    }

    fn hollow(&mut self, lumen: &Lumen) {
        let radius = lumen.radius;
        self.around(lumen.centre, radius + 1.0, |canvas, pixel, offset| {
            let distance = (offset.x * offset.x + offset.y * offset.y).sqrt();
            canvas.eosin[pixel] *= 1.0 - 0.6 * (radius - distance).clamp(0.0, 1.0);
        });
    }

    fn nucleus(&mut self, nucleus: &Nucleus, chromatin: &Noise) {
        let Nucleus { centre, axis, long, short, density } = *nucleus;
        self.around(centre, 1.3 * long, |canvas, pixel, offset| {
            let u = (axis.x * offset.x + axis.y * offset.y) / long;
            let v = (axis.x * offset.y - axis.y * offset.x) / short;
            let distance = (u * u + v * v).sqrt();
            // 1 inside, 0 outside, a soft rim one pixel wide.
            let inside = ((1.0 - distance) * short + 0.5).clamp(0.0, 1.0);
            let grain = chromatin.at(0.45 * (centre.x + offset.x), 0.45 * (centre.y + offset.y));
            let stain = inside * density * (0.65 + 0.5 * grain);
            canvas.haematoxylin[pixel] = canvas.haematoxylin[pixel].max(stain);
        });
    }

    /// Light that passes, by the law of Beer and Lambert with `1 / (1 + d + d^2/2 + d^3/6)` for `exp(-d)`.
    fn light(&self, haematoxylin: f32, eosin: f32) -> Vec<f32> {
        let stains = self.haematoxylin.iter().zip(&self.eosin);
        stains
            .map(|(h, e)| {
                let density = (h * haematoxylin + e * eosin).max(0.0);
                1.0 / (1.0 + density * (1.0 + density * (0.5 + density / 6.0)))
            })
            .collect()
    }
}

/// Value noise: random numbers in \[0, 1\] on a lattice that repeats, smoothly interpolated.
struct Noise(Vec<f32>);

impl Noise {
    fn draw(stream: &mut Stream) -> Self {
        Noise((0..LATTICE * LATTICE).map(|_| stream.uniform(0.0, 1.0)).collect())
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let cell = |value: f32| (value.floor() as i32).rem_euclid(LATTICE as i32) as usize;
        let smooth = |value: f32| {
            let part = value - value.floor();
            part * part * (3.0 - 2.0 * part)
        };
        let (column, row, u, v) = (cell(x), cell(y), smooth(x), smooth(y));
        let (right, below) = ((column + 1) % LATTICE, (row + 1) % LATTICE);
        let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
        let corner = |row: usize, column: usize| self.0[row * LATTICE + column];
        let upper = mix(corner(row, column), corner(row, right), u);
        mix(upper, mix(corner(below, column), corner(below, right), u), v)
    }
}

/// The 3 by 3 binomial filter with the given weight, edges repeated.
fn blur(plane: &mut [f32], size: usize, weight: f32) {
    let smooth = |before: f32, here: f32, after: f32| here + weight * 0.25 * (before - 2.0 * here + after);
    for row in plane.chunks_exact_mut(size) {
        let mut before = row[0];
        for column in 0..size {
            let (here, after) = (row[column], row[(column + 1).min(size - 1)]);
            row[column] = smooth(before, here, after);
            before = here;
        }
    }
    for column in 0..size {
        let mut before = plane[column];
        for row in 0..size {
            let (here, after) = (plane[row * size + column], plane[(row + 1).min(size - 1) * size + column]);
            plane[row * size + column] = smooth(before, here, after);
            before = here;
        }
    }
}

/// Gives the values a mean and a standard deviation. Sums in f64, in order.
fn equalise(plane: &mut [f32], mean: f32, deviation: f32) {
    let count = plane.len() as f64;
    let old_mean = plane.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let square = |&value: &f32| (f64::from(value) - old_mean) * (f64::from(value) - old_mean);
    let old_deviation = (plane.iter().map(square).sum::<f64>() / count).sqrt();
    let gain = if old_deviation > 0.0 { f64::from(deviation) / old_deviation } else { 0.0 };
    for value in plane {
        *value = (f64::from(mean) + gain * (f64::from(*value) - old_mean)) as f32;
    }
}
