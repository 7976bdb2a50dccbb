//! Parties and coordinator die at random writes and come back: nothing acknowledged is lost, nothing counts twice, and no second
//! message under one mask ever leaves.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;

use arras_cpu::Cpu;
use arras_federated::session::{Board, InProcess, Plan, Progress};
use arras_federated::{Error, Local, Party, Result, Session};
use arras_rounds::coordinator::Phase;
use arras_rounds::message::{Message, Signed};
use arras_rounds::{Agreement, Coordinator};
use support::{DEATH, Mortal, Numbers, agreement, backend, features, party_name};

/// Keeps what was ever sent, and loses acknowledgements.
struct Watched<'a> {
    inner: InProcess<'a, Cpu, Mortal>,
    sent: &'a mut BTreeMap<(String, [u8; 32]), Vec<u8>>,
    loses_answer: bool,
}

impl Board for Watched<'_> {
    fn phase(&mut self) -> Result<Phase> {
        self.inner.phase()
    }
    fn roster(&mut self) -> Result<Option<Vec<u8>>> {
        self.inner.roster()
    }
    fn deals(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        self.inner.deals()
    }
    fn opening(&mut self) -> Result<Option<Vec<u8>>> {
        self.inner.opening()
    }
    fn proposal(&mut self) -> Result<Option<Vec<u8>>> {
        self.inner.proposal()
    }
    fn total(&mut self) -> Result<Option<Vec<u8>>> {
        self.inner.total()
    }
    fn outcome(&mut self) -> Result<Option<Vec<u8>>> {
        self.inner.outcome()
    }
    fn post(&mut self, message: &[u8]) -> Result<()> {
        let signed = Signed::decode(message)?;
        let slot = match &signed.message {
            Message::Upload(upload, _) => Some(upload.opening),
            Message::Share(share, _) => Some(share.proposal),
            Message::Deal { .. } => Some([0; 32]),
            _ => None,
        };
        if let Some(slot) = slot {
            let earlier = self.sent.entry((signed.from.clone(), slot)).or_insert_with(|| message.to_vec());
            assert_eq!(earlier, message, "{} sent other bytes for the same slot", signed.from);
        }
        self.inner.post(message)?;
        if self.loses_answer { Err(died()) } else { Ok(()) }
    }
}

fn died() -> Error {
    arras_rounds::Error::Journal(DEATH.to_owned()).into()
}

fn is_death(error: &Error) -> bool {
    error.to_string().contains(DEATH)
}

struct World {
    agreement: Agreement,
    locals: Vec<Local>,
    pinned: Vec<(String, [u8; 32])>,
    plan: Plan,
    stores: Vec<Mortal>,
    sessions: Vec<Option<Session<Cpu, Mortal>>>,
    coordinator_store: Mortal,
    coordinator: Option<Coordinator<Cpu, Mortal>>,
    sent: BTreeMap<(String, [u8; 32]), Vec<u8>>,
    kills: usize,
}

impl World {
    fn new(parties: usize, seed: u64) -> Self {
        let agreement = agreement(parties as u32, 2, 5);
        let locals = (0..parties)
            .map(|index| Local::new(&agreement, &features(18, 5, seed * 100 + index as u64)).unwrap())
            .collect();
        let stores: Vec<Mortal> = (0..parties).map(|_| Mortal::default()).collect();
        let pinned = stores.iter().enumerate().map(|(index, store)| {
            let party = Party::new(&party_name(index), agreement.clone(), backend(), store.clone()).unwrap();
            (party.name().to_owned(), party.verifying_key())
        });
        World {
            pinned: pinned.collect(),
            agreement,
            locals,
            plan: Plan { seconds: (40, 40), ..Plan::default() },
            sessions: (0..parties).map(|_| None).collect(),
            stores,
            coordinator_store: Mortal::default(),
            coordinator: None,
            sent: BTreeMap::new(),
            kills: 0,
        }
    }

