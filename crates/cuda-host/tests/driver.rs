//! The host driver notices what it is there to notice, and the backend survives what a device can do to it. Broken kernels, missing
//! waits, early frees: tests of the tests.

mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arras_cuda::driver::{DevicePtr, Driver, Gemm, Launch};
use arras_cuda::{Cuda, DriverError, Images, abi};
use arras_cuda_host::{HostDriver, HostOptions, HostStream, Injection, Lanes, POISON, Schedule, images};
use arras_rns::testkit::{self, Scale};
use arras_rns::{
    Backend, Coefficient, Domain, Error, Evaluation, Input, Poly, PreparedView, Quantise, Ring, RingTables,
};
use libtest_mimic::Trial;
use support::{cuda, ensure};

type Outcome = Result<(), String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A driver, a stream, and room for 64 words.
struct Probe {
    driver: HostDriver,
    stream: HostStream,
    out: DevicePtr,
}

impl Probe {
    fn new(options: HostOptions) -> Result<Self, String> {
        let driver = HostDriver::new(options);
        let stream = driver.stream().map_err(text)?;
        let out = driver.allocate(&stream, 512).map_err(text)?;
        Ok(Self { driver, stream, out })
    }

    /// Queues a probe of `broken/probes.cu` with `blocks` blocks.
    fn queue(
        &self,
        stream: &HostStream,
        entry: &str,
        out: DevicePtr,
        value: u64,
        blocks: u32,
    ) -> Result<(), DriverError> {
        let module = self.driver.load("broken/probes", &[])?;
        let function = self.driver.function(&module, entry)?;
        let threads = self.driver.function_info(&function)?.threads;
        let launch = Launch { grid: [blocks, 1, 1], threads, shared: 512 };
        let arguments = [out.0.to_ne_bytes(), value.to_ne_bytes()].concat();
        // SAFETY: a structure of an address and a word; what is wrong with the address is what the test is about.
        unsafe { self.driver.launch(stream, &function, launch, &arguments) }
    }

    /// Runs a probe and gives what it wrote.
    fn run(&self, entry: &str, value: u64, blocks: u32) -> Result<[u64; 64], DriverError> {
        self.queue(&self.stream, entry, self.out, value, blocks)?;
        self.read(&self.stream, self.out)
    }

    fn read(&self, stream: &HostStream, from: DevicePtr) -> Result<[u64; 64], DriverError> {
        let mut bytes = [0; 512];
        // SAFETY: 512 bytes were allocated.
        unsafe { self.driver.download(stream, &mut bytes, from)? };
        let mut words = [0; 64];
        words
            .iter_mut()
            .zip(bytes.as_chunks::<8>().0)
            .for_each(|(word, bytes)| *word = u64::from_ne_bytes(*bytes));
        Ok(words)
    }
}

fn complains(result: Result<[u64; 64], DriverError>, about: &str) -> Outcome {
    match result {
        Err(DriverError::Failed { message, .. }) if message.contains(about) => Ok(()),
        other => Err(format!("{other:?} does not speak of '{about}'")),
    }
}

/// What the machine under the kernels refuses.
fn mistakes_of_kernels() -> Outcome {
    let probe = Probe::new(HostOptions::default())?;
    complains(probe.run("probe_divergent_barrier", 0, 1), "deadlock")?;
    complains(probe.run("probe_lane_not_in_mask", 0, 1), "mask")?;
    complains(probe.run("probe_shared_index", 40, 1), "shared memory index 64 of 64")?;
    if !arras_cuda_host::sanitized() {
        complains(probe.run("probe_shared_pointer", 40, 1), "beyond its end")?;
    }
    // The machine is as good as new after each of them.
    let fresh = probe.run("probe_shared_fresh", 0, 1).map_err(text)?[..32].to_vec();
    ensure(fresh.iter().all(|&word| word == 0), || format!("two kinds of poison: {fresh:x?}"))
}

