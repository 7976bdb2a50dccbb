//! The parts of a block between its matrix products as kernels of `arras-cuda`, which candle calls as custom operations.
//!
//! The only unsafe code of this crate: it hands the addresses of tensors to kernels. Tensors of a GPU stay where they are. In tests the
//! kernels run on the host, on copies of host tensors.
#![allow(unsafe_code)]

use std::fmt::Debug;

use arras_cuda::vit::{self, Element, Rows, VitKernels};
use arras_cuda::{Cuda, DevicePtr, Driver, driver};
use candle_core::{CpuStorage, DType, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};
#[cfg(feature = "gpu")]
use {
    arras_cuda::{NvidiaDriver, memory::Buffer, nvidia::Stream, queue::Queue, upload::Uploads},
    candle_core::{CudaStorage, Storage, backend::BackendStorage, cuda_backend::cudarc::driver::CudaStream},
    std::sync::Arc,
};

use crate::config::Activation;

/// The operations of [`crate::ops`] that a device brings itself. Tensors are contiguous, all of one type, `f32` or `bf16`.
pub(crate) trait BlockKernels: Debug + Send + Sync {
    fn add_bias(&self, x: &Tensor, bias: &Tensor) -> Result<()>;
    fn bias_activation(&self, x: &Tensor, bias: &Tensor, with: Activation) -> Result<()>;
    fn bias_residual(&self, x: &Tensor, y: &Tensor, bias: &Tensor) -> Result<()>;
    fn bias_swiglu(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor>;
    fn layer_norm(&self, x: &Tensor, affine: &Tensor, eps: f64) -> Result<Tensor>;
    fn softmax(&self, x: &Tensor) -> Result<()>;
}

/// Kernels, and the stream that the tensors are computed in.
#[derive(Debug)]
pub(crate) struct Launcher<D: Driver> {
    kernels: VitKernels<D>,
    stream: D::Stream,
}

impl<D: Driver> Launcher<D> {
    pub(crate) fn new(cuda: &Cuda<D>, stream: D::Stream) -> driver::Result<Self> {
        Ok(Self { kernels: VitKernels::new(cuda)?, stream })
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn stream(&self) -> &D::Stream {
        &self.stream
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn kernels(&self) -> &VitKernels<D> {
        &self.kernels
    }

    fn operation<F>(&self, name: &'static str, run: F) -> Operation<'_, D, F> {
        Operation { launcher: self, name, run }
    }
}

#[cfg(feature = "gpu")]
impl Launcher<NvidiaDriver> {
    /// Kernels in a stream of candle's.
    pub(crate) fn on(cuda: &Cuda<NvidiaDriver>, stream: Arc<CudaStream>) -> driver::Result<Self> {
        Self::new(cuda, Self::share(cuda, stream))
    }

    /// A stream of candle's as one of ours.
    pub(crate) fn share(cuda: &Cuda<NvidiaDriver>, stream: Arc<CudaStream>) -> Stream {
        let raw = stream.cu_stream();
        // SAFETY: the stream lives as long as its owner.
        unsafe { cuda.driver().foreign_stream(raw, stream) }
    }

    /// The elements of a contiguous f32 tensor as 64-bit floats in `words`; then the tensor is overwritten. `queue` is on candle's stream.
    pub(crate) fn widen_and_wipe(
        &self,
        queue: &Queue<NvidiaDriver>,
        words: &Buffer<NvidiaDriver>,
        tensor: &Tensor,
    ) -> crate::Result<()> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(crate::Error::Compute("the tokens are not on the GPU".into()));
        };
        let (count, from) = (layout.shape().elem_count(), device_address(storage, layout)?);
        if tensor.dtype() != DType::F32 || arras_rns::Storage::words(words) != count {
            return Err(crate::Error::Compute("the tokens are not f32, or not as many as words".into()));
        }
        let shape = Rows { element: Element::F32, rows: 1, width: count };
        let stream = queue.stream();
        // SAFETY: as many elements as words, which were allocated in the same stream.
        let done = unsafe {
            self.kernels
                .widen(stream, shape, words.ptr(), from)
                .and_then(|()| self.kernels.cuda().driver().fill(stream, from, 0, 4 * count))
        };
        done.map_err(|error| crate::Error::Compute(error.to_string()))
    }

    /// Copies images into the first rows of a contiguous f32 tensor that nothing touched since `uploads.used`.
    pub(crate) fn upload<P: AsRef<[f32]>>(
        &self,
        uploads: &mut Uploads<NvidiaDriver>,
        target: &Tensor,
        images: &[P],
    ) -> crate::Result<()> {
        let (storage, layout) = target.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(crate::Error::Compute("the images are not for the GPU".into()));
        };
        let to = device_address(storage, layout)?;
        let bytes: usize = images.iter().map(|image| size_of_val(image.as_ref())).sum();
        if bytes > 4 * layout.shape().elem_count() {
            return Err(crate::Error::Compute("more images than there is room for".into()));
        }
        let fill = |mut block: &mut [u8]| {
            for image in images {
                let (to, rest) = block.split_at_mut(size_of_val(image.as_ref()));
                to.copy_from_slice(bytemuck::cast_slice(image.as_ref()));
                block = rest;
            }
        };
        // SAFETY: the tensor is that large and outlives the uploads, whose caller says when it is used.
        let uploaded = unsafe { uploads.upload(&self.stream, to, bytes, fill) };
        uploaded.map_err(|error| crate::Error::Compute(error.to_string()))
    }
}

impl<D: Driver> BlockKernels for Launcher<D> {
    fn add_bias(&self, x: &Tensor, bias: &Tensor) -> Result<()> {
        // SAFETY, here and below: `Operation` gives addresses that are good for their tensors, whose shapes fit one another.
        let run = |shape, [x, bias]: [_; 2]| unsafe { self.kernels.add_bias(&self.stream, shape, x, bias) };
        fits(x, bias, 1)?;
        x.inplace_op2(bias, &self.operation("add_bias", run))
    }

