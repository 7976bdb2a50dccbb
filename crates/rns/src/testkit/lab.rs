//! A backend with one ring, and operands for it in every form that a view can take.

use std::cell::RefCell;
use std::ops::Range;

use crate::{Backend, Domain, LimbSet, Poly, Result, Ring, RingTables, View, ViewMut};

use super::data::{Rng, Values, Words};
use super::{Failure, Outcome};

/// How an operand lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dress {
    /// A buffer of its own.
    Plain,
    /// Some polynomials and some limbs of a larger buffer.
    Sub,
    /// Every polynomial in another buffer, each laid out differently.
    Concat,
    /// One polynomial, broadcast. For inputs only.
    Repeat,
}

/// Where the operands of one call lie and what is in them. Without `a` the output is its own first operand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variation {
    pub(super) out: Dress,
    pub(super) a: Option<Dress>,
    pub(super) b: Dress,
    pub(super) values: [Values; 2],
    /// Whether memory that is not read holds `u64::MAX` rather than residues.
    pub(super) absurd: bool,
}

/// All forms of operands, combined with all kinds of values where the degree is small.
pub(super) fn variations(degree: usize) -> impl Iterator<Item = Variation> {
    use Dress::{Concat, Plain, Repeat, Sub};
    const DRESSES: [(Dress, Option<Dress>, Dress); 7] = [
        (Plain, Some(Plain), Plain),
        (Plain, None, Plain),
        (Sub, Some(Concat), Repeat),
        (Concat, Some(Sub), Sub),
        (Sub, None, Concat),
        (Concat, None, Sub),
        (Plain, Some(Repeat), Sub),
    ];
    // 7 forms and 5 kinds of values are coprime: 35 rounds meet all pairs. The largest
    // degrees keep to the first three forms: out of place, in place, and scattered with a broadcast.
    let rounds = match degree {
        0..=64 => 35,
        65..=4096 => 7,
        _ => 3,
    };
    (0..rounds).map(|i| {
        let (out, a, b) = DRESSES[i % 7];
        let values = [Values::ALL[i % 5], Values::ALL[(i / 5 + 2 * i) % 5]];
        Variation { out, a, b, values, absurd: i % 2 == 0 }
    })
}

/// Memory that a view reaches, with what the host knows of its contents.
struct Part<B: Backend, D: Domain> {
    poly: Poly<B, D>,
    /// The polynomials that the view selects.
    range: Range<usize>,
    before: Words,
}

/// Polynomials in some [`Dress`].
pub(super) struct Operand<B: Backend, D: Domain> {
    parts: Vec<Part<B, D>>,
    limbs: LimbSet,
    repeat: usize,
}

impl<B: Backend, D: Domain> Operand<B, D> {
    pub(super) fn view(&self) -> Result<View<'_, B, D>> {
        let views = self
            .parts
            .iter()
            .map(|part| part.poly.view().range(part.range.clone())?.with_limbs(self.limbs))
            .collect::<Result<Vec<_>>>()?;
        Ok(View::concat(&views)?.repeat(self.repeat))
    }

    pub(super) fn view_mut(&mut self) -> Result<ViewMut<'_, B, D>> {
        let limbs = self.limbs;
        let views = self
            .parts
            .iter_mut()
            .map(|part| part.poly.view_mut().range(part.range.clone())?.with_limbs(limbs))
            .collect::<Result<Vec<_>>>()?;
        ViewMut::concat(views)
    }
}

/// A backend, a queue, a ring and its tables.
pub(super) struct Lab<B: Backend> {
    pub(super) backend: B,
    pub(super) queue: B::Queue,
    pub(super) tables: B::Tables,
    seed: u64,
    rng: RefCell<Rng>,
}

impl<B: Backend> Lab<B> {
    pub(super) fn new(backend: B, ring: &Ring, seed: u64) -> Result<Self> {
        let queue = backend.queue()?;
        let tables = backend.tables(&queue, ring)?;
        Ok(Self { backend, queue, tables, seed, rng: RefCell::new(Rng(seed)) })
    }

    pub(super) fn ring(&self) -> &Ring {
        self.tables.ring()
    }

    pub(super) fn degree(&self) -> usize {
        self.ring().degree()
    }

    pub(super) fn modulus(&self, limb: usize) -> u64 {
        self.ring().modulus(limb).value()
    }

    pub(super) fn word(&self) -> u64 {
        self.rng.borrow_mut().word()
    }

    pub(super) fn below(&self, bound: usize) -> usize {
        self.rng.borrow_mut().below(bound)
    }

    /// Residues of some kind.
    pub(super) fn words(&self, values: Values, limbs: LimbSet, batch: usize) -> Words {
        Words::from_rows(batch, limbs, self.degree(), |_, limb| {
            let mut row = vec![0; self.degree()];
            values.fill(&mut row, self.modulus(limb), &mut self.rng.borrow_mut());
            row
        })
    }

    /// Residues for an operand in a certain form: broadcast ones are all the same.
    pub(super) fn words_for(&self, dress: Dress, values: Values, limbs: LimbSet, batch: usize) -> Words {
        if dress != Dress::Repeat {
            return self.words(values, limbs, batch);
        }
        let once = self.words(values, limbs, 1);
        Words { batch, words: once.words.repeat(batch), ..once }
    }

    fn garbage(&self, absurd: bool, limbs: LimbSet, batch: usize) -> Words {
        let words = self.words(Values::Random, limbs, batch);
        if absurd { words.map(|_, row| vec![u64::MAX; row.len()]) } else { words }
    }

