//! A backend around another one that enforces what a GPU would leave to chance.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::backend::{Conversion, IntegerMatrix, Multiplicands};
use crate::switching::ModDownParts;
use crate::{
    Backend, Coefficient, Domain, Error, Evaluation, Input, LimbSet, Packing, Positions, PreparedView,
    Quantise, Result, Ring, RingTables, SeedLabel, Storage, View, ViewMut, check, switching,
};

/// What unwritten memory holds: no residue, since it exceeds 2^60, and no finite float.
const POISON: u64 = 0xfff8_dead_beef_0bad;

/// A backend that makes mistakes visible which go unnoticed on a machine that does everything at once:
///
/// - Memory that was allocated, or that an operation is about to write, holds poison; reading poison is an error, and so is
///   an operation that leaves some of it behind.
/// - Every buffer, table and prepared operand knows which queue wrote it and which read it. Using it on another queue
///   without [`record`](Backend::record) and [`wait`](Backend::wait) in between is an error that names the operation.
///   Ordering is tracked by buffer, not by word.
/// - Nothing but the operations of the contract can reach the memory.
///
/// Fused operations of the inner backend are not used. With a [`Fault`] it is a broken backend, to test the trials.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_rns::testkit::{Fault, FaultKind, Opaque, Scale, trials};
///
/// // A sum that is off by one is found by the trials of that operation.
/// let fault = Fault { operation: "add", kind: FaultKind::OffByOne };
/// let trials = trials(move || Ok(Opaque::with_fault(Cpu::sequential(), fault)), Scale::Quick);
/// let mut of_add = trials.iter().filter(|trial| trial.name.starts_with("add/"));
/// assert!(of_add.any(|trial| (trial.run)().is_err()));
/// ```
#[derive(Debug)]
pub struct Opaque<B> {
    inner: B,
    queues: AtomicU64,
    fault: Option<Fault>,
}

/// A mistake to make on purpose.
///
/// See the example of [`Opaque`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The method that makes it.
    pub operation: &'static str,
    /// The mistake.
    pub kind: FaultKind,
}

/// Mistakes that kernels make.
///
/// See the example of [`Opaque`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The last row keeps what it held.
    SkippedRow,
    /// The last word is off by one.
    OffByOne,
    /// The first value is not reduced: its modulus is added.
    Unreduced,
    /// A word beside the output is changed.
    Spill,
    /// The last row is never written.
    Unwritten,
}

impl<B: Backend> Opaque<B> {
    /// Wraps a backend.
    pub fn new(inner: B) -> Self {
        Self { inner, queues: AtomicU64::new(0), fault: None }
    }

    /// Wraps a backend and breaks it.
    pub fn with_fault(inner: B, fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::new(inner) }
    }
}

/// How much of each queue is known to be done: queue id to number of operations.
type Clock = BTreeMap<u64, u64>;

/// A queue with an identity.
#[derive(Debug)]
pub struct OpaqueQueue<B: Backend> {
    inner: B::Queue,
    id: u64,
    clock: Mutex<Clock>,
}

/// A point in a queue, and all that happens before it.
#[derive(Debug)]
pub struct OpaqueEvent<B: Backend> {
    inner: B::Event,
    clock: Clock,
}

/// Something that is written and read in queue order.
#[derive(Debug)]
pub struct Guarded<T> {
    inner: T,
    history: Mutex<History>,
}

/// The last writer, and the readers since.
#[derive(Debug)]
struct History {
    writer: (u64, u64),
    readers: Clock,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One operation on a queue.
struct Step<'q, B: Backend> {
    operation: &'static str,
    queue: &'q OpaqueQueue<B>,
    time: u64,
}

impl<B: Backend> OpaqueQueue<B> {
    fn step(&self, operation: &'static str) -> Step<'_, B> {
        let mut clock = lock(&self.clock);
        let time = clock.entry(self.id).or_default();
        *time += 1;
        Step { operation, queue: self, time: *time }
    }
}

impl<B: Backend> Step<'_, B> {
    fn error(&self, message: String) -> Error {
        Error::Device { place: format!("{} on queue {}", self.operation, self.queue.id), message }
    }

