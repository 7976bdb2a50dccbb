//! Division by dropped primes, and hybrid key switching: written once, for every backend.
//!
//! A fused override has to give the same words; the testkit compares it with what stands here.

use crate::{
    Backend, Coefficient, Error, Evaluation, Input, LimbSet, Poly, PreparedView, Result, RingTables, View,
    ViewMut, check,
};

/// Constants and scratch memory for dropping a set of limbs: rescaling drops the last one, key switching the special
/// primes.
///
/// ```
/// use arras_rns::{Backend, Evaluation, LimbSet, ModDownPlan, Poly};
/// # use arras_cpu::Cpu;
/// # use arras_rns::Ring;
///
/// # let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97, 193])?);
/// # let queue = cpu.queue()?;
/// # let tables = cpu.tables(&queue, &ring)?;
/// let (keep, drop) = (LimbSet::single(0), LimbSet::single(1));
/// let mut plan = ModDownPlan::new(&cpu, &queue, &tables, keep, drop, 1)?;
/// let mut x: Poly<Cpu, Evaluation> = Poly::allocate(&cpu, &queue, &ring, ring.limbs(), 1)?;
/// let mut out: Poly<Cpu, Evaluation> = Poly::allocate(&cpu, &queue, &ring, keep, 1)?;
/// // The constant 1000 has this value everywhere.
/// cpu.upload(&queue, &mut x.view_mut(), &[[1000 % 97; 16], [1000 % 193; 16]].concat())?;
/// cpu.mod_down(&queue, &tables, &mut plan, &mut out.view_mut(), &x.view())?;
/// let mut words = [0; 16];
/// cpu.download(&queue, &out.view(), &mut words)?;
/// assert_eq!(words, [5; 16]); // 1000 / 193, rounded
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Debug)]
pub struct ModDownPlan<B: Backend> {
    keep: LimbSet,
    drop: LimbSet,
    converter: B::Converter,
    /// `P^-1 mod q` for each kept limb.
    inverse: Vec<u64>,
    dropped: Poly<B, Coefficient>,
    converted: Poly<B, Coefficient>,
}

impl<B: Backend> ModDownPlan<B> {
    /// A plan for batches of `batch` polynomials with limbs `keep` and `drop`.
    ///
    /// # Errors
    /// As for [`Backend::converter`], and if memory runs out.
    pub fn new(
        backend: &B,
        queue: &B::Queue,
        tables: &B::Tables,
        keep: LimbSet,
        drop: LimbSet,
        batch: usize,
    ) -> Result<Self> {
        let ring = tables.ring();
        let converter = backend.converter(queue, tables, drop, keep)?;
        let inverse =
            keep.iter().map(|limb| ring.modulus(limb).inverse(ring.product_mod(drop, limb))).collect();
        Ok(Self {
            keep,
            drop,
            converter,
            inverse,
            dropped: Poly::allocate(backend, queue, ring, drop, batch)?,
            converted: Poly::allocate(backend, queue, ring, keep, batch)?,
        })
    }

    /// The limbs that stay.
    pub fn keep(&self) -> LimbSet {
        self.keep
    }

    /// The limbs that are divided away.
    pub fn drop(&self) -> LimbSet {
        self.drop
    }

    /// `P^-1 mod q` for each kept limb, P being the product of the dropped primes.
    pub fn inverse(&self) -> &[u64] {
        &self.inverse
    }

    /// The constants that bring residues of the dropped limbs to the kept ones.
    pub fn converter(&self) -> &B::Converter {
        &self.converter
    }

    /// The parts of the plan, for fused overrides.
    ///
    /// # Errors
    /// [`Error::Shape`] if the plan was made for smaller batches.
    pub fn parts(&mut self, batch: usize) -> Result<ModDownParts<'_, B>> {
        Ok(ModDownParts {
            converter: &self.converter,
            inverse: &self.inverse,
            dropped: self.dropped.view_mut().range(0..batch)?,
            converted: self.converted.view_mut().range(0..batch)?,
        })
    }
}

