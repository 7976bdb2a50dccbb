//! The discrete Fourier transform that the slot encoder needs: powers of two, double precision, host-made tables and a
//! fixed order of operations without fused multiply-adds, so that every implementation of it gives the same bits.

use std::f64::consts::TAU;
use std::ops::{Add, Mul, Sub};

/// A complex number.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Complex {
    /// Real part.
    pub re: f64,
    /// Imaginary part.
    pub im: f64,
}

impl Complex {
    /// `re + i im`.
    pub const fn new(re: f64, im: f64) -> Self {
        Self { re, im }
    }

    /// `exp(2 pi i numerator / denominator)`.
    pub fn unit(numerator: usize, denominator: usize) -> Self {
        let (im, re) = (TAU * numerator as f64 / denominator as f64).sin_cos();
        Self { re, im }
    }

    /// The complex conjugate.
    pub const fn conjugate(self) -> Self {
        Self { re: self.re, im: -self.im }
    }

    /// Both parts times `factor`.
    pub fn scale(self, factor: f64) -> Self {
        Self { re: self.re * factor, im: self.im * factor }
    }
}

impl Add for Complex {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }
}

impl Sub for Complex {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }
}

impl Mul for Complex {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }
}

/// Transforms of one size, a power of two.
#[derive(Debug)]
pub struct Fft {
    /// `exp(2 pi i k / size)` for `k < size / 2`.
    twiddles: Vec<Complex>,
}

impl Fft {
    /// Tables for `size` values.
    pub fn new(size: usize) -> Self {
        Self { twiddles: (0..size / 2).map(|k| Complex::unit(k, size)).collect() }
    }

    /// `X_t = sum_k x_k exp(2 pi i k t / size)`, natural order in, bit-reversed order out.
    pub fn forward(&self, values: &mut [Complex]) {
        let mut half = values.len() / 2;
        let mut stride = 1;
        while half > 0 {
            for block in values.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((x, y), &twiddle) in low.iter_mut().zip(high).zip(self.twiddles.iter().step_by(stride)) {
                    (*x, *y) = (*x + *y, (*x - *y) * twiddle);
                }
            }
            (half, stride) = (half / 2, stride * 2);
        }
    }

    /// The inverse of [`forward`](Self::forward) without the factor `1 / size`: bit-reversed order in, natural out.
    pub fn inverse(&self, values: &mut [Complex]) {
        let (mut half, mut stride) = (1, values.len() / 2);
        while half < values.len() {
            for block in values.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((x, y), twiddle) in low.iter_mut().zip(high).zip(self.twiddles.iter().step_by(stride)) {
                    let turned = *y * twiddle.conjugate();
                    (*x, *y) = (*x + turned, *x - turned);
                }
            }
            (half, stride) = (half * 2, stride / 2);
        }
    }
}