    fn bias_activation(&self, x: &Tensor, bias: &Tensor, with: Activation) -> Result<()> {
        let with = match with {
            Activation::Gelu => vit::Activation::Gelu,
            Activation::GeluTanh => vit::Activation::GeluTanh,
            Activation::QuickGelu => vit::Activation::QuickGelu,
            Activation::Relu => vit::Activation::Relu,
        };
        let run =
            |shape, [x, bias]: [_; 2]| unsafe { self.kernels.activate(&self.stream, shape, with, x, bias) };
        fits(x, bias, 1)?;
        x.inplace_op2(bias, &self.operation("bias_activation", run))
    }

    fn bias_residual(&self, x: &Tensor, y: &Tensor, bias: &Tensor) -> Result<()> {
        let run = |shape, operands: [_; 3]| unsafe { self.kernels.residual(&self.stream, shape, operands) };
        fits(x, bias, 1)?;
        fits(x, y, x.elem_count() / width(x))?;
        x.inplace_op3(y, bias, &self.operation("bias_residual", run))
    }

    fn bias_swiglu(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        fits(x, bias, 1)?;
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last /= 2;
        }
        let run = |shape, operands: [_; 3]| unsafe { self.kernels.swiglu(&self.stream, shape, operands) };
        // SAFETY: the kernel writes every element.
        let out = unsafe { Tensor::empty(dims, x.dtype(), x.device())? };
        out.inplace_op3(x, bias, &self.operation("bias_swiglu", run))?;
        Ok(out)
    }

    fn layer_norm(&self, x: &Tensor, affine: &Tensor, eps: f64) -> Result<Tensor> {
        fits(x, affine, 2)?;
        let run = |shape: Rows, [out, x, weight]: [DevicePtr; 3]| {
            let bias = weight.offset(shape.width * shape.element.bytes());
            // SAFETY: as above; the bias stands behind the weight.
            unsafe { self.kernels.layer_norm(&self.stream, shape, [out, x, weight, bias], eps as f32) }
        };
        // SAFETY: the kernel writes every element.
        let out = unsafe { x.empty_like()? };
        out.inplace_op3(x, affine, &self.operation("layer_norm", run))?;
        Ok(out)
    }

    fn softmax(&self, x: &Tensor) -> Result<()> {
        let run = |shape, [x]: [_; 1]| unsafe { self.kernels.softmax(&self.stream, shape, x, 1.0) };
        x.inplace_op1(&self.operation("softmax", run))
    }
}

