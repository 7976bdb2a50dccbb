//! A party at work: looks at the board, does what is due, and can be stopped and started anywhere.

use arras_rns::Backend;
use arras_rounds::agreement::Roster;
use arras_rounds::coordinator::Phase;
use arras_rounds::ledger::{Event, Ledger, hex};
use arras_rounds::message::{Message, Opening, Outcome, Purpose, Signed};
use arras_rounds::privacy::{self, Noise};
use arras_rounds::{Coordinator, Journal, Refusal};

use crate::receiver::Pooled;
use crate::{Error, Local, Party, Result};

/// What a party sees of a coordinator, and how it speaks to it.
///
/// See the example of [`Session`]; [`InProcess`] is one.
pub trait Board {
    /// What is being waited for.
    ///
    /// # Errors
    /// A coordinator that cannot be reached, here and below.
    fn phase(&mut self) -> Result<Phase>;
    /// The roster, once everybody has joined.
    ///
    /// # Errors
    /// As [`phase`](Self::phase).
    fn roster(&mut self) -> Result<Option<Vec<u8>>>;
    /// Everybody's deal, once there are all.
    ///
    /// # Errors
    /// As [`phase`](Self::phase).
    fn deals(&mut self) -> Result<Option<Vec<Vec<u8>>>>;
    /// The current opening.
    ///
    /// # Errors
    /// As [`phase`](Self::phase).
    fn opening(&mut self) -> Result<Option<Vec<u8>>>;
    /// The current proposal.
    ///
    /// # Errors
    /// As [`phase`](Self::phase).
    fn proposal(&mut self) -> Result<Option<Vec<u8>>>;
    /// The current sum.
    ///
    /// # Errors
    /// As [`phase`](Self::phase).
    fn total(&mut self) -> Result<Option<Vec<u8>>>;
    /// The head.
    ///
    /// # Errors
    /// As [`phase`](Self::phase).
    fn outcome(&mut self) -> Result<Option<Vec<u8>>>;
    /// Sends a message.
    ///
    /// # Errors
    /// As [`phase`](Self::phase); a message that is refused.
    fn post(&mut self, message: &[u8]) -> Result<()>;
}

/// A coordinator in the same process, and the time that its events get.
///
/// See the example of [`Session`].
#[derive(Debug)]
pub struct InProcess<'a, B: Backend, J> {
    /// The coordinator.
    pub coordinator: &'a mut Coordinator<B, J>,
    /// Seconds since 1970.
    pub now: u64,
}

impl<B: Backend, J: Journal> Board for InProcess<'_, B, J> {
    fn phase(&mut self) -> Result<Phase> {
        Ok(self.coordinator.phase())
    }

    fn roster(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.coordinator.roster().map(Roster::encode).transpose()?)
    }

    fn deals(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        let encode =
            |deals: Vec<&Signed>| deals.into_iter().map(Signed::encode).collect::<arras_rounds::Result<_>>();
        Ok(self.coordinator.deals().map(encode).transpose()?)
    }

    fn opening(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.coordinator.opening().map(Signed::encode).transpose()?)
    }

    fn proposal(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(proposal) = self.coordinator.proposal() else { return Ok(None) };
        let mut w = arras_wire::Writer::new();
        proposal.encode(&mut w)?;
        Ok(Some(w.into_bytes()))
    }

    fn total(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.coordinator.total().map(<[u8]>::to_vec))
    }

    fn outcome(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.coordinator.outcome().map(Signed::encode).transpose()?)
    }

    fn post(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.coordinator.post(self.now, message)?)
    }
}

/// What the receiver asks for.
///
/// ```
/// use arras_federated::session::Plan;
///
/// let plan = Plan { penalties: vec![1e-4, 1e-3, 1e-2], ..Plan::default() };
/// assert!(plan.attempts >= 1 && plan.bins >= 2);
/// // Without penalties the receiver tries those that fit the sums.
/// assert!(Plan::default().penalties.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Penalties to try, at most 64; without any, [`Pooled::penalties`].
    pub penalties: Vec<f64>,
    /// Bins of the histograms of scores, 1 to 256.
    pub bins: u32,
    /// Seconds for uploads, and for shares; at least 1 each.
    pub seconds: (u32, u32),
    /// Attempts at a round before the receiver gives up, at least 1.
    pub attempts: u32,
    /// Parties that are counted on to add their noise, where privacy was agreed on: the quorum, less those that might collude.
    pub honest: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { penalties: Vec::new(), bins: 50, seconds: (600, 300), attempts: 3, honest: 1 }
    }
}

/// Whether there is more to do.
///
/// See the example of [`Session`].
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// Something was sent.
    Acted,
    /// Others have to act first.
    Waiting(Phase),
    /// The head is there.
    Done(Vec<u8>),
    /// It came to nothing.
    Failed(String),
}

