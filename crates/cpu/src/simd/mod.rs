//! The kernels on vector registers, bit-equal to [`portable`](crate::portable).
//!
//! | module | what |
//! |---|---|
//! | [`lanes`] | vectors of 64-bit lanes: AVX-512, AVX2, IFMA |
//! | [`butterfly`] | lazy multiplication by constants, and the butterflies of the transforms |
//! | [`ntt`] | passes, tails and tables of the transforms |
//! | [`modular`] | products and sums of products of residues |
//! | [`rows`] | the other row kernels |
//!
//! All `unsafe` of the crate is in this module, but for one call of the system in `memory`. It is of three kinds: intrinsics, which a token of [`lanes`] vouches for;
//! loads and stores at offsets that an assertion at the entry bounds; and calls of functions compiled for more features
//! than the crate, which again a token vouches for.

// Arrays of vectors are indexed by constants throughout, so that they stay in registers.
#![allow(clippy::needless_range_loop)]

mod butterfly;
mod lanes;
mod modular;
mod ntt;
mod rows;

use core::ops::Range;

use arras_rns::Ring;
use butterfly::{Harvey52, Lazy52, Shoup64, Wide52};
use lanes::{Avx2, Avx512, Ifma};
use modular::{Narrow, Wide};
use ntt::Transform;

use crate::path::Path;
use crate::tables::{Factor, Terms};

/// The kernels of one limb, for its modulus and degree.
#[derive(Debug)]
pub(crate) struct Kernels {
    transform: AnyTransform,
    rows: AnyModular,
}

#[derive(Debug)]
enum AnyTransform {
    /// IFMA, at most about 46 bits.
    Lazy52(Transform<Lazy52>),
    /// IFMA, at most 50 bits.
    Harvey52(Transform<Harvey52>),
    /// IFMA, any modulus.
    Wide52(Transform<Wide52>),
    /// AVX-512 without IFMA, any modulus.
    Avx512(Transform<Shoup64<Avx512>>),
    /// AVX2, any modulus.
    Avx2(Transform<Shoup64<Avx2>>),
}

#[derive(Clone, Copy, Debug)]
enum AnyModular {
    /// IFMA, at most 50 bits; beside it what takes factors of any size.
    Narrow(Narrow, Wide<Avx512>),
    /// AVX-512, any modulus.
    Avx512(Wide<Avx512>),
    /// AVX2, any modulus.
    Avx2(Wide<Avx2>),
}

impl Kernels {
    /// Kernels on `path` for `limb`; `None` for the portable path, for a path the processor cannot take, and for degrees
    /// too small to fill vectors.
    pub(crate) fn new(ring: &Ring, limb: usize, path: Path) -> Option<Self> {
        let least = if path == Path::Avx2 {
            Transform::<Shoup64<Avx2>>::MIN_DEGREE
        } else {
            Transform::<Shoup64<Avx512>>::MIN_DEGREE
        };
        if path == Path::Portable || path.missing().is_some() || ring.degree() < least {
            return None;
        }
        let q = ring.modulus(limb);
        let (transform, rows) = match path {
            Path::Portable => return None,
            Path::Avx2 => {
                // SAFETY: nothing is missing for the path.
                let avx2 = unsafe { Avx2::assume() };
                let transform = Transform::new(Shoup64::new(avx2, q), ring, limb)?;
                (AnyTransform::Avx2(transform), AnyModular::Avx2(Wide::new(avx2, q)))
            }
            Path::Avx512 => {
                // SAFETY: nothing is missing for the path.
                let avx512 = unsafe { Avx512::assume() };
                let transform = Transform::new(Shoup64::new(avx512, q), ring, limb)?;
                (AnyTransform::Avx512(transform), AnyModular::Avx512(Wide::new(avx512, q)))
            }
            Path::Ifma => {
                // SAFETY: nothing is missing for the path.
                let (avx512, ifma) = unsafe { (Avx512::assume(), Ifma::assume()) };
                let transform = if let Some(lazy) = Lazy52::new(avx512, ifma, q, ring.log_degree()) {
                    AnyTransform::Lazy52(Transform::new(lazy, ring, limb)?)
                } else if let Some(harvey) = Harvey52::new(avx512, ifma, q) {
                    AnyTransform::Harvey52(Transform::new(harvey, ring, limb)?)
                } else {
                    AnyTransform::Wide52(Transform::new(Wide52::new(avx512, ifma, q), ring, limb)?)
                };
                let wide = Wide::new(avx512, q);
                let loose = matches!(transform, AnyTransform::Lazy52(_));
                let largest = if loose { Lazy52::largest(ring.log_degree()) } else { 1 };
                let narrow = Narrow::new(avx512, ifma, q, largest);
                (
                    transform,
                    narrow.map_or(AnyModular::Avx512(wide), |narrow| AnyModular::Narrow(narrow, wide)),
                )
            }
        };
        Some(Self { transform, rows })
    }

