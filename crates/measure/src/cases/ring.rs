//! One case or more for every method of [`Backend`].

use std::collections::BTreeMap;
use std::hint::black_box;

use arras_rns::backend::{Conversion as _, IntegerMatrix as _, Multiplicands as _};
use arras_rns::switching::Image;
use arras_rns::testkit::oracle;
use arras_rns::{
    Backend, Coefficient, Domain, Evaluation, Input, KeySwitchPlan, LimbSet, ModDownPlan, Packing, Poly,
    Positions, PreparedView, Purpose, Quantise, RingTables as _, SeedLabel, check,
};

use super::rig::{Host, Rig, Shape, ensure, in_turn};
use super::{Group, Made, Ready, Visitor, Wanted};
use crate::device::Device;
use crate::record::Work;
use crate::{Error, Result, Sweep};

/// A case of every shape.
pub(super) struct Entry<B: Backend> {
    /// The first part of its name.
    pub(super) name: &'static str,
    /// The methods of the backend that it times.
    pub(super) covers: &'static [&'static str],
    /// Whether their code depends on the size of the primes.
    pub(super) every_size: bool,
    pub(super) what: &'static str,
    pub(super) make: for<'f> fn(&'f Rig<B>) -> Result<Made<'f>>,
}

/// All of them.
pub(super) fn entries<B: Backend>() -> Vec<Entry<B>> {
    macro_rules! entries {
        ($($size:ident $name:literal [$($method:literal),*] $what:literal $make:expr;)*) => {
            vec![$(Entry {
                name: $name,
                covers: &[$($method),*],
                every_size: stringify!($size) == "every",
                what: $what,
                make: $make,
            }),*]
        };
    }
    entries![
        every "ntt/forward" ["ntt"] "forward transform" ntt;
        every "ntt/inverse" ["intt"] "inverse transform" intt;
        one "queue/create" ["queue"] "making a queue" queue;
        one "queue/event" ["record", "wait", "synchronize"] "marking, waiting for the mark, and for the queue" event;
        one "memory/allocate" ["allocate"] "allocation and release" allocate;
        one "memory/write" ["write"] "copy to the device" write;
        one "memory/read" ["read"] "copy from the device" read;
        one "memory/wipe" ["wipe"] "overwriting with zeros" wipe;
        one "memory/upload" ["upload"] "copy of polynomials to the device" upload;
        one "memory/download" ["download"] "copy of polynomials from the device" download;
        one "prepare/tables" ["tables"] "tables of the ring" tables;
        one "prepare/converter" ["converter"] "constants of a base conversion" converter;
        one "prepare/polynomials" ["prepare"] "preparing polynomials to multiply by" prepare;
        one "prepare/matrix" ["matrix"] "preparing an integer matrix of 5 rows" matrix;
        one "automorphism/values" ["automorphism"] "X -> X^5 in the evaluation domain" automorphism_values;
        one "automorphism/coefficients" ["automorphism"] "X -> X^5 in the coefficient domain" automorphism_coefficients;
        one "pointwise/copy" ["copy"] "copy" copy;
        one "pointwise/add" ["add"] "sum" add;
        one "pointwise/sub" ["sub"] "difference" sub;
        one "pointwise/negate" ["negate"] "negation" negate;
        every "pointwise/multiply" ["multiply"] "product, value by value" multiply;
        every "pointwise/multiply_accumulate" ["multiply_accumulate"] "sum with a product" multiply_accumulate;
        every "pointwise/scale" ["scale_add"] "product with a constant per limb" scale;
        every "pointwise/scale_add" ["scale_add"] "product with a constant per limb, and sum" scale_add;
        every "product/inner/terms=8" ["inner_product"] "inner product of 8 terms" inner_product;
        one "product/matrix/rows=5/columns=16" ["matrix_product"] "integer matrix 5 x 16 times polynomials" matrix_small;
        every "convert/base" ["base_convert"] "base conversion of one digit" base_convert;
        one "outside/quantise" ["quantise"] "rounding floats to residues" quantise;
        one "outside/expand_seed" ["expand_seed"] "uniform polynomials from seeds" expand_seed;
        one "outside/unpack/by=polynomial" ["unpack"] "unpacking rows of coefficients" unpack_polynomials;
        one "outside/unpack/by=coefficient" ["unpack"] "unpacking rows of polynomials" unpack_coefficients;
        one "outside/trim/bits=30" ["trim"] "rounding one limb to 30 bits and packing" trim;
        one "switch/mod_up" ["mod_up"] "extension of the digits" mod_up;
        one "switch/gadget_product" ["gadget_product"] "digits times key" gadget_product;
        one "switch/mod_down" ["mod_down"] "division by the special primes" mod_down;
        one "switch/rescale" ["mod_down"] "division by the last prime" rescale;
        one "switch/key_switch" ["key_switch"] "key switch of one polynomial" key_switch;
        one "switch/key_switch_automorphism" ["key_switch_automorphism"] "rotation of a ciphertext" key_switch_automorphism;
    ]
}

/// Every combination that a sweep asks for; the flag says whether methods that do not depend on the size of the primes are
/// measured too.
pub(super) fn shapes(sweep: &Sweep) -> Vec<(Shape, bool)> {
    let mut all = Vec::new();
    // The size that parameter sets use most.
    let main = sweep.bits.iter().copied().find(|&bits| bits == 50).or(sweep.bits.first().copied());
    for &degree in &sweep.degrees {
        for &limbs in &sweep.limbs {
            for &bits in &sweep.bits {
                for &batch in &sweep.batches {
                    all.push((Shape { degree, limbs, bits, batch }, Some(bits) == main));
                }
            }
        }
    }
    all
}

/// The cases of one shape.
pub(super) struct RingGroup<B: Backend> {
    shape: Shape,
    entries: Vec<Entry<B>>,
    headline: bool,
}

impl<B: Backend> RingGroup<B> {
    pub(super) fn new((shape, all): (Shape, bool)) -> Self {
        let mut entries = entries();
        entries.retain(|entry: &Entry<B>| all || entry.every_size);
        Self { shape, entries, headline: false }
    }

