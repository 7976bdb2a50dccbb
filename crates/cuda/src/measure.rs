//! What a device can do at most: the ceilings that floors of kernels are computed from.
//!
//! Rates of instructions, bandwidths of memory and of the second-level cache, the gap between launches, copies to and
//! from page-locked memory, and the matrix product of the vendor's library. Each is timed with events of the device, after one
//! round to warm up. The kernels are `kernels/measure/`.

use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};

use crate::driver::{DevicePtr, Driver, Gemm, Launch, Result};
use crate::error::DriverError;
use crate::images::Images;

/// Something measured.
///
/// See the example of [`Effort`].
#[derive(Clone, PartialEq, Debug)]
pub struct Measurement {
    /// What was measured: `imad rate`.
    pub name: String,
    /// Of every sample: `op/clock/SM`.
    pub unit: &'static str,
    /// One value per repetition; empty if it could not be measured.
    pub samples: Vec<f64>,
    /// Why it could not be measured.
    pub missing: Option<String>,
}

/// How much to do.
///
/// ```no_run
/// use arras_cuda::measure::{Effort, measure};
/// use arras_cuda::{Images, NvidiaDriver};
///
/// # let images = Images { abi: 0, images: &[] };
/// // `images` are those of the build, `arras::KERNELS`.
/// let gpu = NvidiaDriver::open(0)?;
/// for found in measure(&gpu, &images, &Effort { samples: 5, ..Effort::full() })? {
///     match &found.missing {
///         None => assert_eq!(found.samples.len(), 5),
///         Some(reason) => println!("{}: {reason}", found.name),
///     }
/// }
/// # Ok::<(), arras_cuda::DriverError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effort {
    /// Repetitions of each measurement.
    pub samples: usize,
    /// Iterations of the instruction loops, each of 128 instructions.
    pub iterations: u32,
    /// Bytes that a bandwidth kernel reads in all.
    pub traffic_bytes: usize,
    /// Sizes of what is read again and again, to see the second-level cache.
    pub cached_bytes: Vec<usize>,
    /// Size of what does not fit in it.
    pub memory_bytes: usize,
    /// Launches in a row.
    pub launches: usize,
    /// Bytes of a copy between host and device.
    pub copy_bytes: usize,
    /// Extents of the matrix product: rows, columns, inner.
    pub product: [usize; 3],
}

impl Effort {
    /// Takes some seconds on a large GPU and 2 GiB of its memory.
    pub fn full() -> Self {
        Self {
            samples: 9,
            iterations: 2000,
            traffic_bytes: 4 << 30,
            cached_bytes: [4, 8, 16, 24, 32, 48].map(|mib| mib << 20).into(),
            memory_bytes: 1 << 30,
            launches: 2000,
            copy_bytes: 256 << 20,
            product: [768, 32768, 768],
        }
    }

    /// Just shows that everything runs.
    pub fn trial() -> Self {
        Self {
            samples: 1,
            iterations: 2,
            traffic_bytes: 1 << 16,
            cached_bytes: vec![1 << 14],
            memory_bytes: 1 << 16,
            launches: 4,
            copy_bytes: 1 << 12,
            product: [8, 16, 8],
        }
    }
}

/// `RateArgs` of `kernels/measure/measure.h`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RateArgs {
    cycles: DevicePtr,
    sink: DevicePtr,
    a: u32,
    b: u32,
    iterations: u32,
    reserved: u32,
}
const _: () = assert!(size_of::<RateArgs>() == 32);

/// `StreamArgs` of `kernels/measure/measure.h`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct StreamArgs {
    from: DevicePtr,
    to: DevicePtr,
    words: u64,
    passes: u32,
    reserved: u32,
}
const _: () = assert!(size_of::<StreamArgs>() == 32);

/// Threads of a block of the instruction loops; eight such blocks fill a multiprocessor of 2048 threads.
const RATE_THREADS: u32 = 256;
const RATE_BLOCKS: u32 = 8;
/// Instructions of one iteration of one thread.
const LINKS: f64 = 128.0;
/// Threads and blocks per multiprocessor of the bandwidth kernels.
const STREAM_THREADS: u32 = 512;
const STREAM_BLOCKS: u32 = 3;

