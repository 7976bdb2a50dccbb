//! A backend that times what it is asked to do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arras_rns::switching::{Image, KeySwitchParts, ModDownParts};
use arras_rns::{
    Backend, Coefficient, Domain, Error, Evaluation, Input, LimbSet, Packing, Positions, PreparedView,
    Quantise, Result, Ring, SeedLabel, View, ViewMut,
};

/// A backend around another one. Every method waits until its work is done, so that times add up: on a device, where work
/// would otherwise overlap with the host's, they add up to more than without.
///
/// Fused methods count as one: a key switch is a key switch, not the transforms in it.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_measure::trace::Traced;
/// use arras_rns::Backend;
///
/// let traced = Traced::new(Cpu::sequential());
/// let queue = traced.queue()?;
/// let mut buffer = traced.allocate(&queue, 4)?;
/// traced.write(&queue, &mut buffer, 0, &[1, 2])?;
/// traced.write(&queue, &mut buffer, 2, &[3, 4])?;
/// let spent = traced.take();
/// assert_eq!(spent["write"].0, 2);
/// assert!(traced.take().is_empty());
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Traced<B> {
    inner: B,
    spent: Arc<Mutex<Spent>>,
}

/// How often each method was called, and how long its calls took.
/// See the example of [`Traced`].
pub type Spent = BTreeMap<&'static str, (u64, Duration)>;

impl<B: Backend> Traced<B> {
    /// Wraps a backend.
    pub fn new(inner: B) -> Self {
        Self { inner, spent: Arc::default() }
    }

    /// What was spent since the last call.
    pub fn take(&self) -> Spent {
        std::mem::take(&mut *self.spent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn timed<T>(
        &self,
        method: &'static str,
        queue: &B::Queue,
        work: impl FnOnce(&B) -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        let done = work(&self.inner)?;
        self.inner.synchronize(queue)?;
        let taken = start.elapsed();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, time) = spent.entry(method).or_default();
        *count += 1;
        *time += taken;
        Ok(done)
    }
}

/// Views of the one are views of the other.
fn same<T>(thing: &T) -> Result<&T> {
    Ok(thing)
}

fn same_mut<T>(thing: &mut T) -> Result<&mut T> {
    Ok(thing)
}

fn bare<'a, B: Backend, D: Domain>(view: &View<'a, Traced<B>, D>) -> Result<View<'a, B, D>> {
    view.try_map(same)
}

fn input<'a, B: Backend, D: Domain>(input: &Input<'a, Traced<B>, D>) -> Result<Input<'a, B, D>> {
    input.try_map(same)
}

fn output<'a, B: Backend, D: Domain>(view: &'a mut ViewMut<'_, Traced<B>, D>) -> Result<ViewMut<'a, B, D>> {
    view.try_map::<B, Error>(same_mut)
}

impl<B: Backend> Backend for Traced<B> {
    type Buffer = B::Buffer;
    type Queue = B::Queue;
    type Event = B::Event;
    type Tables = B::Tables;
    type Converter = B::Converter;
    type Prepared = B::Prepared;
    type Matrix = B::Matrix;

    fn name(&self) -> String {
        self.inner.name()
    }

    fn queue(&self) -> Result<B::Queue> {
        self.inner.queue()
    }

    fn synchronize(&self, queue: &B::Queue) -> Result<()> {
        self.inner.synchronize(queue)
    }

    fn record(&self, queue: &B::Queue) -> Result<B::Event> {
        self.inner.record(queue)
    }

    fn wait(&self, queue: &B::Queue, event: &B::Event) -> Result<()> {
        self.inner.wait(queue, event)
    }

    fn allocate(&self, queue: &B::Queue, words: usize) -> Result<B::Buffer> {
        self.timed("allocate", queue, |inner| inner.allocate(queue, words))
    }

    fn write(&self, queue: &B::Queue, buffer: &mut B::Buffer, offset: usize, words: &[u64]) -> Result<()> {
        self.timed("write", queue, |inner| inner.write(queue, buffer, offset, words))
    }

    fn read(&self, queue: &B::Queue, buffer: &B::Buffer, offset: usize, words: &mut [u64]) -> Result<()> {
        self.timed("read", queue, |inner| inner.read(queue, buffer, offset, words))
    }

    fn wipe(&self, queue: &B::Queue, buffer: &mut B::Buffer) -> Result<()> {
        self.timed("wipe", queue, |inner| inner.wipe(queue, buffer))
    }

    fn tables(&self, queue: &B::Queue, ring: &Ring) -> Result<B::Tables> {
        self.timed("tables", queue, |inner| inner.tables(queue, ring))
    }

    fn converter(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        source: LimbSet,
        target: LimbSet,
    ) -> Result<B::Converter> {
        self.timed("converter", queue, |inner| inner.converter(queue, tables, source, target))
    }