fn width(x: &Tensor) -> usize {
    x.dims().last().copied().unwrap_or(1).max(1)
}

/// Refuses an operand that is not `rows` rows as wide as those of `x`, or of another type.
fn fits(x: &Tensor, other: &Tensor, rows: usize) -> Result<()> {
    if other.elem_count() != rows * width(x) || other.dtype() != x.dtype() {
        bail!("{:?} {:?} does not go with {:?} {:?}", other.dims(), other.dtype(), x.dims(), x.dtype());
    }
    Ok(())
}

/// A kernel as a custom operation of candle: `run` is given the shape of the first tensor and the addresses of all.
struct Operation<'l, D: Driver, F> {
    #[cfg_attr(not(test), allow(dead_code, reason = "the way of host tensors, in tests"))]
    launcher: &'l Launcher<D>,
    name: &'static str,
    run: F,
}

/// Rows of a contiguous tensor, and its first element.
fn rows(dtype: DType, layout: &Layout) -> Result<(Rows, usize)> {
    let element = match dtype {
        DType::F32 => Element::F32,
        DType::BF16 => Element::Bf16,
        other => bail!("no kernels for {other:?}"),
    };
    let Some((first, end)) = layout.contiguous_offsets() else { bail!("kernels take contiguous tensors") };
    let width = layout.dims().last().copied().unwrap_or(1);
    Ok((Rows { element, rows: (end - first) / width.max(1), width }, first))
}

#[cfg(feature = "gpu")]
impl<D: Driver, F> Operation<'_, D, F> {
    /// Launches with tensors of the GPU.
    fn on_device<const N: usize>(&self, operands: [(&CudaStorage, &Layout); N]) -> Result<()>
    where
        F: Fn(Rows, [DevicePtr; N]) -> driver::Result<()>,
    {
        let mut addresses = [DevicePtr::NULL; N];
        for (address, (storage, layout)) in addresses.iter_mut().zip(operands) {
            *address = device_address(storage, layout)?;
        }
        match operands.first() {
            Some((storage, layout)) => {
                let (shape, _) = rows(storage.dtype(), layout)?;
                (self.run)(shape, addresses).map_err(candle_core::Error::wrap)
            }
            None => Ok(()),
        }
    }
}

/// Where a tensor of the GPU begins. All work on it is in one stream, so that nothing has to be noted about this use of it.
#[cfg(feature = "gpu")]
pub(crate) fn device_address(storage: &CudaStorage, layout: &Layout) -> Result<DevicePtr> {
    use candle_core::cuda_backend::cudarc::driver::DevicePtr as _;
    let (shape, first) = rows(storage.dtype(), layout)?;
    let stream = storage.device().cuda_stream();
    let base = match shape.element {
        Element::F32 => storage.as_cuda_slice::<f32>()?.device_ptr(&stream).0,
        Element::Bf16 => storage.as_cuda_slice::<half::bf16>()?.device_ptr(&stream).0,
    };
    Ok(DevicePtr(base).offset(first * shape.element.bytes()))
}

/// What the operations do with tensors of the host: their bytes make the trip to the driver and back, which is for tests.
#[cfg(test)]
impl<D: Driver, F> Operation<'_, D, F> {
    fn on_host<const N: usize>(
        &self,
        out: (&mut CpuStorage, &Layout),
        others: &[(&CpuStorage, &Layout)],
    ) -> Result<()>
    where
        F: Fn(Rows, [DevicePtr; N]) -> driver::Result<()>,
    {
        let (out, layout) = out;
        let (shape, _) = rows(tests::dtype(out), layout)?;
        let mut copies = vec![tests::bytes(out, layout)?.to_vec()];
        for (storage, layout) in others {
            copies.push(tests::bytes_of(storage, layout)?.to_vec());
        }
        let (driver, stream) = (self.launcher.kernels.cuda().driver(), &self.launcher.stream);
        let run = || -> driver::Result<Vec<u8>> {
            let mut addresses = [DevicePtr::NULL; N];
            for (address, copy) in addresses.iter_mut().zip(&copies) {
                *address = driver.allocate(stream, copy.len())?;
                // SAFETY: allocated for as many bytes.
                unsafe { driver.upload(stream, *address, copy)? };
            }
            (self.run)(shape, addresses)?;
            let mut result = vec![0; copies[0].len()];
            // SAFETY: as above; nothing comes after the release.
            unsafe {
                driver.download(stream, &mut result, addresses[0])?;
                addresses.iter().try_for_each(|&address| driver.free(stream, address))?;
            }
            Ok(result)
        };
        let result = run().map_err(candle_core::Error::wrap)?;
        tests::bytes(out, layout)?.copy_from_slice(&result);
        Ok(())
    }
}