/// Measures everything. What a driver or a machine cannot do is reported as missing.
///
/// # Errors
/// A device that fails, or runs out of memory; images that lack the kernels.
pub fn measure<D: Driver>(driver: &D, images: &Images<'_>, effort: &Effort) -> Result<Vec<Measurement>> {
    let bench = Bench {
        driver,
        effort,
        stream: driver.stream()?,
        from: driver.event(true)?,
        to: driver.event(true)?,
    };
    let (rates, bandwidth) =
        (load(driver, images, "measure/rates")?, load(driver, images, "measure/bandwidth")?);
    let mut found = Vec::new();
    for (kernel, name) in [
        ("arras_measure_imad", "imad"),
        ("arras_measure_imad_wide", "imad.wide"),
        ("arras_measure_imad_high", "imad.hi"),
        ("arras_measure_add", "iadd3 and lop3"),
        ("arras_measure_fma", "dfma"),
    ] {
        bench.rate(&driver.function(&rates, kernel)?, name, &mut found)?;
    }
    let read = driver.function(&bandwidth, "arras_measure_read")?;
    for &bytes in &effort.cached_bytes {
        found.push(bench.read(&read, bytes, &format!("read {}", size(bytes)))?);
    }
    found.push(bench.read(&read, effort.memory_bytes, &format!("read {}", size(effort.memory_bytes)))?);
    found.push(bench.copy(&driver.function(&bandwidth, "arras_measure_copy")?)?);
    bench.launches(&driver.function(&rates, "arras_measure_nothing")?, &mut found)?;
    bench.transfers(&mut found)?;
    found.push(bench.product()?);
    Ok(found)
}

fn load<D: Driver>(driver: &D, images: &Images<'_>, name: &str) -> Result<D::Module> {
    let image = images.images.iter().find(|image| image.name == name);
    let bytes = image
        .map(|image| image.bytes)
        .ok_or_else(|| DriverError::MissingKernel { entry: "arras_measure_*".into(), image: name.into() })?;
    driver.load(name, bytes)
}

fn size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 30 && b % (1 << 30) == 0 => format!("{} GiB", b >> 30),
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b => format!("{} KiB", b >> 10),
    }
}

/// Device memory of one measurement.
struct Scratch<'a, D: Driver> {
    driver: &'a D,
    stream: &'a D::Stream,
    ptr: DevicePtr,
}

impl<D: Driver> Drop for Scratch<'_, D> {
    fn drop(&mut self) {
        // SAFETY: allocated by the same driver, and used on this stream only. An error has been seen at an earlier call.
        let _ = unsafe { self.driver.free(self.stream, self.ptr) };
    }
}

struct Bench<'a, D: Driver> {
    driver: &'a D,
    effort: &'a Effort,
    stream: D::Stream,
    from: D::Event,
    to: D::Event,
}