/// The extended digits of a [`KeySwitchPlan`], and room for the two sums.
pub type GadgetOperands<'a, B> = (Vec<View<'a, B, Evaluation>>, [ViewMut<'a, B, Evaluation>; 2]);

/// The sums of a [`KeySwitchPlan`], and its plan to divide by the special primes.
pub type ModDownOperands<'a, B> = ([View<'a, B, Evaluation>; 2], &'a mut ModDownPlan<B>);

/// What a [`ModDownPlan`] holds, for a batch of the size at hand.
///
/// See the example of [`ModDownPlan`], whose parts these are.
#[derive(Debug)]
pub struct ModDownParts<'a, B: Backend> {
    /// From the dropped limbs to the kept ones.
    pub converter: &'a B::Converter,
    /// `P^-1 mod q` for each kept limb.
    pub inverse: &'a [u64],
    /// Room for the dropped limbs.
    pub dropped: ViewMut<'a, B, Coefficient>,
    /// Room for the kept limbs.
    pub converted: ViewMut<'a, B, Coefficient>,
}

impl<B: Backend> ModDownParts<'_, B> {
    /// The same parts for a backend that wraps, or is wrapped by, this one.
    ///
    /// # Errors
    /// Those of the two functions.
    pub fn try_map<C: Backend>(
        &mut self,
        buffer: impl Fn(&mut B::Buffer) -> Result<&mut C::Buffer>,
        converter: impl Fn(&B::Converter) -> Result<&C::Converter>,
    ) -> Result<ModDownParts<'_, C>> {
        Ok(ModDownParts {
            converter: converter(self.converter)?,
            inverse: self.inverse,
            dropped: self.dropped.try_map(&buffer)?,
            converted: self.converted.try_map(&buffer)?,
        })
    }
}

/// See [`Backend::mod_down_parts`].
pub fn mod_down<B: Backend>(
    backend: &B,
    queue: &B::Queue,
    tables: &B::Tables,
    parts: &mut ModDownParts<'_, B>,
    out: &mut ViewMut<'_, B, Evaluation>,
    input: &View<'_, B, Evaluation>,
) -> Result<()> {
    let ModDownParts { converter, inverse, dropped, converted } = parts;
    let kept = input.clone().with_limbs(converted.limbs())?;
    backend.intt(queue, tables, dropped, input.clone().with_limbs(dropped.limbs())?.into())?;
    backend.base_convert(queue, tables, converter, converted, &dropped.as_view())?;
    let mut converted = converted.reborrow().retag();
    backend.ntt(queue, tables, &mut converted, Input::InPlace)?;
    backend.sub(queue, tables, out, kept.into(), &converted.as_view())?;
    backend.scale_add(queue, tables, out, Input::InPlace, inverse, None)
}

/// One digit of the decomposition of Q.
#[derive(Debug)]
struct Digit<B: Backend> {
    limbs: LimbSet,
    converter: B::Converter,
    /// The digit, extended to all limbs of the key at this level.
    extended: Poly<B, Evaluation>,
}

