//! Which kernels there are, and where.

use crate::driver::Result;
use crate::{Driver, DriverError, Images, abi};

/// Declares kernels: a name here, the entry point, the image it is in, and its threads per block.
macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident: $entry:literal in $image:literal, $threads:literal;)*) => {
        /// A kernel that the backend launches; what it does stands beside its source.
        ///
        /// ```
        /// use arras_cuda::Kernel;
        ///
        /// assert_eq!(Kernel::Add.entry(), "arras_add");
        /// assert_eq!((Kernel::Add.image(), Kernel::Add.threads()), ("rns/pointwise", 256));
        /// assert!(Kernel::ALL.iter().all(|kernel| kernel.threads() <= 1024));
        /// ```
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
    ArrangeTwiddles: "arras_arrange_twiddles" in "ntt/fast", 256;
    GadgetProductShifted: "arras_gadget_product_shifted" in "keyswitch/gadget", 256;
    GadgetProductLazy: "arras_gadget_product_lazy" in "keyswitch/gadget", 256;
    MatrixNarrow8: "arras_matrix_narrow_8" in "matmul/narrow", 256;
    MatrixNarrow16: "arras_matrix_narrow_16" in "matmul/narrow", 256;
    SplitPieces: "arras_split_pieces" in "matmul/pieces", 256;
    JoinPieces: "arras_join_pieces" in "matmul/pieces", 256;
    SampleNoise: "arras_sample_noise" in "sample/secret", 128;
    FeatureBounds: "arras_feature_bounds" in "sample/secret", 128;
}

/// The entry points of a device.
#[derive(Debug)]
pub(crate) struct Functions<D: Driver> {
    /// By name of the image.
    modules: Vec<(String, D::Module)>,
    /// In the order of [`Kernel::ALL`].
    functions: Vec<D::Function>,
}

impl<D: Driver> Functions<D> {
    pub(crate) fn load(driver: &D, images: &Images<'_>) -> Result<Self> {
        if images.abi != abi::HASH {
            return Err(DriverError::Abi { found: images.abi, expected: abi::HASH });
        }
        let mut modules = Vec::with_capacity(images.images.len());
        for image in images.images {
            modules.push((image.name.to_owned(), driver.load(image.name, image.bytes)?));
        }
        let mut functions = Self { modules, functions: Vec::new() };
        let found = Kernel::ALL.iter().map(|kernel| functions.find(driver, kernel.image(), kernel.entry()));
        functions.functions = found.collect::<Result<_>>()?;
        Ok(functions)
    }

    /// An entry point by name.
    pub(crate) fn find(&self, driver: &D, image: &str, entry: &str) -> Result<D::Function> {
        let missing = || DriverError::MissingKernel { entry: entry.into(), image: image.into() };
        let module = self.modules.iter().find(|(name, _)| name == image).ok_or_else(missing)?;
        driver.function(&module.1, entry)
    }

    pub(crate) fn get(&self, kernel: Kernel) -> &D::Function {
        &self.functions[kernel as usize]
    }
}
