//! [`HostDriver`]: streams that do their work as late as, or whenever, the rules allow.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arras_cuda::DriverError;
use arras_cuda::driver::{DeviceInfo, DevicePtr, Driver, FunctionInfo, Gemm, Launch, MemoryInfo, Result};

use crate::ffi::Kernel;
use crate::memory::{Arena, POISON};

/// When queued work is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// Not before somebody waits for it, and then no more than has to be.
    Latest,
    /// Some of it, of any stream, at every call: a random moment that the rules allow.
    Random(u64),
}

/// In which order the threads of a block, and the blocks of a grid, take their turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lanes {
    /// By index.
    Forward,
    /// Against it.
    Reverse,
    /// Any.
    Random(u64),
}

/// Something that goes wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Injection {
    /// The allocation after so many others fails, and those after it work again.
    OutOfMemory(u64),
    /// The device is lost once so many operations were done.
    DeviceLost(u64),
}

/// How to set up a [`HostDriver`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostOptions {
    /// When work is done.
    pub schedule: Schedule,
    /// In which order threads run.
    pub lanes: Lanes,
    /// Bytes of device memory.
    pub memory: u64,
    /// What goes wrong.
    pub injection: Option<Injection>,
    /// Entry points that are replaced by others: how a broken kernel gets into its place.
    pub replaced: Vec<(&'static str, &'static str)>,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            schedule: Schedule::Latest,
            lanes: Lanes::Forward,
            memory: 8 << 30,
            injection: None,
            replaced: Vec::new(),
        }
    }
}

/// A CUDA driver without a GPU: kernels compiled for the host, run when the rules of streams say they have to, or may.
#[derive(Debug)]
pub struct HostDriver {
    options: HostOptions,
    device: DeviceInfo,
    state: Arc<Mutex<State>>,
}

/// One operation of a stream.
#[derive(Clone, Debug)]
enum Work {
    Launch { kernel: Kernel, launch: Launch, arguments: Arc<[u128]> },
    Fill { to: u64, byte: u8, bytes: usize },
    Copy { to: u64, from: u64, bytes: usize },
    Upload { to: u64, from: Arc<[u8]> },
    UploadPinned { to: u64, from: HostStretch },
    DownloadPinned { to: HostStretch, from: u64 },
    Free { at: u64 },
    Gemm(Gemm),
    Record { event: u64, generation: u64 },
    Wait { event: u64, generation: u64 },
}

/// Page-locked memory that work under way refers to.
#[derive(Clone, Copy, Debug)]
struct HostStretch {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: who calls the driver keeps the memory alive and leaves it alone until the copy is done.
unsafe impl Send for HostStretch {}
// SAFETY: as above.
unsafe impl Sync for HostStretch {}

/// Where an event stands.
#[derive(Debug, Default)]
struct EventState {
    /// How often it was recorded.
    recorded: u64,
    /// The last of them that came to pass, and when.
    done: u64,
    time: Option<Instant>,
    /// The stream of the last record.
    stream: u64,
}

#[derive(Debug, Default)]
struct StreamState {
    work: VecDeque<Work>,
    /// What is recorded instead of queued.
    capture: Option<Vec<Work>>,
}

#[derive(Debug, Default)]
struct State {
    arena: Arena,
    streams: BTreeMap<u64, StreamState>,
    events: BTreeMap<u64, EventState>,
    next: u64,
    allocations: u64,
    operations: u64,
    /// What went wrong in work that was done, until somebody is told.
    failure: Option<String>,
    lost: bool,
    random: u64,
}

/// A stream of a [`HostDriver`].
#[derive(Debug)]
pub struct HostStream {
    id: u64,
}

/// An event of a [`HostDriver`].
#[derive(Debug)]
pub struct HostEvent {
    id: u64,
    timing: bool,
    state: Arc<Mutex<State>>,
}

impl Drop for HostEvent {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        // Streams that are still to wait for it do so; nobody can ask for it any more.
        if state.events.get(&self.id).is_some_and(|event| event.done == event.recorded) {
            state.events.remove(&self.id);
        }
    }
}

/// Page-locked memory of a [`HostDriver`].
#[derive(Debug)]
pub struct HostPinned(Box<[u8]>);

