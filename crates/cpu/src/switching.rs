//! Dropping primes and switching keys, fused: rows are transformed, multiplied and divided while they are in the cache.
//!
//! What these functions compute is defined by [`arras_rns::switching`]; they differ in the order of the work. A key and
//! the extended digits are many times larger than a cache, so that the number of passes over them decides. A key switch
//! takes one target limb after the other: its digits are converted, transformed and multiplied by the key, and a sum that
//! is complete is divided at once. What lives only from one of these steps to the next is written to the same few rows of
//! the plan again and again.

use arras_rns::switching::{DigitParts, Image, KeySwitchParts, ModDownParts};
use arras_rns::{
    Coefficient, Domain, Evaluation, Input, LimbSet, PreparedView, Result, View, ViewMut, check,
};

use crate::backend::{Cpu, rows, rows_mut};
use crate::kernels::{LimbTable, Weighing};
use crate::queue::Queue;
use crate::tables::{Converter, Prepared, Tables};

/// A row with its limb.
type Row<'a> = (usize, &'a mut [u64]);

/// Target limbs that are converted to together. Digits do not fit the second-level cache; they are read once for all of a
/// group.
const GROUP: usize = 4;

/// The size of groups of `limbs` limbs such that every thread has room and work.
fn group_size(queue: &Queue, limbs: usize, batch: usize) -> usize {
    let enough = |size: &usize| *size * queue.threads() <= limbs * batch;
    (1..=GROUP.min(limbs)).rev().find(enough).unwrap_or(1)
}

/// Rows in groups of `size` limbs of the same polynomial.
fn groups<'a>(rows: Vec<Row<'a>>, limbs: usize, size: usize) -> Vec<(usize, Vec<Row<'a>>)> {
    let mut groups: Vec<(usize, Vec<Row<'a>>)> = Vec::new();
    for (index, row) in rows.into_iter().enumerate() {
        if (index % limbs).is_multiple_of(size) {
            groups.push((index / limbs, Vec::with_capacity(size)));
        }
        if let Some((_, group)) = groups.last_mut() {
            group.push(row);
        }
    }
    groups
}

/// `words` in `count` parts, the last one perhaps shorter.
fn shares(words: &[u64], count: usize) -> impl Iterator<Item = &[u64]> {
    words.chunks(words.len().div_ceil(count.max(1)).max(1))
}

/// Rooms of `size` rows each; what is left over is not used.
fn rooms<'a>(rows: Vec<Row<'a>>, size: usize) -> Vec<Vec<&'a mut [u64]>> {
    let mut rows = rows.into_iter().map(|(_, row)| row);
    let count = rows.len() / size;
    (0..count).map(|_| rows.by_ref().take(size).collect()).collect()
}

/// The rows of a room, with the limbs of a group that is no larger.
fn with_limbs<'r>(room: &'r mut [&mut [u64]], group: &[Row<'_>]) -> Vec<Row<'r>> {
    room.iter_mut().zip(group).map(|(row, (limb, _))| (*limb, &mut **row)).collect()
}

/// The rows of every polynomial of a view, in order of limb.
fn polynomials<'a, D: Domain>(view: &View<'a, Cpu, D>) -> Vec<Vec<&'a [u64]>> {
    by_polynomial(rows(view).into_iter().map(|(_, row)| row), view.limbs().len())
}

fn by_polynomial<'a>(rows: impl Iterator<Item = &'a [u64]>, limbs: usize) -> Vec<Vec<&'a [u64]>> {
    rows.collect::<Vec<_>>().chunks(limbs).map(<[_]>::to_vec).collect()
}

/// Both components in the same [`groups`].
fn pair_groups<'a>(
    [first, second]: [Vec<Row<'a>>; 2],
    limbs: usize,
    size: usize,
) -> Vec<(usize, [Vec<Row<'a>>; 2])> {
    let second = groups(second, limbs, size).into_iter();
    groups(first, limbs, size)
        .into_iter()
        .zip(second)
        .map(|((b, first), (_, second))| (b, [first, second]))
        .collect()
}

/// [`rooms`] for two components.
fn pair_rooms<'a>(rows: [Vec<Row<'a>>; 2], size: usize) -> Vec<[Vec<&'a mut [u64]>; 2]> {
    let [first, second] = rows.map(|rows| rooms(rows, size));
    first.into_iter().zip(second).map(|(first, second)| [first, second]).collect()
}