    /// Whether operation `time` of queue `id` is ordered before this one.
    fn follows(&self, id: u64, time: u64) -> bool {
        id == self.queue.id || lock(&self.queue.clock).get(&id).is_some_and(|&done| done >= time)
    }

    fn may_read<T>(&self, thing: &Guarded<T>) -> Result<()> {
        let mut history = lock(&thing.history);
        let (id, time) = history.writer;
        if !self.follows(id, time) {
            return Err(self.error(format!("reads what queue {id} wrote without waiting for it")));
        }
        history.readers.insert(self.queue.id, self.time);
        Ok(())
    }

    fn may_write<T>(&self, thing: &Guarded<T>) -> Result<()> {
        let history = lock(&thing.history);
        let (id, time) = history.writer;
        if !self.follows(id, time) {
            return Err(self.error(format!("overwrites what queue {id} wrote without waiting for it")));
        }
        match history.readers.iter().find(|&(&id, &time)| !self.follows(id, time)) {
            None => Ok(()),
            Some((id, _)) => {
                Err(self.error(format!("overwrites what queue {id} reads without waiting for it")))
            }
        }
    }

    fn wrote<T>(&self, thing: &Guarded<T>) {
        *lock(&thing.history) = History { writer: (self.queue.id, self.time), readers: Clock::new() };
    }

    fn made<T>(&self, inner: T) -> Guarded<T> {
        let history = History { writer: (self.queue.id, self.time), readers: Clock::new() };
        Guarded { inner, history: Mutex::new(history) }
    }

    fn no_poison(&self, words: &[u64]) -> Result<()> {
        match words.iter().position(|&word| word == POISON) {
            None => Ok(()),
            Some(index) => Err(self.error(format!("reads memory that was never written (word {index})"))),
        }
    }
}

impl<T: Storage> Storage for Guarded<T> {
    fn words(&self) -> usize {
        self.inner.words()
    }
}

impl<T: RingTables> RingTables for Guarded<T> {
    fn ring(&self) -> &Ring {
        self.inner.ring()
    }
}

impl<T: Conversion> Conversion for Guarded<T> {
    fn source(&self) -> LimbSet {
        self.inner.source()
    }

    fn target(&self) -> LimbSet {
        self.inner.target()
    }
}

impl<T: Multiplicands> Multiplicands for Guarded<T> {
    fn degree(&self) -> usize {
        self.inner.degree()
    }

    fn entries(&self) -> usize {
        self.inner.entries()
    }

    fn limbs(&self) -> LimbSet {
        self.inner.limbs()
    }
}

impl<T: IntegerMatrix> IntegerMatrix for Guarded<T> {
    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn columns(&self) -> usize {
        self.inner.columns()
    }
}

/// The same view of the memory inside.
fn bare<'a, B: Backend, D: Domain>(view: &View<'a, Opaque<B>, D>) -> View<'a, B, D> {
    view.map(|buffer| &buffer.inner)
}

fn bare_input<'a, B: Backend, D: Domain>(input: &Input<'a, Opaque<B>, D>) -> Input<'a, B, D> {
    match input {
        Input::InPlace => Input::InPlace,
        Input::From(view) => Input::From(bare(view)),
    }
}

fn bare_right<'a, B: Backend>(right: PreparedView<'a, Opaque<B>>) -> PreparedView<'a, B> {
    let PreparedView { prepared, first, term_stride, batch_stride } = right;
    PreparedView { prepared: &prepared.inner, first, term_stride, batch_stride }
}

fn is_fresh<B: Backend, D: Domain>(input: &Input<'_, B, D>) -> bool {
    matches!(input, Input::From(_))
}

/// What an operation knows about its output besides the view.
struct Output<'r> {
    /// Whether the old contents do not matter.
    fresh: bool,
    /// The ring, if the operation has tables.
    ring: Option<&'r Ring>,
}

impl<B: Backend> Opaque<B> {
    fn contents<D: Domain>(&self, step: &Step<'_, B>, view: &View<'_, Self, D>) -> Result<Vec<u64>> {
        let view = bare(view);
        let mut words = vec![0; view.batch() * view.limbs().len() * view.degree()];
        self.inner.download(&step.queue.inner, &view, &mut words)?;
        Ok(words)
    }

