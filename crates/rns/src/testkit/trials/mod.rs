//! The trials, in groups; every group takes what the contract says at its word.

use std::sync::Arc;

use crate::{Backend, LimbSet, Result, Ring};

use super::data::Class;
use super::lab::Lab;
use super::{Outcome, Scale, Trial};

mod conversion;
mod keyswitch;
mod laws;
mod outside;
mod pointwise;
mod queues;
mod refusals;
mod sums;
mod transform;

/// All trials of a backend. `make` is called at least once per trial; one that opens a device should share it.
pub fn trials<B: Backend>(make: impl Fn() -> Result<B> + Send + Sync + 'static, scale: Scale) -> Vec<Trial> {
    let mut list = List { make: Arc::new(make), scale, trials: Vec::new() };
    transform::list(&mut list);
    pointwise::list(&mut list);
    sums::list(&mut list);
    conversion::list(&mut list);
    keyswitch::list(&mut list);
    outside::list(&mut list);
    laws::list(&mut list);
    refusals::list(&mut list);
    queues::list(&mut list);
    super::kat::list(&mut list);
    list.trials
}

/// Trials under construction.
pub(super) struct List<B> {
    pub(super) make: Arc<dyn Fn() -> Result<B> + Send + Sync>,
    scale: Scale,
    pub(super) trials: Vec<Trial>,
}

impl<B: Backend> List<B> {
    /// A trial on a ring. The seed of its inputs follows from its name.
    pub(super) fn add(
        &mut self,
        name: String,
        ring: impl Fn() -> Result<Ring> + Send + Sync + 'static,
        body: impl Fn(&Lab<B>) -> Outcome + Send + Sync + 'static,
    ) {
        let (make, seed) = (self.make.clone(), fnv(&name));
        let run = move || {
            let lab = Lab::new(make()?, &ring()?, seed)?;
            body(&lab)?;
            Ok(lab.backend.synchronize(&lab.queue)?)
        };
        self.trials
            .push(Trial { name, run: Box::new(move || run().map_err(|failure: super::Failure| failure.0)) });
    }

    /// A trial for every case.
    fn add_cases(
        &mut self,
        name: &str,
        cases: impl IntoIterator<Item = Case>,
        body: impl Fn(&Lab<B>, Case) -> Outcome + Copy + Send + Sync + 'static,
    ) {
        for case in cases {
            self.add(format!("{name}/{}", case.name()), move || case.ring(), move |lab| body(lab, case));
        }
    }
}

/// FNV-1a.
fn fnv(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The shape of the operands of one trial.
#[derive(Clone, Copy, Debug)]
struct Case {
    class: Class,
    degree: usize,
    count: usize,
    batch: usize,
}

impl Case {
    fn name(self) -> String {
        let Case { class, degree, count, batch } = self;
        format!("n{degree}/{}/limbs{count}/batch{batch}", class.name())
    }

    /// Two limbs more than the operands have: one between them and one behind.
    fn ring(self) -> Result<Ring> {
        self.class.ring(self.degree, self.count + 2)
    }

    fn limbs(self) -> LimbSet {
        LimbSet::range(0..self.count + 1).difference(LimbSet::single(self.count / 2))
    }
}

/// Every class of primes at a small and at a large degree, and every shape at the degrees between.
fn cases(scale: Scale) -> Vec<Case> {
    let case = |class, degree, count, batch| Case { class, degree, count, batch };
    let mut all = Vec::new();
    for class in Class::ALL {
        all.extend([case(class, 16, 3, 3), case(class, 1 << 12, 1, 1)]);
    }
    for (log_degree, class) in
        [3, 5, 6, 7, 8, 9, 10, 11, 12].into_iter().zip(Class::ALL.into_iter().cycle().skip(4))
    {
        let shapes: &[(usize, usize)] = if log_degree < 9 { &[(1, 3), (8, 1), (8, 3)] } else { &[(3, 1)] };
        all.extend(shapes.iter().map(|&(count, batch)| case(class, 1 << log_degree, count, batch)));
    }
    if scale == Scale::Full {
        for (log_degree, shape) in (9..=17).zip([(3, 3), (8, 1), (3, 1)].into_iter().cycle()) {
            all.extend(Class::ALL.map(|class| case(class, 1 << log_degree, shape.0, shape.1)));
        }
    }
    all
}