    /// Some cases at a shape of their own, for the README's table.
    pub(super) fn headlines(shape: Shape, entries: Vec<Entry<B>>) -> Self {
        Self { shape, entries, headline: true }
    }

    fn name(&self, entry: &Entry<B>) -> String {
        format!("{}/{}", entry.name, self.shape.name())
    }

    fn ready<'f>(&self, entry: &Entry<B>, rig: &'f Rig<B>) -> Result<Ready<'f, B>> {
        let name = self.name(entry);
        let made = (entry.make)(rig).map_err(|error| match error {
            Error::Wrong { problem, .. } => Error::wrong(name.clone(), problem),
            other => other,
        })?;
        let Shape { degree, limbs, bits, batch } = self.shape;
        let parameters = BTreeMap::from([
            ("degree".to_owned(), degree.into()),
            ("limbs".to_owned(), limbs.into()),
            ("bits".to_owned(), bits.into()),
            ("batch".to_owned(), batch.into()),
        ]);
        let polynomials = if batch == 1 { String::new() } else { format!("{batch} polynomials of ") };
        let limbs = if limbs == 1 { "1 limb".into() } else { format!("{limbs} limbs") };
        Ok(Ready {
            what: format!("{}: {polynomials}{limbs} of {bits} bits, degree {degree}", entry.what),
            name,
            parameters,
            items: made.items,
            work: made.work,
            footprint: made.footprint,
            headline: self.headline,
            on: (&rig.backend, &rig.queue),
            run: made.run,
        })
    }
}

impl<D: Device> Group<D> for RingGroup<D::Backend> {
    fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| self.name(entry)).collect()
    }

    fn visit(&self, device: &D, wanted: Wanted<'_>, visitor: Visitor<'_, D::Backend>) -> Result<()> {
        let rig = Rig::new(device, self.shape)?;
        let wanted = self.entries.iter().filter(|entry| wanted(&self.name(entry)));
        let mut ready = wanted.map(|entry| self.ready(entry, &rig)).collect::<Result<Vec<_>>>()?;
        visitor(&mut ready)
    }
}

// --- what is counted ------------------------------------------------------------------------------------------------

const WORD: u64 = 8;

/// Multiplications of a transform of `rows` rows.
pub(super) fn butterflies(degree: usize, rows: usize) -> u64 {
    (rows * degree / 2) as u64 * u64::from(degree.trailing_zeros())
}

/// Multiplications of a base conversion.
fn conversion(degree: usize, from: usize, to: usize) -> u64 {
    (degree * from * (1 + to)) as u64
}

/// Multiplications of a division by `drop` primes that leaves `keep`.
pub(super) fn division(degree: usize, keep: usize, drop: usize) -> u64 {
    butterflies(degree, keep + drop) + conversion(degree, drop, keep) + (degree * keep) as u64
}

/// Multiplications of the extension of all digits.
pub(super) fn extension(degree: usize, digits: &[LimbSet], limbs: usize, special: usize) -> u64 {
    let one = |digit: &LimbSet| {
        let rest = limbs + special - digit.len();
        butterflies(degree, rest) + conversion(degree, digit.len(), rest)
    };
    butterflies(degree, limbs) + digits.iter().map(one).sum::<u64>()
}

impl<B: Backend> Rig<B> {
    /// Operands of one execution that are used again and again.
    fn made<'f>(
        &self,
        work: Work,
        items: (u64, &'static str),
        run: impl FnMut() -> Result<()> + 'f,
    ) -> Made<'f> {
        Made { work, footprint: work.read + work.written, items, run: Box::new(run) }
    }

    fn work(&self, read: usize, written: usize, multiplications: u64) -> Work {
        let (read, written) = (WORD * self.words(read), WORD * self.words(written));
        Work { multiplications: self.shape.batch as u64 * multiplications, ..Work::moving(read, written) }
    }

    fn polynomials(&self) -> (u64, &'static str) {
        (self.shape.batch as u64, "polynomial")
    }
}

// --- transforms -----------------------------------------------------------------------------------------------------

/// In place, on what the one before left: the time does not depend on the residues.
fn ntt<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    checked_transform(rig, true)?;
    let mut poly: Poly<B, Evaluation> = rig.uniform(rig.limbs(), rig.shape.batch)?;
    transform(rig, move || {
        Ok(rig.backend.ntt(&rig.queue, &rig.tables, &mut poly.view_mut(), Input::InPlace)?)
    })
}

fn intt<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    checked_transform(rig, false)?;
    let mut poly: Poly<B, Coefficient> = rig.uniform(rig.limbs(), rig.shape.batch)?;
    transform(rig, move || {
        Ok(rig.backend.intt(&rig.queue, &rig.tables, &mut poly.view_mut(), Input::InPlace)?)
    })
}

fn transform<'f, B: Backend>(rig: &'f Rig<B>, run: impl FnMut() -> Result<()> + 'f) -> Result<Made<'f>> {
    let (count, degree) = (rig.shape.limbs, rig.shape.degree);
    let work = rig.work(count, count, butterflies(degree, count));
    let rows = rig.words(count) / degree as u64;
    Ok(Made { footprint: work.read, ..rig.made(work, (rows, "row"), run) })
}