    fn prepare(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        polynomials: &View<'_, Self, Evaluation>,
    ) -> Result<B::Prepared> {
        self.timed("prepare", queue, |inner| inner.prepare(queue, tables, &bare(polynomials)?))
    }

    fn matrix(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        rows: usize,
        columns: usize,
        entries: &[i64],
    ) -> Result<B::Matrix> {
        self.timed("matrix", queue, |inner| inner.matrix(queue, tables, rows, columns, entries))
    }

    fn ntt(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        from: Input<'_, Self, Coefficient>,
    ) -> Result<()> {
        self.timed("ntt", queue, |inner| inner.ntt(queue, tables, &mut output(out)?, input(&from)?))
    }

    fn intt(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        from: Input<'_, Self, Evaluation>,
    ) -> Result<()> {
        self.timed("intt", queue, |inner| inner.intt(queue, tables, &mut output(out)?, input(&from)?))
    }

    fn automorphism<D: Domain>(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, D>,
        from: &View<'_, Self, D>,
        element: usize,
    ) -> Result<()> {
        self.timed("automorphism", queue, |inner| {
            inner.automorphism(queue, tables, &mut output(out)?, &bare(from)?, element)
        })
    }

    fn copy<D: Domain>(
        &self,
        queue: &B::Queue,
        out: &mut ViewMut<'_, Self, D>,
        from: &View<'_, Self, D>,
    ) -> Result<()> {
        self.timed("copy", queue, |inner| inner.copy(queue, &mut output(out)?, &bare(from)?))
    }

    fn add<D: Domain>(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()> {
        self.timed("add", queue, |inner| inner.add(queue, tables, &mut output(out)?, input(&a)?, &bare(b)?))
    }

    fn sub<D: Domain>(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        b: &View<'_, Self, D>,
    ) -> Result<()> {
        self.timed("sub", queue, |inner| inner.sub(queue, tables, &mut output(out)?, input(&a)?, &bare(b)?))
    }

    fn negate<D: Domain>(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
    ) -> Result<()> {
        self.timed("negate", queue, |inner| inner.negate(queue, tables, &mut output(out)?, input(&a)?))
    }

    fn multiply(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: Input<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        self.timed("multiply", queue, |inner| {
            inner.multiply(queue, tables, &mut output(out)?, input(&a)?, &bare(b)?)
        })
    }

    fn multiply_accumulate(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        a: &View<'_, Self, Evaluation>,
        b: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        self.timed("multiply_accumulate", queue, |inner| {
            inner.multiply_accumulate(queue, tables, &mut output(out)?, &bare(a)?, &bare(b)?)
        })
    }

    fn scale_add<D: Domain>(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, D>,
        a: Input<'_, Self, D>,
        scalars: &[u64],
        b: Option<&View<'_, Self, D>>,
    ) -> Result<()> {
        self.timed("scale_add", queue, |inner| {
            let b = b.map(bare).transpose()?;
            inner.scale_add(queue, tables, &mut output(out)?, input(&a)?, scalars, b.as_ref())
        })
    }

    fn base_convert(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        converter: &B::Converter,
        out: &mut ViewMut<'_, Self, Coefficient>,
        from: &View<'_, Self, Coefficient>,
    ) -> Result<()> {
        self.timed("base_convert", queue, |inner| {
            inner.base_convert(queue, tables, converter, &mut output(out)?, &bare(from)?)
        })
    }

    fn inner_product(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        left: &[View<'_, Self, Evaluation>],
        right: PreparedView<'_, Self>,
    ) -> Result<()> {
        let PreparedView { prepared, first, term_stride, batch_stride } = right;
        self.timed("inner_product", queue, |inner| {
            let left = left.iter().map(bare).collect::<Result<Vec<_>>>()?;
            let right = PreparedView { prepared, first, term_stride, batch_stride };
            inner.inner_product(queue, tables, &mut output(out)?, &left, right)
        })
    }

    fn matrix_product<D: Domain>(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, D>,
        matrix: &B::Matrix,
        from: &View<'_, Self, D>,
    ) -> Result<()> {
        self.timed("matrix_product", queue, |inner| {
            inner.matrix_product(queue, tables, &mut output(out)?, matrix, &bare(from)?)
        })
    }

    fn quantise(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        values: &B::Buffer,
        how: Quantise,
    ) -> Result<()> {
        self.timed("quantise", queue, |inner| inner.quantise(queue, tables, &mut output(out)?, values, how))
    }

    fn expand_seed(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, Evaluation>,
        labels: &[SeedLabel],
    ) -> Result<()> {
        self.timed("expand_seed", queue, |inner| inner.expand_seed(queue, tables, &mut output(out)?, labels))
    }

    fn unpack<D: Domain>(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        out: &mut ViewMut<'_, Self, D>,
        packing: Packing,
        packed: &[u8],
    ) -> Result<()> {
        self.timed("unpack", queue, |inner| inner.unpack(queue, tables, &mut output(out)?, packing, packed))
    }

    fn trim(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        from: &View<'_, Self, Coefficient>,
        bits: u32,
        positions: Positions,
        packed: &mut [u8],
    ) -> Result<()> {
        self.timed("trim", queue, |inner| inner.trim(queue, tables, &bare(from)?, bits, positions, packed))
    }

    fn upload<D: Domain>(
        &self,
        queue: &B::Queue,
        out: &mut ViewMut<'_, Self, D>,
        words: &[u64],
    ) -> Result<()> {
        self.timed("upload", queue, |inner| inner.upload(queue, &mut output(out)?, words))
    }

    fn download<D: Domain>(
        &self,
        queue: &B::Queue,
        view: &View<'_, Self, D>,
        words: &mut [u64],
    ) -> Result<()> {
        self.timed("download", queue, |inner| inner.download(queue, &bare(view)?, words))
    }

    fn mod_down_parts(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        parts: &mut ModDownParts<'_, Self>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        from: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        self.timed("mod_down", queue, |inner| {
            let mut parts = parts.try_map(same_mut, same)?;
            inner.mod_down_parts(queue, tables, &mut parts, &mut output(out)?, &bare(from)?)
        })
    }

