//! What can be measured: a backend, its clock, and the simplest work it can be given.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

use arras_cpu::Cpu;
use arras_cpu::memory::Buffer;
use arras_cpu::tables::Tables;
use arras_rns::{Backend, Coefficient, Input, Poly, Ring, prime};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::clock::{Clock, Monotonic};
use crate::{Error, Result, machine};

/// Work that is timed, ready to be done again and again.
/// See the example of [`Device`].
pub type Run<'f> = Box<dyn FnMut() -> Result<()> + 'f>;

/// Bytes that go by: so many read, so many written, in a memory of `footprint` bytes.
///
/// See the example of [`Device`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Traffic {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Bytes of different memory that are touched before the first ones are touched again.
    pub footprint: u64,
}

/// A machine that is measured. The cases know nothing else about it.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_measure::device::Traffic;
/// use arras_measure::{CpuDevice, Device};
///
/// let device = CpuDevice::new(Cpu::sequential());
/// assert_eq!(device.threads(), 1);
/// // Two words are read for one that is written, within the caches.
/// let traffic = Traffic { read: 2, written: 1, footprint: 3 << 15 };
/// let (mut run, bytes) = device.stream(traffic)?;
/// run()?;
/// assert!(bytes > 0);
/// # Ok::<(), arras_measure::Error>(())
/// ```
pub trait Device {
    /// What does the work.
    type Backend: Backend;
    /// What times it.
    type Clock: Clock<Self::Backend>;

    /// The backend, once more.
    ///
    /// # Errors
    /// A device that cannot be had.
    fn backend(&self) -> Result<Self::Backend>;

    /// The clock.
    fn clock(&self) -> &Self::Clock;

    /// Threads of the host that the work may use.
    fn threads(&self) -> usize;

    /// Bytes of the largest cache.
    fn cache(&self) -> u64;

    /// The simplest work that moves so many bytes through that much memory, and the bytes that one execution moves. It is
    /// timed by the host and done when it returns.
    ///
    /// # Errors
    /// Memory that is not there.
    fn stream(&self, traffic: Traffic) -> Result<(Run<'static>, u64)>;

    /// Modular multiplications by a constant of words in the fastest memory, and how many one execution does.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    fn multiply(&self) -> Result<(Run<'static>, u64)>;

    /// Multiply-adds of single precision in registers, and how many one execution does. On the host unless the device says
    /// otherwise: the vision transformer runs there.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    fn fma(&self) -> Result<(Run<'static>, u64)> {
        let count = (self.threads() * FMA_STEPS) as u64 * pulp::Arch::new().dispatch(FmaLanes);
        Ok((on_every_thread(vec![(); self.threads()], |()| pulp::Arch::new().dispatch(Fmas))?, count))
    }
}

/// Independent chains of multiply-adds: more than the latency of one times how many begin in a cycle.
const CHAINS: usize = 12;
/// Steps of every chain.
const FMA_STEPS: usize = 20_000;

/// Multiply-adds in one step of all chains.
struct FmaLanes;

impl pulp::WithSimd for FmaLanes {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> u64 {
        (CHAINS * S::F32_LANES) as u64
    }
}

/// The chains.
struct Fmas;

impl pulp::WithSimd for Fmas {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let (factor, term) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(1.0)));
        let mut chains = [term; CHAINS];
        for _ in 0..FMA_STEPS {
            for chain in &mut chains {
                *chain = simd.mul_add_f32s(*chain, factor, term);
            }
        }
        black_box(chains);
    }
}

/// Any backend. What it reaches at most is what its own simplest methods reach: copies and sums for streams, products with a
/// number for multiplications.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_measure::{AnyDevice, Device};
/// use arras_rns::Backend;
///
/// // Any backend can be measured; `arras::Device` is one.
/// let device = AnyDevice::new(Cpu::sequential(), 32 << 20);
/// assert_eq!((device.cache(), device.threads()), (32 << 20, 1));
/// assert_eq!(device.backend()?.name(), Cpu::sequential().name());
/// # Ok::<(), arras_measure::Error>(())
/// ```
#[derive(Debug)]
pub struct AnyDevice<B> {
    backend: B,
    cache: u64,
}

impl<B: Backend + Clone> AnyDevice<B> {
    /// A backend whose largest cache holds so many bytes.
    pub fn new(backend: B, cache: u64) -> Self {
        Self { backend, cache }
    }