    /// Somebody acts, and may die doing it.
    fn turn(&mut self, now: u64, numbers: &mut Numbers) -> Option<Progress> {
        let actor = numbers.below(self.stores.len() as u64 + 1) as usize;
        let dies = numbers.below(4) == 0;
        let fuse = dies.then(|| numbers.below(3));
        let after = numbers.below(2) == 0;
        let store = self.stores.get(actor).unwrap_or(&self.coordinator_store);
        store.fuse.set(fuse);
        store.dies_after_writing.set(after);
        let answer = if actor < self.stores.len() { self.act(actor, now, numbers) } else { self.tick(now) };
        let store = self.stores.get(actor).unwrap_or(&self.coordinator_store);
        store.fuse.set(None);
        match answer {
            Ok(progress) => progress,
            Err(error) if is_death(&error) => {
                self.kills += 1;
                // Whoever it was, everything in memory is gone: of the party, and of the coordinator if it failed to write.
                if actor < self.stores.len() {
                    self.sessions[actor] = None;
                }
                self.coordinator = None;
                None
            }
            Err(error) => panic!("{actor}: {error}"),
        }
    }

    fn coordinator(&mut self) -> Result<()> {
        if self.coordinator.is_none() {
            self.coordinator =
                Some(Coordinator::new(self.agreement.clone(), backend(), self.coordinator_store.clone())?);
        }
        Ok(())
    }

    fn tick(&mut self, now: u64) -> Result<Option<Progress>> {
        self.coordinator()?;
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.tick(now)?;
        }
        Ok(None)
    }

    fn act(&mut self, actor: usize, now: u64, numbers: &mut Numbers) -> Result<Option<Progress>> {
        self.coordinator()?;
        if self.sessions[actor].is_none() {
            let party = Party::new(
                &party_name(actor),
                self.agreement.clone(),
                backend(),
                self.stores[actor].clone(),
            )?;
            self.sessions[actor] =
                Some(support::session(party, &self.locals[actor], &self.pinned, &self.plan));
        }
        let (Some(session), Some(coordinator)) = (&mut self.sessions[actor], &mut self.coordinator) else {
            return Ok(None);
        };
        let loses_answer = numbers.below(12) == 0;
        let inner = InProcess { coordinator, now };
        let mut board = Watched { inner, sent: &mut self.sent, loses_answer };
        session.step(&mut board, now).map(Some)
    }
}

/// Runs until the head is there or the federation has failed; returns which, and the number of deaths.
fn run(seed: u64) -> (bool, usize) {
    let mut world = World::new(3, seed);
    let mut numbers = Numbers::new(seed);
    for turn in 0..3000 {
        match world.turn(turn, &mut numbers) {
            Some(Progress::Done(_)) => {
                check_sums(&mut world);
                return (true, world.kills);
            }
            Some(Progress::Failed(_)) => return (false, world.kills),
            _ => {}
        }
    }
    panic!(
        "seed {seed}: neither finished nor failed after 3000 turns, {:?}",
        world.coordinator.map(|c| c.phase())
    );
}

/// Nothing was counted twice: the receiver's sums are those of everybody in the accepted set, once.
fn check_sums(world: &mut World) {
    let party =
        Party::new(&party_name(0), world.agreement.clone(), backend(), world.stores[0].clone()).unwrap();
    let session = support::session(party, &world.locals[0], &world.pinned, &world.plan);
    let pooled = session.pooled().unwrap();
    let releases = session.party().releases().unwrap();
    let members = match releases.iter().rfind(|release| release.is_statistics) {
        Some(release) => release.members.clone(),
        // The receiver was no decryptor: everybody uploaded, or it would not know.
        None => (0..3).collect(),
    };
    let mut expected = 0.0;
    for &member in &members {
        expected += world.locals[member as usize].statistics().unwrap().rows();
    }
    let unit = world.agreement.format().unwrap().unit;
    assert!(
        (pooled.statistics().rows() - expected).abs() <= 3.0 * unit,
        "{} rows, not {expected}",
        pooled.statistics().rows()
    );
}

#[test]
fn two_hundred_deaths_lose_nothing_and_count_nothing_twice() {
    let (mut kills, mut finished, mut failed) = (0, 0, 0);
    for seed in 0.. {
        let (is_finished, died) = run(seed);
        kills += died;
        *(if is_finished { &mut finished } else { &mut failed }) += 1;
        if kills >= 200 && finished >= 3 {
            break;
        }
    }
    println!("{kills} deaths, {finished} federations finished, {failed} failed");
    assert!(finished > 0);
}