/// A transform of one polynomial, and back, against the oracle.
fn checked_transform<B: Backend>(rig: &Rig<B>, forward: bool) -> Result<()> {
    let limbs = rig.limbs();
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let mut coefficients: Poly<B, Coefficient> = rig.uniform(limbs, 1)?;
    let before = rig.host(&coefficients.view())?;
    let expected = before.map(|limb, row| oracle::ntt(row, rig.ring().root(limb), rig.q(limb)));
    let mut values: Poly<B, Evaluation> = rig.fresh(limbs, 1)?;
    if forward {
        backend.ntt(queue, tables, &mut values.view_mut(), coefficients.view().into())?;
        let mut coefficients: Poly<B, Evaluation> = coefficients.retag();
        backend.ntt(queue, tables, &mut coefficients.view_mut(), Input::InPlace)?;
        let (found, in_place) = (rig.host(&values.view())?, rig.host(&coefficients.view())?);
        let same = |found: &Host| limbs.iter().all(|limb| found.row(0, limb) == expected.row(0, limb));
        let both = same(&found) && same(&in_place);
        return ensure(both, || "the forward transform is not that of the oracle".into());
    }
    let words: Vec<u64> = limbs.iter().flat_map(|limb| expected.row(0, limb).to_vec()).collect();
    backend.upload(queue, &mut values.view_mut(), &words)?;
    backend.intt(queue, tables, &mut coefficients.view_mut(), values.view().into())?;
    let mut values: Poly<B, Coefficient> = values.retag();
    backend.intt(queue, tables, &mut values.view_mut(), Input::InPlace)?;
    let (found, in_place) = (rig.host(&coefficients.view())?, rig.host(&values.view())?);
    let same = |found: &Host| limbs.iter().all(|limb| found.row(0, limb) == before.row(0, limb));
    ensure(same(&found) && same(&in_place), || "the inverse transform does not lead back".into())
}

/// The automorphism that is measured.
const ELEMENT: usize = 5;

fn automorphism<D: Domain, B: Backend>(
    rig: &Rig<B>,
    expected: fn(&Rig<B>, &Host) -> Host,
) -> Result<Made<'_>> {
    let (limbs, batch) = (rig.limbs(), rig.shape.batch);
    let input: Poly<B, D> = rig.uniform(limbs, batch)?;
    let mut out: Poly<B, D> = rig.fresh(limbs, batch)?;
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    backend.automorphism(queue, tables, &mut out.view_mut(), &input.view(), ELEMENT)?;
    let expected = expected(rig, &rig.host(&input.view())?);
    rig.agree("automorphism", &rig.host(&out.view())?, |b, limb, i| expected.row(b, limb)[i])?;
    let work = rig.work(limbs.len(), limbs.len(), 0);
    Ok(rig.made(work, rig.polynomials(), move || {
        Ok(backend.automorphism(queue, tables, &mut out.view_mut(), &input.view(), ELEMENT)?)
    }))
}

fn automorphism_values<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    automorphism::<Evaluation, B>(rig, image_of_values)
}

/// The image of polynomials in the evaluation domain, by way of their coefficients.
fn image_of_values<B: Backend>(rig: &Rig<B>, input: &Host) -> Host {
    input.map(|limb, row| {
        let (root, q) = (rig.ring().root(limb), rig.q(limb));
        oracle::ntt(&oracle::automorphism(&oracle::intt(row, root, q), ELEMENT, q), root, q)
    })
}

fn automorphism_coefficients<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    automorphism::<Coefficient, B>(rig, |rig, input| {
        input.map(|limb, row| oracle::automorphism(row, ELEMENT, rig.q(limb)))
    })
}

// --- queues, memory, preparation ------------------------------------------------------------------------------------

fn queue<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    Ok(rig.made(Work::default(), (1, "queue"), || {
        black_box(rig.backend.queue()?);
        Ok(())
    }))
}

fn event<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let (backend, queue) = (&rig.backend, &rig.queue);
    Ok(rig.made(Work::default(), (1, "event"), move || {
        let event = backend.record(queue)?;
        backend.wait(queue, &event)?;
        Ok(backend.synchronize(queue)?)
    }))
}

fn allocate<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let words = rig.words(rig.shape.limbs) as usize;
    Ok(rig.made(Work::default(), rig.polynomials(), move || {
        black_box(rig.backend.allocate(&rig.queue, words)?);
        Ok(())
    }))
}

/// What copies between something on the device and words on the host.
type Copies<B, T> = fn(&Rig<B>, &mut T, &mut [u64]) -> Result<()>;

/// A buffer on the device and as many words on the host, both beyond the caches.
fn copies<B: Backend>(rig: &Rig<B>, work: Copies<B, B::Buffer>) -> Result<Made<'_>> {
    let words = rig.words(rig.shape.limbs);
    let make = || {
        let host = rig.residues(rig.limbs(), rig.shape.batch);
        let mut buffer = rig.backend.allocate(&rig.queue, host.len())?;
        rig.backend.write(&rig.queue, &mut buffer, 0, &host)?;
        Ok((buffer, host))
    };
    let mut sets = rig.beyond_caches(2 * WORD * words, make)?;
    let mut back = vec![0; words as usize];
    rig.backend.read(&rig.queue, &sets[0].0, 0, &mut back)?;
    ensure(back == sets[0].1, || "what is read is not what was written".into())?;
    work(rig, &mut sets[0].0, &mut back)?;
    ensure(back == sets[0].1, || "a copy changed what it copied".into())?;
    let counted = rig.work(rig.shape.limbs, rig.shape.limbs, 0);
    let footprint = sets.len() as u64 * 2 * WORD * words;
    let run = in_turn(sets, move |(buffer, host)| work(rig, buffer, host));
    Ok(Made { work: counted, footprint, items: rig.polynomials(), run })
}

fn write<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    copies(rig, |rig, buffer, host| Ok(rig.backend.write(&rig.queue, buffer, 0, host)?))
}

fn read<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    copies(rig, |rig, buffer, host| Ok(rig.backend.read(&rig.queue, buffer, 0, host)?))
}

fn wipe<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let count = rig.shape.limbs;
    let bytes = WORD * rig.words(count);
    let mut sets = rig.beyond_caches(bytes, || rig.uniform::<Evaluation>(rig.limbs(), rig.shape.batch))?;
    rig.backend.wipe(&rig.queue, sets[0].buffer_mut())?;
    rig.agree("wiped", &rig.host(&sets[0].view())?, |_, _, _| 0)?;
    let footprint = sets.len() as u64 * bytes;
    let run = in_turn(sets, |poly| Ok(rig.backend.wipe(&rig.queue, poly.buffer_mut())?));
    Ok(Made { work: rig.work(0, count, 0), footprint, items: rig.polynomials(), run })
}