/// A party, its data, and those it trusts to be who they are.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_federated::session::{Board, InProcess, Plan, Progress};
/// use arras_federated::{Local, Party, Session};
/// use arras_rounds::coordinator::{Coordinator, Phase};
/// use arras_rounds::journal::MemoryJournal;
///
/// # let agreement = arras_rounds::Agreement { name: "irises".into(), epoch: 1, backbone: "lengths".into(), dimension: 1,
/// #     classes: vec!["high".into(), "low".into()], row_bound: 5.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// # let mut features = arras_fit::import::from_csv("own.csv", b"file,label,x\na,low,1\nb,low,2\nc,high,3\nd,high,4\n")?;
/// # features.fingerprint = Some(agreement.backbone.clone());
/// let mut coordinator = Coordinator::new(agreement.clone(), Cpu::sequential(), MemoryJournal::default())?;
/// let local = Local::new(&agreement, &features)?;
/// let party = Party::new("beta", agreement, Cpu::sequential(), MemoryJournal::default())?;
/// let pinned = vec![(party.name().to_owned(), party.verifying_key())];
/// let mut session = Session::new(party, local, pinned, Plan::default());
///
/// let mut board = InProcess { coordinator: &mut coordinator, now: 1_700_000_000 };
/// let waiting = Progress::Waiting(Phase::Joining { missing: 3 });
/// assert_eq!(session.step(&mut board, 1_700_000_000)?, waiting);
/// // It has joined; two others are still to come.
/// assert_eq!(board.phase()?, Phase::Joining { missing: 2 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session<B: Backend, J> {
    party: Party<B, J>,
    local: Local,
    pinned: Vec<(String, [u8; 32])>,
    plan: Plan,
}

impl<B: Backend, J: Journal> Session<B, J> {
    /// `pinned` are the names and verifying keys of all parties, exchanged beforehand on another way. The plan counts at the receiver
    /// only.
    pub fn new(party: Party<B, J>, local: Local, pinned: Vec<(String, [u8; 32])>, plan: Plan) -> Self {
        Session { party, local, pinned, plan }
    }

    /// The party.
    pub fn party(&self) -> &Party<B, J> {
        &self.party
    }

    fn name(&self) -> String {
        self.party.name().to_owned()
    }

    fn is_receiver(&self) -> bool {
        self.party.agreement().receiver == self.party.name()
    }

    /// Does what is due, once. Safe to repeat, and to stop at any point.
    ///
    /// # Errors
    /// What is refused, by this party or by the coordinator; a journal or coordinator that cannot be reached.
    pub fn step(&mut self, board: &mut impl Board, now: u64) -> Result<Progress> {
        let phase = board.phase()?;
        if let Phase::Joining { .. } = phase {
            board.post(&self.party.join()?)?;
            return Ok(if board.roster()?.is_some() { Progress::Acted } else { Progress::Waiting(phase) });
        }
        self.pin(board, now)?;
        let is_missing = |missing: &[String]| missing.contains(&self.name());
        match &phase {
            Phase::Dealing { missing } if is_missing(missing) => {
                board.post(&self.party.deal()?)?;
                Ok(Progress::Acted)
            }
            Phase::Uploading { missing, .. } if is_missing(missing) => self.upload(board, now),
            Phase::Sharing { missing, .. } if is_missing(missing) => self.share(board, now),
            Phase::Ready if self.is_receiver() => self.open(board, 1, 1, Purpose::Statistics),
            Phase::Summed { round, attempt } if self.is_receiver() => self.receive(board, *round, *attempt),
            Phase::Failed { round, attempt, reason } => self.retry(board, now, *round, *attempt, reason),
            Phase::Finished => self.finish(board, now),
            _ => Ok(Progress::Waiting(phase)),
        }
    }

    /// Pins the roster and takes the key shares as soon as they are there.
    fn pin(&mut self, board: &mut impl Board, now: u64) -> Result<()> {
        if self.party.journal().get("confirmed")?.is_none() {
            let roster =
                board.roster()?.ok_or(Error::TooEarly { what: "this step", missing: "the roster" })?;
            let confirmation = self.party.pin(&roster, &self.pinned)?;
            let pinned = self.party.roster()?;
            let epoch = Event::Epoch {
                roster: hex(&pinned.hash()),
                epoch: pinned.agreement.epoch,
                members: pinned.members.iter().map(|member| member.name.clone()).collect(),
                receiver: pinned.agreement.receiver.clone(),
            };
            self.record_once(now, epoch)?;
            board.post(&confirmation)?;
            self.party.keep("confirmed", &pinned.hash())?;
        }
        if !self.party.is_ready()?
            && let Some(deals) = board.deals()?
        {
            self.party.receive(&deals)?;
        }
        Ok(())
    }