    /// A buffer around `words`: `before` and `after` more polynomials, and the limbs of `stored`.
    fn part<D: Domain>(
        &self,
        words: &Words,
        stored: LimbSet,
        (before, after): (usize, usize),
        absurd: bool,
    ) -> Result<Part<B, D>> {
        let garbage = self.garbage(absurd, stored, before + words.batch + after);
        let range = before..before + words.batch;
        let contents = Words::from_rows(garbage.batch, stored, garbage.degree, |b, limb| {
            let selected = range.contains(&b) && words.limbs.contains(limb);
            if selected { words.row(b - before, limb) } else { garbage.row(b, limb) }.to_vec()
        });
        let mut poly = Poly::allocate(&self.backend, &self.queue, self.ring(), stored, contents.batch)?;
        self.backend.upload(&self.queue, &mut poly.view_mut(), &contents.words)?;
        Ok(Part { poly, range, before: contents })
    }

    /// An operand that holds `words`.
    pub(super) fn operand<D: Domain>(
        &self,
        dress: Dress,
        words: &Words,
        absurd: bool,
    ) -> Result<Operand<B, D>> {
        let (limbs, all, batch) = (words.limbs, self.ring().limbs(), words.batch);
        let single = |b| Words::from_rows(1, limbs, words.degree, |_, limb| words.row(b, limb).to_vec());
        let (parts, repeat) = match dress {
            Dress::Plain => (vec![self.part(words, limbs, (0, 0), absurd)?], 1),
            Dress::Sub => (vec![self.part(words, all, (2, 1), absurd)?], 1),
            Dress::Repeat => (vec![self.part(&single(0), all, (1, 0), absurd)?], batch),
            Dress::Concat => {
                let parts = (0..batch).map(|b| {
                    let stored = if b % 2 == 0 { limbs } else { all };
                    self.part(&single(b), stored, (b % 3, b % 2), absurd)
                });
                (parts.collect::<Result<Vec<_>>>()?, 1)
            }
        };
        Ok(Operand { parts, limbs, repeat })
    }

    /// An operand to write to, holding nothing of use.
    pub(super) fn output<D: Domain>(
        &self,
        dress: Dress,
        limbs: LimbSet,
        batch: usize,
        absurd: bool,
    ) -> Result<Operand<B, D>> {
        self.operand(dress, &self.garbage(absurd, limbs, batch), absurd)
    }

    /// Checks that the selected rows hold `expected` and everything around them is as it was.
    pub(super) fn expect<D: Domain>(&self, what: &str, out: &Operand<B, D>, expected: &Words) -> Outcome {
        let mut b = 0;
        for part in &out.parts {
            let mut after = part.before.clone();
            self.backend.download(&self.queue, &part.poly.view(), &mut after.words)?;
            let should = Words::from_rows(after.batch, after.limbs, after.degree, |index, limb| {
                let selected = part.range.contains(&index) && out.limbs.contains(limb);
                let row = if selected {
                    expected.row(b + index - part.range.start, limb)
                } else {
                    part.before.row(index, limb)
                };
                row.to_vec()
            });
            self.compare(what, &should, &after)?;
            b += part.range.len();
        }
        Ok(())
    }

    /// Checks that a refused call left the operand alone.
    pub(super) fn untouched<D: Domain>(&self, what: &str, out: &Operand<B, D>) -> Outcome {
        for part in &out.parts {
            let mut after = part.before.clone();
            self.backend.download(&self.queue, &part.poly.view(), &mut after.words)?;
            self.compare(what, &part.before, &after)?;
        }
        Ok(())
    }

    /// Compares all words; the failure names the first that differs.
    pub(super) fn compare(&self, what: &str, expected: &Words, found: &Words) -> Outcome {
        if expected.words.len() != found.words.len() {
            let (expected, found) = (expected.words.len(), found.words.len());
            return Err(self.failure(format!("{what}: {found} words, expected {expected}")));
        }
        match expected.words.iter().zip(&found.words).position(|(x, y)| x != y) {
            None => Ok(()),
            Some(index) => Err(self.failure(format!(
                "{what}: {} is {}, expected {}",
                expected.place(index),
                found.words[index],
                expected.words[index]
            ))),
        }
    }

    /// A failure with the seed that gives the inputs again.
    pub(super) fn failure(&self, message: String) -> Failure {
        Failure(format!("{message} (seed {:#018x})", self.seed))
    }

    /// Fails with a message and the seed unless the condition holds.
    pub(super) fn ensure(&self, condition: bool, message: impl FnOnce() -> String) -> Outcome {
        if condition { Ok(()) } else { Err(self.failure(message())) }
    }

    /// Polynomials in a buffer of their own.
    pub(super) fn upload<D: Domain>(&self, words: &Words) -> Result<Poly<B, D>> {
        let mut poly = Poly::allocate(&self.backend, &self.queue, self.ring(), words.limbs, words.batch)?;
        self.backend.upload(&self.queue, &mut poly.view_mut(), &words.words)?;
        Ok(poly)
    }

    /// Memory for polynomials.
    pub(super) fn fresh<D: Domain>(&self, limbs: LimbSet, batch: usize) -> Result<Poly<B, D>> {
        Poly::allocate(&self.backend, &self.queue, self.ring(), limbs, batch)
    }

    /// Back to the host.
    pub(super) fn download<D: Domain>(&self, view: &View<'_, B, D>) -> Result<Words> {
        let (batch, limbs, degree) = (view.batch(), view.limbs(), view.degree());
        let mut words = vec![0; batch * limbs.len() * degree];
        self.backend.download(&self.queue, view, &mut words)?;
        Ok(Words { batch, limbs, degree, words })
    }
}
