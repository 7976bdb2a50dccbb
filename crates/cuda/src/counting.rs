//! A driver of a device that is not there: memory is host memory, kernels are noted and not run. What an operation of the
//! backend launches, and in which shapes, can so be counted anywhere; what it computes is nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::driver::{DeviceInfo, FunctionInfo, Gemm, Launch, MemoryInfo, Result};
use crate::{DevicePtr, Driver, DriverError, Image, Images, Kernel, abi};

/// What matrix products of the driver's own library are noted as.
pub const GEMM: &str = "gemm_f64";
/// Images of kernels that are chosen by name when tables are made.
const FAST: [&str; 2] = ["ntt/fast", "keyswitch/extend"];
/// Distance of allocations: more than any of them takes.
const STRETCH: u64 = 1 << 40;

/// A launch that did not happen.
///
/// See the example of [`CountingDriver`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Noted {
    /// The kernel's name in a profiler, or [`GEMM`].
    pub entry: String,
    /// Its shape; for [`GEMM`] one block of no threads.
    pub launch: Launch,
}

/// The driver. See the [module](self).
///
/// How many launches a transform of degree 2^16 takes on a device of one's choice:
///
/// ```
/// use arras_cuda::Cuda;
/// use arras_cuda::counting::CountingDriver;
/// use arras_cuda::driver::{DeviceInfo, Driver};
/// use arras_rns::{Backend, Evaluation, Input, Poly, Ring, prime::ntt_primes};
///
/// let h200 = CountingDriver::h200().device().clone();
/// let half = DeviceInfo { name: "half of it".into(), multiprocessors: 66, ..h200 };
/// let cuda = Cuda::counting(CountingDriver::new(half))?;
/// let ring = Ring::new(1 << 16, &ntt_primes(50, 1 << 16, 2, &[])?)?;
/// let queue = cuda.queue()?;
/// let tables = cuda.tables(&queue, &ring)?;
/// let mut poly: Poly<_, Evaluation> = Poly::allocate(&cuda, &queue, &ring, ring.limbs(), 1)?;
/// cuda.driver().take();
/// cuda.ntt(&queue, &tables, &mut poly.view_mut(), Input::InPlace)?;
/// let noted = cuda.driver().take();
/// assert_eq!(noted.len(), 2);
/// assert!(noted.iter().all(|one| one.entry.starts_with("arras_ntt") && one.launch.threads <= 1024));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CountingDriver {
    device: DeviceInfo,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Allocations by their address.
    memory: BTreeMap<u64, Vec<u8>>,
    allocated: u64,
    noted: Vec<Noted>,
}

impl CountingDriver {
    /// Of a device that is planned for as if it were there.
    pub fn new(device: DeviceInfo) -> Self {
        Self { device, state: Mutex::default() }
    }

    /// An NVIDIA H200 SXM, from its data sheet.
    pub fn h200() -> Self {
        Self::new(DeviceInfo {
            name: "H200, not there".into(),
            capability: (9, 0),
            multiprocessors: 132,
            shared_bytes: 227 << 10,
            l2_bytes: 50 << 20,
            driver_version: 13_000,
        })
    }