    fn upload(&mut self, board: &mut impl Board, now: u64) -> Result<Progress> {
        let Some(opening) = board.opening()? else { return Ok(Progress::Acted) };
        if let Err(error) = self.party.contribute(&opening, self.local.hash()) {
            self.record(now, Event::Refused { what: "an upload".to_owned(), reason: error.to_string() })?;
            return Err(error);
        }
        let local = &self.local;
        let message = self.party.upload(&opening, |opening| local.integers(opening))?;
        let Opening { round, attempt, purpose, .. } = opened(&opening)?;
        let (training, held_out) = self.local.sizes();
        let rows = if purpose == Purpose::Statistics { training } else { held_out };
        let data = hex(&self.local.hash());
        self.party.keep(&format!("{MANIFESTS}{data}"), self.local.names().join("\n").as_bytes())?;
        let purpose = purpose.name().to_owned();
        self.record_once(now, Event::Contributed { round, attempt, purpose, data, rows: rows as u64 })?;
        board.post(&message)?;
        Ok(Progress::Acted)
    }

    fn share(&mut self, board: &mut impl Board, now: u64) -> Result<Progress> {
        let (Some(opening), Some(proposal)) = (board.opening()?, board.proposal()?) else {
            return Ok(Progress::Acted);
        };
        let message = match self.party.share(&opening, &proposal, self.local.hash()) {
            Ok(message) => message,
            Err(error) => {
                self.record(now, Event::Refused { what: "a share".to_owned(), reason: error.to_string() })?;
                return Err(error);
            }
        };
        self.record_release(now)?;
        board.post(&message)?;
        Ok(Progress::Acted)
    }

    fn record_release(&mut self, now: u64) -> Result<()> {
        let releases = self.party.releases()?;
        let roster = self.party.roster()?;
        let Some(release) = releases.last() else { return Ok(()) };
        let spent: f64 = releases.iter().filter_map(|release| release.rho).sum();
        let epsilon = match &roster.agreement.privacy {
            Some(agreed) if spent > 0.0 => Some(privacy::epsilon(spent, agreed.delta)?),
            _ => None,
        };
        let name = |&position: &u32| roster.members[position as usize].name.clone();
        self.record_once(
            now,
            Event::Released {
                round: release.round,
                attempt: release.attempt,
                purpose: if release.is_statistics { "statistics" } else { "counts" }.to_owned(),
                members: release.members.iter().map(name).collect(),
                receiver: roster.agreement.receiver.clone(),
                proposal: hex(&release.proposal),
                rho: release.rho,
                epsilon,
            },
        )
    }

    /// As the receiver: opens an attempt. What earlier epochs left of the agreed privacy is split evenly over the two rounds.
    fn open(
        &mut self,
        board: &mut impl Board,
        round: u32,
        attempt: u32,
        purpose: Purpose,
    ) -> Result<Progress> {
        let agreement = self.party.agreement();
        let noise = match &agreement.privacy {
            Some(agreed) => {
                let left = privacy::rho(agreed.epsilon, agreed.delta)? - self.party.spent_before();
                let rho = left / (2.0 * f64::from(self.plan.attempts));
                Some(Noise { rho, honest: self.plan.honest.min(agreement.quorum) })
            }
            None => None,
        };
        let (upload_seconds, share_seconds) = self.plan.seconds;
        let opening = Opening { round, attempt, purpose, noise, upload_seconds, share_seconds };
        board.post(&self.party.open(opening)?)?;
        Ok(Progress::Acted)
    }

    /// As the receiver: makes the most of a sum.
    fn receive(&mut self, board: &mut impl Board, round: u32, attempt: u32) -> Result<Progress> {
        let (Some(opening), Some(total)) = (board.opening()?, board.total()?) else {
            return Ok(Progress::Acted);
        };
        let opening = opened(&opening)?;
        let integers = self.party.decrypt(&opening, &total)?;
        let mut w = arras_wire::Writer::with_capacity(8 * integers.len());
        integers.iter().for_each(|&integer| w.i64(integer));
        self.party.keep(&format!("sum/{round:06}/{attempt:06}"), w.as_bytes())?;
        match &opening.purpose {
            Purpose::Statistics => {
                let pooled = Pooled::new(self.party.agreement(), &integers)?;
                self.party.keep("statistics", w.as_bytes())?;
                let penalties = if self.plan.penalties.is_empty() {
                    pooled.penalties()
                } else {
                    self.plan.penalties.clone()
                };
                let candidates = pooled.candidates(&penalties)?;
                self.open(board, round + 1, 1, Purpose::Counts { candidates, bins: self.plan.bins })
            }
            Purpose::Counts { candidates, bins } => {
                let pooled = self.pooled()?;
                let qualities = pooled.qualities(candidates, *bins as usize, &integers)?;
                let head = pooled.choose(candidates, &qualities)?.to_bytes("head")?;
                board.post(&self.party.publish(Outcome { round, head })?)?;
                Ok(Progress::Acted)
            }
        }
    }