impl<D: Driver> Bench<'_, D> {
    /// Zeroed memory.
    fn scratch(&self, bytes: usize) -> Result<Scratch<'_, D>> {
        let ptr = self.driver.allocate(&self.stream, bytes)?;
        let scratch = Scratch { driver: self.driver, stream: &self.stream, ptr };
        // SAFETY: just allocated, of that size.
        unsafe { self.driver.fill(&self.stream, ptr, 0, bytes) }?;
        Ok(scratch)
    }

    /// The device's time for what `work` queues, once per sample, after one round that is not counted.
    fn time(&self, work: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
        self.time_then(work, || Ok(()))
    }

    /// As [`time`](Self::time), with something that is not timed after each round.
    fn time_then(
        &self,
        mut work: impl FnMut() -> Result<()>,
        mut after: impl FnMut() -> Result<()>,
    ) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(self.effort.samples);
        for round in 0..=self.effort.samples {
            self.driver.record(&self.stream, &self.from)?;
            work()?;
            self.driver.record(&self.stream, &self.to)?;
            self.driver.synchronize(&self.stream)?;
            if round > 0 {
                times.push(self.driver.elapsed(&self.from, &self.to)?);
            }
            after()?;
        }
        Ok(times)
    }

    fn launch<A: Pod>(&self, function: &D::Function, blocks: u32, threads: u32, args: &A) -> Result<()> {
        let launch = Launch { grid: [blocks, 1, 1], threads, shared: 0 };
        // SAFETY: the functions of this module take the structures of this module; their callers see to the addresses.
        unsafe { self.driver.launch(&self.stream, function, launch, bytemuck::bytes_of(args)) }
    }

    /// Instructions per clock and multiprocessor, and the clock that follows from the two times.
    fn rate(&self, function: &D::Function, name: &str, found: &mut Vec<Measurement>) -> Result<()> {
        let (cycles, sink) = (self.scratch(8)?, self.scratch(8)?);
        let args = RateArgs {
            cycles: cycles.ptr,
            sink: sink.ptr,
            a: 0x9E37_79B1,
            b: 0x7F4A_7C15,
            iterations: self.effort.iterations,
            reserved: 0,
        };
        let multiprocessors = self.driver.device().multiprocessors;
        let mut clocks = Vec::new();
        let work = || self.launch(function, multiprocessors * RATE_BLOCKS, RATE_THREADS, &args);
        let times = self.time_then(work, || {
            let mut word = [0u8; 8];
            // SAFETY: the word that the kernel writes.
            unsafe { self.driver.download(&self.stream, &mut word, cycles.ptr) }?;
            clocks.push(u64::from_le_bytes(word) as f64);
            Ok(())
        })?;
        let clocks = &clocks[1..];
        let done = LINKS * f64::from(self.effort.iterations) * f64::from(RATE_THREADS * RATE_BLOCKS);
        let seconds = times.iter().map(Duration::as_secs_f64);
        let per_second = seconds.clone().map(|s| done * f64::from(multiprocessors) / s * 1e-12).collect();
        found.push(measured(
            format!("{name} rate"),
            "op/clock/SM",
            clocks.iter().map(|c| done / c).collect(),
        ));
        found.push(measured(format!("{name} throughput"), "Top/s", per_second));
        found.push(measured(
            format!("clock under {name}"),
            "MHz",
            clocks.iter().zip(seconds).map(|(c, s)| c / s * 1e-6).collect(),
        ));
        Ok(())
    }

    fn read(&self, function: &D::Function, bytes: usize, name: &str) -> Result<Measurement> {
        let blocks = self.driver.device().multiprocessors * STREAM_BLOCKS;
        let (from, to) = (self.scratch(bytes)?, self.scratch((blocks * STREAM_THREADS) as usize * 8)?);
        let passes = (self.effort.traffic_bytes / bytes).max(1);
        let args = StreamArgs {
            from: from.ptr,
            to: to.ptr,
            words: (bytes / 8) as u64,
            passes: passes as u32,
            reserved: 0,
        };
        let times = self.time(|| self.launch(function, blocks, STREAM_THREADS, &args))?;
        Ok(throughput(name, passes * bytes, &times))
    }

    /// Bytes read and bytes written count.
    fn copy(&self, function: &D::Function) -> Result<Measurement> {
        let bytes = self.effort.memory_bytes;
        let (from, to) = (self.scratch(bytes)?, self.scratch(bytes)?);
        let args =
            StreamArgs { from: from.ptr, to: to.ptr, words: (bytes / 8) as u64, passes: 1, reserved: 0 };
        let blocks = self.driver.device().multiprocessors * STREAM_BLOCKS;
        let times = self.time(|| self.launch(function, blocks, STREAM_THREADS, &args))?;
        Ok(throughput(&format!("copy {}", size(bytes)), 2 * bytes, &times))
    }

    /// Time from one empty kernel to the next: queued one by one, and as a graph.
    fn launches(&self, function: &D::Function, found: &mut Vec<Measurement>) -> Result<()> {
        let sink = self.scratch(8)?;
        let args = RateArgs { cycles: sink.ptr, sink: sink.ptr, a: 1, b: 0, iterations: 1, reserved: 0 };
        let queue = || -> Result<()> {
            (0..self.effort.launches).try_for_each(|_| self.launch(function, 1, 32, &args))
        };
        let each = |time: &Duration| time.as_secs_f64() * 1e6 / self.effort.launches as f64;
        let times = self.time(queue)?;
        found.push(measured("launch gap, stream".into(), "us", times.iter().map(each).collect()));
        self.driver.synchronize(&self.stream)?;
        let started = Instant::now();
        queue()?;
        let host = started.elapsed();
        self.driver.synchronize(&self.stream)?;
        found.push(measured("launch call, host".into(), "us", vec![each(&host)]));
        self.driver.begin_capture(&self.stream)?;
        let queued = queue();
        let graph = self.driver.end_capture(&self.stream)?;
        queued?;
        // SAFETY: the kernel writes nothing, and `sink` outlives the graph.
        let times = self.time(|| unsafe { self.driver.launch_graph(&self.stream, &graph) })?;
        self.driver.synchronize(&self.stream)?;
        found.push(measured("launch gap, graph".into(), "us", times.iter().map(each).collect()));
        Ok(())
    }

    fn transfers(&self, found: &mut Vec<Measurement>) -> Result<()> {
        let bytes = self.effort.copy_bytes;
        let device = self.scratch(bytes)?;
        let mut pinned = self.driver.pinned(bytes)?;
        // SAFETY: `time` waits for each copy, so that the memory is neither changed nor dropped before.
        let times =
            self.time(|| unsafe { self.driver.upload_pinned(&self.stream, device.ptr, &pinned, 0..bytes) })?;
        found.push(throughput(&format!("upload, page-locked, {}", size(bytes)), bytes, &times));
        // SAFETY: as above.
        let times = self.time(|| unsafe {
            self.driver.download_pinned(&self.stream, &mut pinned, 0..bytes, device.ptr)
        })?;
        found.push(throughput(&format!("download, page-locked, {}", size(bytes)), bytes, &times));
        let pageable = vec![1u8; bytes];
        // SAFETY: the target is as large as the source.
        let times = self.time(|| unsafe { self.driver.upload(&self.stream, device.ptr, &pageable) })?;
        found.push(throughput(&format!("upload, pageable, {}", size(bytes)), bytes, &times));
        Ok(())
    }

    /// The library's product of 64-bit floats, on integers small enough that every sum is exact; some entries are checked.
    fn product(&self) -> Result<Measurement> {
        let [m, n, k] = self.effort.product;
        let name = format!("dgemm {m} x {n} x {k}");
        let (left, right) = (integers(m * k, 1), integers(k * n, 2));
        let (a, b, c) = (self.upload(&left)?, self.upload(&right)?, self.scratch(m * n * 8)?);
        let gemm =
            Gemm { extent: [m, n, k], alpha: 1.0, a: (a.ptr, m), b: (b.ptr, k), beta: 0.0, c: (c.ptr, m) };
        // SAFETY: the buffers have the extents of the matrices, and `c` is apart from the others.
        let times = match self.time(|| unsafe { self.driver.gemm_f64(&self.stream, gemm) }) {
            Ok(times) => times,
            Err(lost @ DriverError::DeviceLost { .. }) => return Err(lost),
            Err(error) => {
                return Ok(Measurement {
                    name,
                    unit: "TFLOP/s",
                    samples: Vec::new(),
                    missing: Some(error.to_string()),
                });
            }
        };
        let mut column = vec![0u8; m * 8];
        let last = c.ptr.offset((n - 1) * m * 8);
        // SAFETY: the last column of the product.
        unsafe { self.driver.download(&self.stream, &mut column, last) }?;
        let expected =
            (0..m).map(|row| (0..k).map(|i| left[i * m + row] * right[(n - 1) * k + i]).sum::<f64>());
        if !column.chunks_exact(8).zip(expected).all(|(found, expected)| found == expected.to_le_bytes()) {
            return Err(DriverError::Failed {
                place: name,
                code: 0,
                message: "a product of integers below 2^53 is not exact".into(),
            });
        }
        let operations = 2.0 * m as f64 * n as f64 * k as f64;
        Ok(measured(name, "TFLOP/s", times.iter().map(|t| operations / t.as_secs_f64() * 1e-12).collect()))
    }

    fn upload(&self, values: &[f64]) -> Result<Scratch<'_, D>> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let scratch = self.scratch(bytes.len())?;
        // SAFETY: the memory has that size.
        unsafe { self.driver.upload(&self.stream, scratch.ptr, bytes) }?;
        Ok(scratch)
    }
}

fn measured(name: String, unit: &'static str, samples: Vec<f64>) -> Measurement {
    Measurement { name, unit, samples, missing: None }
}

fn throughput(name: &str, bytes: usize, times: &[Duration]) -> Measurement {
    let samples = times.iter().map(|time| bytes as f64 / time.as_secs_f64() * 1e-9).collect();
    measured(name.to_owned(), "GB/s", samples)
}

/// Integers of 20 bits and a sign: 768 products of two add up below 2^50.
fn integers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 43) as u32) - f64::from(1 << 20)
    };
    (0..count).map(|_| next()).collect()
}