    /// Polynomials of small degree, one limb each.
    fn polynomials(&self, batch: u64) -> Result<OnDevice<B>> {
        let ring = Ring::new(SMALL, &prime::ntt_primes(45, SMALL, 1, &[])?)?;
        let queue = self.backend.queue()?;
        let tables = self.backend.tables(&queue, &ring)?;
        let batch = usize::try_from(batch.max(1)).unwrap_or(usize::MAX);
        let make = || -> Result<Poly<B, Coefficient>> {
            let mut poly = Poly::allocate(&self.backend, &queue, &ring, ring.limbs(), batch)?;
            self.backend.upload(&queue, &mut poly.view_mut(), &vec![1; batch * SMALL])?;
            Ok(poly)
        };
        let polys = [make()?, make()?, make()?];
        Ok(OnDevice { backend: self.backend.clone(), queue, tables, polys })
    }
}

/// Degree of the polynomials of streams.
const SMALL: usize = 1 << 12;
/// Bytes of one of them.
const POLYNOMIAL: u64 = 8 * SMALL as u64;
/// Polynomials that are multiplied: 8 MiB, which a large cache holds and a device is busy with.
const MULTIPLIED: u64 = 256;

/// Operands, and what works on them.
struct OnDevice<B: Backend> {
    backend: B,
    queue: B::Queue,
    tables: B::Tables,
    polys: [Poly<B, Coefficient>; 3],
}

impl<B: Backend + Clone> Device for AnyDevice<B> {
    type Backend = B;
    type Clock = Monotonic;

    fn backend(&self) -> Result<B> {
        Ok(self.backend.clone())
    }

    fn clock(&self) -> &Monotonic {
        &Monotonic
    }

    fn threads(&self) -> usize {
        1
    }

    fn cache(&self) -> u64 {
        self.cache
    }

    /// Sums where at least half as much again is read as written, else copies: no method moves other proportions.
    fn stream(&self, traffic: Traffic) -> Result<(Run<'static>, u64)> {
        let sums = 2 * traffic.read >= 3 * traffic.written;
        let streams = if sums { 3 } else { 2 };
        let batch = (traffic.footprint / (streams * POLYNOMIAL)).max(1);
        let OnDevice { backend, queue, tables, polys: [a, b, mut out] } = self.polynomials(batch)?;
        let run = move || {
            match sums {
                true => backend.add(&queue, &tables, &mut out.view_mut(), a.view().into(), &b.view())?,
                false => backend.copy(&queue, &mut out.view_mut(), &a.view())?,
            }
            Ok(backend.synchronize(&queue)?)
        };
        Ok((Box::new(run), streams * batch * POLYNOMIAL))
    }

    fn multiply(&self) -> Result<(Run<'static>, u64)> {
        let OnDevice { backend, queue, tables, polys: [mut a, ..] } = self.polynomials(MULTIPLIED)?;
        let run = move || {
            backend.scale_add(&queue, &tables, &mut a.view_mut(), Input::InPlace, &[3], None)?;
            Ok(backend.synchronize(&queue)?)
        };
        Ok((Box::new(run), MULTIPLIED * SMALL as u64))
    }
}

/// The CPU.
///
/// See the example of [`Device`].
#[derive(Debug)]
pub struct CpuDevice {
    cpu: Cpu,
}

impl CpuDevice {
    /// With the threads and the instruction set of `cpu`.
    pub fn new(cpu: Cpu) -> Self {
        Self { cpu }
    }
}

impl Device for CpuDevice {
    type Backend = Cpu;
    type Clock = Monotonic;

    fn backend(&self) -> Result<Cpu> {
        Ok(self.cpu.clone())
    }

    fn clock(&self) -> &Monotonic {
        &Monotonic
    }

    fn threads(&self) -> usize {
        self.cpu.threads()
    }

    fn cache(&self) -> u64 {
        machine::largest_cache()
    }

    fn stream(&self, traffic: Traffic) -> Result<(Run<'static>, u64)> {
        let threads = self.threads() as u64;
        let parts = (0..threads).map(|_| Stream::new(traffic, threads)).collect::<Result<Vec<_>>>()?;
        let moved = parts.iter().map(Stream::bytes).sum();
        Ok((on_every_thread(parts, Stream::pass)?, moved))
    }

