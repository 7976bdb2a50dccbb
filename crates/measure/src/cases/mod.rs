//! The list of cases: every method of [`Backend`], every public operation of the evaluator, encoding, encryption, keys,
//! and the encrypted heads.
//!
//! Cases come in groups that share what they work on. A case is made only if its name is wanted, and making it includes
//! comparing what it computes with the oracle: what is wrong is never timed.

use std::collections::{BTreeMap, BTreeSet};

use arras_rns::Backend;
use serde_json::Value;

use crate::device::{Device, Run, Traffic};
use crate::record::Work;
use crate::{Result, Sweep};

mod heads;
mod rig;
mod ring;
mod scheme;

/// A case that has been checked and can be timed.
///
/// See the example of [`Cases`].
pub struct Ready<'f, B: Backend> {
    /// Hierarchical and stable: `ntt/forward/n=8192/limbs=3/q=45`.
    pub name: String,
    /// The work in words.
    pub what: String,
    /// What it depends on.
    pub parameters: BTreeMap<String, Value>,
    /// Into how many of what the work divides.
    pub items: (u64, &'static str),
    /// What has to be done at least.
    pub work: Work,
    /// Bytes of different memory that repeated executions touch: more than the caches hold if the case is one that memory
    /// bounds.
    pub footprint: u64,
    /// Whether it stands in the README's table.
    pub headline: bool,
    /// The backend that it runs on, and the queue.
    pub on: (&'f B, &'f B::Queue),
    /// Queues one execution. What it needs of fresh operands it takes in turn.
    pub run: Run<'f>,
}

impl<B: Backend> Ready<'_, B> {
    /// The bytes that go by, and through how much memory.
    pub fn traffic(&self) -> Traffic {
        Traffic { read: self.work.read, written: self.work.written, footprint: self.footprint }
    }
}

impl<B: Backend> std::fmt::Debug for Ready<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Chooses cases by name.
/// See the example of [`Cases`].
pub type Wanted<'w> = &'w dyn Fn(&str) -> bool;