/// Shuffles, votes, barriers, and shared memory between them.
fn warps_work_together() -> Outcome {
    for lanes in [Lanes::Forward, Lanes::Reverse, Lanes::Random(3)] {
        let probe = Probe::new(HostOptions { lanes, ..HostOptions::default() })?;
        let found = probe.run("probe_shuffles", 0, 3).map_err(text)?;
        for (thread, &word) in found.iter().enumerate() {
            let lane = thread % 32;
            let next = if lane == 31 { thread } else { thread + 1 };
            let last = if lane == 0 { thread } else { thread - 1 };
            let expected = (2016 << 32) | (next << 16 | last << 8 | 1) as u64;
            ensure(word == expected, || {
                format!("{lanes:?}, thread {thread}: {word:#x}, expected {expected:#x}")
            })?;
        }
        // Poisoned for every block anew, though the last one wrote to it.
        let fresh = probe.run("probe_shared_fresh", 0, 5).map_err(text)?;
        ensure(fresh[..32].iter().all(|&word| word == 0), || {
            format!("{lanes:?}: shared memory is not fresh")
        })?;
    }
    Ok(())
}

/// A kernel that works on freed memory, that of another stream, or none.
fn memory_is_guarded() -> Outcome {
    let probe = Probe::new(HostOptions::default())?;
    let Probe { driver, stream, out } = &probe;
    let other = driver.stream().map_err(text)?;
    let new = || driver.allocate(stream, 512).map_err(text);

    // What nobody wrote is poison, and so is what was freed.
    let early = new()?;
    ensure(probe.read(stream, early).map_err(text)? == [POISON; 64], || {
        "fresh memory is not poisoned".into()
    })?;
    // SAFETY: the stretch is allocated.
    unsafe { driver.fill(stream, early, 7, 512) }.map_err(text)?;
    driver.synchronize(stream).map_err(text)?;
    if !arras_cuda_host::sanitized() {
        probe.queue(&other, "probe_read", *out, early.0, 1).map_err(text)?;
        // SAFETY: none at all: the other stream is to read it and was not waited for. The driver keeps the memory for a while.
        unsafe { driver.free(stream, early) }.map_err(text)?;
        driver.synchronize(stream).map_err(text)?;
        let found = probe.read(&other, *out).map_err(text)?[0];
        ensure(found == POISON, || format!("freed memory holds {found:#x}"))?;
        probe.queue(&other, "probe_write", early, 1, 1).map_err(text)?;
        let result = driver.synchronize(&other).map_err(text);
        ensure(result.as_ref().is_err_and(|error| error.contains("after they were freed")), || {
            format!("{result:?}")
        })?;

        let probe = Probe::new(HostOptions::default())?;
        probe.queue(&probe.stream, "probe_write", probe.out.offset(512), 1, 1).map_err(text)?;
        let result = probe.driver.synchronize(&probe.stream).map_err(text);
        ensure(result.as_ref().is_err_and(|error| error.contains("beside 512 bytes")), || {
            format!("{result:?}")
        })?;
    }
    let mut byte = [0];
    // SAFETY: none: that the address is refused is the point.
    let result = unsafe { driver.download(&other, &mut byte, DevicePtr(8)) };
    ensure(result.is_err(), || "an address outside all memory was read".into())
}

/// Another stream sees work only after waiting for it; with the wait it always does.
fn streams_are_ordered_by_events_only() -> Outcome {
    for schedule in [Schedule::Latest, Schedule::Random(9)] {
        let probe = Probe::new(HostOptions { schedule, ..HostOptions::default() })?;
        let Probe { driver, stream, out } = &probe;
        let other = driver.stream().map_err(text)?;
        let (event, idle) = (driver.event(true).map_err(text)?, driver.event(false).map_err(text)?);
        driver.wait(&other, &idle).map_err(text)?;
        let late = driver.event(true).map_err(text)?;
        driver.record(stream, &event).map_err(text)?;
        probe.queue(stream, "probe_write", *out, 5, 1).map_err(text)?;
        if schedule == Schedule::Latest {
            let found = probe.read(&other, *out).map_err(text)?[0];
            ensure(found == POISON, || format!("{found:#x} without waiting for it"))?;
        }
        driver.record(stream, &late).map_err(text)?;
        driver.wait(&other, &late).map_err(text)?;
        let found = probe.read(&other, *out).map_err(text)?[0];
        ensure(found == 5, || format!("{found:#x} after waiting for it"))?;
        driver.elapsed(&event, &late).map_err(text)?;
        ensure(driver.elapsed(&event, &idle).is_err(), || "an event without a clock".into())?;
        driver.synchronize_event(&late).map_err(text)?;
    }
    Ok(())
}

