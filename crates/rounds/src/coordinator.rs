//! The coordinator: relays messages, adds uploads, combines shares. It sees no plaintext, no key and no share of one.
//!
//! Its state is a fold over events, each stored before it takes effect. A restart folds the same events again, so that nothing
//! that was acknowledged is lost and nothing counts twice. Time enters with the events.

use std::collections::{BTreeMap, BTreeSet};

use arras_ckks::{Ciphertext, Context, bytes, threshold};
use arras_rns::{Backend, Evaluation, Poly};
use arras_wire::{Reader, Writer};
use ed25519_dalek::Signature;
use serde::{Deserialize, Serialize};

use crate::agreement::{Agreement, Member, Roster};
use crate::format::Format;
use crate::journal::Journal;
use crate::message::{Message, Opening, Proposal, Signed, Upload, body_hash};
use crate::{Error, Refusal, Result};

/// What an attempt is waiting for.
///
/// See the example of [`Coordinator`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Parties that have not joined yet, as a number: their names are not known.
    Joining {
        /// How many are missing.
        missing: usize,
    },
    /// Parties that have not dealt their key shares yet.
    Dealing {
        /// Their names.
        missing: Vec<String>,
    },
    /// The receiver may open an attempt.
    Ready,
    /// Uploads are coming in.
    Uploading {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// Names of parties that have not uploaded.
        missing: Vec<String>,
    },
    /// The accepted set is fixed; shares are coming in.
    Sharing {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// Names of decryptors that have not answered.
        missing: Vec<String>,
    },
    /// The sum is ready for the receiver.
    Summed {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
    },
    /// The last attempt came to nothing; the receiver may open another.
    Failed {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// The head is published.
    Finished,
}

struct Attempt<B: Backend> {
    opening: Opening,
    signed: Signed,
    hash: [u8; 32],
    opened: u64,
    polynomials: usize,
    uploads: BTreeMap<u32, (Upload, Signature)>,
    sum: Option<Poly<B, Evaluation>>,
    proposal: Option<(Proposal, [u8; 32], u64)>,
    shares: BTreeMap<u32, Ciphertext<B>>,
    share_hashes: BTreeMap<u32, [u8; 32]>,
    total: Option<Vec<u8>>,
    failed: Option<String>,
}

/// The state machine.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_rounds::Coordinator;
/// use arras_rounds::coordinator::Phase;
/// use arras_rounds::journal::MemoryJournal;
///
/// # let agreement = arras_rounds::Agreement { name: "irises".into(), epoch: 1, backbone: "lengths".into(), dimension: 4,
/// #     classes: vec!["a".into(), "b".into()], row_bound: 16.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// let mut coordinator = Coordinator::new(agreement, Cpu::sequential(), MemoryJournal::default())?;
/// assert_eq!(coordinator.phase(), Phase::Joining { missing: 3 });
/// assert!(coordinator.post(1_700_000_000, b"no message").is_err());
/// assert!(coordinator.roster().is_none() && coordinator.total().is_none());
/// # Ok::<(), arras_rounds::Error>(())
/// ```
pub struct Coordinator<B: Backend, J> {
    agreement: Agreement,
    format: Format,
    context: Context<B>,
    journal: J,
    events: u64,
    joins: BTreeMap<String, Member>,
    roster: Option<Roster>,
    /// Positions of the parties that pinned the roster.
    confirmed: BTreeSet<u32>,
    revoked: BTreeSet<String>,
    deals: BTreeMap<u32, Signed>,
    collective: Option<Poly<B, Evaluation>>,
    attempt: Option<Attempt<B>>,
    outcome: Option<Signed>,
}

impl<B: Backend, J> std::fmt::Debug for Coordinator<B, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Coordinator({} epoch {}, {} events)",
            self.agreement.name, self.agreement.epoch, self.events
        )
    }
}

/// What a valid message turned out to be.
enum Judgement {
    New,
    Known,
}

const MESSAGE: u8 = 0;
const TICK: u8 = 1;
const REVOKE: u8 = 2;

