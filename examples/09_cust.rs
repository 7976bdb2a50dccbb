//! 9. A program of the Rust-CUDA family that lets arras work on its memory.
//!
//! `cust` and arras both use the primary context of a device, so that neither has to copy for the other: a stream of `cust` becomes a queue,
//! a `DeviceBuffer<u64>` becomes the memory of polynomials. Needs a GPU to run.
//!
//! `. scripts/cuda-env && cargo run --no-default-features --features cust --example 09_cust`

use std::error::Error;
use std::sync::Arc;

use arras::cuda::Cuda;
use arras::interop::cust::{adopt, open, queue};
use arras::rns::prime::ntt_primes;
use arras::rns::{Backend, Coefficient, Input, Poly, Ring};
use cust::context::Context;
use cust::device::Device;
use cust::memory::DeviceBuffer;
use cust::stream::{Stream, StreamFlags};

const DEGREE: usize = 2048;

fn main() -> Result<(), Box<dyn Error>> {
    // A program that uses cust has these already.
    cust::init(cust::CudaFlags::empty())?;
    let context = Context::new(Device::get_device(0)?)?;
    let stream = Arc::new(Stream::new(StreamFlags::NON_BLOCKING, None)?);
    let coefficients: Vec<u64> = (0..DEGREE as u64).collect();
    let theirs = DeviceBuffer::from_slice(&coefficients)?;

    // The same context, the same stream, the same memory.
    let cuda = Cuda::new(open(&context, 0)?, &arras::KERNELS)?;
    let queue = queue(&cuda, stream);
    let ring = Ring::new(DEGREE, &ntt_primes(50, DEGREE, 1, &[])?)?;
    let tables = cuda.tables(&queue, &ring)?;
    let mut poly: Poly<_, Coefficient> = Poly::from_buffer(&ring, ring.limbs(), adopt(&queue, theirs))?;
    cuda.ntt(&queue, &tables, &mut poly.view_mut().retag(), Input::InPlace)?;
    cuda.intt(&queue, &tables, &mut poly.view_mut(), Input::InPlace)?;

    let mut found = vec![0; DEGREE];
    cuda.download(&queue, &poly.view(), &mut found)?;
    assert_eq!(found, coefficients);
    println!("transformed there and back in the memory of cust");
    Ok(())
}