/// Page-locked memory is read when the copy is done and holds poison until then; graphs do their work again.
fn copies_and_graphs() -> Outcome {
    let probe = Probe::new(HostOptions::default())?;
    let Probe { driver, stream, out } = &probe;
    let mut pinned = driver.pinned(512).map_err(text)?;
    pinned.as_mut().fill(3);
    // SAFETY: the memory is long enough, and is not touched before the stream was waited for.
    unsafe {
        driver.upload_pinned(stream, *out, &pinned, 0..512).map_err(text)?;
        driver.synchronize(stream).map_err(text)?;
        driver.download_pinned(stream, &mut pinned, 0..512, *out).map_err(text)?;
    }
    ensure(pinned.as_ref()[..8] == POISON.to_ne_bytes(), || "memory on its way is not poisoned".into())?;
    driver.synchronize(stream).map_err(text)?;
    ensure(pinned.as_ref().iter().all(|&byte| byte == 3), || "the copy went wrong".into())?;

    driver.begin_capture(stream).map_err(text)?;
    probe.queue(stream, "probe_write", *out, 11, 1).map_err(text)?;
    let graph = driver.end_capture(stream).map_err(text)?;
    ensure(probe.read(stream, *out).map_err(text)?[0] != 11, || "recorded work was done".into())?;
    for _ in 0..2 {
        // SAFETY: the recorded address is still allocated.
        unsafe {
            driver.fill(stream, *out, 0, 512).map_err(text)?;
            driver.launch_graph(stream, &graph).map_err(text)?;
        }
        ensure(probe.read(stream, *out).map_err(text)?[..2] == [11, 0], || "the graph did not run".into())?;
    }
    Ok(())
}

/// Column-major, with distances between columns, and the old contents.
fn matrix_products() -> Outcome {
    let probe = Probe::new(HostOptions::default())?;
    let Probe { driver, stream, out } = &probe;
    let floats: Vec<f64> = (0..64).map(f64::from).collect();
    let bytes: Vec<u8> = floats.iter().flat_map(|x| x.to_ne_bytes()).collect();
    let [a, b, c] = [out.offset(0), out.offset(128), out.offset(256)];
    let gemm = Gemm { extent: [2, 3, 2], alpha: 2.0, a: (a, 3), b: (b, 2), beta: -1.0, c: (c, 4) };
    // SAFETY: all three matrices are inside the 64 words.
    unsafe {
        driver.upload(stream, *out, &bytes).map_err(text)?;
        driver.gemm_f64(stream, gemm).map_err(text)?;
    }
    let found = probe.read(stream, *out).map_err(text)?.map(f64::from_bits);
    for (column, row) in (0..3).flat_map(|column| (0..2).map(move |row| (column, row))) {
        let product: f64 = (0..2).map(|i| floats[3 * i + row] * floats[16 + 2 * column + i]).sum();
        let at = 32 + 4 * column + row;
        ensure(found[at] == 2.0 * product - floats[at], || {
            format!("row {row}, column {column}: {}", found[at])
        })?;
    }
    ensure(found[34..36] == floats[34..36], || "words between columns changed".into())
}

