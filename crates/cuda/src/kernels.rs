//! Which kernels there are, and where.

use crate::driver::Result;
use crate::{Driver, DriverError, Images, abi};

/// Declares kernels: a name here, the entry point, the image it is in, and its threads per block.
macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident: $entry:literal in $image:literal, $threads:literal;)*) => {
        /// A kernel that the backend launches; what it does stands beside its source.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs, reason = "documented in kernels/")]
        pub enum Kernel { $($(#[$doc])* $name,)* }

        impl Kernel {
            /// All of them.
            pub const ALL: &'static [Kernel] = &[$(Kernel::$name,)*];

            /// Its name in the image and in a profiler.
            pub const fn entry(self) -> &'static str {
                match self { $(Kernel::$name => $entry,)* }
            }

            /// The image it is in.
            pub const fn image(self) -> &'static str {
                match self { $(Kernel::$name => $image,)* }
            }

            /// Threads of a block.
            pub const fn threads(self) -> u32 {
                match self { $(Kernel::$name => $threads,)* }
            }
        }
    };
}

kernels! {
    Copy: "arras_copy" in "rns/pointwise", 256;
    Negate: "arras_negate" in "rns/pointwise", 256;
    Add: "arras_add" in "rns/pointwise", 256;
    Sub: "arras_sub" in "rns/pointwise", 256;
    Multiply: "arras_multiply" in "rns/pointwise", 256;
    MultiplyAccumulate: "arras_multiply_accumulate" in "rns/pointwise", 256;
    ScaleAdd: "arras_scale_add" in "rns/pointwise", 256;
    Automorphism: "arras_automorphism" in "rns/pointwise", 256;
    NttStage: "arras_ntt_stage" in "ntt/naive", 256;
    InttStage: "arras_intt_stage" in "ntt/naive", 256;
    NttBlock: "arras_ntt_block" in "ntt/naive", 256;
    InttBlock: "arras_intt_block" in "ntt/naive", 256;
    BaseConvert: "arras_base_convert_simple" in "rns/sums", 256;
    InnerProduct: "arras_inner_product_simple" in "rns/sums", 256;
    MatrixProduct: "arras_matrix_product_simple" in "rns/sums", 256;
    Quantise: "arras_quantise" in "rns/quantise", 256;
    ExpandSeed: "arras_expand_seed" in "sample/expand", 128;
    Unpack: "arras_unpack" in "wire/pack", 256;
    Trim: "arras_trim" in "wire/pack", 256;
}

/// The entry points of a device, in the order of [`Kernel::ALL`].
#[derive(Debug)]
pub(crate) struct Functions<D: Driver>(Vec<D::Function>);

impl<D: Driver> Functions<D> {
    pub(crate) fn load(driver: &D, images: &Images<'_>) -> Result<Self> {
        if images.abi != abi::HASH {
            return Err(DriverError::Abi { found: images.abi, expected: abi::HASH });
        }
        let mut modules = Vec::with_capacity(images.images.len());
        for image in images.images {
            modules.push((image.name, driver.load(image.name, image.bytes)?));
        }
        let function = |&kernel: &Kernel| {
            let missing =
                || DriverError::MissingKernel { entry: kernel.entry().into(), image: kernel.image().into() };
            let module = modules.iter().find(|(name, _)| *name == kernel.image()).ok_or_else(missing)?;
            driver.function(&module.1, kernel.entry())
        };
        Kernel::ALL.iter().map(function).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn get(&self, kernel: Kernel) -> &D::Function {
        &self.0[kernel as usize]
    }
}