fn upload<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    transfer(rig, |rig, poly, host| Ok(rig.backend.upload(&rig.queue, &mut poly.view_mut(), host)?))
}

fn download<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    transfer(rig, |rig, poly, host| Ok(rig.backend.download(&rig.queue, &poly.view(), host)?))
}

fn transfer<B: Backend>(rig: &Rig<B>, work: Copies<B, Poly<B, Evaluation>>) -> Result<Made<'_>> {
    let count = rig.shape.limbs;
    let bytes = 2 * WORD * rig.words(count);
    let mut sets = rig.beyond_caches(bytes, || {
        let host = rig.residues(rig.limbs(), rig.shape.batch);
        let mut poly = rig.fresh(rig.limbs(), rig.shape.batch)?;
        rig.backend.upload(&rig.queue, &mut poly.view_mut(), &host)?;
        Ok((poly, host))
    })?;
    let (poly, host) = &mut sets[0];
    let before = host.clone();
    work(rig, poly, host)?;
    let found = rig.host(&poly.view())?;
    let expected = |b: usize, limb: usize, i: usize| before[((b * count) + limb) * rig.shape.degree + i];
    rig.agree("copied", &found, expected)?;
    ensure(*host == before, || "the words on the host changed".into())?;
    let footprint = sets.len() as u64 * bytes;
    let run = in_turn(sets, move |(poly, host)| work(rig, poly, host));
    Ok(Made { work: rig.work(count, count, 0), footprint, items: rig.polynomials(), run })
}

fn tables<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let made = rig.backend.tables(&rig.queue, rig.ring())?;
    ensure(made.ring() == rig.ring(), || "tables of another ring".into())?;
    Ok(rig.made(Work::default(), (1, "ring"), || {
        black_box(rig.backend.tables(&rig.queue, rig.ring())?);
        Ok(())
    }))
}

fn converter<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let source = rig.digits()[0];
    let target = rig.ring().limbs().difference(source);
    let made = rig.backend.converter(&rig.queue, &rig.tables, source, target)?;
    ensure((made.source(), made.target()) == (source, target), || "other limbs".into())?;
    Ok(rig.made(Work::default(), (1, "converter"), move || {
        black_box(rig.backend.converter(&rig.queue, &rig.tables, source, target)?);
        Ok(())
    }))
}

fn prepare<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let (limbs, batch) = (rig.limbs(), rig.shape.batch);
    let poly: Poly<B, Evaluation> = rig.uniform(limbs, batch)?;
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let made = backend.prepare(queue, tables, &poly.view())?;
    ensure((made.entries(), made.limbs()) == (batch, limbs), || "other entries".into())?;
    Ok(rig.made(rig.work(limbs.len(), limbs.len(), 0), rig.polynomials(), move || {
        black_box(backend.prepare(queue, tables, &poly.view())?);
        Ok(())
    }))
}

/// Rows of the matrices.
const ROWS: usize = 5;

fn weights<B: Backend>(rig: &Rig<B>, columns: usize) -> Vec<i64> {
    (0..ROWS * columns).map(|_| (rig.word() >> 44) as i64 - (1 << 19)).collect()
}

fn matrix<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    const COLUMNS: usize = 768;
    let weights = weights(rig, COLUMNS);
    let made = rig.backend.matrix(&rig.queue, &rig.tables, ROWS, COLUMNS, &weights)?;
    ensure((made.rows(), made.columns()) == (ROWS, COLUMNS), || "another size".into())?;
    let bytes = WORD * weights.len() as u64;
    let work = Work::moving(bytes, bytes);
    Ok(rig.made(work, (1, "matrix"), move || {
        black_box(rig.backend.matrix(&rig.queue, &rig.tables, ROWS, COLUMNS, &weights)?);
        Ok(())
    }))
}

// --- element by element ---------------------------------------------------------------------------------------------

/// The output, then the operands.
type Operands<B> = (Poly<B, Evaluation>, Vec<Poly<B, Evaluation>>);

/// An operation on each value by itself, on operands beyond the caches. The oracle is given the old value of the output,
/// the operands', and the modulus.
fn pointwise<'f, B: Backend>(
    rig: &'f Rig<B>,
    (operands, reads, multiplies): (usize, usize, bool),
    work: fn(&Rig<B>, &mut Operands<B>) -> Result<()>,
    expected: fn(u64, &[u64], u64) -> u64,
) -> Result<Made<'f>> {
    let (limbs, batch, count) = (rig.limbs(), rig.shape.batch, rig.shape.limbs);
    let bytes = WORD * rig.words(count) * (operands as u64 + 1);
    let mut sets = rig.beyond_caches(bytes, || {
        let inputs = (0..operands).map(|_| rig.uniform(limbs, batch)).collect::<Result<_>>()?;
        Ok((rig.uniform(limbs, batch)?, inputs))
    })?;
    let set: &mut Operands<B> = &mut sets[0];
    let old = rig.host(&set.0.view())?;
    let inputs = set.1.iter().map(|poly| rig.host(&poly.view())).collect::<Result<Vec<_>>>()?;
    work(rig, set)?;
    rig.agree("value", &rig.host(&set.0.view())?, |b, limb, i| {
        let inputs: Vec<u64> = inputs.iter().map(|input| input.row(b, limb)[i]).collect();
        expected(old.row(b, limb)[i], &inputs, rig.q(limb))
    })?;
    let multiplications = if multiplies { (count * rig.shape.degree) as u64 } else { 0 };
    let counted = rig.work(reads * count, count, multiplications);
    let footprint = sets.len() as u64 * bytes;
    let run = in_turn(sets, move |set| work(rig, set));
    Ok(Made { work: counted, footprint, items: rig.polynomials(), run })
}

fn copy<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let work: fn(&Rig<B>, &mut Operands<B>) -> Result<()> =
        |rig, (out, of)| Ok(rig.backend.copy(&rig.queue, &mut out.view_mut(), &of[0].view())?);
    pointwise(rig, (1, 1, false), work, |_, of, _| of[0])
}