impl AsRef<[u8]> for HostPinned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for HostPinned {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// An image of a [`HostDriver`]: the kernels of one file.
#[derive(Debug)]
pub struct HostModule {
    name: String,
}

/// A kernel of a [`HostDriver`].
#[derive(Clone, Debug)]
pub struct HostFunction {
    kernel: Kernel,
}

/// Recorded work of a [`HostDriver`].
#[derive(Debug)]
pub struct HostGraph {
    work: Vec<Work>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(place: impl Into<String>, message: impl Into<String>) -> DriverError {
    DriverError::Failed { place: place.into(), code: 700, message: message.into() }
}

impl HostDriver {
    /// A device as the options say.
    pub fn new(options: HostOptions) -> Self {
        let device = DeviceInfo {
            name: "kernels on the host".into(),
            capability: (9, 0),
            multiprocessors: 1,
            shared_bytes: 227 << 10,
            l2_bytes: 50 << 20,
            driver_version: 13000,
        };
        let random = match options.schedule {
            Schedule::Latest => 1,
            Schedule::Random(seed) => seed | 1,
        };
        let state = State { random, next: 1, ..State::default() };
        Self { options, device, state: Arc::new(Mutex::new(state)) }
    }

    /// Bytes of device memory in use.
    pub fn used(&self) -> usize {
        lock(&self.state).arena.used
    }

    /// Number of operations that were done.
    pub fn operations(&self) -> u64 {
        lock(&self.state).operations
    }

    /// Does all work of all streams, and forgets what went wrong in it.
    pub fn finish_all(&self) {
        let mut state = lock(&self.state);
        let ids: Vec<u64> = state.streams.keys().copied().collect();
        ids.into_iter().for_each(|id| self.finish(&mut state, id));
        state.failure = None;
    }

    /// Queues work, or records it; then the schedule may have some work done.
    fn queue(&self, stream: &HostStream, place: &str, work: Work) -> Result<()> {
        let mut state = lock(&self.state);
        state.usable(place)?;
        let target = state.streams.entry(stream.id).or_default();
        match &mut target.capture {
            Some(recorded) => recorded.push(work),
            None => target.work.push_back(work),
        }
        if let Schedule::Random(_) = self.options.schedule {
            self.wander(&mut state);
        }
        Ok(())
    }

    /// Does some work of random streams.
    fn wander(&self, state: &mut State) {
        for _ in 0..state.random() % 4 {
            let ids: Vec<u64> = state.streams.keys().copied().collect();
            let Some(&id) = ids.get(state.random() as usize % ids.len().max(1)) else { return };
            if !state.blocked(id) {
                self.step(state, id);
            }
        }
    }

    /// Does the next operation of a stream. An event it waits for comes first, and what that needs.
    fn step(&self, state: &mut State, id: u64) {
        let Some(work) = state.streams.get_mut(&id).and_then(|stream| stream.work.pop_front()) else {
            return;
        };
        if let Work::Wait { event, generation } = work {
            self.reach(state, event, generation);
            return;
        }
        state.operations += 1;
        if let Some(Injection::DeviceLost(after)) = self.options.injection
            && state.operations > after
        {
            state.lost = true;
        }
        // After a failure the results mean nothing, as on a GPU; memory is still released.
        if (state.lost || state.failure.is_some()) && !matches!(work, Work::Free { .. } | Work::Record { .. })
        {
            return;
        }
        if let Err(message) = self.perform(state, &work) {
            state.failure.get_or_insert(message);
        }
    }

    /// Does work until an event has come to pass.
    fn reach(&self, state: &mut State, event: u64, generation: u64) {
        while let Some((done, stream)) = state.events.get(&event).map(|event| (event.done, event.stream)) {
            if done >= generation || state.idle(stream) {
                return;
            }
            self.step(state, stream);
        }
    }

    fn finish(&self, state: &mut State, id: u64) {
        while !state.idle(id) {
            self.step(state, id);
        }
    }