/// Constants and scratch memory for hybrid key switching at one level.
///
/// ```
/// use arras_rns::{Backend, Evaluation, KeySwitchPlan, LimbSet, Poly};
/// # use arras_cpu::Cpu;
/// # use arras_rns::Ring;
///
/// # let (cpu, ring) = (Cpu::sequential(), Ring::new(16, &[97, 193, 257])?);
/// # let queue = cpu.queue()?;
/// # let tables = cpu.tables(&queue, &ring)?;
/// # let new = |limbs, batch| Poly::<Cpu, Evaluation>::allocate(&cpu, &queue, &ring, limbs, batch);
/// let (q, p) = (LimbSet::range(0..2), LimbSet::single(2));
/// let digits = [LimbSet::single(0), LimbSet::single(1)];
/// let mut plan = KeySwitchPlan::new(&cpu, &queue, &tables, q, &digits, p, 1)?;
///
/// // A key without noise or mask, for the secret 3: digit i is 3 P modulo its own prime and 0 modulo the others.
/// let mut key = [[[[0; 16]; 3]; 2]; 2]; // [digit][component][limb]
/// key[0][0][0] = [3 * 257 % 97; 16];
/// key[1][0][1] = [3 * 257 % 193; 16];
/// # let mut entries = new(ring.limbs(), 4)?;
/// # cpu.upload(&queue, &mut entries.view_mut(), key.as_flattened().as_flattened().as_flattened())?;
/// # let key = cpu.prepare(&queue, &tables, &entries.view())?;
/// # let (mut d, mut first, mut second) = (new(q, 1)?, new(q, 1)?, new(q, 1)?);
/// cpu.upload(&queue, &mut d.view_mut(), &[10; 2 * 16])?;
/// let d = d.view();
/// cpu.key_switch(&queue, &tables, &mut plan, &key, [&mut first.view_mut(), &mut second.view_mut()], &d)?;
/// let mut words = [0; 2 * 16];
/// cpu.download(&queue, &first.view(), &mut words)?;
/// assert_eq!(words, [3 * 10; 2 * 16]);
/// # Ok::<(), arras_rns::Error>(())
/// ```
#[derive(Debug)]
pub struct KeySwitchPlan<B: Backend> {
    limbs: LimbSet,
    digits: Vec<Digit<B>>,
    coefficients: Poly<B, Coefficient>,
    sums: [Poly<B, Evaluation>; 2],
    down: ModDownPlan<B>,
    batch: usize,
}

impl<B: Backend> KeySwitchPlan<B> {
    /// A plan for batches of up to `batch` polynomials with limbs `limbs`, of which each digit takes its share, and the
    /// special primes `special`. The last digits are left out if all their limbs are gone at this level.
    ///
    /// # Errors
    /// [`Error::MissingLimbs`] if the ring lacks a limb, [`Error::SpecialTooSmall`] if the product of the special primes is below the largest digit (the noise would not
    /// shrink), [`Error::Shape`] if the digits do not cover `limbs` exactly or other digits than the last are gone, and if memory runs out.
    pub fn new(
        backend: &B,
        queue: &B::Queue,
        tables: &B::Tables,
        limbs: LimbSet,
        digits: &[LimbSet],
        special: LimbSet,
        batch: usize,
    ) -> Result<Self> {
        let ring = tables.ring();
        check::limbs("key switch", ring, limbs.union(special))?;
        let present = digits.iter().map(|digit| digit.intersection(limbs)).collect::<Vec<_>>();
        let union = present.iter().fold(LimbSet::EMPTY, |all, &digit| all.union(digit));
        if union != limbs || present.iter().map(|digit| digit.len()).sum::<usize>() != limbs.len() {
            return Err(Error::shape("key switch", "limbs of the digits", present, limbs));
        }
        // The entries of a key are found by counting digits.
        if present.iter().skip_while(|digit| !digit.is_empty()).any(|digit| !digit.is_empty()) {
            return Err(Error::shape("key switch", "digits", present, "none gone before one that is left"));
        }
        let digit_bits = present.iter().map(|&digit| ring.log_modulus(digit)).fold(0.0, f64::max);
        let special_bits = ring.log_modulus(special);
        if special_bits < digit_bits {
            return Err(Error::SpecialTooSmall { special_bits, digit_bits });
        }
        let all = limbs.union(special);
        let digits = present.into_iter().filter(|digit| !digit.is_empty()).map(|digit| {
            Ok(Digit {
                limbs: digit,
                converter: backend.converter(queue, tables, digit, all.difference(digit))?,
                extended: Poly::allocate(backend, queue, ring, all, batch)?,
            })
        });
        let sum = || Poly::allocate(backend, queue, ring, all, batch);
        Ok(Self {
            limbs,
            digits: digits.collect::<Result<_>>()?,
            coefficients: Poly::allocate(backend, queue, ring, limbs, batch)?,
            sums: [sum()?, sum()?],
            // Both sums at once.
            down: ModDownPlan::new(backend, queue, tables, limbs, special, 2 * batch)?,
            batch: 0,
        })
    }