    /// An operand is read: in order, and all of it has been written.
    fn reads<D: Domain>(&self, step: &Step<'_, B>, view: &View<'_, Self, D>) -> Result<()> {
        view.segments().iter().try_for_each(|segment| step.may_read(segment.buffer))?;
        step.no_poison(&self.contents(step, view)?)
    }

    fn reads_input<D: Domain>(&self, step: &Step<'_, B>, input: &Input<'_, Self, D>) -> Result<()> {
        match input {
            Input::InPlace => Ok(()),
            Input::From(view) => self.reads(step, view),
        }
    }

    /// An output is written by `call`: in order, over poison, and completely; a refused call leaves it as it was.
    fn writes<D: Domain>(
        &self,
        step: &Step<'_, B>,
        output: Output<'_>,
        out: &mut ViewMut<'_, Self, D>,
        call: impl FnOnce(&mut ViewMut<'_, B, D>) -> Result<()>,
    ) -> Result<()> {
        let queue = &step.queue.inner;
        out.segments_mut().iter().try_for_each(|segment| step.may_write(segment.buffer))?;
        let before = self.contents(step, &out.as_view())?;
        {
            let mut inside = out.map(|buffer| &mut buffer.inner);
            if output.fresh {
                self.inner.upload(queue, &mut inside, &vec![POISON; before.len()])?;
            } else {
                step.no_poison(&before)?;
            }
            if let Err(error) = call(&mut inside) {
                self.inner.upload(queue, &mut inside, &before)?;
                return Err(error);
            }
        }
        self.blunder(step, out, &before, output.ring)?;
        let after = self.contents(step, &out.as_view())?;
        if let Some(index) = after.iter().position(|&word| word == POISON) {
            return Err(step.error(format!("left word {index} of its output unwritten")));
        }
        out.segments_mut().iter().for_each(|segment| step.wrote(segment.buffer));
        Ok(())
    }

    /// Makes the mistake that was asked for, if it is this operation's turn.
    fn blunder<D: Domain>(
        &self,
        step: &Step<'_, B>,
        out: &mut ViewMut<'_, Self, D>,
        before: &[u64],
        ring: Option<&Ring>,
    ) -> Result<()> {
        let Some(Fault { kind, .. }) = self.fault.filter(|fault| fault.operation == step.operation) else {
            return Ok(());
        };
        let (queue, degree, first) = (&step.queue.inner, out.degree(), out.limbs().iter().next());
        let mut words = self.contents(step, &out.as_view())?;
        let Some(last_row) = words.len().checked_sub(degree).filter(|_| !words.is_empty()) else {
            return Ok(());
        };
        match kind {
            FaultKind::SkippedRow => words[last_row..].copy_from_slice(&before[last_row..]),
            FaultKind::Unwritten => words[last_row..].fill(POISON),
            FaultKind::OffByOne => words[last_row + degree - 1] ^= 1,
            FaultKind::Unreduced => {
                let modulus = ring.zip(first).map(|(ring, limb)| ring.modulus(limb).value());
                words[0] += modulus.unwrap_or(1);
            }
            FaultKind::Spill => return self.spill(queue, out),
        }
        self.inner.upload(queue, &mut out.map(|buffer| &mut buffer.inner), &words)
    }

    /// Changes the word behind, or else before, the last row of the output.
    fn spill<D: Domain>(&self, queue: &B::Queue, out: &mut ViewMut<'_, Self, D>) -> Result<()> {
        let limb = out.limbs().last().unwrap_or_default();
        let Some(segment) = out.segments_mut().last_mut() else { return Ok(()) };
        let start = segment.extent.offset(segment.first + segment.count - 1, limb);
        let behind = start + segment.extent.degree;
        let at = if behind < segment.buffer.words() { behind } else { start.saturating_sub(1) };
        let mut word = [0];
        self.inner.read(queue, &segment.buffer.inner, at, &mut word)?;
        self.inner.write(queue, &mut segment.buffer.inner, at, &[word[0] ^ 1])
    }
}

impl<B: Backend> Backend for Opaque<B> {
    type Buffer = Guarded<B::Buffer>;
    type Queue = OpaqueQueue<B>;
    type Event = OpaqueEvent<B>;
    type Tables = Guarded<B::Tables>;
    type Converter = Guarded<B::Converter>;
    type Prepared = Guarded<B::Prepared>;
    type Matrix = Guarded<B::Matrix>;