    /// Images to make a backend with: names without code.
    pub fn images() -> Vec<Image<'static>> {
        let mut names: Vec<&str> = Kernel::ALL.iter().map(|kernel| kernel.image()).chain(FAST).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| Image { name, bytes: &[] }).collect()
    }

    /// What was launched since the last call.
    pub fn take(&self) -> Vec<Noted> {
        std::mem::take(&mut self.lock().noted)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl crate::Cuda<CountingDriver> {
    /// The backend on a device that is not there.
    ///
    /// # Errors
    /// None in practice.
    pub fn counting(driver: CountingDriver) -> Result<Self> {
        Self::new(driver, &Images { abi: abi::HASH, images: &CountingDriver::images() })
    }
}

impl State {
    /// The allocation that an address lies in, and where.
    fn find(&mut self, ptr: DevicePtr, bytes: usize) -> Result<&mut [u8]> {
        let refused = || DriverError::OutOfMemory { place: format!("{ptr:?}"), requested: bytes as u64 };
        let (base, memory) = self.memory.range_mut(..=ptr.0).next_back().ok_or_else(refused)?;
        let start = (ptr.0 - base) as usize;
        memory.get_mut(start..start.saturating_add(bytes)).ok_or_else(refused)
    }
}

impl Driver for CountingDriver {
    type Stream = ();
    type Event = ();
    type Pinned = Vec<u8>;
    type Module = ();
    type Function = String;
    type Graph = ();

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn memory(&self) -> Result<MemoryInfo> {
        Ok(MemoryInfo { free: STRETCH, total: STRETCH })
    }

    fn stream(&self) -> Result<()> {
        Ok(())
    }

    fn synchronize(&self, (): &()) -> Result<()> {
        Ok(())
    }

    fn event(&self, _: bool) -> Result<()> {
        Ok(())
    }

    fn record(&self, (): &(), (): &()) -> Result<()> {
        Ok(())
    }

    fn wait(&self, (): &(), (): &()) -> Result<()> {
        Ok(())
    }

    fn synchronize_event(&self, (): &()) -> Result<()> {
        Ok(())
    }

    fn elapsed(&self, (): &(), (): &()) -> Result<Duration> {
        Ok(Duration::ZERO)
    }

    fn allocate(&self, (): &(), bytes: usize) -> Result<DevicePtr> {
        let mut state = self.lock();
        state.allocated += 1;
        let address = state.allocated * STRETCH;
        state.memory.insert(address, vec![0; bytes]);
        Ok(DevicePtr(address))
    }

    unsafe fn free(&self, (): &(), ptr: DevicePtr) -> Result<()> {
        self.lock().memory.remove(&ptr.0);
        Ok(())
    }

    unsafe fn fill(&self, (): &(), ptr: DevicePtr, byte: u8, bytes: usize) -> Result<()> {
        self.lock().find(ptr, bytes)?.fill(byte);
        Ok(())
    }

    unsafe fn copy(&self, (): &(), to: DevicePtr, from: DevicePtr, bytes: usize) -> Result<()> {
        let mut state = self.lock();
        let copy = state.find(from, bytes)?.to_vec();
        state.find(to, bytes)?.copy_from_slice(&copy);
        Ok(())
    }

    unsafe fn upload(&self, (): &(), to: DevicePtr, from: &[u8]) -> Result<()> {
        self.lock().find(to, from.len())?.copy_from_slice(from);
        Ok(())
    }

    unsafe fn download(&self, (): &(), to: &mut [u8], from: DevicePtr) -> Result<()> {
        let mut state = self.lock();
        to.copy_from_slice(state.find(from, to.len())?);
        Ok(())
    }

    fn pinned(&self, bytes: usize) -> Result<Vec<u8>> {
        Ok(vec![0; bytes])
    }

    unsafe fn upload_pinned(
        &self,
        (): &(),
        to: DevicePtr,
        from: &Vec<u8>,
        range: Range<usize>,
    ) -> Result<()> {
        let from = from.get(range).unwrap_or_default();
        // SAFETY: nothing here is at any address.
        unsafe { self.upload(&(), to, from) }
    }

    unsafe fn download_pinned(
        &self,
        (): &(),
        to: &mut Vec<u8>,
        range: Range<usize>,
        from: DevicePtr,
    ) -> Result<()> {
        let to = to.get_mut(range).unwrap_or_default();
        // SAFETY: nothing here is at any address.
        unsafe { self.download(&(), to, from) }
    }

    fn load(&self, _: &str, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn function(&self, (): &(), entry: &str) -> Result<String> {
        Ok(entry.to_owned())
    }

    fn function_info(&self, _: &String) -> Result<FunctionInfo> {
        Ok(FunctionInfo { registers: 0, local_bytes: 0, shared_bytes: 0, threads: 1024 })
    }

    fn allow_shared(&self, _: &String, _: usize) -> Result<()> {
        Ok(())
    }

    unsafe fn launch(&self, (): &(), function: &String, launch: Launch, _: &[u8]) -> Result<()> {
        self.lock().noted.push(Noted { entry: function.clone(), launch });
        Ok(())
    }

    unsafe fn gemm_f64(&self, (): &(), _: Gemm) -> Result<()> {
        let launch = Launch { grid: [1; 3], threads: 0, shared: 0 };
        self.lock().noted.push(Noted { entry: GEMM.into(), launch });
        Ok(())
    }

    fn begin_capture(&self, (): &()) -> Result<()> {
        Ok(())
    }

    fn end_capture(&self, (): &()) -> Result<()> {
        Ok(())
    }

    unsafe fn launch_graph(&self, (): &(), (): &()) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arras_rns::prime::ntt_primes;
    use arras_rns::{Backend, Coefficient, Input, Poly, Ring};

    use super::*;
    use crate::Cuda;

    /// A transform is one launch up to 2^13 and two beyond; memory holds what was written.
    #[test]
    fn launches_are_noted_and_memory_is_kept() {
        for (log, launches) in [(12, 1), (13, 1), (14, 2), (16, 2)] {
            let degree = 1 << log;
            let backend = Cuda::counting(CountingDriver::h200()).unwrap();
            let ring = Ring::new(degree, &ntt_primes(50, degree, 2, &[]).unwrap()).unwrap();
            let queue = backend.queue().unwrap();
            let tables = backend.tables(&queue, &ring).unwrap();
            let mut poly: Poly<_, Coefficient> =
                Poly::allocate(&backend, &queue, &ring, ring.limbs(), 1).unwrap();
            let words: Vec<u64> = (0..2 * degree as u64).collect();
            // Words go as they are; kernels, which arrange the rows of a view, are noted only.
            backend.write(&queue, poly.buffer_mut(), 0, &words).unwrap();
            let mut found = vec![0; words.len()];
            backend.read(&queue, poly.buffer_mut(), 0, &mut found).unwrap();
            assert!(found == words);
            backend.driver().take();
            let mut poly = poly.retag();
            backend.ntt(&queue, &tables, &mut poly.view_mut(), Input::InPlace).unwrap();
            let noted = backend.driver().take();
            assert_eq!(noted.len(), launches, "{noted:?}");
            assert!(noted.iter().all(|one| one.entry.starts_with("arras_ntt_") && one.launch.threads > 0));
            assert!(backend.driver().take().is_empty());
        }
    }
}