fn images_are_checked() -> Outcome {
    let good = images()?;
    ensure(good.abi == abi::HASH, || {
        format!("the headers have hash {:#018x}: abi.rs is to say so", good.abi)
    })?;
    headers_are_listed(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels"))?;
    let new = |images: &Images<'_>| Cuda::new(HostDriver::new(HostOptions::default()), images).map(drop);
    let other = new(&Images { abi: 1, ..good });
    ensure(matches!(other, Err(DriverError::Abi { found: 1, .. })), || format!("{other:?}"))?;
    let fewer = new(&Images { images: &[], ..good });
    ensure(matches!(fewer, Err(DriverError::MissingKernel { .. })), || format!("{fewer:?}"))
}

/// Every header with structures, constants and macros that both compilers see is hashed, platform.h apart, which has none for Rust.
fn headers_are_listed(kernels: PathBuf) -> Outcome {
    let mut found = Vec::new();
    for folder in ["include", "measure", "ntt", "rns", "keyswitch", "matmul", "sample", "wire", "vit"] {
        for entry in std::fs::read_dir(kernels.join(folder)).map_err(text)? {
            let name = entry.map_err(text)?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".h") && name != "platform.h" {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found.sort();
    ensure(found == abi::HEADERS, || format!("{found:?} are to be hashed"))
}

/// A bit of everything on two queues; the words it ends with.
fn work(backend: &Cuda<HostDriver>) -> Result<Vec<u64>, Error> {
    let ring = Ring::new(64, &[257, 641, 769, 3329])?;
    let (queue, other) = (backend.queue()?, backend.queue()?);
    let tables = backend.tables(&queue, &ring)?;
    let mut x: Poly<_, Coefficient> = Poly::allocate(backend, &queue, &ring, ring.limbs(), 2)?;
    backend.upload(&queue, &mut x.view_mut(), &vec![3; 512])?;
    let mut y: Poly<_, Evaluation> = Poly::allocate(backend, &queue, &ring, ring.limbs(), 2)?;
    backend.ntt(&queue, &tables, &mut y.view_mut(), x.view().into())?;
    backend.wait(&other, &backend.record(&queue)?)?;
    let prepared = backend.prepare(&other, &tables, &y.view())?;
    let right = PreparedView { prepared: &prepared, first: 0, term_stride: 1, batch_stride: 1 };
    let mut z: Poly<_, Evaluation> = Poly::allocate(backend, &other, &ring, ring.limbs(), 2)?;
    backend.inner_product(&other, &tables, &mut z.view_mut(), &[y.view()], right)?;
    let mut values = backend.allocate(&other, 64)?;
    backend.write(&other, &mut values, 0, &[1.5f64.to_bits(); 64])?;
    let how = Quantise { first: 0, batch_stride: 0, coefficient_stride: 1, count: 64, scale_bits: 2 };
    let mut w: Poly<_, Coefficient> = Poly::allocate(backend, &other, &ring, ring.limbs(), 2)?;
    backend.quantise(&other, &tables, &mut w.view_mut(), &values, how)?;
    // Used on the other queue, released on the first.
    drop((x, y, prepared, values));
    backend.add(&other, &tables, &mut z.view_mut(), Input::InPlace, &w.view().retag())?;
    backend.synchronize(&queue)?;
    debug_assert!(Evaluation::IS_EVALUATION && tables.ring() == &ring);
    let mut words = vec![0; 512];
    backend.download(&other, &z.view(), &mut words)?;
    Ok(words)
}

/// Whichever allocation fails, the call says how many bytes it wanted, nothing leaks, and the next attempt works.
fn out_of_memory_is_survived() -> Outcome {
    let expected = work(&cuda(HostOptions::default()).map_err(text)?).map_err(text)?;
    let mut refused = 0;
    for after in 0.. {
        let injection = Some(Injection::OutOfMemory(after));
        let backend = cuda(HostOptions { injection, ..HostOptions::default() }).map_err(text)?;
        match work(&backend) {
            Ok(words) => {
                ensure(words == expected && refused > 10, || format!("only {refused} allocations"))?;
                return Ok(());
            }
            Err(Error::Device { message, .. }) if message.contains("out of device memory") => refused += 1,
            Err(other) => return Err(format!("allocation {after}: {other}")),
        }
        ensure(work(&backend) == Ok(expected.clone()), || format!("allocation {after}: no second attempt"))?;
        settle(&backend)?;
    }
    Ok(())
}

/// Everything that was allocated comes back.
fn settle(backend: &Cuda<HostDriver>) -> Outcome {
    backend.driver().finish_all();
    let used = backend.driver().used();
    ensure(used == 0, || format!("{used} bytes were not released"))
}

/// Whenever the device is lost, calls fail from then on, and nothing panics.
fn a_lost_device_stays_lost() -> Outcome {
    for after in (0..).step_by(3) {
        let injection = Some(Injection::DeviceLost(after));
        let backend = cuda(HostOptions { injection, ..HostOptions::default() }).map_err(text)?;
        match work(&backend) {
            Ok(_) => return ensure(after > 20, || format!("only {after} operations")),
            Err(Error::Device { message, .. }) if message.contains("device lost") => {}
            Err(other) => return Err(format!("operation {after}: {other}")),
        }
        let again = work(&backend);
        let lost = matches!(&again, Err(Error::Device { message, .. }) if message.contains("device lost"));
        ensure(lost, || format!("operation {after}: {again:?}"))?;
    }
    Ok(())
}

/// The trials of the testkit fail with a broken kernel in the place of a good one.
fn broken_kernels_are_found(good: &'static str, broken: &'static str, trials: &str) -> Outcome {
    let mut tried = 0;
    for lanes in [Lanes::Forward, Lanes::Reverse, Lanes::Random(7)] {
        let options = HostOptions { lanes, replaced: vec![(good, broken)], ..HostOptions::default() };
        // What fails below is a trial, not the loading of kernels.
        cuda(options.clone()).map_err(text)?;
        let list = testkit::trials(move || cuda(options.clone()), Scale::Quick);
        let mut all = list.iter().filter(|trial| trial.name.starts_with(trials)).peekable();
        ensure(all.peek().is_some(), || format!("there are no trials {trials}"))?;
        let found = all.inspect(|_| tried += 1).any(|trial| (trial.run)().is_err());
        ensure(found, || format!("{lanes:?}: {tried} trials {trials} do not notice {broken}"))?;
    }
    Ok(())
}

/// Missing waits between queues give wrong words, or are reported.
fn missing_waits_are_found() -> Outcome {
    let backend = cuda(HostOptions::default()).map_err(text)?;
    let ring = Ring::new(64, &[257]).map_err(text)?;
    let sum = |waits: bool| -> Result<u64, Error> {
        let (first, second) = (backend.queue()?, backend.queue()?);
        let tables = backend.tables(&first, &ring)?;
        let mut x: Poly<_, Coefficient> = Poly::allocate(&backend, &first, &ring, ring.limbs(), 1)?;
        backend.upload(&first, &mut x.view_mut(), &[100; 64])?;
        if waits {
            backend.wait(&second, &backend.record(&first)?)?;
        }
        let mut y: Poly<_, Coefficient> = Poly::allocate(&backend, &second, &ring, ring.limbs(), 1)?;
        let own = backend.tables(&second, &ring)?;
        backend.add(&second, &own, &mut y.view_mut(), x.view().into(), &x.view())?;
        let mut words = [0; 64];
        backend.download(&second, &y.view(), &mut words)?;
        debug_assert_eq!(tables.ring(), &ring);
        Ok(words[0])
    };
    ensure(sum(true) == Ok(200), || "the wait has no effect".into())?;
    ensure(sum(false) != Ok(200), || "a missing wait goes unnoticed".into())
}

fn main() -> ExitCode {
    let trial = |name: &str, body: fn() -> Outcome| Trial::test(name, move || body().map_err(Into::into));
    let mut all = vec![
        trial("mistakes of kernels are reported", mistakes_of_kernels),
        trial("warps work together", warps_work_together),
        trial("memory is guarded", memory_is_guarded),
        trial("streams are ordered by events only", streams_are_ordered_by_events_only),
        trial("copies and graphs", copies_and_graphs),
        trial("matrix products", matrix_products),
        trial("images are checked", images_are_checked),
        trial("out of memory is survived", out_of_memory_is_survived),
        trial("a lost device stays lost", a_lost_device_stays_lost),
        trial("missing waits are found", missing_waits_are_found),
    ];
    let broken = [
        ("arras_ntt_block", "broken_ntt_block_without_barriers", "ntt/"),
        ("arras_intt_block", "broken_intt_block_without_barriers", "intt/"),
        ("arras_add", "broken_add_short", "add/"),
        ("arras_scale_add", "broken_scale_add_lazy", "scale_add/"),
        ("arras_inner_product_simple", "broken_inner_product_overflow", "inner_product"),
        ("arras_negate", "broken_negate_spill", "negate/"),
        ("arras_ntt_whole_12_shifted", "broken_ntt_whole_without_barriers", "ntt/n4096/shifted"),
        ("arras_intt_whole_11_lazy", "broken_intt_whole_without_warp_barriers", "intt/n2048"),
        ("arras_ntt_whole_11_lazy", "broken_ntt_whole_one_short", "ntt/n2048"),
        ("arras_ntt_whole_12_harvey", "broken_ntt_whole_too_lazy", "ntt/n4096/60bit"),
    ];
    for (good, broken, trials) in broken {
        let body = move || broken_kernels_are_found(good, broken, trials).map_err(Into::into);
        all.push(Trial::test(format!("{broken} is found"), body));
    }
    support::run(all)
}