    /// Whether factors below 2^50 are what the fast sums of this limb take.
    pub(crate) fn is_narrow(&self) -> bool {
        matches!(self.rows, AnyModular::Narrow(..))
    }

    /// Forward transform in place.
    pub(crate) fn ntt(&self, row: &mut [u64]) {
        // SAFETY: a transform holds tokens for the features of its functions.
        unsafe {
            match &self.transform {
                AnyTransform::Lazy52(t) => ifma::lazy_forward(t, row),
                AnyTransform::Harvey52(t) => ifma::harvey_forward(t, row),
                AnyTransform::Wide52(t) => ifma::wide_forward(t, row),
                AnyTransform::Avx512(t) => avx512::forward(t, row),
                AnyTransform::Avx2(t) => avx2::forward(t, row),
            }
        }
    }

    /// Forward transform in place, to what [`inner_products`](Self::inner_products) and [`sub_scale`](Self::sub_scale) take.
    /// Asks for `operands` meanwhile.
    pub(crate) fn ntt_for_product(&self, row: &mut [u64], operands: &[u64]) {
        // SAFETY: a transform holds tokens for the features of its functions.
        unsafe {
            match &self.transform {
                AnyTransform::Lazy52(t) => ifma::lazy_forward_for_product(t, row, operands),
                AnyTransform::Harvey52(t) => ifma::harvey_forward_for_product(t, row, operands),
                AnyTransform::Wide52(t) => ifma::wide_forward_for_product(t, row, operands),
                AnyTransform::Avx512(t) => avx512::forward_for_product(t, row, operands),
                AnyTransform::Avx2(t) => avx2::forward_for_product(t, row, operands),
            }
        }
    }

    /// Inverse transform of `from`, or in place, 1/N included.
    pub(crate) fn intt(&self, row: &mut [u64], from: Option<&[u64]>) {
        // SAFETY: a transform holds tokens for the features of its functions.
        unsafe {
            match &self.transform {
                AnyTransform::Lazy52(t) => ifma::lazy_inverse(t, row, from),
                AnyTransform::Harvey52(t) => ifma::harvey_inverse(t, row, from),
                AnyTransform::Wide52(t) => ifma::wide_inverse(t, row, from),
                AnyTransform::Avx512(t) => avx512::inverse(t, row, from),
                AnyTransform::Avx2(t) => avx2::inverse(t, row, from),
            }
        }
    }

    /// Inverse transform in place, 1/N included. Asks for `operands` meanwhile.
    pub(crate) fn intt_before_product(&self, row: &mut [u64], operands: &[u64]) {
        // SAFETY: a transform holds tokens for the features of its functions.
        unsafe {
            match &self.transform {
                AnyTransform::Lazy52(t) => ifma::lazy_inverse_before_product(t, row, operands),
                AnyTransform::Harvey52(t) => ifma::harvey_inverse_before_product(t, row, operands),
                AnyTransform::Wide52(t) => ifma::wide_inverse_before_product(t, row, operands),
                AnyTransform::Avx512(t) => avx512::inverse_before_product(t, row, operands),
                AnyTransform::Avx2(t) => avx2::inverse_before_product(t, row, operands),
            }
        }
    }

    /// `X -> X^element` on values; `None` if there is no kernel for it.
    pub(crate) fn automorphism_values(&self, out: &mut [u64], input: &[u64], element: usize) -> Option<()> {
        match self.rows {
            AnyModular::Narrow(_, m) | AnyModular::Avx512(m) => {
                // SAFETY: the arithmetic holds a token for the features of the function.
                unsafe { avx512::automorphism_values(m, out, input, element) };
                Some(())
            }
            AnyModular::Avx2(_) => None,
        }
    }