/// [`rooms`] among the rows of extended digits, for each digit.
fn digit_rooms<'a>(digits: &'a mut [DigitParts<'_, Cpu>], size: usize) -> Vec<Vec<Vec<&'a mut [u64]>>> {
    let mut rooms: Vec<_> =
        digits.iter_mut().map(|digit| rooms(rows_mut(&mut digit.extended), size).into_iter()).collect();
    std::iter::from_fn(|| rooms.iter_mut().map(Iterator::next).collect()).collect()
}

/// The same rows for a shorter time.
fn reborrow<'r>(rows: &'r mut [Row<'_>]) -> Vec<Row<'r>> {
    rows.iter_mut().map(|(limb, row)| (*limb, &mut **row)).collect()
}

/// The rows of two sums, those with limbs of `special` and the others.
fn split<'a>(sums: &'a mut [ViewMut<'_, Cpu, Evaluation>; 2], special: LimbSet) -> [[Vec<Row<'a>>; 2]; 2] {
    let part = |(limb, _): &Row<'_>| special.contains(*limb);
    let [(a, b), (c, d)] = sums.each_mut().map(|sum| rows_mut(sum).into_iter().partition(part));
    [[a, c], [b, d]]
}

/// From values to digits that can be weighed, row by row: the inverse transform and the first step of the conversion.
fn digits<'a>(
    queue: &Queue,
    tables: &Tables,
    out: &mut ViewMut<'_, Cpu, Coefficient>,
    input: &View<'_, Cpu, Evaluation>,
    converter: impl Fn(usize) -> Option<&'a Converter> + Send + Sync,
) -> Result<()> {
    let words = out.batch() * out.limbs().len() * out.degree();
    let items = rows_mut(out).into_iter().zip(rows(input)).collect();
    queue.for_each(items, words, |((limb, out), (_, row))| {
        tables.limb(limb).intt_from(out, Some(row));
        if let Some(converter) = converter(limb) {
            finish_digits(tables, limb, out, converter);
        }
        Ok(())
    })
}

/// From coefficients to digits that can be weighed.
fn finish_digits(tables: &Tables, limb: usize, row: &mut [u64], converter: &Converter) {
    if let Some(scale) = converter.scale_of(limb) {
        tables.limb(limb).digits(row, None, scale);
    }
}

/// See [`Backend::mod_down_parts`].
pub(crate) fn mod_down(
    queue: &Queue,
    tables: &Tables,
    parts: &mut ModDownParts<'_, Cpu>,
    out: &mut ViewMut<'_, Cpu, Evaluation>,
    input: &View<'_, Cpu, Evaluation>,
) -> Result<()> {
    let ModDownParts { converter, inverse, dropped, converted } = parts;
    let kept = input.clone().with_limbs(converted.limbs())?;
    check::unary("mod_down", tables, out, &Input::from(kept.clone()))?;
    let dropped_input = input.clone().with_limbs(dropped.limbs())?;
    digits(queue, tables, dropped, &dropped_input, |_| Some(converter))?;

    let (limbs, batch) = (out.limbs(), out.batch());
    let words = batch * limbs.len() * out.degree();
    let size = group_size(queue, limbs.len(), batch);
    let (dropped, kept) = (dropped.as_view(), polynomials(&kept));
    let dropped = [polynomials(&dropped)];
    let division = Division { tables, limbs, inverse, weighing: Weighing::new(tables, converter), dropped };
    let room = rooms(rows_mut(converted), size);
    queue.for_each_with(room, groups(rows_mut(out), limbs.len(), size), words, |room, (b, mut out)| {
        let converted = with_limbs(room, &out);
        division.each(0, b, converted, &mut std::iter::empty(), |j, table, converted, inverse| {
            let (limb, out) = &mut out[j];
            table.sub_scale(out, Some(kept[b][limbs.rank(*limb)]), converted, inverse);
        });
        Ok(())
    })
}

/// The digits of what is switched, and how they are extended.
struct Extension<'a> {
    tables: &'a Tables,
    /// The limbs of each digit, and its conversion to all others.
    digits: Vec<(LimbSet, Weighing<'a>)>,
    /// Rows of each digit of each polynomial, ready to be weighed.
    coefficients: Vec<Vec<Vec<&'a [u64]>>>,
    /// The input, by polynomial and limb.
    values: Vec<Vec<&'a [u64]>>,
    limbs: LimbSet,
}