fn add<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let work: fn(&Rig<B>, &mut Operands<B>) -> Result<()> = |rig, (out, of)| {
        let (a, b) = (of[0].view(), of[1].view());
        Ok(rig.backend.add(&rig.queue, &rig.tables, &mut out.view_mut(), a.into(), &b)?)
    };
    pointwise(rig, (2, 2, false), work, |_, of, q| oracle::add(of[0], of[1], q))
}

fn sub<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let work: fn(&Rig<B>, &mut Operands<B>) -> Result<()> = |rig, (out, of)| {
        let (a, b) = (of[0].view(), of[1].view());
        Ok(rig.backend.sub(&rig.queue, &rig.tables, &mut out.view_mut(), a.into(), &b)?)
    };
    pointwise(rig, (2, 2, false), work, |_, of, q| oracle::sub(of[0], of[1], q))
}

fn negate<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let work: fn(&Rig<B>, &mut Operands<B>) -> Result<()> = |rig, (out, of)| {
        Ok(rig.backend.negate(&rig.queue, &rig.tables, &mut out.view_mut(), of[0].view().into())?)
    };
    pointwise(rig, (1, 1, false), work, |_, of, q| oracle::sub(0, of[0], q))
}

fn multiply<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let work: fn(&Rig<B>, &mut Operands<B>) -> Result<()> = |rig, (out, of)| {
        let (a, b) = (of[0].view(), of[1].view());
        Ok(rig.backend.multiply(&rig.queue, &rig.tables, &mut out.view_mut(), a.into(), &b)?)
    };
    pointwise(rig, (2, 2, true), work, |_, of, q| oracle::mul(of[0], of[1], q))
}

fn multiply_accumulate<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let work: fn(&Rig<B>, &mut Operands<B>) -> Result<()> = |rig, (out, of)| {
        let (a, b) = (of[0].view(), of[1].view());
        Ok(rig.backend.multiply_accumulate(&rig.queue, &rig.tables, &mut out.view_mut(), &a, &b)?)
    };
    pointwise(rig, (2, 3, true), work, |old, of, q| oracle::add(old, oracle::mul(of[0], of[1], q), q))
}

/// The constant of every limb.
const SCALAR: u64 = 123_457;

fn scale<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let work: fn(&Rig<B>, &mut Operands<B>) -> Result<()> = |rig, (out, of)| {
        let scalars = vec![SCALAR; rig.shape.limbs];
        let (a, out) = (of[0].view().into(), &mut out.view_mut());
        Ok(rig.backend.scale_add(&rig.queue, &rig.tables, out, a, &scalars, None)?)
    };
    pointwise(rig, (1, 1, true), work, |_, of, q| oracle::mul(of[0], SCALAR % q, q))
}

fn scale_add<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let work: fn(&Rig<B>, &mut Operands<B>) -> Result<()> = |rig, (out, of)| {
        let scalars = vec![SCALAR; rig.shape.limbs];
        let (a, b, out) = (of[0].view().into(), of[1].view(), &mut out.view_mut());
        Ok(rig.backend.scale_add(&rig.queue, &rig.tables, out, a, &scalars, Some(&b))?)
    };
    pointwise(rig, (2, 2, true), work, |_, of, q| oracle::add(oracle::mul(of[0], SCALAR % q, q), of[1], q))
}

// --- across limbs and polynomials -----------------------------------------------------------------------------------

fn inner_product<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    const TERMS: usize = 8;
    let (limbs, batch, count) = (rig.limbs(), rig.shape.batch, rig.shape.limbs);
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let left = (0..TERMS).map(|_| rig.uniform(limbs, batch)).collect::<Result<Vec<Poly<B, Evaluation>>>>()?;
    let right: Poly<B, Evaluation> = rig.uniform(limbs, TERMS)?;
    let (left_words, right_words) = (
        left.iter().map(|poly| rig.host(&poly.view())).collect::<Result<Vec<_>>>()?,
        rig.host(&right.view())?,
    );
    let prepared = backend.prepare(queue, tables, &right.view())?;
    let mut out = rig.fresh(limbs, batch)?;
    let work = move |out: &mut Poly<B, Evaluation>| {
        let right = PreparedView { prepared: &prepared, first: 0, term_stride: 1, batch_stride: 0 };
        let left: Vec<_> = left.iter().map(Poly::view).collect();
        Ok(backend.inner_product(queue, tables, &mut out.view_mut(), &left, right)?)
    };
    work(&mut out)?;
    rig.agree("sum", &rig.host(&out.view())?, |b, limb, i| {
        let terms = left_words.iter().enumerate().map(|(k, left)| (left.row(b, limb)[i], k));
        terms.fold(0, |sum, (x, k)| {
            let term = oracle::mul(x, right_words.row(k, limb)[i], rig.q(limb));
            oracle::add(sum, term, rig.q(limb))
        })
    })?;
    let mut counted = rig.work(TERMS * count, count, (TERMS * count * rig.shape.degree) as u64);
    counted.read += WORD * (TERMS * count * rig.shape.degree) as u64;
    Ok(rig.made(counted, rig.polynomials(), move || work(&mut out)))
}

fn matrix_small<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    matrix_product(rig, 16)
}

/// Memory bounds it: the operands are beyond the caches.
pub(super) fn matrix_product<B: Backend>(rig: &Rig<B>, columns: usize) -> Result<Made<'_>> {
    let (limbs, count, degree) = (rig.limbs(), rig.shape.limbs, rig.shape.degree);
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let weights = weights(rig, columns);
    let matrix = backend.matrix(queue, tables, ROWS, columns, &weights)?;
    let rows = |polynomials: usize| WORD * (polynomials * count * degree) as u64;
    let bytes = rows(columns + ROWS);
    let mut sets = rig.beyond_caches(bytes, || {
        let input: Poly<B, Coefficient> = rig.uniform(limbs, columns)?;
        Ok((rig.fresh(limbs, ROWS)?, input))
    })?;
    let work = move |(out, input): &mut (Poly<B, Coefficient>, Poly<B, Coefficient>)| {
        Ok(backend.matrix_product(queue, tables, &mut out.view_mut(), &matrix, &input.view())?)
    };
    work(&mut sets[0])?;
    let input = rig.host(&sets[0].1.view())?;
    rig.agree("row", &rig.host(&sets[0].0.view())?, |row, limb, i| {
        let q = rig.q(limb);
        let weights = weights[row * columns..(row + 1) * columns].iter().enumerate();
        weights.fold(0, |sum, (column, &weight)| {
            oracle::add(sum, oracle::mul(oracle::signed(weight, q), input.row(column, limb)[i], q), q)
        })
    })?;
    let multiplications = (ROWS * columns * count * degree) as u64;
    let counted = Work { multiplications, ..Work::moving(rows(columns), rows(ROWS)) };
    let footprint = sets.len() as u64 * bytes;
    let run = in_turn(sets, work);
    Ok(Made { work: counted, footprint, items: (columns as u64, "polynomial"), run })
}