    /// `row[i]` is the i-th group of 16 bytes mod q.
    pub(crate) fn reduce_bytes(&self, row: &mut [u64], bytes: &[u8]) {
        // SAFETY: the arithmetic holds tokens for the features of its functions.
        unsafe {
            match self.rows {
                AnyModular::Narrow(m, _) => ifma::reduce_bytes_narrow(m, row, bytes),
                AnyModular::Avx512(m) => avx512::reduce_bytes(m, row, bytes),
                AnyModular::Avx2(m) => avx2::reduce_bytes(m, row, bytes),
            }
        }
    }

    /// `out[r] = sum_c weights[r][c] inputs[c]`, every weight less than q in magnitude. `constants[r]` is the sum of the
    /// products of neighbours `weights[r][2i] weights[r][2i + 1]` modulo q.
    pub(crate) fn matrix_rows(
        &self,
        out: &mut [&mut [u64]],
        weights: &[&[i64]],
        constants: &[u64],
        inputs: &[&[u64]],
    ) {
        let step = if self.is_narrow() { rows::PAIR_ROWS } else { rows::MATRIX_ROWS };
        let parts = out.chunks_mut(step).zip(weights.chunks(step)).zip(constants.chunks(step));
        for ((out, weights), constants) in parts {
            // SAFETY: the arithmetic holds tokens for the features of its functions.
            unsafe {
                match self.rows {
                    AnyModular::Narrow(m, _) => ifma::matrix_pairs(m, out, weights, constants, inputs),
                    AnyModular::Avx512(m) => avx512::matrix_rows(m, out, weights, inputs),
                    AnyModular::Avx2(m) => avx2::matrix_rows(m, out, weights, inputs),
                }
            }
        }
    }

    /// The second step of a base conversion from limbs that are all [narrow](Self::is_narrow) or not.
    pub(crate) fn weigh(
        &self,
        out: &mut [u64],
        at: Range<usize>,
        digits: &[&[u64]],
        weights: &[u64],
        start: u64,
        narrow: bool,
    ) {
        // SAFETY: the arithmetic holds tokens for the features of its functions.
        unsafe {
            match (self.rows, digits) {
                (AnyModular::Narrow(m, _), [digit]) if narrow => {
                    ifma::lift(m, &mut out[at.clone()], &digit[at], start);
                }
                (AnyModular::Narrow(m, _), _) if narrow => ifma::weigh(m, out, at, digits, weights, start),
                (AnyModular::Narrow(_, m) | AnyModular::Avx512(m), _) => {
                    avx512::weigh(m, out, at, digits, weights, start);
                }
                (AnyModular::Avx2(m), _) => avx2::weigh(m, out, at, digits, weights, start),
            }
        }
    }
}

/// Methods of [`Kernels`] that hand a row kernel to the arithmetic of the limb.
macro_rules! row_methods {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        impl Kernels {$(
            $(#[$doc])*
            pub(crate) fn $name(&self, $($argument: $type),*) {
                // SAFETY: the arithmetic holds tokens for the features of its functions.
                unsafe {
                    match self.rows {
                        AnyModular::Narrow(m, _) => ifma::$name(m, $($argument),*),
                        AnyModular::Avx512(m) => avx512::$name(m, $($argument),*),
                        AnyModular::Avx2(m) => avx2::$name(m, $($argument),*),
                    }
                }
            }
        )*}
        row_entries!("avx512f,avx512dq,avx512vl,avx512bw,avx512ifma", ifma, Narrow:
            $(fn $name($($argument: $type),*);)* fn weigh(out: &mut [u64], at: Range<usize>, digits: &[&[u64]], weights: &[u64], start: u64);
            fn lift(out: &mut [u64], digit: &[u64], start: u64);
            fn reduce_bytes_narrow(row: &mut [u64], bytes: &[u8]);
            fn matrix_pairs(out: &mut [&mut [u64]], weights: &[&[i64]], constants: &[u64], inputs: &[&[u64]]););
        row_entries!("avx512f,avx512dq,avx512vl,avx512bw", avx512, Wide<Avx512>:
            $(fn $name($($argument: $type),*);)* fn weigh(out: &mut [u64], at: Range<usize>, digits: &[&[u64]], weights: &[u64], start: u64);
            fn matrix_rows(out: &mut [&mut [u64]], weights: &[&[i64]], inputs: &[&[u64]]);
            fn automorphism_values(out: &mut [u64], input: &[u64], element: usize);
            fn reduce_bytes(row: &mut [u64], bytes: &[u8]););
        row_entries!("avx2", avx2, Wide<Avx2>:
            $(fn $name($($argument: $type),*);)* fn weigh(out: &mut [u64], at: Range<usize>, digits: &[&[u64]], weights: &[u64], start: u64);
            fn matrix_rows(out: &mut [&mut [u64]], weights: &[&[i64]], inputs: &[&[u64]]);
            fn reduce_bytes(row: &mut [u64], bytes: &[u8]););
    };
}