    fn name(&self) -> String {
        format!("opaque {}", self.inner.name())
    }

    fn queue(&self) -> Result<Self::Queue> {
        let id = self.queues.fetch_add(1, Ordering::Relaxed);
        Ok(OpaqueQueue { inner: self.inner.queue()?, id, clock: Mutex::default() })
    }

    fn synchronize(&self, queue: &Self::Queue) -> Result<()> {
        self.inner.synchronize(&queue.inner)
    }

    fn record(&self, queue: &Self::Queue) -> Result<Self::Event> {
        Ok(OpaqueEvent { inner: self.inner.record(&queue.inner)?, clock: lock(&queue.clock).clone() })
    }

    fn wait(&self, queue: &Self::Queue, event: &Self::Event) -> Result<()> {
        self.inner.wait(&queue.inner, &event.inner)?;
        let mut clock = lock(&queue.clock);
        for (&id, &time) in &event.clock {
            let known = clock.entry(id).or_default();
            *known = time.max(*known);
        }
        Ok(())
    }

    fn allocate(&self, queue: &Self::Queue, words: usize) -> Result<Self::Buffer> {
        let step = queue.step("allocate");
        let mut buffer = self.inner.allocate(&queue.inner, words)?;
        self.inner.write(&queue.inner, &mut buffer, 0, &vec![POISON; words])?;
        Ok(step.made(buffer))
    }

    fn write(
        &self,
        queue: &Self::Queue,
        buffer: &mut Self::Buffer,
        offset: usize,
        words: &[u64],
    ) -> Result<()> {
        let step = queue.step("write");
        step.may_write(buffer)?;
        self.inner.write(&queue.inner, &mut buffer.inner, offset, words)?;
        step.wrote(buffer);
        Ok(())
    }

    fn read(
        &self,
        queue: &Self::Queue,
        buffer: &Self::Buffer,
        offset: usize,
        words: &mut [u64],
    ) -> Result<()> {
        let step = queue.step("read");
        step.may_read(buffer)?;
        self.inner.read(&queue.inner, &buffer.inner, offset, words)?;
        step.no_poison(words)
    }

    fn wipe(&self, queue: &Self::Queue, buffer: &mut Self::Buffer) -> Result<()> {
        let step = queue.step("wipe");
        step.may_write(buffer)?;
        self.inner.wipe(&queue.inner, &mut buffer.inner)?;
        step.wrote(buffer);
        Ok(())
    }

    fn tables(&self, queue: &Self::Queue, ring: &Ring) -> Result<Self::Tables> {
        Ok(queue.step("tables").made(self.inner.tables(&queue.inner, ring)?))
    }

    fn converter(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        source: LimbSet,
        target: LimbSet,
    ) -> Result<Self::Converter> {
        let step = queue.step("converter");
        step.may_read(tables)?;
        Ok(step.made(self.inner.converter(&queue.inner, &tables.inner, source, target)?))
    }

    fn prepare(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        polynomials: &View<'_, Self, Evaluation>,
    ) -> Result<Self::Prepared> {
        let step = queue.step("prepare");
        step.may_read(tables)?;
        self.reads(&step, polynomials)?;
        Ok(step.made(self.inner.prepare(&queue.inner, &tables.inner, &bare(polynomials))?))
    }

    fn matrix(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        rows: usize,
        columns: usize,
        entries: &[i64],
    ) -> Result<Self::Matrix> {
        let step = queue.step("matrix");
        step.may_read(tables)?;
        Ok(step.made(self.inner.matrix(&queue.inner, &tables.inner, rows, columns, entries)?))
    }