impl<B: Backend, J: Journal> Coordinator<B, J> {
    /// Starts, or goes on where the journal ends.
    ///
    /// # Errors
    /// An agreement out of range, or another than the journal's; a journal that cannot be read; a failing device.
    pub fn new(agreement: Agreement, backend: B, mut journal: J) -> Result<Self> {
        agreement.check()?;
        let mut w = Writer::new();
        agreement.encode(&mut w)?;
        journal.once("agreement", || Ok(w.as_bytes().to_vec()))?;
        if journal.get("agreement")?.as_deref() != Some(w.as_bytes()) {
            return Err(Error::Journal("was begun under another agreement".to_owned()));
        }
        let format = agreement.format()?;
        let context = Context::new(backend, format.params.clone())?;
        let mut coordinator = Coordinator {
            agreement,
            format,
            context,
            journal,
            events: 0,
            joins: BTreeMap::new(),
            roster: None,
            confirmed: BTreeSet::new(),
            revoked: BTreeSet::new(),
            deals: BTreeMap::new(),
            collective: None,
            attempt: None,
            outcome: None,
        };
        for name in coordinator.journal.names("event/")? {
            let bytes = coordinator.journal.get(&name)?.unwrap_or_default();
            coordinator.replay(&bytes)?;
        }
        Ok(coordinator)
    }

    fn replay(&mut self, event: &[u8]) -> Result<()> {
        let mut r = Reader::new(event);
        let now = r.u64("time")?;
        match r.u8("event")? {
            TICK => self.apply_tick(now)?,
            REVOKE => {
                let name = String::from_utf8_lossy(r.blob("member", 1 << 10)?).into_owned();
                self.apply_revocation(name);
            }
            _ => {
                let signed = Signed::decode(r.blob("message", u64::MAX)?)?;
                self.apply(now, signed)?;
            }
        }
        self.events += 1;
        Ok(())
    }

    fn store(&mut self, now: u64, kind: u8, message: &[u8]) -> Result<()> {
        let mut w = Writer::with_capacity(message.len() + 32);
        w.u64(now);
        w.u8(kind);
        w.blob(message);
        self.journal.put(&format!("event/{:012}", self.events), w.as_bytes())?;
        self.events += 1;
        Ok(())
    }

    /// Takes a message. Once this returns without an error, the message survives a crash; the same message again is
    /// acknowledged again and changes nothing.
    ///
    /// # Errors
    /// Bytes that are no message, a wrong signature, a message that has no place here, a journal that cannot be written.
    pub fn post(&mut self, now: u64, message: &[u8]) -> Result<()> {
        let signed = Signed::decode(message)?;
        signed.verify(self.roster.as_ref())?;
        if self.revoked.contains(&signed.from) {
            return Err(Refusal::Revoked(signed.from).into());
        }
        match self.judge(&signed)? {
            Judgement::Known => Ok(()),
            Judgement::New => {
                self.store(now, MESSAGE, message)?;
                self.apply(now, signed)
            }
        }
    }

    /// Takes nothing more from a party. An attempt that is open fails, since an upload or share of the party may be in it; the
    /// next ones are without it, if the quorum allows. The parties decide for themselves (`crate::rule`).
    ///
    /// # Errors
    /// A name that is not a member's, once there is a roster; a journal that cannot be written.
    pub fn revoke(&mut self, now: u64, name: &str) -> Result<()> {
        if self.roster.is_some() {
            self.position(name)?;
        }
        if self.revoked.contains(name) {
            return Ok(());
        }
        self.store(now, REVOKE, name.as_bytes())?;
        self.apply_revocation(name.to_owned());
        Ok(())
    }

