//! The structures of `kernels/include/abi.h`, field by field; what they mean stands there.
//!
//! They go to the device as bytes. A constant factor, and the product that a kernel makes with it (Shoup):
//!
//! ```
//! use arras_cuda::abi::Factor;
//!
//! let (q, w, x) = (arras_rns::prime::ntt_primes(50, 4096, 1, &[])?[0], 1_234_567_u64, 7_654_321_u64);
//! let factor = Factor { value: w, quotient: ((u128::from(w) << 64) / u128::from(q)) as u64 };
//! let estimate = ((u128::from(x) * u128::from(factor.quotient)) >> 64) as u64;
//! // No division, and at most one subtraction away from the residue.
//! let product = x.wrapping_mul(factor.value).wrapping_sub(estimate.wrapping_mul(q));
//! assert!(product < 2 * q && product % q == (x * w) % q);
//! assert_eq!(bytemuck::bytes_of(&factor).len(), 16);
//! # Ok::<(), arras_rns::Error>(())
//! ```

use crate::DevicePtr;

/// What both sides of a launch have to agree on, below `kernels/`: structures, launch shapes, widths.
pub const HEADERS: [&str; 4] = ["include/abi.h", "include/fast.h", "include/vit.h", "measure/measure.h"];

/// FNV-1a of the [`HEADERS`], one after the other; images carry the hash of the files they were compiled with.
pub const HASH: u64 = 0x86b2_48b5_1191_398f;

/// `LimbSet::CAPACITY`.
pub const LIMBS: usize = arras_rns::LimbSet::CAPACITY;

/// The hash that [`HASH`] is compared with, of the contents of the [`HEADERS`].
pub fn hash(headers: [&[u8]; HEADERS.len()]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    headers.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Declares structures for both languages: their size is asserted, and no padding is possible.
macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident: $size:literal, align $align:literal { $($field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        ///
        /// See the example of the [module](crate::abi).
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable, Debug)]
        #[repr(C, align($align))]
        #[allow(missing_docs, reason = "documented in abi.h")]
        pub struct $name { $(pub $field: $kind,)* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

pub(crate) use structures;

structures! {
    /// A constant factor with its Shoup quotient.
    Factor: 16, align 16 { value: u64, quotient: u64, }
    /// Constants of one prime.
    Limb: 96, align 16 {
        q: u64, barrett_low: u64, barrett_high: u64, negative_inverse: u64, montgomery_one: u64, montgomery_square: u64,
        degree_inverse: Factor, forward: DevicePtr, inverse: DevicePtr, bits: u32, shifted: u32, reserved: u64,
    }
    /// Rows of words.
    View: 32, align 8 { base: DevicePtr, rows: DevicePtr, batch_stride: u64, limb_stride: u64, }
    /// Constants and selected limbs.
    Shape: 152, align 8 {
        limb: DevicePtr, log_degree: u32, limbs: u32, batch: u32, reserved: u32, id: [u8; LIMBS],
    }
    /// Operands of element by element operations and of transforms.
    PointwiseArgs: 248, align 8 { shape: Shape, out: View, a: View, b: View, }
    /// Operands of a product with scalars.
    ScaleArgs: 2304, align 16 {
        shape: Shape, out: View, a: View, b: View, reserved: u64, scalar: [Factor; LIMBS],
    }
    /// One stage of a transform.
    StageArgs: 192, align 8 { shape: Shape, out: View, log_half: u32, last: u32, }
    /// Operands of an automorphism.
    AutomorphismArgs: 224, align 8 { shape: Shape, out: View, a: View, element: u32, evaluation: u32, }
    /// Operands of a base conversion.
    ConvertArgs: 368, align 8 {
        shape: Shape, out: View, input: View, scale: DevicePtr, weights: DevicePtr, sources: u32, reserved: u32,
        source: [u8; LIMBS],
    }
    /// Prepared polynomials.
    Prepared: 168, align 8 {
        base: DevicePtr, entry_stride: u64, first: u64, term_stride: u64, batch_stride: u64, row: [u8; LIMBS],
    }
    /// Operands of an inner product.
    InnerProductArgs: 368, align 8 { shape: Shape, out: View, left: DevicePtr, terms: u64, right: Prepared, }
    /// Operands of a matrix product.
    MatrixProductArgs: 232, align 8 {
        shape: Shape, out: View, input: View, entries: DevicePtr, columns: u32, terms: u32,
    }
    /// Operands of a quantisation.
    QuantiseArgs: 240, align 8 {
        shape: Shape, out: View, values: DevicePtr, first: u64, batch_stride: u64, coefficient_stride: u64, count: u64,
        fault: DevicePtr, scale_bits: i32, reserved: u32,
    }
    /// The beginning of a message of the seed expansion.
    SeedMessage: 64, align 4 { word: [u32; 13], reserved: [u32; 3], }
    /// Operands of a seed expansion.
    ExpandArgs: 192, align 8 { shape: Shape, out: View, message: DevicePtr, }
    /// Operands of unpacking.
    UnpackArgs: 1240, align 8 {
        shape: Shape, out: View, packed: DevicePtr, row_bytes: u64, fault: DevicePtr, coefficients: u32,
        transposed: u32, offset: [u64; LIMBS],
    }
    /// Operands of trimming.
    TrimArgs: 216, align 8 {
        shape: Shape, input: View, packed: DevicePtr, row_bytes: u64, bits: u32, first: u32, step: u32, count: u32,
    }
}