fn base_convert<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let (source, batch) = (rig.digits()[0], rig.shape.batch);
    let target = rig.ring().limbs().difference(source);
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let converter = backend.converter(queue, tables, source, target)?;
    let input: Poly<B, Coefficient> = rig.uniform(source, batch)?;
    let mut out: Poly<B, Coefficient> = rig.fresh(target, batch)?;
    backend.base_convert(queue, tables, &converter, &mut out.view_mut(), &input.view())?;
    let (words, found) = (rig.host(&input.view())?, rig.host(&out.view())?);
    let (from, to) = (rig.primes(source), rig.primes(target));
    for b in 0..batch {
        for i in rig.sample() {
            let expected = oracle::base_convert(&words.residues(source, b, i), &from, &to);
            ensure(found.residues(target, b, i) == expected, || format!("polynomial {b}, coefficient {i}"))?;
        }
    }
    let multiplications = conversion(rig.shape.degree, source.len(), target.len());
    Ok(rig.made(rig.work(source.len(), target.len(), multiplications), rig.polynomials(), move || {
        Ok(backend.base_convert(queue, tables, &converter, &mut out.view_mut(), &input.view())?)
    }))
}

// --- to and from the outside ----------------------------------------------------------------------------------------

fn quantise<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    const SCALE_BITS: i32 = 30;
    let (limbs, batch, degree) = (rig.limbs(), rig.shape.batch, rig.shape.degree);
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let values: Vec<u64> = (0..batch * degree).map(|_| rig.unit().to_bits()).collect();
    let mut buffer = backend.allocate(queue, values.len())?;
    backend.write(queue, &mut buffer, 0, &values)?;
    let how = Quantise {
        first: 0,
        batch_stride: degree,
        coefficient_stride: 1,
        count: degree,
        scale_bits: SCALE_BITS,
    };
    let mut out: Poly<B, Coefficient> = rig.fresh(limbs, batch)?;
    backend.quantise(queue, tables, &mut out.view_mut(), &buffer, how)?;
    rig.agree("residue", &rig.host(&out.view())?, |b, limb, i| {
        let integer = oracle::quantise(values[b * degree + i], SCALE_BITS).unwrap_or(i64::MIN);
        oracle::signed(integer, rig.q(limb))
    })?;
    Ok(rig.made(rig.work(1, limbs.len(), 0), rig.polynomials(), move || {
        Ok(backend.quantise(queue, tables, &mut out.view_mut(), &buffer, how)?)
    }))
}

fn expand_seed<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let (limbs, batch) = (rig.limbs(), rig.shape.batch);
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let label = |object| SeedLabel { seed: [7; 32], purpose: Purpose::Ciphertext, object, polynomial: 0 };
    let labels: Vec<SeedLabel> = (0..batch as u64).map(label).collect();
    let mut out: Poly<B, Evaluation> = rig.fresh(limbs, batch)?;
    backend.expand_seed(queue, tables, &mut out.view_mut(), &labels)?;
    let found = rig.host(&out.view())?;
    for b in [0, batch - 1] {
        for limb in limbs.iter() {
            let expected = oracle::expand(&labels[b], rig.q(limb), rig.shape.degree);
            ensure(found.row(b, limb) == expected, || format!("polynomial {b}, limb {limb}"))?;
        }
    }
    Ok(rig.made(rig.work(0, limbs.len(), 0), rig.polynomials(), move || {
        Ok(backend.expand_seed(queue, tables, &mut out.view_mut(), &labels)?)
    }))
}

fn unpack_polynomials<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    unpack(rig, Packing::ByPolynomial { coefficients: rig.shape.degree })
}

fn unpack_coefficients<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    unpack(rig, Packing::ByCoefficient { coefficients: rig.shape.degree })
}

fn unpack<B: Backend>(rig: &Rig<B>, packing: Packing) -> Result<Made<'_>> {
    let (limbs, batch) = (rig.limbs(), rig.shape.batch);
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let words: Poly<B, Coefficient> = rig.uniform(limbs, batch)?;
    let words = rig.host(&words.view())?;
    let (rows, _) = packing.extent(batch);
    let mut packed = Vec::new();
    for row in 0..rows {
        for limb in limbs.iter() {
            let values: Vec<u64> = match packing {
                Packing::ByPolynomial { .. } => words.row(row, limb).to_vec(),
                Packing::ByCoefficient { .. } => (0..batch).map(|b| words.row(b, limb)[row]).collect(),
            };
            packed.extend(oracle::pack(&values, rig.ring().modulus(limb).bits()));
        }
    }
    let mut out: Poly<B, Coefficient> = rig.fresh(limbs, batch)?;
    backend.unpack(queue, tables, &mut out.view_mut(), packing, &packed)?;
    rig.agree("residue", &rig.host(&out.view())?, |b, limb, i| words.row(b, limb)[i])?;
    let mut work = rig.work(0, limbs.len(), 0);
    work.read = packed.len() as u64;
    Ok(rig.made(work, (rows as u64, "row"), move || {
        Ok(backend.unpack(queue, tables, &mut out.view_mut(), packing, &packed)?)
    }))
}

