//! The structures of `kernels/include/fast.h`, field by field; what they mean stands there.

use crate::DevicePtr;
use crate::abi::{Factor, Prepared, Shape, View, structures};

structures! {
    /// Twiddle factors of one prime.
    TransformTable: 16, align 8 { forward: DevicePtr, inverse: DevicePtr, }
    /// The end of an inverse transform.
    InverseEnd: 48, align 16 { scale: Factor, last: Factor, offset: u64, reserved: u64, }
    /// Operands of a transform.
    TransformArgs: 232, align 8 { shape: Shape, out: View, a: View, table: DevicePtr, end: DevicePtr, }
    /// Twiddle factors to be brought into order.
    ArrangeArgs: 176, align 8 {
        shape: Shape, forward: DevicePtr, inverse: DevicePtr, rows: u32, reserved: u32,
    }
    /// Operands of a base conversion with a transform.
    ExtendArgs: 288, align 8 {
        shape: Shape, out: View, kept: View, digits: View, table: DevicePtr, weights: DevicePtr, start: DevicePtr, scale: DevicePtr, sources: u32, reserved: u32,
    }
    /// Operands of a gadget product.
    GadgetArgs: 400, align 8 { shape: Shape, out: [View; 2], left: DevicePtr, terms: u64, right: Prepared, }
    /// Operands of a product with small integers.
    NarrowProductArgs: 232, align 8 {
        shape: Shape, out: View, input: View, weights: DevicePtr, columns: u32, piece: u32,
    }
    /// Residues and doubles.
    PiecesArgs: 200, align 8 { shape: Shape, residues: View, pieces: DevicePtr, piece: u32, reserved: u32, }
    /// Operands of secret sampling.
    SampleArgs: 224, align 8 { shape: Shape, out: View, key: [u32; 8], count: u32, reserved: u32, }
    /// A constant factor of 32-bit words.
    Factor32: 8, align 8 { value: u32, quotient: u32, }
    /// Operands of a transform of 32-bit words.
    Transform32Args: 56, align 8 {
        from: DevicePtr, to: DevicePtr, table: DevicePtr, scale: Factor32, last: Factor32, modulus: u32, log_degree: u32,
        batch: u32, reserved: u32,
    }
    /// Bounds on rows of features.
    FeatureArgs: 48, align 8 {
        values: DevicePtr, found: DevicePtr, rows: u64, dimension: u64, x_max: f64, norm_max: f64,
    }
}