    fn ntt(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: Input<'_, Self, Coefficient>,
    ) -> Result<()> {
        let step = queue.step("ntt");
        step.may_read(tables)?;
        self.reads_input(&step, &input)?;
        self.writes(&step, Output { fresh: is_fresh(&input), ring: Some(tables.ring()) }, out, |out| {
            self.inner.ntt(&queue.inner, &tables.inner, out, bare_input(&input))
        })
    }

    fn intt(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: Input<'_, Self, Evaluation>,
    ) -> Result<()> {
        let step = queue.step("intt");
        step.may_read(tables)?;
        self.reads_input(&step, &input)?;
        self.writes(&step, Output { fresh: is_fresh(&input), ring: Some(tables.ring()) }, out, |out| {
            self.inner.intt(&queue.inner, &tables.inner, out, bare_input(&input))
        })
    }

    fn automorphism<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        input: &View<'_, Self, D>,
        element: usize,
    ) -> Result<()> {
        let step = queue.step("automorphism");
        step.may_read(tables)?;
        self.reads(&step, input)?;
        self.writes(&step, Output { fresh: true, ring: Some(tables.ring()) }, out, |out| {
            self.inner.automorphism(&queue.inner, &tables.inner, out, &bare(input), element)
        })
    }

    fn copy<D: Domain>(
        &self,
        queue: &Self::Queue,
        out: &mut ViewMut<'_, Self, D>,
        input: &View<'_, Self, D>,
    ) -> Result<()> {
        let step = queue.step("copy");
        self.reads(&step, input)?;
        self.writes(&step, Output { fresh: true, ring: None }, out, |out| {
            self.inner.copy(&queue.inner, out, &bare(input))
        })
    }

    fn add<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()> {
        let step = queue.step("add");
        step.may_read(tables)?;
        self.reads_input(&step, &a)?;
        self.reads(&step, b)?;
        self.writes(&step, Output { fresh: is_fresh(&a), ring: Some(tables.ring()) }, out, |out| {
            self.inner.add(&queue.inner, &tables.inner, out, bare_input(&a), &bare(b))
        })
    }

    fn sub<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()> {
        let step = queue.step("sub");
        step.may_read(tables)?;
        self.reads_input(&step, &a)?;
        self.reads(&step, b)?;
        self.writes(&step, Output { fresh: is_fresh(&a), ring: Some(tables.ring()) }, out, |out| {
            self.inner.sub(&queue.inner, &tables.inner, out, bare_input(&a), &bare(b))
        })
    }