    fn multiply(&self) -> Result<(Run<'static>, u64)> {
        // Half of a first-level cache, with a prime of the fastest class.
        const DEGREE: usize = 1 << 11;
        const PASSES: usize = 8;
        let ring = Ring::new(DEGREE, &prime::ntt_primes(45, DEGREE, 1, &[])?)?;
        let path = self.cpu.path();
        let part = || -> Result<(Tables, Buffer)> { Ok((Tables::new(&ring, path)?, memory(DEGREE)?)) };
        let parts = (0..self.threads()).map(|_| part()).collect::<Result<Vec<_>>>()?;
        let count = parts.len() * PASSES * DEGREE;
        let run = on_every_thread(parts, |(tables, row)| {
            for _ in 0..PASSES {
                tables.limb(0).scale_add(row.as_mut_slice(), None, 3, None);
            }
        })?;
        Ok((run, count as u64))
    }
}

/// Does `work` on every part at the same time, each on a thread of its own; a single part on the calling thread.
fn on_every_thread<T: Send + 'static>(
    mut parts: Vec<T>,
    work: impl Fn(&mut T) + Send + Sync + 'static,
) -> Result<Run<'static>> {
    if parts.len() == 1 {
        return Ok(Box::new(move || {
            parts.iter_mut().for_each(&work);
            Ok(())
        }));
    }
    let pool: ThreadPool = ThreadPoolBuilder::new()
        .num_threads(parts.len())
        .build()
        .map_err(|error| Error::field("threads", error.to_string()))?;
    let parts: Vec<Mutex<T>> = parts.into_iter().map(Mutex::new).collect();
    Ok(Box::new(move || {
        pool.broadcast(|context| {
            work(&mut parts[context.index()].lock().unwrap_or_else(PoisonError::into_inner));
        });
        Ok(())
    }))
}

/// Words that have been written to: untouched memory is not there yet, and reading it costs nothing.
fn memory(words: usize) -> Result<Buffer> {
    let mut buffer = Buffer::new(words).ok_or_else(|| Error::field("memory", format!("no {words} words")))?;
    buffer.as_mut_slice().iter_mut().zip(1..).for_each(|(word, i)| *word = i);
    Ok(buffer)
}

/// Most streams that are read, or written, at the same time.
const LANES: usize = 4;

/// One thread's share of a stream: memory that is read and memory that is written, in the proportion asked for.
struct Stream {
    source: Buffer,
    target: Buffer,
}

impl Stream {
    fn new(traffic: Traffic, threads: u64) -> Result<Self> {
        // Whole pages: vectors fit into them, and so do equal lanes.
        const PAGE: usize = 512;
        let all = (traffic.read + traffic.written).max(1);
        let words = |bytes: u64| {
            let share = u128::from(traffic.footprint) * u128::from(bytes) / u128::from(all * threads);
            (share as usize / 8).div_ceil(PAGE).max(usize::from(bytes > 0)) * PAGE
        };
        Ok(Self { source: memory(words(traffic.read))?, target: memory(words(traffic.written))? })
    }

    fn bytes(&self) -> u64 {
        8 * (self.source.as_slice().len() + self.target.as_slice().len()) as u64
    }

    fn pass(&mut self) {
        let (source, target) = (self.source.as_slice(), self.target.as_mut_slice());
        pulp::Arch::new().dispatch(Pass { source, target });
    }
}

/// All of the memory once, in the widest registers that the processor has. So many streams are read for one that is
/// written, or the other way round, as the proportion says; what is left over is only read or only written.
struct Pass<'a> {
    source: &'a [u64],
    target: &'a mut [u64],
}

impl pulp::WithSimd for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let (source, target) = (S::as_simd_u64s(self.source).0, S::as_mut_simd_u64s(self.target).0);
        let lanes = |more: usize, fewer: usize| more.checked_div(fewer).unwrap_or(0).min(LANES);
        let (read, written) = (source.len(), target.len());
        let (source, target) = match (lanes(read, written), lanes(written, read)) {
            (1, _) | (_, 1) => {
                let both = read.min(written);
                let ((from, source), (to, target)) = (source.split_at(both), target.split_at_mut(both));
                gather(simd, [from], to);
                (source, target)
            }
            (2, _) => (gather_lanes::<S, 2>(simd, source, target), &mut [][..]),
            (3, _) => (gather_lanes::<S, 3>(simd, source, target), &mut [][..]),
            (LANES, _) => (gather_lanes::<S, LANES>(simd, source, target), &mut [][..]),
            (_, lanes @ 2..) => {
                let (to, target) = target.split_at_mut(lanes * read);
                to.chunks_exact_mut(read.max(1)).for_each(|to| to.copy_from_slice(source));
                (&source[read..], target)
            }
            _ => (source, target),
        };
        read_lanes(simd, source);
        target.fill(simd.splat_u64s(1));
    }
}