    /// Number of digits at this level.
    pub fn digits(&self) -> usize {
        self.digits.len()
    }

    /// The limbs that are switched.
    pub fn limbs(&self) -> LimbSet {
        self.limbs
    }

    /// Number of polynomials that [`Backend::mod_up`] left behind.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Says that digits of `batch` polynomials are in the plan now.
    pub(crate) fn filled(&mut self, batch: usize) {
        self.batch = batch;
    }

    /// The parts of the plan, for fused overrides and for wrappers.
    ///
    /// # Errors
    /// [`Error::Shape`] if the plan was made for smaller batches.
    pub fn parts(&mut self, batch: usize) -> Result<KeySwitchParts<'_, B>> {
        let range = || 0..batch;
        let digits = self.digits.iter_mut().map(|digit| {
            Ok(DigitParts {
                limbs: digit.limbs,
                converter: &digit.converter,
                extended: digit.extended.view_mut().range(range())?,
            })
        });
        let [first, second] = &mut self.sums;
        Ok(KeySwitchParts {
            digits: digits.collect::<Result<_>>()?,
            coefficients: self.coefficients.view_mut().range(range())?,
            sums: [first.view_mut().range(range())?, second.view_mut().range(range())?],
            down: self.down.parts(2 * batch)?,
        })
    }

    /// The extended digits that [`Backend::mod_up`] left behind, one view per digit. [`Backend::key_switch`] need not leave
    /// any.
    ///
    /// # Errors
    /// None for a plan that has been used.
    pub fn extended(&self) -> Result<Vec<View<'_, B, Evaluation>>> {
        self.digits.iter().map(|digit| digit.extended.view().range(0..self.batch)).collect()
    }

    /// The extended digits and, to be written, the two sums: what [`Backend::gadget_product`] works on.
    ///
    /// # Errors
    /// None for a plan that has been used.
    pub fn gadget_operands(&mut self) -> Result<GadgetOperands<'_, B>> {
        let batch = 0..self.batch;
        let digits = self.digits.iter().map(|digit| digit.extended.view().range(batch.clone()));
        let [first, second] = &mut self.sums;
        Ok((
            digits.collect::<Result<_>>()?,
            [first.view_mut().range(batch.clone())?, second.view_mut().range(batch.clone())?],
        ))
    }

    /// The two sums that [`Backend::gadget_product`] left behind, still multiplied by the special primes.
    ///
    /// # Errors
    /// None for a plan that has been used.
    pub fn sums(&self) -> Result<[View<'_, B, Evaluation>; 2]> {
        Ok([self.sums[0].view().range(0..self.batch)?, self.sums[1].view().range(0..self.batch)?])
    }

    /// The same sums, and the plan that divides the special primes away: what [`Backend::mod_down`] takes, for callers that
    /// add to the sums or rotate them first. It takes both at once, one after the other in a view.
    ///
    /// # Errors
    /// None for a plan that has been used.
    pub fn mod_down_operands(&mut self) -> Result<ModDownOperands<'_, B>> {
        let [first, second] = &self.sums;
        let batch = 0..self.batch;
        Ok(([first.view().range(batch.clone())?, second.view().range(batch)?], &mut self.down))
    }
}

/// What a [`KeySwitchPlan`] holds of one digit, for a batch of the size at hand.
///
/// See the example of [`KeySwitchPlan`], whose parts these are.
#[derive(Debug)]
pub struct DigitParts<'a, B: Backend> {
    /// The limbs of the digit itself.
    pub limbs: LimbSet,
    /// From them to all others of the key at this level.
    pub converter: &'a B::Converter,
    /// The digit, extended to all limbs of the key at this level.
    pub extended: ViewMut<'a, B, Evaluation>,
}