    /// As the receiver: the sums of the statistics round, once they are decrypted.
    ///
    /// # Errors
    /// [`Error::TooEarly`] before that, and at every other party.
    pub fn pooled(&self) -> Result<Pooled> {
        let stored = self.party.journal().get("statistics")?;
        let stored = stored.ok_or(Error::TooEarly { what: "a head", missing: "the statistics" })?;
        let integers: Vec<i64> =
            stored.as_chunks::<8>().0.iter().map(|&chunk| i64::from_le_bytes(chunk)).collect();
        Pooled::new(self.party.agreement(), &integers)
    }

    fn retry(
        &mut self,
        board: &mut impl Board,
        now: u64,
        round: u32,
        attempt: u32,
        reason: &str,
    ) -> Result<Progress> {
        let failure = Event::Failed { round, attempt, reason: reason.to_owned() };
        self.record_once(now, failure)?;
        if attempt >= self.plan.attempts {
            return Ok(Progress::Failed(format!(
                "round {round} failed {attempt} times, last because {reason}"
            )));
        }
        if !self.is_receiver() {
            return Ok(Progress::Waiting(board.phase()?));
        }
        let Some(opening) = board.opening()? else { return Ok(Progress::Acted) };
        self.open(board, round, attempt + 1, opened(&opening)?.purpose)
    }

    fn finish(&mut self, board: &mut impl Board, now: u64) -> Result<Progress> {
        let outcome = board.outcome()?.ok_or(Error::TooEarly { what: "the end", missing: "the head" })?;
        let outcome = self.party.outcome(&outcome)?;
        let event =
            Event::Outcome { round: outcome.round, head: hex(blake3::hash(&outcome.head).as_bytes()) };
        self.record_once(now, event)?;
        Ok(Progress::Done(outcome.head))
    }

    /// Records what a restart may come by again.
    fn record_once(&mut self, now: u64, event: Event) -> Result<()> {
        let is_there = self.ledger()?.entries().iter().any(|entry| entry.event == event);
        if is_there { Ok(()) } else { self.record(now, event) }
    }

    fn record(&mut self, now: u64, event: Event) -> Result<()> {
        record(self.party.journal_mut(), now, event)
    }

    /// The ledger as text.
    ///
    /// # Errors
    /// A journal that cannot be read.
    pub fn ledger_text(&self) -> Result<String> {
        ledger_text(self.party.journal())
    }

    /// The ledger, checked.
    ///
    /// # Errors
    /// A ledger that was changed.
    pub fn ledger(&self) -> Result<Ledger> {
        Ok(Ledger::verify(&self.ledger_text()?)?)
    }
}

/// Prefix of the names under which lists of contributed files are stored, by hash of the data.
pub const MANIFESTS: &str = "manifest/";

/// Appends an event to the ledger in a party's journal.
///
/// # Errors
/// A ledger that was changed; a journal that cannot be read or written.
pub fn record(journal: &mut impl Journal, now: u64, event: Event) -> Result<()> {
    let mut ledger = Ledger::verify(&ledger_text(journal)?)?;
    let line = ledger.append(now, event)?;
    Ok(journal.put(&format!("ledger/{:012}", ledger.entries().len()), line.as_bytes())?)
}

/// Notes in a party's journal that another party is trusted no more; from here on no share is given of a sum with it.
///
/// # Errors
/// A party that is not in the roster, or no roster yet; as [`record`].
pub fn revoke(journal: &mut impl Journal, now: u64, member: &str) -> Result<()> {
    let roster = journal.get("roster")?;
    let roster = roster.ok_or(Error::TooEarly { what: "a revocation", missing: "the roster" })?;
    if Roster::decode(&roster)?.position(member).is_none() {
        return Err(arras_rounds::Error::from(Refusal::Stranger(member.to_owned())).into());
    }
    record(journal, now, Event::Revoked { member: member.to_owned() })
}

/// The ledger in a party's journal, as text.
///
/// # Errors
/// A journal that cannot be read.
pub fn ledger_text(journal: &impl Journal) -> Result<String> {
    let mut text = String::new();
    for name in journal.names("ledger/")? {
        text += &String::from_utf8_lossy(&journal.get(&name)?.unwrap_or_default());
    }
    Ok(text)
}

/// The contents of an opening that this party or the coordinator checked already.
fn opened(signed: &[u8]) -> Result<Opening> {
    let signed = Signed::decode(signed)?;
    match signed.message {
        Message::Open(opening) => Ok(opening),
        _ => Err(arras_rounds::Error::from(Refusal::Stranger(signed.from)).into()),
    }
}
