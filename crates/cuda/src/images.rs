//! Compiled kernels.

/// One image: what a `.cu` file was compiled to.
///
/// See the example of [`Images`].
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The path below `kernels/`, without its ending: `rns/pointwise`.
    pub name: &'a str,
    /// A fatbin, a cubin or PTX; empty where the driver brings the code itself.
    pub bytes: &'a [u8],
}

/// All images of a build.
///
/// ```
/// use arras_cuda::counting::CountingDriver;
/// use arras_cuda::{Cuda, Image, Images, abi};
///
/// let add = Image { name: "rns/pointwise", bytes: &[] };
/// let stale = Images { abi: 1, images: &[add] };
/// let error = Cuda::new(CountingDriver::h200(), &stale).unwrap_err();
/// let expected = format!("kernel images of ABI 0x0000000000000001, expected {:#018x}", abi::HASH);
/// assert_eq!(error.to_string(), expected);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// [`abi::hash`](crate::abi::hash) of the headers they were compiled with.
    pub abi: u64,
    /// The images.
    pub images: &'a [Image<'a>],
}