#[cfg(not(test))]
impl<D: Driver, F> Operation<'_, D, F> {
    fn on_host<const N: usize>(
        &self,
        _: (&mut CpuStorage, &Layout),
        _: &[(&CpuStorage, &Layout)],
    ) -> Result<()>
    where
        F: Fn(Rows, [DevicePtr; N]) -> driver::Result<()>,
    {
        bail!("{} is a kernel of a GPU", self.name)
    }
}

impl<D: Driver, F: Fn(Rows, [DevicePtr; 1]) -> driver::Result<()>> InplaceOp1 for Operation<'_, D, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, xl: &Layout) -> Result<()> {
        self.on_host((x, xl), &[])
    }

    #[cfg(feature = "gpu")]
    fn cuda_fwd(&self, x: &mut CudaStorage, xl: &Layout) -> Result<()> {
        self.on_device([(&*x, xl)])
    }
}

impl<D: Driver, F: Fn(Rows, [DevicePtr; 2]) -> driver::Result<()>> InplaceOp2 for Operation<'_, D, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, xl: &Layout, y: &CpuStorage, yl: &Layout) -> Result<()> {
        self.on_host((x, xl), &[(y, yl)])
    }

    #[cfg(feature = "gpu")]
    fn cuda_fwd(&self, x: &mut CudaStorage, xl: &Layout, y: &CudaStorage, yl: &Layout) -> Result<()> {
        self.on_device([(&*x, xl), (y, yl)])
    }
}