/// What a [`KeySwitchPlan`] holds, for a batch of the size at hand.
///
/// See the example of [`KeySwitchPlan`], whose parts these are.
#[derive(Debug)]
pub struct KeySwitchParts<'a, B: Backend> {
    /// The digits.
    pub digits: Vec<DigitParts<'a, B>>,
    /// Room for the polynomial that is switched.
    pub coefficients: ViewMut<'a, B, Coefficient>,
    /// Room for the two sums, still multiplied by the special primes.
    pub sums: [ViewMut<'a, B, Evaluation>; 2],
    /// What divides both sums by the special primes, one after the other in a view.
    pub down: ModDownParts<'a, B>,
}

impl<B: Backend> KeySwitchParts<'_, B> {
    /// The same parts for a backend that wraps, or is wrapped by, this one.
    ///
    /// # Errors
    /// Those of the two functions.
    pub fn try_map<C: Backend>(
        &mut self,
        buffer: impl Fn(&mut B::Buffer) -> Result<&mut C::Buffer>,
        converter: impl Fn(&B::Converter) -> Result<&C::Converter>,
    ) -> Result<KeySwitchParts<'_, C>> {
        let digits = self.digits.iter_mut().map(|digit| {
            Ok(DigitParts {
                limbs: digit.limbs,
                converter: converter(digit.converter)?,
                extended: digit.extended.try_map(&buffer)?,
            })
        });
        let [first, second] = &mut self.sums;
        Ok(KeySwitchParts {
            digits: digits.collect::<Result<_>>()?,
            coefficients: self.coefficients.try_map(&buffer)?,
            sums: [first.try_map(&buffer)?, second.try_map(&buffer)?],
            down: self.down.try_map(&buffer, &converter)?,
        })
    }

    /// The digits, and the sums to be written.
    pub fn gadget_operands(&mut self) -> GadgetOperands<'_, B> {
        let [first, second] = &mut self.sums;
        let digits = self.digits.iter().map(|digit| digit.extended.as_view());
        (digits.collect(), [first.reborrow(), second.reborrow()])
    }
}

/// See [`Backend::mod_up_parts`].
pub fn mod_up<B: Backend>(
    backend: &B,
    queue: &B::Queue,
    tables: &B::Tables,
    parts: &mut KeySwitchParts<'_, B>,
    input: &View<'_, B, Evaluation>,
) -> Result<()> {
    let KeySwitchParts { digits, coefficients, .. } = parts;
    let input = input.clone().with_limbs(coefficients.limbs())?;
    backend.intt(queue, tables, coefficients, input.clone().into())?;
    for DigitParts { limbs, converter, extended } in digits {
        let rest = extended.limbs().difference(*limbs);
        let source = coefficients.as_view().with_limbs(*limbs)?;
        let mut extension = extended.reborrow().with_limbs(rest)?.retag();
        backend.base_convert(queue, tables, converter, &mut extension, &source)?;
        backend.ntt(queue, tables, &mut extension.retag(), Input::InPlace)?;
        let mut own = extended.reborrow().with_limbs(*limbs)?;
        backend.copy(queue, &mut own, &input.clone().with_limbs(*limbs)?)?;
    }
    Ok(())
}

/// See [`Backend::gadget_product_parts`].
pub fn gadget_product<B: Backend>(
    backend: &B,
    queue: &B::Queue,
    tables: &B::Tables,
    parts: &mut KeySwitchParts<'_, B>,
    key: &B::Prepared,
) -> Result<()> {
    let (digits, sums) = parts.gadget_operands();
    for (component, mut sum) in sums.into_iter().enumerate() {
        let right = PreparedView { prepared: key, first: component, term_stride: 2, batch_stride: 0 };
        backend.inner_product(queue, tables, &mut sum, &digits, right)?;
    }
    Ok(())
}