impl<'a> Extension<'a> {
    fn new(
        tables: &'a Tables,
        digits: &[(LimbSet, &'a Converter)],
        limbs: LimbSet,
        coefficients: Vec<Vec<&'a [u64]>>,
        values: Vec<Vec<&'a [u64]>>,
    ) -> Self {
        let of_digit = |rows: &[&'a [u64]], digit: LimbSet| {
            digit.iter().map(|limb| rows[limbs.rank(limb)]).collect::<Vec<_>>()
        };
        let of_polynomial =
            |rows: Vec<&'a [u64]>| digits.iter().map(|&(digit, _)| of_digit(&rows, digit)).collect();
        Self {
            tables,
            digits: digits.iter().map(|&(digit, c)| (digit, Weighing::new(tables, c))).collect(),
            coefficients: coefficients.into_iter().map(of_polynomial).collect(),
            values,
            limbs,
        }
    }

    /// Writes rows of digit `k` of polynomial `b`, extended, as coefficients. Limbs of the digit itself are left out.
    fn convert(&self, k: usize, b: usize, rows: Vec<Row<'_>>) {
        let (own, weighing) = &self.digits[k];
        let mut others: Vec<_> = rows.into_iter().filter(|(limb, _)| !own.contains(*limb)).collect();
        weighing.rows(&mut others, &self.coefficients[b][k]);
    }

    /// The row of `limb` in the input, if the limb belongs to digit `k`.
    fn own(&self, k: usize, b: usize, limb: usize) -> Option<&'a [u64]> {
        self.digits[k].0.contains(limb).then(|| self.values[b][self.limbs.rank(limb)])
    }

    /// The two sums over the digits of polynomial `b`, for the limbs of a group. `room` has rows for each digit, as many as
    /// the group has limbs.
    fn sums(
        &self,
        b: usize,
        room: &mut [Vec<&mut [u64]>],
        key: &Prepared,
        [first, second]: [&mut [Row<'_>]; 2],
    ) {
        for (k, room) in room.iter_mut().enumerate() {
            self.convert(k, b, with_limbs(room, first));
        }
        for (j, ((limb, first), (_, second))) in first.iter_mut().zip(second).enumerate() {
            let (table, terms) = (self.tables.limb(*limb), key.terms(*limb, 0, 2));
            let transforms = self.digits.iter().filter(|(own, _)| !own.contains(*limb)).count();
            // Each transform asks for its share of the key, which otherwise would come from memory when all of them are done.
            let mut shares = shares(terms.words(), transforms);
            let extended = room.iter_mut().enumerate().map(|(k, room)| {
                self.own(k, b, *limb).unwrap_or_else(|| {
                    table.ntt_for_product(room[j], shares.next().unwrap_or_default());
                    &*room[j]
                })
            });
            table.inner_products([first, second], &extended.collect::<Vec<_>>(), terms);
        }
    }
}

/// See [`Backend::mod_up_parts`].
pub(crate) fn mod_up(
    queue: &Queue,
    tables: &Tables,
    parts: &mut KeySwitchParts<'_, Cpu>,
    input: &View<'_, Cpu, Evaluation>,
) -> Result<()> {
    let KeySwitchParts { digits: parts, coefficients, .. } = parts;
    let input = input.clone().with_limbs(coefficients.limbs())?;
    let batch = input.batch();
    check::unary("mod_up", tables, coefficients, &Input::from(input.clone()))?;
    let converters: Vec<_> = parts.iter().map(|digit| (digit.limbs, digit.converter)).collect();
    prepare_digits(queue, tables, coefficients, &input, &converters)?;

    let coefficients = coefficients.as_view();
    let extension =
        Extension::new(tables, &converters, input.limbs(), polynomials(&coefficients), polynomials(&input));
    let mut items = Vec::new();
    let mut words = 0;
    for (k, DigitParts { extended, .. }) in parts.iter_mut().enumerate() {
        let limbs = extended.limbs().len();
        let size = group_size(queue, limbs, batch);
        words += batch * limbs * extended.degree();
        items.extend(groups(rows_mut(extended), limbs, size).into_iter().map(|(b, group)| (k, b, group)));
    }
    queue.for_each(items, words, |(k, b, mut group)| {
        extension.convert(k, b, group.iter_mut().map(|(limb, row)| (*limb, &mut **row)).collect());
        for (limb, row) in group {
            match extension.own(k, b, limb) {
                Some(own) => row.copy_from_slice(own),
                None => tables.limb(limb).ntt(row),
            }
        }
        Ok(())
    })
}

/// The first step of the conversion of all digits.
fn prepare_digits(
    queue: &Queue,
    tables: &Tables,
    coefficients: &mut ViewMut<'_, Cpu, Coefficient>,
    input: &View<'_, Cpu, Evaluation>,
    converters: &[(LimbSet, &Converter)],
) -> Result<()> {
    let converter = |limb| converters.iter().find(|(digit, _)| digit.contains(limb)).map(|&(_, c)| c);
    digits(queue, tables, coefficients, input, converter)
}

/// See [`Backend::gadget_product_parts`].
pub(crate) fn gadget_product(
    queue: &Queue,
    tables: &Tables,
    parts: &mut KeySwitchParts<'_, Cpu>,
    key: &Prepared,
) -> Result<()> {
    let (digits, mut sums) = parts.gadget_operands();
    check_key(tables, &digits, &sums[0], key)?;
    let left: Vec<_> = digits.iter().map(rows).collect();
    let [first, second] = &mut sums;
    let words = 2 * first.batch() * first.limbs().len() * first.degree() * left.len();
    let items = rows_mut(first).into_iter().zip(rows_mut(second)).enumerate().collect();
    queue.for_each(items, words, |(index, ((limb, first), (_, second)))| {
        let digits: Vec<_> = left.iter().map(|term| term[index].1).collect();
        tables.limb(limb).inner_products([first, second], &digits, key.terms(limb, 0, 2));
        Ok(())
    })
}

/// Refuses a key that lacks entries or limbs, or belongs to another degree.
fn check_key(
    tables: &Tables,
    digits: &[View<'_, Cpu, Evaluation>],
    sum: &ViewMut<'_, Cpu, Evaluation>,
    key: &Prepared,
) -> Result<()> {
    let right = PreparedView { prepared: key, first: 1, term_stride: 2, batch_stride: 0 };
    check::inner_product(tables, sum, digits, right)
}

/// Whether [`key_switch`] has enough limbs for the threads, of which each takes whole limbs. One step after the other can be
/// divided more finely.
pub(crate) fn by_limbs(queue: &Queue, limbs: LimbSet, batch: usize) -> bool {
    queue.threads() == 1 || limbs.len() * batch >= 8 * queue.threads()
}

/// What is done with switched rows: written to the output as they are, or as the automorphism of a ciphertext.
#[derive(Clone, Copy)]
enum Finish<'a> {
    Write,
    Image { element: usize, c0: &'a [Vec<&'a [u64]>] },
}

/// See [`Backend::key_switch_parts`]. Leaves neither extended digits nor sums in the plan.
pub(crate) fn key_switch(
    queue: &Queue,
    tables: &Tables,
    parts: &mut KeySwitchParts<'_, Cpu>,
    key: &Prepared,
    out: [&mut ViewMut<'_, Cpu, Evaluation>; 2],
    d: &View<'_, Cpu, Evaluation>,
) -> Result<()> {
    switch(queue, tables, parts, key, out, d, Finish::Write)
}

/// See [`Backend::key_switch_automorphism_parts`]. Leaves no sums in the plan, and digits only if they were there.
pub(crate) fn key_switch_automorphism(
    queue: &Queue,
    tables: &Tables,
    parts: &mut KeySwitchParts<'_, Cpu>,
    key: &Prepared,
    out: [&mut ViewMut<'_, Cpu, Evaluation>; 2],
    image: Image<'_, '_, Cpu>,
) -> Result<()> {
    let c0 = polynomials(&image.c0);
    let finish = Finish::Image { element: image.element, c0: &c0 };
    match image.d {
        Some(d) => switch(queue, tables, parts, key, out, &d, finish),
        None => switch_digits(queue, tables, parts, key, out, finish),
    }
}

fn switch(
    queue: &Queue,
    tables: &Tables,
    parts: &mut KeySwitchParts<'_, Cpu>,
    key: &Prepared,
    out: [&mut ViewMut<'_, Cpu, Evaluation>; 2],
    d: &View<'_, Cpu, Evaluation>,
    finish: Finish<'_>,
) -> Result<()> {
    let KeySwitchParts { digits, coefficients, sums, down } = parts;
    let d = d.clone().with_limbs(coefficients.limbs())?;
    check::unary("key_switch", tables, coefficients, &Input::from(d.clone()))?;
    check_key(tables, &digits.iter().map(|d| d.extended.as_view()).collect::<Vec<_>>(), &sums[0], key)?;
    let converters: Vec<_> = digits.iter().map(|digit| (digit.limbs, digit.converter)).collect();
    prepare_digits(queue, tables, coefficients, &d, &converters)?;
    let coefficients = coefficients.as_view();
    let extension =
        Extension::new(tables, &converters, d.limbs(), polynomials(&coefficients), polynomials(&d));
    let size = group_size(queue, d.limbs().len(), d.batch());
    let sums = Sums { sums, down, size, rooms: digit_rooms(digits, size) };
    let products = |room: &mut Vec<_>, b, sums: [&mut [Row<'_>]; 2]| extension.sums(b, room, key, sums);
    sums.divide(queue, tables, out, finish, products, |_| &[])
}

/// [`switch`] with the digits in the plan.
fn switch_digits(
    queue: &Queue,
    tables: &Tables,
    parts: &mut KeySwitchParts<'_, Cpu>,
    key: &Prepared,
    out: [&mut ViewMut<'_, Cpu, Evaluation>; 2],
    finish: Finish<'_>,
) -> Result<()> {
    let KeySwitchParts { digits, sums, down, .. } = parts;
    let digits: Vec<_> = digits.iter().map(|digit| digit.extended.as_view()).collect();
    check_key(tables, &digits, &sums[0], key)?;
    let (all, digits) = (sums[0].limbs(), digits.iter().map(polynomials).collect::<Vec<_>>());
    // One dropped row stays in the cache anyway, and the key of one limb, unlike that of several, does too.
    let limbs = if down.dropped.limbs().len() == 1 { 1 } else { down.converted.limbs().len() };
    let size = group_size(queue, limbs, sums[0].batch());
    let sums = Sums { sums, down, size, rooms: vec![(); queue.threads()] };
    let products = |(): &mut (), b: usize, [first, second]: [&mut [Row<'_>]; 2]| {
        for ((limb, first), (_, second)) in first.iter_mut().zip(second) {
            let rows: Vec<_> = digits.iter().map(|digit| digit[b][all.rank(*limb)]).collect();
            tables.limb(*limb).inner_products([first, second], &rows, key.terms(*limb, 0, 2));
        }
    };
    sums.divide(queue, tables, out, finish, products, |limb| key.terms(limb, 0, 2).words())
}

/// The sums of a key switch, `size` limbs at a time, with a room for each thread that computes them.
struct Sums<'s, 'a, R> {
    sums: &'s mut [ViewMut<'a, Cpu, Evaluation>; 2],
    down: &'s mut ModDownParts<'a, Cpu>,
    size: usize,
    rooms: Vec<R>,
}

/// Room for one group of limbs: the caller's own, both sums, and what the dropped limbs convert to.
type Rooms<'a, R> = ((R, [Vec<&'a mut [u64]>; 2]), Vec<&'a mut [u64]>);

impl<R: Send> Sums<'_, '_, R> {
    /// Divides by the special primes what `products` writes: the rows of both sums for some limbs of a polynomial. `operands`
    /// is what the products of a limb read that is not in the caches; the transforms of a group ask for it for the next one.
    fn divide<'k>(
        mut self,
        queue: &Queue,
        tables: &Tables,
        [first, second]: [&mut ViewMut<'_, Cpu, Evaluation>; 2],
        finish: Finish<'_>,
        products: impl Fn(&mut R, usize, [&mut [Row<'_>]; 2]) + Send + Sync,
        operands: impl Fn(usize) -> &'k [u64] + Send + Sync,
    ) -> Result<()> {
        let Self { sums, down, size, .. } = self;
        let ModDownParts { converter, inverse, dropped, converted } = down;
        let (limbs, special, batch) = (first.limbs(), dropped.limbs(), first.batch());
        let polynomials = 2 * batch * first.degree();
        // The operands of the limb after a group, in one part for each transform of the group.
        let shares_of_next = |group: &[Row<'_>]| {
            let mut order = special.iter().chain(limbs.iter());
            let last = group.last().map(|(limb, _)| *limb);
            let next = order.find(|limb| Some(*limb) == last).and_then(|_| order.next());
            shares(next.map(&operands).unwrap_or_default(), 2 * group.len())
        };
        let [mut dropped, kept] = split(sums, special);
        // The special limbs first: what they hold is subtracted from all others.
        let groups = pair_groups(dropped.each_mut().map(|rows| reborrow(rows)), special.len(), size);
        let rooms_now = self.rooms.iter_mut().collect();
        queue.for_each_with(rooms_now, groups, polynomials * special.len(), |own, (b, mut sums)| {
            let [first, second] = &mut sums;
            products(own, b, [first, second]);
            let mut shares = shares_of_next(first);
            for (limb, row) in sums.into_iter().flatten() {
                tables.limb(limb).intt_before_product(row, shares.next().unwrap_or_default());
                finish_digits(tables, limb, row, converter);
            }
            Ok(())
        })?;

        let dropped =
            dropped.map(|rows| by_polynomial(rows.into_iter().map(|(_, row)| &*row), special.len()));
        let division =
            Division { tables, limbs, inverse, weighing: Weighing::new(tables, converter), dropped };
        let rooms = self.rooms.into_iter().zip(pair_rooms(kept, size)).zip(rooms(rows_mut(converted), size));
        let groups = pair_groups([rows_mut(first), rows_mut(second)], limbs.len(), size);
        let work = |((own, kept), converted): &mut Rooms<'_, R>, (b, mut out): (usize, [Vec<Row<'_>>; 2])| {
            let [first, second] = kept.each_mut().map(|room| with_limbs(room, &out[0]));
            let mut kept = [first, second];
            let [first, second] = &mut kept;
            products(own, b, [first, second]);
            let mut shares = shares_of_next(first);
            for (component, (kept, out)) in kept.iter_mut().zip(&mut out).enumerate() {
                division.finish(component, b, with_limbs(converted, out), &mut shares, kept, out, finish);
            }
            Ok(())
        };
        queue.for_each_with(rooms.collect(), groups, polynomials * limbs.len(), work)
    }
}

/// The end of a division by dropped primes.
struct Division<'a, const C: usize> {
    tables: &'a Tables,
    limbs: LimbSet,
    inverse: &'a [u64],
    weighing: Weighing<'a>,
    /// The dropped limbs by component and polynomial, ready to be weighed.
    dropped: [Vec<Vec<&'a [u64]>>; C],
}

impl<const C: usize> Division<'_, C> {
    /// Values of what the dropped limbs stand for, for a group of limbs, fit for [`LimbTable::sub_scale`]. Each row is given
    /// to `use_row` when it is there, with its index and the inverse of the dropped primes. Every transform asks for one of
    /// the `shares` of what is read later.
    fn each<'k>(
        &self,
        component: usize,
        b: usize,
        mut converted: Vec<Row<'_>>,
        shares: &mut impl Iterator<Item = &'k [u64]>,
        mut use_row: impl FnMut(usize, &LimbTable, &[u64], u64),
    ) {
        self.weighing.rows(&mut converted, &self.dropped[component][b]);
        for (j, (limb, row)) in converted.into_iter().enumerate() {
            let table = self.tables.limb(limb);
            table.ntt_for_product(row, shares.next().unwrap_or_default());
            use_row(j, table, row, self.inverse[self.limbs.rank(limb)]);
        }
    }

    /// Divides rows of `kept`, and writes what is wanted of them.
    #[allow(clippy::too_many_arguments)]
    fn finish<'k>(
        &self,
        component: usize,
        b: usize,
        converted: Vec<Row<'_>>,
        shares: &mut impl Iterator<Item = &'k [u64]>,
        kept: &mut [Row<'_>],
        out: &mut [Row<'_>],
        finish: Finish<'_>,
    ) {
        self.each(component, b, converted, shares, |j, table, converted, inverse| {
            let ((limb, kept), (_, out)) = (&mut kept[j], &mut out[j]);
            match finish {
                Finish::Write => table.sub_scale(out, Some(kept), converted, inverse),
                Finish::Image { element, c0 } => {
                    table.sub_scale(kept, None, converted, inverse);
                    if component == 0 {
                        table.add(kept, None, c0[b][self.limbs.rank(*limb)]);
                    }
                    table.automorphism_values(out, kept, element);
                }
            }
        });
    }
}