    fn mod_up_parts(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        from: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        self.timed("mod_up", queue, |inner| {
            inner.mod_up_parts(queue, tables, &mut parts.try_map(same_mut, same)?, &bare(from)?)
        })
    }

    fn gadget_product_parts(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &B::Prepared,
    ) -> Result<()> {
        self.timed("gadget_product", queue, |inner| {
            inner.gadget_product_parts(queue, tables, &mut parts.try_map(same_mut, same)?, key)
        })
    }

    fn key_switch_parts(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &B::Prepared,
        out: [&mut ViewMut<'_, Self, Evaluation>; 2],
        d: &View<'_, Self, Evaluation>,
    ) -> Result<()> {
        let [first, second] = out;
        self.timed("key_switch", queue, |inner| {
            let mut parts = parts.try_map(same_mut, same)?;
            let out = [&mut output(first)?, &mut output(second)?];
            inner.key_switch_parts(queue, tables, &mut parts, key, out, &bare(d)?)
        })
    }

    fn key_switch_automorphism_parts(
        &self,
        queue: &B::Queue,
        tables: &B::Tables,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &B::Prepared,
        out: [&mut ViewMut<'_, Self, Evaluation>; 2],
        mut image: Image<'_, '_, Self>,
    ) -> Result<()> {
        let [first, second] = out;
        self.timed("key_switch_automorphism", queue, |inner| {
            let mut parts = parts.try_map(same_mut, same)?;
            let out = [&mut output(first)?, &mut output(second)?];
            inner.key_switch_automorphism_parts(
                queue,
                tables,
                &mut parts,
                key,
                out,
                image.try_map(same, same_mut)?,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use arras_cpu::Cpu;

    use super::*;
    use crate::{AnyDevice, Cases, Sweep};

    /// Every case agrees with the oracle through the wrapper; fused methods are one.
    #[test]
    fn nothing_is_changed_and_everything_is_counted() {
        let traced = Traced::new(Cpu::sequential());
        let device = AnyDevice::new(traced.clone(), 1 << 16);
        let sweep =
            Sweep { degrees: vec![1 << 10, 1 << 12], bits: vec![50], heads: false, ..Sweep::default() };
        let wanted = |name: &str| !name.contains("n=4096") || name.contains("ckks/rotate/");
        let mut spent = BTreeMap::new();
        Cases::new(&sweep)
            .visit(&device, &wanted, &mut |cases| {
                for case in cases {
                    traced.take();
                    (case.run)()?;
                    spent.insert(case.name.clone(), traced.take());
                }
                Ok(())
            })
            .unwrap();
        let of = |start: &str| spent.iter().find(|(name, _)| name.starts_with(start)).unwrap().1;
        let rotation =
            |(&method, spent): (&&str, &(u64, Duration))| method == "key_switch_automorphism" && spent.0 == 1;
        assert!(of("ckks/rotate/").iter().any(rotation));
        assert!(!of("ckks/rotate/").contains_key("base_convert"), "{:?}", of("ckks/rotate/"));
        let forward = of("ntt/forward/");
        assert!(forward.len() == 1 && forward["ntt"].0 == 1 && forward["ntt"].1 > Duration::ZERO);
        // What was spent on cases that were not wanted; then nothing is left.
        traced.take();
        assert!(traced.take().is_empty());
    }
}
