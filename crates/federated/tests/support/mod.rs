//! What the tests of this crate share: features, agreements, a journal that dies.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use arras_cpu::Cpu;
use arras_federated::session::Plan;
use arras_federated::{Local, Party, Session};
use arras_fit::Features;
use arras_rounds::journal::MemoryJournal;
use arras_rounds::{Agreement, Coordinator, Error, Journal};

pub const CLASSES: [&str; 3] = ["glandular", "scattered", "solid"];

/// Numbers that look random and are the same everywhere.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Uniform in -1..1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Three classes around their means, rows in groups of two.
pub fn features(rows: usize, dimension: usize, seed: u64) -> Features {
    let mut numbers = Numbers::new(seed);
    let class = |row: usize| row / 2 % 3;
    let mut values = Vec::with_capacity(rows * dimension);
    for row in 0..rows {
        let shared = numbers.unit();
        for column in 0..dimension {
            let mean = if column % 3 == class(row) { 0.8 } else { 0.1 };
            values.push(mean + 0.3 * shared + 0.5 * numbers.unit());
        }
    }
    Features {
        dimension,
        values,
        names: (0..rows).map(|row| format!("{seed}-{row}.png")).collect(),
        labels: Some((0..rows).map(|row| CLASSES[class(row)].to_owned()).collect()),
        groups: Some((0..rows).map(|row| format!("{seed}-{}", row / 2)).collect()),
        fingerprint: Some("backbone".to_owned()),
    }
}

pub fn agreement(parties: u32, threshold: u32, dimension: u32) -> Agreement {
    Agreement {
        name: "test".to_owned(),
        epoch: 1,
        backbone: "backbone".to_owned(),
        dimension,
        classes: CLASSES.map(str::to_owned).to_vec(),
        row_bound: 8.0,
        rows: 20_000,
        parties,
        threshold,
        quorum: 3,
        receiver: "party-001".to_owned(),
        projection: None,
        privacy: None,
    }
}

pub fn backend() -> Cpu {
    Cpu::sequential()
}

/// A store that survives its users. A user dies after so many writes: before the last takes effect, or right after.
#[derive(Clone, Default)]
pub struct Mortal {
    pub stored: Rc<RefCell<MemoryJournal>>,
    pub fuse: Rc<Cell<Option<u64>>>,
    pub dies_after_writing: Rc<Cell<bool>>,
}

pub const DEATH: &str = "killed";

impl Journal for Mortal {
    fn get(&self, name: &str) -> arras_rounds::Result<Option<Vec<u8>>> {
        self.stored.borrow().get(name)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> arras_rounds::Result<()> {
        let dies = match self.fuse.get() {
            Some(0) => true,
            Some(left) => {
                self.fuse.set(Some(left - 1));
                false
            }
            None => false,
        };
        if dies && !self.dies_after_writing.get() {
            return Err(Error::Journal(DEATH.to_owned()));
        }
        self.stored.borrow_mut().put(name, bytes)?;
        if dies { Err(Error::Journal(DEATH.to_owned())) } else { Ok(()) }
    }

    fn names(&self, prefix: &str) -> arras_rounds::Result<Vec<String>> {
        self.stored.borrow().names(prefix)
    }
}

pub fn party_name(index: usize) -> String {
    format!("party-{:03}", index + 1)
}

/// Parties with journals in memory, before they have joined.
pub fn parties(agreement: &Agreement) -> Vec<Party<Cpu, MemoryJournal>> {
    (0..agreement.parties as usize)
        .map(|index| {
            Party::new(&party_name(index), agreement.clone(), backend(), MemoryJournal::default()).unwrap()
        })
        .collect()
}

pub fn pinned<J: Journal>(parties: &[Party<Cpu, J>]) -> Vec<(String, [u8; 32])> {
    parties.iter().map(|party| (party.name().to_owned(), party.verifying_key())).collect()
}

pub fn coordinator(agreement: &Agreement) -> Coordinator<Cpu, MemoryJournal> {
    Coordinator::new(agreement.clone(), backend(), MemoryJournal::default()).unwrap()
}

/// Everybody joined, pinned the roster and holds key shares.
pub fn ready(agreement: &Agreement) -> (Vec<Party<Cpu, MemoryJournal>>, Coordinator<Cpu, MemoryJournal>) {
    let mut coordinator = coordinator(agreement);
    let parties = made_ready(parties(agreement), &mut coordinator);
    (parties, coordinator)
}

/// The same with parties and a coordinator that are there already.
pub fn made_ready<J: Journal, K: Journal>(
    mut parties: Vec<Party<Cpu, J>>,
    coordinator: &mut Coordinator<Cpu, K>,
) -> Vec<Party<Cpu, J>> {
    for party in &parties {
        coordinator.post(0, &party.join().unwrap()).unwrap();
    }
    let roster = coordinator.roster().unwrap().encode().unwrap();
    let pinned = pinned(&parties);
    for party in &mut parties {
        coordinator.post(0, &party.pin(&roster, &pinned).unwrap()).unwrap();
        coordinator.post(0, &party.deal().unwrap()).unwrap();
    }
    let deals: Vec<Vec<u8>> =
        coordinator.deals().unwrap().iter().map(|deal| deal.encode().unwrap()).collect();
    for party in &mut parties {
        party.receive(&deals).unwrap();
    }
    parties
}

pub fn session<J: Journal>(
    party: Party<Cpu, J>,
    local: &Local,
    pinned: &[(String, [u8; 32])],
    plan: &Plan,
) -> Session<Cpu, J> {
    Session::new(party, local.clone(), pinned.to_vec(), plan.clone())
}