    fn apply_revocation(&mut self, name: String) {
        if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.is_open()) {
            attempt.failed = Some(format!("{name} was revoked"));
        }
        self.revoked.insert(name);
    }

    /// Lets deadlines pass.
    ///
    /// # Errors
    /// A journal that cannot be written, a failing device.
    pub fn tick(&mut self, now: u64) -> Result<()> {
        if !self.is_due(now) {
            return Ok(());
        }
        self.store(now, TICK, &[])?;
        self.apply_tick(now)
    }

    fn is_due(&self, now: u64) -> bool {
        let Some(attempt) = self.attempt.as_ref().filter(|attempt| attempt.is_open()) else { return false };
        now >= match &attempt.proposal {
            None => attempt.opened.saturating_add(attempt.opening.upload_seconds.into()),
            Some((.., fixed)) => fixed.saturating_add(attempt.opening.share_seconds.into()),
        }
    }

    /// Whether a verified message has a place, without changing anything.
    fn judge(&self, signed: &Signed) -> Result<Judgement> {
        let name = signed.message.name();
        let conflict =
            || Error::out_of_place(name, format!("of {} differs from the one it sent before", signed.from));
        let known_or = |is_same: bool| if is_same { Ok(Judgement::Known) } else { Err(conflict()) };
        match &signed.message {
            Message::Join(agreement, member) => self.judge_join(agreement, member),
            Message::Confirm => {
                let position = self.position(&signed.from)?;
                Ok(if self.confirmed.contains(&position) { Judgement::Known } else { Judgement::New })
            }
            Message::Deal { sealed, public_key_share } => {
                if let Some(earlier) = self.deals.get(&self.position(&signed.from)?) {
                    return known_or(earlier.message == signed.message);
                }
                if sealed.len() != self.agreement.parties as usize {
                    return Err(Error::invalid(
                        "deal",
                        format!("{} shares for {} parties", sealed.len(), self.agreement.parties),
                    ));
                }
                bytes::decode_polys(&self.context, public_key_share, 1)?;
                Ok(Judgement::New)
            }
            Message::Open(opening) => self.judge_opening(signed, opening),
            Message::Upload(upload, body) => {
                let attempt = self.open_attempt(upload.opening, name)?;
                if let Some((earlier, _)) = attempt.uploads.get(&self.position(&signed.from)?) {
                    return known_or(earlier == upload);
                }
                if attempt.proposal.is_some() {
                    return Err(Error::out_of_place(name, "comes after the accepted set was fixed"));
                }
                bytes::decode_polys(&self.context, body, attempt.polynomials)?;
                Ok(Judgement::New)
            }
            Message::Share(share, body) => {
                let position = self.position(&signed.from)?;
                let attempt = self.attempt_of_proposal(share.proposal)?;
                if let Some(earlier) = attempt.share_hashes.get(&position) {
                    return known_or(*earlier == share.body);
                }
                let (proposal, ..) = attempt.proposal.as_ref().ok_or_else(conflict)?;
                if !proposal.decryptors.contains(&position) || !attempt.is_open() {
                    return Err(Error::out_of_place(name, format!("of {} was not asked for", signed.from)));
                }
                self.decode_share(body, attempt.polynomials)?;
                Ok(Judgement::New)
            }
            Message::Outcome(outcome) => {
                if signed.from != self.agreement.receiver {
                    return Err(Refusal::Stranger(signed.from.clone()).into());
                }
                if let Some(earlier) = &self.outcome {
                    return known_or(earlier.message == signed.message);
                }
                let summed = self.attempt.as_ref().filter(|attempt| attempt.total.is_some());
                if summed.is_none_or(|attempt| attempt.opening.round != outcome.round) {
                    return Err(Error::out_of_place(
                        name,
                        format!("is for round {}, which has no sum", outcome.round),
                    ));
                }
                Ok(Judgement::New)
            }
        }
    }

    fn judge_join(&self, agreement: &Agreement, member: &Member) -> Result<Judgement> {
        if *agreement != self.agreement {
            let reason = format!(
                "of {} is to another agreement: {}",
                member.name,
                difference(&self.agreement, agreement)
            );
            return Err(Error::out_of_place("join", reason));
        }
        match self.joins.get(&member.name) {
            Some(earlier) if earlier == member => Ok(Judgement::Known),
            Some(_) => {
                Err(Error::out_of_place("join", format!("of {} differs from the one before", member.name)))
            }
            None if self.roster.is_some() => Err(Error::out_of_place(
                "join",
                format!("of {} comes after the roster was closed", member.name),
            )),
            None if self.joins.values().any(|other| other.verifying == member.verifying) => Err(
                Error::out_of_place("join", format!("of {} brings the key of another party", member.name)),
            ),
            None => Ok(Judgement::New),
        }
    }

    fn judge_opening(&self, signed: &Signed, opening: &Opening) -> Result<Judgement> {
        if signed.from != self.agreement.receiver {
            return Err(Refusal::Stranger(signed.from.clone()).into());
        }
        if self.attempt.as_ref().is_some_and(|attempt| attempt.signed.message == signed.message) {
            return Ok(Judgement::Known);
        }
        opening.check(&self.agreement)?;
        let parties = self.agreement.parties as usize;
        if self.roster.is_none() || self.deals.len() < parties || self.confirmed.len() < parties {
            return Err(Error::out_of_place(
                "opening",
                "comes before all parties have confirmed the roster and dealt their key shares",
            ));
        }
        if let Some(attempt) = &self.attempt {
            let last = (attempt.opening.round, attempt.opening.attempt);
            if attempt.is_open() {
                let reason = format!("comes while round {}, attempt {} is open", last.0, last.1);
                return Err(Error::out_of_place("opening", reason));
            }
            if (opening.round, opening.attempt) <= last {
                let reason =
                    format!("of round {}, attempt {} is not after {last:?}", opening.round, opening.attempt);
                return Err(Error::out_of_place("opening", reason));
            }
        }
        Ok(Judgement::New)
    }

    fn apply(&mut self, now: u64, signed: Signed) -> Result<()> {
        match &signed.message {
            Message::Join(_, member) => {
                self.joins.insert(member.name.clone(), (**member).clone());
                if self.joins.len() == self.agreement.parties as usize {
                    self.roster =
                        Some(Roster::new(self.agreement.clone(), self.joins.values().cloned().collect())?);
                }
            }
            Message::Confirm => {
                let position = self.position(&signed.from)?;
                self.confirmed.insert(position);
            }
            Message::Deal { public_key_share, .. } => {
                let share = bytes::decode_polys(&self.context, public_key_share, 1)?;
                add_to(&self.context, &mut self.collective, share)?;
                let position = self.position(&signed.from)?;
                self.deals.insert(position, signed);
            }
            Message::Open(opening) => {
                let roster = self
                    .roster
                    .as_ref()
                    .ok_or_else(|| Error::out_of_place("opening", "comes before the roster"))?;
                let polynomials = self.format.polynomials(opening.purpose.integers(&self.agreement)?);
                self.attempt = Some(Attempt {
                    hash: opening.hash(roster)?,
                    opening: opening.clone(),
                    signed,
                    opened: now,
                    polynomials,
                    uploads: BTreeMap::new(),
                    sum: None,
                    proposal: None,
                    shares: BTreeMap::new(),
                    share_hashes: BTreeMap::new(),
                    total: None,
                    failed: None,
                });
            }
            Message::Upload(upload, body) => {
                let position = self.position(&signed.from)?;
                if let Some(attempt) = &mut self.attempt {
                    let polys = bytes::decode_polys(&self.context, body, attempt.polynomials)?;
                    add_to(&self.context, &mut attempt.sum, polys)?;
                    attempt.uploads.insert(position, (*upload, signed.signature));
                }
                self.propose_if_complete(now)?;
            }
            Message::Share(share, body) => {
                let position = self.position(&signed.from)?;
                let polynomials = self.attempt.as_ref().map_or(0, |attempt| attempt.polynomials);
                let ciphertext = self.decode_share(body, polynomials)?;
                if let Some(attempt) = &mut self.attempt {
                    attempt.shares.insert(position, ciphertext);
                    attempt.share_hashes.insert(position, share.body);
                }
                self.combine_if_complete()?;
            }
            Message::Outcome(_) => self.outcome = Some(signed),
        }
        Ok(())
    }

    fn apply_tick(&mut self, now: u64) -> Result<()> {
        let quorum = self.agreement.quorum as usize;
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.is_open()) else { return Ok(()) };
        if attempt.proposal.is_some() {
            let missing = attempt.missing_decryptors().len();
            attempt.failed = Some(format!("{missing} shares did not come in time"));
        } else if attempt.uploads.len() < quorum {
            attempt.failed =
                Some(format!("{} uploads of at least {quorum} came in time", attempt.uploads.len()));
        } else {
            self.propose(now)?;
        }
        Ok(())
    }

    fn propose_if_complete(&mut self, now: u64) -> Result<()> {
        let is_complete = self.attempt.as_ref().is_some_and(|attempt| {
            attempt.uploads.len() + self.revoked.len() >= self.agreement.parties as usize
        });
        if is_complete { self.propose(now) } else { Ok(()) }
    }

    /// Fixes the accepted set: everyone who uploaded. Decryptors are taken from them first: they are known to be there.
    fn propose(&mut self, now: u64) -> Result<()> {
        let (Some(roster), Some(attempt)) = (&self.roster, &mut self.attempt) else { return Ok(()) };
        let Some(sum) = &attempt.sum else { return Ok(()) };
        let is_trusted = |position: &u32| !self.revoked.contains(&roster.members[*position as usize].name);
        let others = (0..self.agreement.parties)
            .filter(|position| !attempt.uploads.contains_key(position) && is_trusted(position));
        let mut decryptors: Vec<u32> = attempt.uploads.keys().copied().chain(others).collect();
        decryptors.truncate(self.agreement.threshold as usize);
        decryptors.sort_unstable();
        let accepted =
            attempt.uploads.iter().map(|(&position, (upload, signature))| (position, *upload, *signature));
        let proposal = Proposal {
            opening: attempt.hash,
            accepted: accepted.collect(),
            decryptors,
            sum: body_hash(&bytes::encode_polys(&self.context, sum)?),
        };
        let hash = proposal.hash(roster)?;
        attempt.proposal = Some((proposal, hash, now));
        Ok(())
    }

    fn combine_if_complete(&mut self) -> Result<()> {
        let Some(attempt) = &mut self.attempt else { return Ok(()) };
        let (Some((proposal, ..)), Some(sum)) = (&attempt.proposal, &attempt.sum) else { return Ok(()) };
        if attempt.shares.len() < proposal.decryptors.len() {
            return Ok(());
        }
        let scale = f64::from(self.format.scale_bits).exp2();
        let shares = std::mem::take(&mut attempt.shares).into_values().collect();
        let total = threshold::combine(&self.context, sum, shares, scale)?;
        attempt.total = Some(bytes::encode_ciphertext(&self.context, &total)?);
        Ok(())
    }

    fn decode_share(&self, body: &[u8], polynomials: usize) -> Result<Ciphertext<B>> {
        let share = bytes::decode_ciphertext(&self.context, body)?;
        let fits = share.components.len() == 2
            && share.batch() == polynomials
            && share.limbs() == self.format.params.limbs();
        if !fits {
            return Err(Error::invalid("share", format!("is not {polynomials} pairs of polynomials")));
        }
        Ok(share)
    }

    fn position(&self, name: &str) -> Result<u32> {
        let position = self.roster.as_ref().and_then(|roster| roster.position(name));
        Ok(position.ok_or_else(|| Refusal::Stranger(name.to_owned()))? as u32)
    }

    fn open_attempt(&self, opening: [u8; 32], what: &str) -> Result<&Attempt<B>> {
        let attempt = self.attempt.as_ref().filter(|attempt| attempt.hash == opening);
        let attempt = attempt
            .ok_or_else(|| Error::out_of_place(what, "answers an opening that is not the current one"))?;
        match &attempt.failed {
            Some(reason) => {
                Err(Error::out_of_place(what, format!("comes after the attempt failed: {reason}")))
            }
            None => Ok(attempt),
        }
    }

    fn attempt_of_proposal(&self, proposal: [u8; 32]) -> Result<&Attempt<B>> {
        let is_it =
            |attempt: &&Attempt<B>| attempt.proposal.as_ref().is_some_and(|(_, hash, _)| *hash == proposal);
        let attempt = self.attempt.as_ref().filter(is_it);
        attempt.ok_or_else(|| Error::out_of_place("share", "answers a proposal that is not the current one"))
    }

    /// What is being waited for.
    pub fn phase(&self) -> Phase {
        let Some(roster) = &self.roster else {
            return Phase::Joining { missing: self.agreement.parties as usize - self.joins.len() };
        };
        let names = |positions: Vec<u32>| -> Vec<String> {
            positions.into_iter().map(|position| roster.members[position as usize].name.clone()).collect()
        };
        let absent = |is_there: &dyn Fn(&u32) -> bool| {
            names((0..self.agreement.parties).filter(|position| !is_there(position)).collect())
        };
        if self.outcome.is_some() {
            return Phase::Finished;
        }
        let missing =
            absent(&|position| self.deals.contains_key(position) && self.confirmed.contains(position));
        if !missing.is_empty() {
            return Phase::Dealing { missing };
        }
        let Some(attempt) = &self.attempt else { return Phase::Ready };
        let (round, number) = (attempt.opening.round, attempt.opening.attempt);
        match (&attempt.failed, &attempt.total, &attempt.proposal) {
            (Some(reason), ..) => Phase::Failed { round, attempt: number, reason: reason.clone() },
            (None, Some(_), _) => Phase::Summed { round, attempt: number },
            (None, None, Some(_)) => {
                Phase::Sharing { round, attempt: number, missing: names(attempt.missing_decryptors()) }
            }
            (None, None, None) => Phase::Uploading {
                round,
                attempt: number,
                missing: absent(&|position| {
                    let name = &roster.members[*position as usize].name;
                    attempt.uploads.contains_key(position) || self.revoked.contains(name)
                }),
            },
        }
    }

    /// The agreement.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The roster, once everybody has joined.
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// The deals of all parties in the order of the roster, once there are all; each holds one share for every party.
    pub fn deals(&self) -> Option<Vec<&Signed>> {
        (self.deals.len() == self.agreement.parties as usize).then(|| self.deals.values().collect())
    }

    /// The collective public key without its mask, once all have dealt: the sum of everybody's share.
    ///
    /// # Errors
    /// A failing device.
    pub fn collective_key(&self) -> Result<Option<Vec<u8>>> {
        match (&self.collective, self.deals()) {
            (Some(key), Some(_)) => Ok(Some(bytes::encode_polys(&self.context, key)?)),
            _ => Ok(None),
        }
    }

    /// The current opening, as the receiver signed it.
    pub fn opening(&self) -> Option<&Signed> {
        self.attempt.as_ref().map(|attempt| &attempt.signed)
    }

    /// The current proposal.
    pub fn proposal(&self) -> Option<&Proposal> {
        self.attempt.as_ref()?.proposal.as_ref().map(|(proposal, ..)| proposal)
    }

    /// The current sum, encrypted for the receiver.
    pub fn total(&self) -> Option<&[u8]> {
        self.attempt.as_ref()?.total.as_deref()
    }

    /// The head, as the receiver signed it.
    pub fn outcome(&self) -> Option<&Signed> {
        self.outcome.as_ref()
    }
}