    fn perform(&self, state: &mut State, work: &Work) -> std::result::Result<(), String> {
        match work {
            Work::Launch { kernel, launch, arguments } => {
                let order = match self.options.lanes {
                    Lanes::Forward => (0, 0),
                    Lanes::Reverse => (1, 0),
                    Lanes::Random(seed) => (2, seed ^ state.random()),
                };
                // SAFETY: who queued the launch vouches for the arguments.
                unsafe { kernel.launch(launch.grid, launch.threads, launch.shared, arguments, order) }
            }
            &Work::Fill { to, byte, bytes } => {
                let to = state.arena.stretch(to, bytes)?;
                // SAFETY: the arena says that the stretch is allocated.
                unsafe { to.write_bytes(byte, bytes) };
                Ok(())
            }
            &Work::Copy { to, from, bytes } => {
                let (to, from) = (state.arena.stretch(to, bytes)?, state.arena.stretch(from, bytes)?);
                // SAFETY: the arena says that both stretches are allocated; overlap is harmless.
                unsafe { to.copy_from(from, bytes) };
                Ok(())
            }
            Work::Upload { to, from } => {
                let to = state.arena.stretch(*to, from.len())?;
                // SAFETY: the arena says that the stretch is allocated.
                unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
                Ok(())
            }
            &Work::UploadPinned { to, from } => {
                let to = state.arena.stretch(to, from.bytes)?;
                // SAFETY: as above; the caller keeps the page-locked memory alive.
                unsafe { to.copy_from_nonoverlapping(from.start, from.bytes) };
                Ok(())
            }
            &Work::DownloadPinned { to, from } => {
                let from = state.arena.stretch(from, to.bytes)?;
                // SAFETY: as above; the caller keeps the page-locked memory alive and does not look at it.
                unsafe { to.start.copy_from_nonoverlapping(from, to.bytes) };
                Ok(())
            }
            &Work::Free { at } => state.arena.free(at),
            Work::Gemm(gemm) => multiply(&state.arena, gemm),
            &Work::Record { event, generation } => {
                if let Some(event) = state.events.get_mut(&event) {
                    event.done = event.done.max(generation);
                    event.time = Some(Instant::now());
                }
                Ok(())
            }
            Work::Wait { .. } => Ok(()),
        }
    }

    /// Everything of a stream is done; what went wrong is reported.
    fn complete(&self, stream: &HostStream, place: &str) -> Result<MutexGuard<'_, State>> {
        let mut state = lock(&self.state);
        state.usable(place)?;
        self.finish(&mut state, stream.id);
        state.usable(place)?;
        Ok(state)
    }
}

impl State {
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 20
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn idle(&self, stream: u64) -> bool {
        self.streams.get(&stream).is_none_or(|stream| stream.work.is_empty())
    }

    /// Whether the next operation of a stream waits for an event that has not come to pass.
    fn blocked(&self, stream: u64) -> bool {
        match self.streams.get(&stream).and_then(|stream| stream.work.front()) {
            Some(Work::Wait { event, generation }) => {
                self.events.get(event).is_some_and(|event| event.done < *generation)
            }
            _ => false,
        }
    }

    /// Reports, once, what went wrong in work that was done; a lost device for ever.
    fn usable(&mut self, place: &str) -> Result<()> {
        if self.lost {
            return Err(DriverError::DeviceLost { place: place.into(), message: "as was asked for".into() });
        }
        self.failure.take().map_or(Ok(()), |message| Err(failed(place, message)))
    }
}

/// The product by its definition.
fn multiply(arena: &Arena, gemm: &Gemm) -> std::result::Result<(), String> {
    let [m, n, k] = gemm.extent;
    let matrix = |(at, stride): (DevicePtr, usize), rows: usize, columns: usize| {
        let count = if columns == 0 { 0 } else { (columns - 1) * stride + rows };
        arena.stretch(at.0, 8 * count).map(|start| (start.cast::<f64>(), stride))
    };
    let (a, b, c) = (matrix(gemm.a, m, k)?, matrix(gemm.b, k, n)?, matrix(gemm.c, m, n)?);
    // SAFETY: the arena says that the whole matrices are allocated, and addresses are multiples of 8.
    let at = |(start, stride): (*mut f64, usize), row: usize, column: usize| unsafe {
        start.add(column * stride + row)
    };
    for column in 0..n {
        for row in 0..m {
            // SAFETY: as above.
            unsafe {
                let sum: f64 = (0..k).map(|i| *at(a, row, i) * *at(b, i, column)).sum();
                let out = at(c, row, column);
                let old = if gemm.beta == 0.0 { 0.0 } else { gemm.beta * *out };
                *out = gemm.alpha * sum + old;
            }
        }
    }
    Ok(())
}

impl Driver for HostDriver {
    type Stream = HostStream;
    type Event = HostEvent;
    type Pinned = HostPinned;
    type Module = HostModule;
    type Function = HostFunction;
    type Graph = HostGraph;

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn memory(&self) -> Result<MemoryInfo> {
        let used = lock(&self.state).arena.used as u64;
        Ok(MemoryInfo { free: self.options.memory.saturating_sub(used), total: self.options.memory })
    }