/// Given the cases of one group, which live until it returns.
/// See the example of [`Cases`].
pub type Visitor<'v, B> = &'v mut dyn FnMut(&mut [Ready<'_, B>]) -> Result<()>;

/// Cases that share operands.
/// [`Cases::with`] adds one to the list. See the example of [`Cases`].
pub trait Group<D: Device> {
    /// The names of all of them.
    fn names(&self) -> Vec<String>;

    /// Makes and checks those that are wanted.
    ///
    /// # Errors
    /// As [`Cases::visit`].
    fn visit(&self, device: &D, wanted: Wanted<'_>, visitor: Visitor<'_, D::Backend>) -> Result<()>;
}

/// The cases of a sweep.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_measure::{Cases, CpuDevice, Sweep};
///
/// let sweep = Sweep { degrees: vec![1024], bits: vec![50], sets: vec![], heads: false, ..Sweep::default() };
/// let cases = Cases::new(&sweep);
/// let name = "ntt/forward/n=1024/limbs=3/q=50";
/// assert!(cases.names().iter().any(|found| found == name));
/// let mut executed = 0;
/// cases.visit(&CpuDevice::new(Cpu::sequential()), &|found| found == name, &mut |ready| {
///     for case in ready {
///         (case.run)()?;
///         executed += 1;
///     }
///     Ok(())
/// })?;
/// assert_eq!(executed, 1);
/// # Ok::<(), arras_measure::Error>(())
/// ```
pub struct Cases<D: Device> {
    groups: Vec<Box<dyn Group<D>>>,
}

impl<D: Device> std::fmt::Debug for Cases<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl<D: Device> Cases<D> {
    /// All cases of a sweep.
    pub fn new(sweep: &Sweep) -> Self {
        let mut groups: Vec<Box<dyn Group<D>>> = Vec::new();
        for shape in ring::shapes(sweep) {
            groups.push(Box::new(ring::RingGroup::new(shape)));
        }
        for set in sweep.sets.iter().filter(|set| sweep.degrees.contains(&set.degree)) {
            groups.push(Box::new(scheme::SchemeGroup::new(set.clone())));
        }
        if sweep.heads {
            groups.push(Box::new(heads::parts()));
            for group in heads::HeadGroup::all() {
                groups.push(Box::new(group));
            }
        }
        Self { groups }
    }

    /// Adds cases that only the caller knows how to make.
    #[must_use]
    pub fn with(mut self, group: impl Group<D> + 'static) -> Self {
        self.groups.push(Box::new(group));
        self
    }

    /// What the list times, whatever the sweep: methods of [`Backend`] and of the evaluator by their names, other
    /// functions as `Type::method` or `function`.
    pub fn covers() -> BTreeSet<&'static str> {
        let ring = ring::entries::<D::Backend>().into_iter().flat_map(|entry| entry.covers);
        let scheme = scheme::entries::<D::Backend>().into_iter().flat_map(|entry| entry.covers);
        ring.chain(scheme).copied().collect()
    }

    /// The names of all cases, in order.
    pub fn names(&self) -> Vec<String> {
        self.groups.iter().flat_map(|group| group.names()).collect()
    }

    /// Makes, checks and hands over the cases that are wanted, group by group.
    ///
    /// # Errors
    /// [`Wrong`](crate::Error::Wrong) if a case does not agree with the oracle; a device that fails; the visitor's.
    pub fn visit(&self, device: &D, wanted: Wanted<'_>, visitor: Visitor<'_, D::Backend>) -> Result<()> {
        for group in &self.groups {
            if group.names().iter().any(|name| wanted(name)) {
                group.visit(device, wanted, visitor)?;
            }
        }
        Ok(())
    }
}

/// What making a case gives; name and parameters are the group's.
struct Made<'f> {
    work: Work,
    footprint: u64,
    items: (u64, &'static str),
    run: Run<'f>,
}

#[cfg(test)]
mod tests {
    use arras_cpu::Cpu;

    use super::*;
    use crate::{CpuDevice, Error};

    #[test]
    fn names_are_unique_and_hierarchical() {
        let names = Cases::<CpuDevice>::new(&Sweep::default()).names();
        let unique: BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        for name in [
            "ntt/forward/n=8192/limbs=3/q=45",
            "ckks/rotate/n=65536/q=25x45/p=9x45/dnum=3",
            "head/linear/server/layout=transposed/images=2048",
        ] {
            assert!(unique.contains(&name.to_owned()), "{name}");
        }
    }

    /// Every case of small shapes passes its check and runs; their operands are what they say.
    #[test]
    fn all_cases_agree_with_the_oracle() {
        let sweep = Sweep {
            degrees: vec![1 << 10, 1 << 12],
            limbs: vec![1, 4],
            bits: vec![50],
            batches: vec![1, 2],
            ..Sweep::default()
        };
        let device = CpuDevice::new(Cpu::sequential());
        let mut made = Vec::new();
        Cases::new(&sweep)
            .visit(&device, &|_| true, &mut |cases| {
                for case in cases {
                    (case.run)()?;
                    (case.run)()?;
                    assert!(case.footprint >= case.work.read.max(case.work.written), "{case:?}");
                    made.push(case.name.clone());
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(made, Cases::<CpuDevice>::new(&sweep).names());
    }

    /// A case that is not wanted is not made.
    #[test]
    fn only_what_is_wanted_is_made() {
        let device = CpuDevice::new(Cpu::sequential());
        let mut found = Vec::new();
        let sweep = Sweep { degrees: vec![1 << 10], ..Sweep::default() };
        Cases::new(&sweep)
            .visit(&device, &|name| name.starts_with("pointwise/add/"), &mut |cases| {
                found.extend(cases.iter().map(|case| case.name.clone()));
                Ok(())
            })
            .unwrap();
        assert_eq!(found, ["pointwise/add/n=1024/limbs=3/q=50"]);
        let error = Cases::new(&sweep).visit(&device, &|_| true, &mut |_| Err(Error::field("stop", "here")));
        assert_eq!(error.unwrap_err().to_string(), "stop: here");
    }
}