impl<B: Backend> Attempt<B> {
    fn is_open(&self) -> bool {
        self.total.is_none() && self.failed.is_none()
    }

    fn missing_decryptors(&self) -> Vec<u32> {
        let Some((proposal, ..)) = &self.proposal else { return Vec::new() };
        proposal
            .decryptors
            .iter()
            .copied()
            .filter(|position| !self.share_hashes.contains_key(position))
            .collect()
    }
}

fn add_to<B: Backend>(
    context: &Context<B>,
    sum: &mut Option<Poly<B, Evaluation>>,
    other: Poly<B, Evaluation>,
) -> Result<()> {
    match sum {
        Some(sum) => threshold::accumulate(context, sum, &other)?,
        None => *sum = Some(other),
    }
    Ok(())
}

/// The first field in which two agreements differ.
fn difference(ours: &Agreement, theirs: &Agreement) -> String {
    let fields = |of: &Agreement| {
        [
            ("name", of.name.clone()),
            ("epoch", of.epoch.to_string()),
            ("backbone", of.backbone.clone()),
            ("dimension", of.dimension.to_string()),
            ("classes", format!("{:?}", of.classes)),
            ("row_bound", of.row_bound.to_string()),
            ("rows", of.rows.to_string()),
            ("parties", of.parties.to_string()),
            ("threshold", of.threshold.to_string()),
            ("quorum", of.quorum.to_string()),
            ("receiver", of.receiver.clone()),
            ("projection", format!("{:?}", of.projection)),
            ("privacy", format!("{:?}", of.privacy)),
        ]
    };
    let pairs = fields(ours).into_iter().zip(fields(theirs));
    let mut different =
        pairs.filter(|(a, b)| a != b).map(|((field, a), (_, b))| format!("{field} is {b}, here {a}"));
    different.next().unwrap_or_else(|| "no field that could be named".to_owned())
}