    fn stream(&self) -> Result<HostStream> {
        let mut state = lock(&self.state);
        state.usable("stream")?;
        let id = state.id();
        state.streams.insert(id, StreamState::default());
        Ok(HostStream { id })
    }

    fn synchronize(&self, stream: &HostStream) -> Result<()> {
        let state = self.complete(stream, "synchronize")?;
        state.arena.check().map_err(|message| failed("synchronize", message))
    }

    fn event(&self, timing: bool) -> Result<HostEvent> {
        let mut state = lock(&self.state);
        state.usable("event")?;
        let id = state.id();
        state.events.insert(id, EventState::default());
        Ok(HostEvent { id, timing, state: self.state.clone() })
    }

    fn record(&self, stream: &HostStream, event: &HostEvent) -> Result<()> {
        let generation = {
            let mut state = lock(&self.state);
            let entry = state.events.entry(event.id).or_default();
            entry.recorded += 1;
            entry.stream = stream.id;
            entry.recorded
        };
        self.queue(stream, "record", Work::Record { event: event.id, generation })
    }

    fn wait(&self, stream: &HostStream, event: &HostEvent) -> Result<()> {
        let generation = lock(&self.state).events.get(&event.id).map_or(0, |event| event.recorded);
        self.queue(stream, "wait", Work::Wait { event: event.id, generation })
    }

    fn synchronize_event(&self, event: &HostEvent) -> Result<()> {
        let mut state = lock(&self.state);
        state.usable("synchronize event")?;
        let generation = state.events.get(&event.id).map_or(0, |event| event.recorded);
        self.reach(&mut state, event.id, generation);
        state.usable("synchronize event")
    }

    fn elapsed(&self, from: &HostEvent, to: &HostEvent) -> Result<Duration> {
        if !from.timing || !to.timing {
            return Err(failed("elapsed", "an event was made without timing"));
        }
        let state = lock(&self.state);
        let time = |event: &HostEvent| {
            let event = state.events.get(&event.id).filter(|event| event.done == event.recorded);
            event
                .and_then(|event| event.time)
                .ok_or_else(|| failed("elapsed", "an event has not come to pass"))
        };
        Ok(time(to)?.duration_since(time(from)?))
    }

    fn allocate(&self, _: &HostStream, bytes: usize) -> Result<DevicePtr> {
        let mut state = lock(&self.state);
        state.usable("allocate")?;
        let refused = DriverError::OutOfMemory { place: "allocate".into(), requested: bytes as u64 };
        let index = state.allocations;
        state.allocations += 1;
        let free = self.options.memory.saturating_sub(state.arena.used as u64);
        if self.options.injection == Some(Injection::OutOfMemory(index)) || bytes as u64 > free {
            return Err(refused);
        }
        state.arena.allocate(bytes).map(DevicePtr).ok_or(refused)
    }

    unsafe fn free(&self, stream: &HostStream, ptr: DevicePtr) -> Result<()> {
        let mut state = lock(&self.state);
        // Memory is released even if the device is lost.
        state.streams.entry(stream.id).or_default().work.push_back(Work::Free { at: ptr.0 });
        if let Schedule::Random(_) = self.options.schedule {
            self.wander(&mut state);
        }
        Ok(())
    }

    unsafe fn fill(&self, stream: &HostStream, ptr: DevicePtr, byte: u8, bytes: usize) -> Result<()> {
        self.queue(stream, "fill", Work::Fill { to: ptr.0, byte, bytes })
    }

    unsafe fn copy(&self, stream: &HostStream, to: DevicePtr, from: DevicePtr, bytes: usize) -> Result<()> {
        self.queue(stream, "copy", Work::Copy { to: to.0, from: from.0, bytes })
    }

    unsafe fn upload(&self, stream: &HostStream, to: DevicePtr, from: &[u8]) -> Result<()> {
        self.queue(stream, "upload", Work::Upload { to: to.0, from: from.into() })
    }

    unsafe fn download(&self, stream: &HostStream, to: &mut [u8], from: DevicePtr) -> Result<()> {
        let state = self.complete(stream, "download")?;
        let from = state.arena.stretch(from.0, to.len()).map_err(|message| failed("download", message))?;
        // SAFETY: the arena says that the stretch is allocated.
        unsafe { to.as_mut_ptr().copy_from_nonoverlapping(from, to.len()) };
        Ok(())
    }

    fn pinned(&self, bytes: usize) -> Result<HostPinned> {
        Ok(HostPinned(vec![0; bytes].into()))
    }