fn trim<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    const BITS: u32 = 30;
    let (batch, degree) = (rig.shape.batch, rig.shape.degree);
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let input: Poly<B, Coefficient> = rig.uniform(LimbSet::single(0), batch)?;
    let row = check::packed_row(degree, BITS);
    let mut packed = vec![0; batch * row];
    let positions = Positions::first(degree);
    backend.trim(queue, tables, &input.view(), BITS, positions, &mut packed)?;
    let words = rig.host(&input.view())?;
    for (b, packed) in packed.chunks_exact(row).enumerate() {
        let found = oracle::unpack(packed, BITS, degree);
        let expected = words.row(b, 0).iter().map(|&x| oracle::trim(x, BITS, rig.q(0)));
        ensure(expected.eq(found), || format!("polynomial {b}: trimmed otherwise"))?;
    }
    let mut work = rig.work(1, 0, degree as u64);
    work.written = packed.len() as u64;
    Ok(rig.made(work, rig.polynomials(), move || {
        Ok(backend.trim(queue, tables, &input.view(), BITS, positions, &mut packed)?)
    }))
}

// --- switching keys and dropping primes -----------------------------------------------------------------------------

impl<B: Backend> Rig<B> {
    fn plan(&self) -> Result<KeySwitchPlan<B>> {
        let (limbs, digits, special) = (self.limbs(), self.digits(), self.special());
        let (backend, queue, tables) = (&self.backend, &self.queue, &self.tables);
        Ok(KeySwitchPlan::new(backend, queue, tables, limbs, &digits, special, self.shape.batch)?)
    }

    fn key(&self) -> Result<(Host, B::Prepared)> {
        let key: Poly<B, Evaluation> = self.uniform(self.ring().limbs(), 2 * self.digits().len())?;
        let prepared = self.backend.prepare(&self.queue, &self.tables, &key.view())?;
        Ok((self.host(&key.view())?, prepared))
    }

    fn to_coefficients(&self, values: &Host) -> Host {
        values.map(|limb, row| oracle::intt(row, self.ring().root(limb), self.q(limb)))
    }

    /// What [`Backend::mod_up`] left in the plan, against the oracle.
    fn check_extended(&self, plan: &KeySwitchPlan<B>, input: &Host) -> Result<()> {
        let all = self.ring().limbs();
        let coefficients = self.to_coefficients(input);
        for (digit, view) in self.digits().into_iter().zip(plan.extended()?) {
            let rest = all.difference(digit);
            let (from, to) = (self.primes(digit), self.primes(rest));
            let found = self.to_coefficients(&self.host(&view)?);
            for b in 0..self.shape.batch {
                for i in self.sample() {
                    let digits = coefficients.residues(digit, b, i);
                    let expected = oracle::base_convert(&digits, &from, &to);
                    let same =
                        found.residues(digit, b, i) == digits && found.residues(rest, b, i) == expected;
                    ensure(same, || format!("digit {digit:?}, polynomial {b}, coefficient {i}"))?;
                }
            }
        }
        Ok(())
    }

    /// What [`Backend::gadget_product`] left in the plan, against the oracle.
    fn check_sums(&self, plan: &KeySwitchPlan<B>, key: &Host) -> Result<()> {
        let digits = plan.extended()?;
        let digits = digits.iter().map(|view| self.host(view)).collect::<Result<Vec<_>>>()?;
        for (component, sum) in plan.sums()?.iter().enumerate() {
            self.agree("sum", &self.host(sum)?, |b, limb, i| {
                let q = self.q(limb);
                let term =
                    |k: usize| oracle::mul(digits[k].row(b, limb)[i], key.row(2 * k + component, limb)[i], q);
                (0..digits.len()).fold(0, |sum, k| oracle::add(sum, term(k), q))
            })?;
        }
        Ok(())
    }

    /// A division by the primes of `drop`, against the oracle.
    fn check_division(&self, input: &Host, out: &Host, keep: LimbSet, drop: LimbSet) -> Result<()> {
        let (input, out) = (self.to_coefficients(input), self.to_coefficients(out));
        let (kept, dropped) = (self.primes(keep), self.primes(drop));
        for b in 0..out.batch() {
            for i in self.sample() {
                let (x, y) = (input.residues(keep, b, i), input.residues(drop, b, i));
                let expected = oracle::mod_down(&x, &kept, &y, &dropped);
                ensure(expected == Some(out.residues(keep, b, i)), || {
                    format!("polynomial {b}, coefficient {i}")
                })?;
            }
        }
        Ok(())
    }
}

fn mod_up<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let (mut plan, limbs) = (rig.plan()?, rig.shape.limbs);
    let input: Poly<B, Evaluation> = rig.uniform(rig.limbs(), rig.shape.batch)?;
    backend.mod_up(queue, tables, &mut plan, &input.view())?;
    rig.check_extended(&plan, &rig.host(&input.view())?)?;
    let (digits, special) = (rig.digits(), rig.special().len());
    let multiplications = extension(rig.shape.degree, &digits, limbs, special);
    let work = rig.work(limbs, digits.len() * (limbs + special), multiplications);
    Ok(rig.made(work, rig.polynomials(), move || {
        Ok(backend.mod_up(queue, tables, &mut plan, &input.view())?)
    }))
}

fn gadget_product<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let (mut plan, (key_words, key)) = (rig.plan()?, rig.key()?);
    let input: Poly<B, Evaluation> = rig.uniform(rig.limbs(), rig.shape.batch)?;
    backend.mod_up(queue, tables, &mut plan, &input.view())?;
    backend.gadget_product(queue, tables, &mut plan, &key)?;
    rig.check_sums(&plan, &key_words)?;
    let (digits, all) = (rig.digits().len(), rig.ring().limbs().len());
    let mut work = rig.work(digits * all, 2 * all, (2 * digits * all * rig.shape.degree) as u64);
    work.read += WORD * (2 * digits * all * rig.shape.degree) as u64;
    Ok(rig.made(work, rig.polynomials(), move || Ok(backend.gadget_product(queue, tables, &mut plan, &key)?)))
}

fn mod_down<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    divide(rig, rig.limbs(), rig.special())
}