/// Row kernels compiled for the features of an arithmetic.
macro_rules! row_entries {
    ($features:literal, $module:ident, $m:ty: $(fn $name:ident($($argument:ident: $type:ty),*);)*) => {
        mod $module {
            use super::*;
            pub(super) use super::transforms::$module::*;
            $(
                #[target_feature(enable = $features)]
                pub(super) fn $name(m: $m, $($argument: $type),*) {
                    rows::$name(m, $($argument),*);
                }
            )*
        }
    };
}

row_methods! {
    /// `out = a + b`.
    fn add(out: &mut [u64], a: Option<&[u64]>, b: &[u64]);
    /// `out = a - b`.
    fn sub(out: &mut [u64], a: Option<&[u64]>, b: &[u64]);
    /// `out = -a`.
    fn negate(out: &mut [u64], a: Option<&[u64]>);
    /// `out = a b`.
    fn multiply(out: &mut [u64], a: Option<&[u64]>, b: &[u64]);
    /// `out = out + a b`.
    fn multiply_accumulate(out: &mut [u64], a: &[u64], b: &[u64]);
    /// `out = a scalar + b`.
    fn scale_add(out: &mut [u64], a: Option<&[u64]>, scalar: Factor, b: Option<&[u64]>);
    /// `out = (a - b) scalar`.
    fn sub_scale(out: &mut [u64], a: Option<&[u64]>, b: &[u64], scalar: Factor);
    /// `out = sum_k left[k] right[k]`.
    fn inner_product(out: &mut [u64], left: &[&[u64]], right: Terms<'_>);
    /// Two sums with the same left sides, which are read once.
    fn inner_products(out: [&mut [u64]; 2], left: &[&[u64]], right: Terms<'_>);
    /// `row[i] = round(values[i] 2^scale_bits) mod q` for floats given as words, their products at most 2^62.
    fn quantise(row: &mut [u64], values: &[u64], scale_bits: i32);
    /// The first step of a base conversion.
    fn digits(out: &mut [u64], a: Option<&[u64]>, scale: Factor);
}

/// Transforms compiled for the features of an arithmetic.
mod transforms {
    use super::*;

    /// Entries with their names: forward, inverse, and those with products next to them.
    macro_rules! entries {
        ($features:literal: $($arithmetic:ty => $forward:ident $inverse:ident $for_product:ident $before_product:ident,)*) => {$(
            #[target_feature(enable = $features)]
            pub(in super::super) fn $forward(transform: &Transform<$arithmetic>, row: &mut [u64]) {
                transform.forward(row);
            }

            #[target_feature(enable = $features)]
            pub(in super::super) fn $inverse(transform: &Transform<$arithmetic>, row: &mut [u64], from: Option<&[u64]>) {
                transform.inverse(row, from);
            }

            #[target_feature(enable = $features)]
            pub(in super::super) fn $for_product(t: &Transform<$arithmetic>, row: &mut [u64], operands: &[u64]) {
                t.forward_for_product(row, operands);
            }

            #[target_feature(enable = $features)]
            pub(in super::super) fn $before_product(t: &Transform<$arithmetic>, row: &mut [u64], operands: &[u64]) {
                t.inverse_before_product(row, operands);
            }
        )*};
    }

    pub(super) mod ifma {
        use super::*;
        entries! { "avx512f,avx512dq,avx512vl,avx512bw,avx512ifma":
            Lazy52 => lazy_forward lazy_inverse lazy_forward_for_product lazy_inverse_before_product,
            Harvey52 => harvey_forward harvey_inverse harvey_forward_for_product harvey_inverse_before_product,
            Wide52 => wide_forward wide_inverse wide_forward_for_product wide_inverse_before_product,
        }
    }

    pub(super) mod avx512 {
        use super::*;
        entries! { "avx512f,avx512dq,avx512vl,avx512bw":
            Shoup64<Avx512> => forward inverse forward_for_product inverse_before_product,
        }
    }

    pub(super) mod avx2 {
        use super::*;
        entries! { "avx2": Shoup64<Avx2> => forward inverse forward_for_product inverse_before_product, }
    }
}