    unsafe fn upload_pinned(
        &self,
        stream: &HostStream,
        to: DevicePtr,
        from: &HostPinned,
        range: Range<usize>,
    ) -> Result<()> {
        let from = from.0.get(range).ok_or_else(|| failed("upload_pinned", "a stretch beyond the end"))?;
        let from = HostStretch { start: from.as_ptr().cast_mut(), bytes: from.len() };
        self.queue(stream, "upload_pinned", Work::UploadPinned { to: to.0, from })
    }

    unsafe fn download_pinned(
        &self,
        stream: &HostStream,
        to: &mut HostPinned,
        range: Range<usize>,
        from: DevicePtr,
    ) -> Result<()> {
        let to = to.0.get_mut(range).ok_or_else(|| failed("download_pinned", "a stretch beyond the end"))?;
        // What is still on its way must not be taken for what was there before.
        to.iter_mut().enumerate().for_each(|(i, byte)| *byte = POISON.to_ne_bytes()[i % 8]);
        let to = HostStretch { start: to.as_mut_ptr(), bytes: to.len() };
        self.queue(stream, "download_pinned", Work::DownloadPinned { to, from: from.0 })
    }

    fn load(&self, name: &str, _: &[u8]) -> Result<HostModule> {
        Ok(HostModule { name: name.into() })
    }

    fn function(&self, module: &HostModule, entry: &str) -> Result<HostFunction> {
        let other = self.options.replaced.iter().find(|(replaced, _)| *replaced == entry);
        let found = match other {
            Some((_, other)) => Kernel::all().find(|kernel| kernel.name() == *other),
            None => {
                let file = format!("{}.cu", module.name);
                Kernel::all().find(|kernel| kernel.name() == entry && kernel.file().ends_with(&file))
            }
        };
        let missing = || DriverError::MissingKernel { entry: entry.into(), image: module.name.clone() };
        Ok(HostFunction { kernel: found.ok_or_else(missing)? })
    }

    fn function_info(&self, function: &HostFunction) -> Result<FunctionInfo> {
        let threads = function.kernel.max_threads();
        Ok(FunctionInfo { registers: 0, local_bytes: 0, shared_bytes: 0, threads })
    }

    fn allow_shared(&self, _: &HostFunction, bytes: usize) -> Result<()> {
        if bytes <= self.device.shared_bytes {
            return Ok(());
        }
        Err(failed("allow_shared", format!("{bytes} bytes, there are {}", self.device.shared_bytes)))
    }

    unsafe fn launch(
        &self,
        stream: &HostStream,
        function: &HostFunction,
        launch: Launch,
        arguments: &[u8],
    ) -> Result<()> {
        let Launch { grid, threads, shared } = launch;
        let kernel = function.kernel;
        let place = || format!("launch of {}", kernel.name());
        if arguments.len() != kernel.argument_bytes() || arguments.len() > 4096 {
            let expected = kernel.argument_bytes();
            return Err(failed(
                place(),
                format!("{} bytes of arguments, expected {expected}", arguments.len()),
            ));
        }
        if threads > kernel.max_threads()
            || threads == 0
            || grid.contains(&0)
            || grid[1..].iter().any(|&extent| extent > 65535)
            || shared > self.device.shared_bytes
        {
            return Err(failed(place(), format!("impossible shape {launch:?}")));
        }
        let mut aligned = vec![0u128; arguments.len().div_ceil(16)];
        // SAFETY: the copy is no longer than its target.
        unsafe {
            aligned.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(arguments.as_ptr(), arguments.len());
        }
        self.queue(stream, "launch", Work::Launch { kernel, launch, arguments: aligned.into() })
    }

    unsafe fn gemm_f64(&self, stream: &HostStream, gemm: Gemm) -> Result<()> {
        self.queue(stream, "gemm_f64", Work::Gemm(gemm))
    }

    fn begin_capture(&self, stream: &HostStream) -> Result<()> {
        lock(&self.state).streams.entry(stream.id).or_default().capture = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self, stream: &HostStream) -> Result<HostGraph> {
        let mut state = lock(&self.state);
        let recorded = state.streams.get_mut(&stream.id).and_then(|stream| stream.capture.take());
        let work = recorded.ok_or_else(|| failed("end_capture", "nothing is being recorded"))?;
        Ok(HostGraph { work })
    }

    unsafe fn launch_graph(&self, stream: &HostStream, graph: &HostGraph) -> Result<()> {
        graph.work.iter().try_for_each(|work| self.queue(stream, "launch_graph", work.clone()))
    }
}