/// See [`Backend::key_switch_parts`].
pub fn key_switch<B: Backend>(
    backend: &B,
    queue: &B::Queue,
    tables: &B::Tables,
    parts: &mut KeySwitchParts<'_, B>,
    key: &B::Prepared,
    out: [&mut ViewMut<'_, B, Evaluation>; 2],
    d: &View<'_, B, Evaluation>,
) -> Result<()> {
    backend.mod_up_parts(queue, tables, parts, d)?;
    switch_digits(backend, queue, tables, parts, key, out)
}

/// What is left of a key switch after [`Backend::mod_up_parts`].
fn switch_digits<B: Backend>(
    backend: &B,
    queue: &B::Queue,
    tables: &B::Tables,
    parts: &mut KeySwitchParts<'_, B>,
    key: &B::Prepared,
    out: [&mut ViewMut<'_, B, Evaluation>; 2],
) -> Result<()> {
    backend.gadget_product_parts(queue, tables, parts, key)?;
    let KeySwitchParts { sums, down, .. } = parts;
    let mut out = ViewMut::concat(out.map(|out| out.map::<B>(|buffer| buffer)))?;
    let sums = sums.each_ref().map(|sum| sum.as_view());
    backend.mod_down_parts(queue, tables, down, &mut out, &View::concat(&sums)?)
}

/// The operands of [`Backend::key_switch_automorphism`].
///
/// See the example of [`KeySwitchPlan`]; an automorphism takes these operands in the place of `d`.
#[derive(Debug)]
pub struct Image<'a, 'm, B: Backend> {
    /// The automorphism is `X -> X^element`; odd, below 2N.
    pub element: usize,
    /// The first component, with the limbs of the plan.
    pub c0: View<'a, B, Evaluation>,
    /// The second component; `None` stands for the digits in the plan.
    pub d: Option<View<'a, B, Evaluation>>,
    /// Room for what has been switched; it need not be left there.
    pub room: [ViewMut<'m, B, Evaluation>; 2],
}

impl<'a, B: Backend> Image<'a, '_, B> {
    /// The same operands of a backend that wraps, or is wrapped by, this one.
    ///
    /// # Errors
    /// Those of the two functions.
    pub fn try_map<C: Backend>(
        &mut self,
        buffer: impl Fn(&'a B::Buffer) -> Result<&'a C::Buffer>,
        buffer_mut: impl Fn(&mut B::Buffer) -> Result<&mut C::Buffer>,
    ) -> Result<Image<'a, '_, C>> {
        let [first, second] = &mut self.room;
        Ok(Image {
            element: self.element,
            c0: self.c0.try_map(&buffer)?,
            d: self.d.as_ref().map(|d| d.try_map(&buffer)).transpose()?,
            room: [first.try_map(&buffer_mut)?, second.try_map(&buffer_mut)?],
        })
    }
}

/// See [`Backend::key_switch_automorphism_parts`]. The automorphism stands last because keys are permuted the other way, and
/// everything in between commutes with it.
pub fn key_switch_automorphism<B: Backend>(
    backend: &B,
    queue: &B::Queue,
    tables: &B::Tables,
    parts: &mut KeySwitchParts<'_, B>,
    key: &B::Prepared,
    out: [&mut ViewMut<'_, B, Evaluation>; 2],
    image: Image<'_, '_, B>,
) -> Result<()> {
    let Image { element, c0, d, room: [mut first, mut second] } = image;
    let room = [&mut first, &mut second];
    match d {
        Some(d) => backend.key_switch_parts(queue, tables, parts, key, room, &d)?,
        None => switch_digits(backend, queue, tables, parts, key, room)?,
    }
    backend.add(queue, tables, &mut first, Input::InPlace, &c0)?;
    let mut out = ViewMut::concat(out.map(|out| out.map::<B>(|buffer| buffer)))?;
    let switched = View::concat([&first.as_view(), &second.as_view()])?;
    backend.automorphism(queue, tables, &mut out, &switched, element)
}