    fn negate<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
    ) -> Result<()> {
        let step = queue.step("negate");
        step.may_read(tables)?;
        self.reads_input(&step, &a)?;
        self.writes(&step, Output { fresh: is_fresh(&a), ring: Some(tables.ring()) }, out, |out| {
            self.inner.negate(&queue.inner, &tables.inner, out, bare_input(&a))
        })
    }

    fn multiply(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: Input<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        let step = queue.step("multiply");
        step.may_read(tables)?;
        self.reads_input(&step, &a)?;
        self.reads(&step, b)?;
        self.writes(&step, Output { fresh: is_fresh(&a), ring: Some(tables.ring()) }, out, |out| {
            self.inner.multiply(&queue.inner, &tables.inner, out, bare_input(&a), &bare(b))
        })
    }

    fn multiply_accumulate(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: &View<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        let step = queue.step("multiply_accumulate");
        step.may_read(tables)?;
        self.reads(&step, a)?;
        self.reads(&step, b)?;
        self.writes(&step, Output { fresh: false, ring: Some(tables.ring()) }, out, |out| {
            self.inner.multiply_accumulate(&queue.inner, &tables.inner, out, &bare(a), &bare(b))
        })
    }

    fn scale_add<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        scalars: &[u64],
        b: Option<&View<'_, Self, D>>,
    ) -> Result<()> {
        let step = queue.step("scale_add");
        step.may_read(tables)?;
        self.reads_input(&step, &a)?;
        b.map_or(Ok(()), |b| self.reads(&step, b))?;
        self.writes(&step, Output { fresh: is_fresh(&a), ring: Some(tables.ring()) }, out, |out| {
            let (a, b) = (bare_input(&a), b.map(bare));
            self.inner.scale_add(&queue.inner, &tables.inner, out, a, scalars, b.as_ref())
        })
    }

    fn base_convert(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        converter: &Self::Converter,
        out: &mut ViewMut<'_, Self, Coefficient>,
        input: &View<'_, Self, Coefficient>,
    ) -> Result<()> {
        let step = queue.step("base_convert");
        step.may_read(tables)?;
        step.may_read(converter)?;
        self.reads(&step, input)?;
        self.writes(&step, Output { fresh: true, ring: Some(tables.ring()) }, out, |out| {
            self.inner.base_convert(&queue.inner, &tables.inner, &converter.inner, out, &bare(input))
        })
    }

    fn inner_product(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        left: &[View<'_, Self, Evaluation>],
        right: PreparedView<'_, Self>,
    ) -> Result<()> {
        let step = queue.step("inner_product");
        step.may_read(tables)?;
        step.may_read(right.prepared)?;
        left.iter().try_for_each(|term| self.reads(&step, term))?;
        self.writes(&step, Output { fresh: true, ring: Some(tables.ring()) }, out, |out| {
            let left: Vec<_> = left.iter().map(bare).collect();
            self.inner.inner_product(&queue.inner, &tables.inner, out, &left, bare_right(right))
        })
    }

    fn matrix_product<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        matrix: &Self::Matrix,
        input: &View<'_, Self, D>,
    ) -> Result<()> {
        let step = queue.step("matrix_product");
        step.may_read(tables)?;
        step.may_read(matrix)?;
        self.reads(&step, input)?;
        self.writes(&step, Output { fresh: true, ring: Some(tables.ring()) }, out, |out| {
            self.inner.matrix_product(&queue.inner, &tables.inner, out, &matrix.inner, &bare(input))
        })
    }

    fn quantise(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        values: &Self::Buffer,
        how: Quantise,
    ) -> Result<()> {
        let step = queue.step("quantise");
        step.may_read(tables)?;
        step.may_read(values)?;
        check::quantise(tables, out, values.words(), how)?;
        for polynomial in 0..out.batch() {
            for i in 0..how.count {
                let at = how.first + polynomial * how.batch_stride + i * how.coefficient_stride;
                let mut word = [0];
                self.inner.read(&queue.inner, &values.inner, at, &mut word)?;
                step.no_poison(&word)?;
            }
        }
        self.writes(&step, Output { fresh: true, ring: Some(tables.ring()) }, out, |out| {
            self.inner.quantise(&queue.inner, &tables.inner, out, &values.inner, how)
        })
    }

    fn expand_seed(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        labels: &[SeedLabel],
    ) -> Result<()> {
        let step = queue.step("expand_seed");
        step.may_read(tables)?;
        self.writes(&step, Output { fresh: true, ring: Some(tables.ring()) }, out, |out| {
            self.inner.expand_seed(&queue.inner, &tables.inner, out, labels)
        })
    }

    fn unpack<D: Domain>(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, D>,
        packing: Packing,
        packed: &[u8],
    ) -> Result<()> {
        let step = queue.step("unpack");
        step.may_read(tables)?;
        self.writes(&step, Output { fresh: true, ring: Some(tables.ring()) }, out, |out| {
            self.inner.unpack(&queue.inner, &tables.inner, out, packing, packed)
        })
    }

    fn trim(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        input: &View<'_, Self, Coefficient>,
        bits: u32,
        positions: Positions,
        packed: &mut [u8],
    ) -> Result<()> {
        let step = queue.step("trim");
        step.may_read(tables)?;
        self.reads(&step, input)?;
        self.inner.trim(&queue.inner, &tables.inner, &bare(input), bits, positions, packed)?;
        if let (Some(_), Some(byte)) =
            (self.fault.filter(|fault| fault.operation == "trim"), packed.last_mut())
        {
            *byte ^= 1;
        }
        Ok(())
    }

    fn mod_down_parts(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        parts: &mut ModDownParts<'_, Self>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        switching::mod_down(self, queue, tables, parts, out, input)?;
        // Here so that a fault can sit in an override of a provided method.
        let step = queue.step("mod_down");
        let before = self.contents(&step, &out.as_view())?;
        self.blunder(&step, out, &before, Some(tables.ring()))
    }
}