/// Reads as many streams as `K` while one is written; what is left of the source.
#[inline(always)]
fn gather_lanes<'a, S: pulp::Simd, const K: usize>(
    simd: S,
    source: &'a [S::u64s],
    to: &mut [S::u64s],
) -> &'a [S::u64s] {
    let (from, rest) = source.split_at(K * to.len());
    gather(simd, std::array::from_fn::<_, K, _>(|k| &from[k * to.len()..][..to.len()]), to);
    rest
}

#[inline(always)]
fn gather<S: pulp::Simd, const K: usize>(simd: S, from: [&[S::u64s]; K], to: &mut [S::u64s]) {
    let from = from.map(|lane| &lane[..to.len()]);
    // No closures around vector operations: they would not be compiled for the registers that are used.
    for (i, to) in to.iter_mut().enumerate() {
        *to = from[0][i];
        for lane in &from[1..] {
            *to = simd.xor_u64s(*to, lane[i]);
        }
    }
}

#[inline(always)]
fn read_lanes<S: pulp::Simd>(simd: S, source: &[S::u64s]) {
    let length = source.len() / LANES;
    let [a, b, c, d]: [&[S::u64s]; LANES] = std::array::from_fn(|k| &source[k * length..][..length]);
    let zero = simd.splat_u64s(0);
    let (mut w, mut x, mut y, mut z) = (zero, zero, zero, zero);
    for (((&a, &b), &c), &d) in a.iter().zip(b).zip(c).zip(d) {
        (w, x) = (simd.xor_u64s(w, a), simd.xor_u64s(x, b));
        (y, z) = (simd.xor_u64s(y, c), simd.xor_u64s(z, d));
    }
    for &a in &source[LANES * length..] {
        w = simd.xor_u64s(w, a);
    }
    black_box([w, x, y, z]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_moves_what_it_says() {
        for (read, written) in [(1, 1), (2, 1), (3, 1), (1, 0), (0, 1), (768, 5), (1, 3), (3, 2), (2, 3)] {
            let traffic = Traffic { read, written, footprint: 1 << 20 };
            let mut stream = Stream::new(traffic, 1).unwrap();
            let (words_in, words_out) = (stream.source.as_slice().len(), stream.target.as_slice().len());
            let asked = (1 << 17) as f64 / (read + written) as f64;
            assert!((words_in as f64 - asked * read as f64).abs() <= 512.0);
            assert!((words_out as f64 - asked * written as f64).abs() <= 512.0);
            // Everything is touched: no word of the target is what it was.
            let before = stream.target.as_slice().to_vec();
            stream.target.as_mut_slice().fill(u64::MAX);
            stream.pass();
            assert!(stream.target.as_slice().iter().all(|&word| word != u64::MAX), "{read} to {written}");
            assert_eq!(before.len(), words_out);
        }
    }

    /// What a generic device says it moves and multiplies is what the CPU's own streams do, within what they differ by.
    #[test]
    fn any_backend_has_ceilings() {
        let device = AnyDevice::new(Cpu::sequential(), 1 << 20);
        for (read, written, streams) in [(1, 1, 2), (2, 1, 3), (768, 5, 3), (0, 1, 2)] {
            let (mut run, bytes) = device.stream(Traffic { read, written, footprint: 3 << 20 }).unwrap();
            run().unwrap();
            assert!(bytes <= 3 << 20 && bytes % (streams * POLYNOMIAL) == 0 && bytes > 2 << 20, "{bytes}");
        }
        let (mut run, count) = device.multiply().unwrap();
        run().unwrap();
        assert_eq!(count, 256 << 12);
    }

    #[test]
    fn multiply_adds_are_counted() {
        let device = CpuDevice::new(Cpu::sequential());
        let (mut run, count) = device.fma().unwrap();
        let start = std::time::Instant::now();
        run().unwrap();
        let rate = count as f64 / start.elapsed().as_nanos() as f64;
        // Between one in ten cycles and what no core does.
        assert!(rate > 0.2 && rate < 1000.0, "{rate} per ns");
    }

    #[test]
    fn threads_share_the_work() {
        for threads in [1, 2] {
            let device = CpuDevice::new(Cpu::with_threads(threads).unwrap());
            let (mut run, bytes) =
                device.stream(Traffic { read: 2, written: 1, footprint: 3 << 20 }).unwrap();
            run().unwrap();
            assert!((3 << 20..=(3 << 20) + 8 * 8 * 512).contains(&bytes), "{bytes}");
            let (mut run, count) = device.multiply().unwrap();
            run().unwrap();
            assert_eq!(count, (threads as u64 * 8) << 11);
        }
    }
}