fn rescale<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    // The special primes follow those of Q; of a chain of one limb, one of them is dropped.
    let last = rig.shape.limbs.max(2) - 1;
    divide(rig, LimbSet::range(0..last), LimbSet::single(last))
}

fn divide<B: Backend>(rig: &Rig<B>, keep: LimbSet, drop: LimbSet) -> Result<Made<'_>> {
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let batch = rig.shape.batch;
    let mut plan = ModDownPlan::new(backend, queue, tables, keep, drop, batch)?;
    let input: Poly<B, Evaluation> = rig.uniform(keep.union(drop), batch)?;
    let mut out: Poly<B, Evaluation> = rig.fresh(keep, batch)?;
    backend.mod_down(queue, tables, &mut plan, &mut out.view_mut(), &input.view())?;
    rig.check_division(&rig.host(&input.view())?, &rig.host(&out.view())?, keep, drop)?;
    let multiplications = division(rig.shape.degree, keep.len(), drop.len());
    let work = rig.work(keep.len() + drop.len(), keep.len(), multiplications);
    Ok(rig.made(work, rig.polynomials(), move || {
        Ok(backend.mod_down(queue, tables, &mut plan, &mut out.view_mut(), &input.view())?)
    }))
}

fn key_switch<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let (limbs, special, batch) = (rig.limbs(), rig.special(), rig.shape.batch);
    let (mut plan, (key_words, key)) = (rig.plan()?, rig.key()?);
    let input: Poly<B, Evaluation> = rig.uniform(limbs, batch)?;
    let mut out = [rig.fresh(limbs, batch)?, rig.fresh(limbs, batch)?];
    let mut run = || -> Result<()> {
        let [first, second] = &mut out;
        let out = [&mut first.view_mut(), &mut second.view_mut()];
        Ok(backend.key_switch(queue, tables, &mut plan, &key, out, &input.view())?)
    };
    run()?;
    // Against its three steps, each of which is held against the oracle.
    let mut steps = rig.plan()?;
    backend.mod_up(queue, tables, &mut steps, &input.view())?;
    rig.check_extended(&steps, &rig.host(&input.view())?)?;
    backend.gadget_product(queue, tables, &mut steps, &key)?;
    rig.check_sums(&steps, &key_words)?;
    for (sum, out) in steps.sums()?.iter().zip(&out) {
        rig.check_division(&rig.host(sum)?, &rig.host(&out.view())?, limbs, special)?;
    }
    let counted = key_switch_work(rig.shape.degree, limbs.len(), special.len(), &rig.digits(), batch);
    Ok(rig.made(counted, rig.polynomials(), move || {
        let [first, second] = &mut out;
        let out = [&mut first.view_mut(), &mut second.view_mut()];
        Ok(backend.key_switch(queue, tables, &mut plan, &key, out, &input.view())?)
    }))
}

fn key_switch_automorphism<B: Backend>(rig: &Rig<B>) -> Result<Made<'_>> {
    let (backend, queue, tables) = (&rig.backend, &rig.queue, &rig.tables);
    let (limbs, batch) = (rig.limbs(), rig.shape.batch);
    let (mut plan, (_, key)) = (rig.plan()?, rig.key()?);
    let (c0, d): (Poly<B, Evaluation>, Poly<B, Evaluation>) =
        (rig.uniform(limbs, batch)?, rig.uniform(limbs, batch)?);
    let mut out = [rig.fresh(limbs, batch)?, rig.fresh(limbs, batch)?];
    let mut room = [rig.fresh(limbs, batch)?, rig.fresh(limbs, batch)?];
    let mut run = |out: &mut [Poly<B, Evaluation>; 2]| -> Result<()> {
        let ([first, second], [r0, r1]) = (out, &mut room);
        let out = [&mut first.view_mut(), &mut second.view_mut()];
        let room = [r0.view_mut(), r1.view_mut()];
        let image = Image { element: ELEMENT, c0: c0.view(), d: Some(d.view()), room };
        Ok(backend.key_switch_automorphism(queue, tables, &mut plan, &key, out, image)?)
    };
    run(&mut out)?;
    // Against the key switch, which has a case of its own, and the definition of what follows it.
    let mut steps = rig.plan()?;
    let mut switched = [rig.fresh(limbs, batch)?, rig.fresh(limbs, batch)?];
    {
        let [first, second] = &mut switched;
        let views = [&mut first.view_mut(), &mut second.view_mut()];
        backend.key_switch(queue, tables, &mut steps, &key, views, &d.view())?;
    }
    backend.add(queue, tables, &mut switched[0].view_mut(), Input::InPlace, &c0.view())?;
    for (switched, out) in switched.iter().zip(&out) {
        let expected = image_of_values(rig, &rig.host(&switched.view())?);
        rig.agree("image", &rig.host(&out.view())?, |b, limb, i| expected.row(b, limb)[i])?;
    }
    let counted = key_switch_work(rig.shape.degree, limbs.len(), rig.special().len(), &rig.digits(), batch);
    Ok(rig.made(counted, rig.polynomials(), move || {
        let ([first, second], [r0, r1]) = (&mut out, &mut room);
        let out = [&mut first.view_mut(), &mut second.view_mut()];
        let room = [r0.view_mut(), r1.view_mut()];
        let image = Image { element: ELEMENT, c0: c0.view(), d: Some(d.view()), room };
        Ok(backend.key_switch_automorphism(queue, tables, &mut plan, &key, out, image)?)
    }))
}

/// What a key switch has to do: the key is read once, whatever the batch.
pub(super) fn key_switch_work(
    degree: usize,
    limbs: usize,
    special: usize,
    digits: &[LimbSet],
    batch: usize,
) -> Work {
    let products = (2 * digits.len() * (limbs + special) * degree) as u64;
    let one = extension(degree, digits, limbs, special) + products + 2 * division(degree, limbs, special);
    Work {
        read: WORD * ((batch * limbs * degree) as u64 + products),
        written: WORD * (2 * batch * limbs * degree) as u64,
        multiplications: batch as u64 * one,
        ..Work::default()
    }
}
