//! Compiled kernels.

/// One image: what a `.cu` file was compiled to.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The path below `kernels/`, without its ending: `rns/pointwise`.
    pub name: &'a str,
    /// A fatbin, a cubin or PTX; empty where the driver brings the code itself.
    pub bytes: &'a [u8],
}

/// All images of a build.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// [`abi::hash`](crate::abi::hash) of the headers they were compiled with.
    pub abi: u64,
    /// The images.
    pub images: &'a [Image<'a>],
}