impl<D: Driver, F: Fn(Rows, [DevicePtr; 3]) -> driver::Result<()>> InplaceOp3 for Operation<'_, D, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        xl: &Layout,
        y: &CpuStorage,
        yl: &Layout,
        z: &CpuStorage,
        zl: &Layout,
    ) -> Result<()> {
        self.on_host((x, xl), &[(y, yl), (z, zl)])
    }

    #[cfg(feature = "gpu")]
    fn cuda_fwd(
        &self,
        x: &mut CudaStorage,
        xl: &Layout,
        y: &CudaStorage,
        yl: &Layout,
        z: &CudaStorage,
        zl: &Layout,
    ) -> Result<()> {
        self.on_device([(&*x, xl), (y, yl), (z, zl)])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use arras_cuda_host::{HostDriver, HostOptions, Lanes};
    use candle_core::Device;
    use candle_core::Shape;

    use super::*;
    use crate::ops::{self, Path};

    pub(super) fn dtype(storage: &CpuStorage) -> DType {
        use candle_core::backend::BackendStorage;
        storage.dtype()
    }

    pub(super) fn bytes<'s>(storage: &'s mut CpuStorage, layout: &Layout) -> Result<&'s mut [u8]> {
        let (shape, first) = rows(dtype(storage), layout)?;
        let bytes: &mut [u8] = match storage {
            CpuStorage::F32(values) => bytemuck::cast_slice_mut(values),
            CpuStorage::BF16(values) => bytemuck::cast_slice_mut(values),
            _ => bail!("neither f32 nor bf16"),
        };
        let unit = shape.element.bytes();
        Ok(&mut bytes[unit * first..][..unit * shape.rows * shape.width])
    }

    pub(super) fn bytes_of<'s>(storage: &'s CpuStorage, layout: &Layout) -> Result<&'s [u8]> {
        let (shape, first) = rows(dtype(storage), layout)?;
        let bytes: &[u8] = match storage {
            CpuStorage::F32(values) => bytemuck::cast_slice(values),
            CpuStorage::BF16(values) => bytemuck::cast_slice(values),
            _ => bail!("neither f32 nor bf16"),
        };
        let unit = shape.element.bytes();
        Ok(&bytes[unit * first..][..unit * shape.rows * shape.width])
    }

    /// The kernels on the host, or nothing where there is no C++ compiler.
    pub(crate) fn kernels(lanes: Lanes) -> Option<Path> {
        let images = match arras_cuda_host::images() {
            Ok(images) => images,
            Err(reason) if std::env::var_os("ARRAS_REQUIRE_HOST_KERNELS").is_none() => {
                eprintln!("no kernels on the host: {reason}");
                return None;
            }
            Err(reason) => panic!("no kernels on the host: {reason}"),
        };
        let options = HostOptions { lanes, ..HostOptions::default() };
        let cuda = Cuda::new(HostDriver::new(options), &images).unwrap();
        let stream = cuda.driver().stream().unwrap();
        Some(Path::Kernels(Arc::new(Launcher::new(&cuda, stream).unwrap())))
    }

    fn ramp(shape: impl Into<Shape>, scale: f32) -> Tensor {
        let shape = shape.into();
        let values: Vec<f32> =
            (0..shape.elem_count()).map(|i| scale * ((i * 7919 % 1009) as f32 / 504.5 - 1.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// The largest `|a - b| / max(|b|, 1)`.
    fn distance(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        let values =
            |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let pairs = values(a).into_iter().zip(values(b));
        pairs.map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max)
    }

    /// Half a unit in the last place of bf16, relative: what storing a result adds.
    const ROUNDING: f32 = 1.0 / 256.0;

    /// An operation on a path, its tensors converted by a function.
    type Composed<'a> = &'a dyn Fn(&Path, &dyn Fn(Tensor) -> Tensor) -> Result<Tensor>;

    /// Every operation as candle calls it, against the fused one of the CPU on the same (rounded) inputs.
    #[test]
    fn custom_operations_agree_with_the_cpu() {
        let Some(gpu) = kernels(Lanes::Reverse) else { return };
        for (count, width, dtype, rounding) in [
            (3, 37, DType::F32, 0.0),
            (5, 768, DType::F32, 0.0),
            (3, 37, DType::BF16, ROUNDING),
            (5, 768, DType::BF16, ROUNDING),
        ] {
            let rounded = |t: Tensor| t.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
            let both = |bound: f32, run: Composed<'_>| {
                let expected = run(&Path::Fused, &rounded).unwrap();
                let found = run(&gpu, &|t| t.to_dtype(dtype).unwrap()).unwrap();
                assert_eq!(found.dtype(), dtype);
                let worst = distance(&found, &expected);
                assert!(worst <= bound + rounding, "{width} {dtype:?}: {worst}");
            };
            let (x, b) = (|scale| ramp((count, width), scale), ramp(width, 0.7));
            let affine = ramp((2, width), 0.9);
            both(2e-7, &|path, t| ops::add_bias(path, t(x(3.0)), &t(b.clone())));
            both(2e-7, &|path, t| ops::bias_residual(path, t(x(3.0)), &t(x(0.3)), &t(b.clone())));
            both(2e-6, &|path, t| ops::softmax(path, t(x(20.0))));
            both(5e-6, &|path, t| ops::layer_norm(path, &t(x(5.0)), &t(affine.clone()), 1e-6));
            for with in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu] {
                both(1e-6, &|path, t| ops::bias_activation(path, t(x(8.0)), &t(b.clone()), with));
            }
            let (x, b) = (ramp((count, 2 * width), 4.0), ramp(2 * width, 0.7));
            both(1e-6, &|path, t| ops::bias_swiglu(path, &t(x.clone()), &t(b.clone())));
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let Some(gpu) = kernels(Lanes::Forward) else { return };
        let (x, short) = (ramp((2, 8), 1.0), ramp(7, 1.0));
        assert!(ops::add_bias(&gpu, x.clone(), &short).is_err());
        assert!(ops::layer_norm(&gpu, &x, &ramp((1, 8), 1.0), 1e-6).is_err());
        let other = ramp(8, 1.0).to_dtype(DType::BF16).unwrap();
        assert!(ops::bias_activation(&gpu, x.clone(), &other, Activation::Relu).is_err());
        assert!(ops::add_bias(&gpu, x.t().unwrap(), &ramp(2, 1.0)).is_err());
    }
}
