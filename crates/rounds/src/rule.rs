//! The release rule: what a holder of a key share demands before it answers. The coordinator is not trusted with it.
//!
//! 1. The accepted set is fixed and signed: every upload in it bears its sender's signature over this opening, and one in this
//!    party's name is the one it made.
//! 2. An exact sum has at least three uploads, and the quorum of the agreement.
//! 3. A share is given once per (round, attempt): the masks of an attempt never serve two accepted sets or sums.
//! 4. All exact sums of a key epoch are over the same members and, at this party, the same data; of each kind there is one.
//!    A difference of two sums is a sum over their difference.
//!    A party's own data are fixed by its first exact upload, whether or not it is ever asked for a share.
//! 5. Sums with noise compose: their epsilon together stays within the agreement, over all epochs; that of a party's uploads, and that
//!    of its shares. Where noise was agreed on there are no exact sums.
//! 6. What rule 4 says holds between epochs too: data that entered an exact sum enters a later one only if members, data and
//!    question are the same. A party checks this before it uploads and before it gives a share.
//! 7. Nothing of a revoked party is summed, and none of its shares is counted on.
//!
//! Any two sets of decryptors of an exact federation have a party in common ([`Agreement::check`]), which remembers for both.
//!
//! [`Agreement::check`]: crate::Agreement::check

use crate::agreement::{Agreement, MIN_EXACT_UPLOADS, Roster, short};
use crate::message::{Message, Opening, Proposal, Purpose, Upload};
use crate::privacy;
use crate::{Error, Refusal, Result};
use arras_wire::{Reader, Writer};
use ed25519_dalek::Verifier;

/// A release that this party gave its share for.
///
/// See the example of [`Holder`].
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// The round.
    pub round: u32,
    /// The attempt.
    pub attempt: u32,
    /// The proposal that was answered.
    pub proposal: [u8; 32],
    /// Hash of what was asked, whatever the attempt.
    pub subject: [u8; 32],
    /// [`Purpose::name`] is what counts as a kind; true for statistics.
    pub is_statistics: bool,
    /// zCDP of the noise, or nothing for an exact sum.
    pub rho: Option<f64>,
    /// Positions of the accepted uploads.
    pub members: Vec<u32>,
    /// What stands for this party's data.
    pub data: [u8; 32],
    /// What is asked, whatever the epoch, the parties and their keys.
    pub question: [u8; 32],
}

/// A sum of an earlier epoch.
///
/// ```
/// use arras_rounds::rule::{Past, spent_before};
///
/// let past = Past {
///     epoch: 1,
///     is_release: true,
///     members: vec!["alpha".into(), "beta".into(), "gamma".into()],
///     data: [1; 32],
///     question: [2; 32],
///     is_statistics: true,
///     rho: Some(0.25),
/// };
/// let uploaded_only = Past { is_release: false, ..past.clone() };
/// assert_eq!(spent_before(&[past.clone(), past, uploaded_only]), 0.5);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// The epoch.
    pub epoch: u32,
    /// Whether this party gave a share of it, or uploaded only.
    pub is_release: bool,
    /// Names of those whose uploads were in the sum; if this party uploaded only, of the whole roster.
    pub members: Vec<String>,
    /// What stood for this party's data.
    pub data: [u8; 32],
    /// As [`Release::question`].
    pub question: [u8; 32],
    /// True for statistics.
    pub is_statistics: bool,
    /// zCDP of the noise, or nothing for an exact sum.
    pub rho: Option<f64>,
}

impl Past {
    /// Of a release, or of a contribution stored as one, under the roster of its epoch.
    pub fn of(release: &Release, roster: &Roster, is_release: bool) -> Self {
        Past {
            epoch: roster.agreement.epoch,
            is_release,
            members: names(roster, &release.members),
            data: release.data,
            question: release.question,
            is_statistics: release.is_statistics,
            rho: release.rho,
        }
    }

    /// Refuses an exact sum whose difference to this one, if it is exact, would be one of other members or data.
    fn check(&self, release: &Release, members: &[String]) -> Result<()> {
        if self.rho.is_some() || release.rho.is_some() {
            return Ok(());
        }
        let describe = |members: &[String], data: &[u8; 32], question: &[u8; 32]| {
            format!("{}, data {}, question {}", members.join(", "), short(data), short(question))
        };
        let is_other = self.is_statistics == release.is_statistics && self.question != release.question;
        if is_other || (&self.members[..], self.data) != (members, release.data) {
            return Err(Refusal::EarlierEpoch {
                epoch: self.epoch,
                before: describe(&self.members, &self.data, &self.question),
                now: describe(members, &release.data, &release.question),
            }
            .into());
        }
        Ok(())
    }
}

/// What a contribution is stored as: a release to the whole roster that no proposal was made for. `earlier` are the other
/// contributions of this epoch: whether others opened their sums without this party's share is not known to it.
///
/// # Errors
/// [`Refusal::EarlierEpoch`] if the sum would be exact and differs in roster, data or question from one that this party's
/// data entered before; [`Refusal::Budget`] if the noisy ones would cost too much.
pub fn contribution(
    roster: &Roster,
    opening: &Opening,
    data: [u8; 32],
    past: &[Past],
    earlier: &[Release],
) -> Result<Release> {
    let members: Vec<u32> = (0..roster.agreement.parties).collect();
    let contribution = release(roster, opening, [0; 32], members, data)?;
    let all = names(roster, &contribution.members);
    past.iter().filter(|past| !past.is_release).try_for_each(|past| past.check(&contribution, &all))?;
    earlier.iter().try_for_each(|earlier| Past::of(earlier, roster, false).check(&contribution, &all))?;
    if let Some(rho) = contribution.rho {
        let uploaded = past.iter().filter(|past| !past.is_release).filter_map(|past| past.rho);
        let spent: f64 = uploaded.chain(earlier.iter().filter_map(|earlier| earlier.rho)).sum();
        check_budget(&roster.agreement, spent + rho)?;
    }
    Ok(contribution)
}

fn release(
    roster: &Roster,
    opening: &Opening,
    proposal: [u8; 32],
    members: Vec<u32>,
    data: [u8; 32],
) -> Result<Release> {
    Ok(Release {
        round: opening.round,
        attempt: opening.attempt,
        proposal,
        subject: subject(opening, roster)?,
        is_statistics: matches!(opening.purpose, Purpose::Statistics),
        rho: opening.noise.map(|noise| noise.rho),
        members,
        data,
        question: question(opening, &roster.agreement)?,
    })
}

fn names(roster: &Roster, positions: &[u32]) -> Vec<String> {
    let name = |&position: &u32| roster.members.get(position as usize).map(|member| member.name.clone());
    positions.iter().filter_map(name).collect()
}

/// What a party knows when it is asked for a share.
///
/// ```
/// use arras_rounds::message::{Proposal, Upload};
/// use arras_rounds::rule::Holder;
/// # use arras_rounds::{Agreement, Member, Roster, message::{Message, Opening, Purpose}};
/// # use ed25519_dalek::{Signer, SigningKey};
/// # let agreement = Agreement { name: "irises".into(), epoch: 1, backbone: "lengths".into(), dimension: 4,
/// #     classes: vec!["a".into(), "b".into()], row_bound: 16.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// # let keys = [1, 2, 3].map(|number| SigningKey::from_bytes(&[number; 32]));
/// # let members = keys.iter().zip(["alpha", "beta", "gamma"]).map(|(key, name)| Member { name: name.into(),
/// #     verifying: key.verifying_key(), sealing: [0; 32], nonce: [0; 32], public_key: vec![] });
/// # let roster = Roster::new(agreement, members.collect())?;
/// # let opening = Opening { round: 1, attempt: 1, purpose: Purpose::Statistics, noise: None, upload_seconds: 60,
/// #     share_seconds: 60 };
///
/// // Three uploads to one opening, each signed by its sender; the first two parties are asked for shares.
/// let upload = Upload { opening: opening.hash(&roster)?, body: [4; 32] };
/// # let signed = Message::Upload(upload, vec![]).signed_bytes(Some(roster.hash()))?;
/// # let accepted = (0..3).zip(&keys).map(|(position, key)| (position, upload, key.sign(&signed))).collect();
/// let proposal = Proposal { opening: upload.opening, accepted, decryptors: vec![0, 1], sum: [5; 32] };
/// # let (roster, revoked) = (&roster, &[]);
/// let (data, upload) = ([6; 32], Some(&upload));
/// let holder = Holder { roster, position: 0, data, upload, history: &[], past: &[], revoked };
/// let release = holder.check(&opening, &proposal)?;
/// assert_eq!(release.members, [0, 1, 2]);
///
/// // Once given, a share is never given for another set or sum of the attempt.
/// let holder = Holder { history: &[release], ..holder };
/// let other = Proposal { sum: [7; 32], ..proposal };
/// let error = holder.check(&opening, &other).unwrap_err().to_string();
/// assert!(error.ends_with("a share was already given for another proposal"));
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The pinned roster.
    pub roster: &'a Roster,
    /// Its own position.
    pub position: u32,
    /// What stands for its data.
    pub data: [u8; 32],
    /// The upload that it made to this attempt.
    pub upload: Option<&'a Upload>,
    /// Everything it gave its share for in this epoch.
    pub history: &'a [Release],
    /// What it remembers of other epochs.
    pub past: &'a [Past],
    /// Names of parties that were revoked.
    pub revoked: &'a [String],
}

impl Holder<'_> {
    /// Applies the rule. The release that comes back has to be stored before the share is sent.
    ///
    /// # Errors
    /// [`Error::Refused`] with the first demand that is not met.
    pub fn check(&self, opening: &Opening, proposal: &Proposal) -> Result<Release> {
        let agreement = &self.roster.agreement;
        opening.check(agreement)?;
        let opening_hash = opening.hash(self.roster)?;
        if proposal.opening != opening_hash {
            return refuse("proposal", format!("answers opening {}", short(&proposal.opening)));
        }
        self.check_accepted(opening, &opening_hash, proposal)?;
        self.check_decryptors(proposal)?;
        let hash = proposal.hash(self.roster)?;
        let release = release(self.roster, opening, hash, proposal.members(), self.data)?;
        self.check_history(&release)?;
        let members = names(self.roster, &release.members);
        let releases = self.past.iter().filter(|past| past.is_release);
        releases.into_iter().try_for_each(|past| past.check(&release, &members))?;
        Ok(release)
    }

    fn check_accepted(&self, opening: &Opening, opening_hash: &[u8; 32], proposal: &Proposal) -> Result<()> {
        let members = proposal.members();
        let needed = match opening.noise {
            None => self.roster.agreement.quorum.max(MIN_EXACT_UPLOADS),
            Some(_) => self.roster.agreement.quorum,
        };
        if members.len() < needed as usize {
            return Err(Refusal::TooFew { found: members.len(), needed: needed as usize }.into());
        }
        if !is_set(&members, self.roster.members.len()) {
            return refuse("accepted set", format!("{members:?} is not a set of members"));
        }
        for (position, upload, signature) in &proposal.accepted {
            let member = &self.roster.members[*position as usize];
            self.check_trusted(*position)?;
            let signed = Message::Upload(*upload, Vec::new()).signed_bytes(Some(self.roster.hash()))?;
            let wrong = |_| Refusal::Signature { who: member.name.clone(), what: "upload" };
            member.verifying.verify(&signed, signature).map_err(wrong)?;
            if upload.opening != *opening_hash {
                return refuse(
                    "accepted set",
                    format!("holds an upload of {} to another opening", member.name),
                );
            }
            if *position == self.position && self.upload != Some(upload) {
                return Err(Refusal::NotMine { round: opening.round, attempt: opening.attempt }.into());
            }
        }
        Ok(())
    }

    fn check_decryptors(&self, proposal: &Proposal) -> Result<()> {
        let decryptors = &proposal.decryptors;
        let threshold = self.roster.agreement.threshold as usize;
        if decryptors.len() != threshold || !is_set(decryptors, self.roster.members.len()) {
            return refuse("decryptors", format!("{decryptors:?} are not {threshold} members"));
        }
        if !decryptors.contains(&self.position) {
            return refuse("decryptors", format!("{decryptors:?} do not include this party"));
        }
        decryptors.iter().try_for_each(|&position| self.check_trusted(position))
    }

    fn check_trusted(&self, position: u32) -> Result<()> {
        let name = &self.roster.members[position as usize].name;
        if self.revoked.contains(name) { Err(Refusal::Revoked(name.clone()).into()) } else { Ok(()) }
    }

    fn check_history(&self, release: &Release) -> Result<()> {
        let (round, attempt) = (release.round, release.attempt);
        let same_attempt = |earlier: &&Release| (earlier.round, earlier.attempt) == (round, attempt);
        if let Some(earlier) = self.history.iter().find(same_attempt) {
            return if earlier == release {
                Ok(())
            } else {
                Err(Refusal::Answered { round, attempt }.into())
            };
        }
        match release.rho {
            None => self.history.iter().filter(|earlier| earlier.rho.is_none()).try_for_each(|earlier| {
                let describe =
                    |of: &Release| format!("members {:?} and data {}", of.members, short(&of.data));
                if (&earlier.members, earlier.data) != (&release.members, release.data) {
                    return Err(Refusal::SecondRelease {
                        round,
                        before: describe(earlier),
                        now: describe(release),
                    }
                    .into());
                }
                if earlier.is_statistics == release.is_statistics && earlier.subject != release.subject {
                    let (before, now) = (short(&earlier.subject), short(&release.subject));
                    return Err(Refusal::SecondRelease { round, before, now }.into());
                }
                Ok(())
            }),
            Some(rho) => {
                let spent: f64 = self.history.iter().filter_map(|release| release.rho).sum();
                check_budget(&self.roster.agreement, spent + spent_before(self.past) + rho)
            }
        }
    }
}

/// That a rho in all, converted, stays within the agreement.
fn check_budget(agreement: &Agreement, rho: f64) -> Result<()> {
    let Some(privacy) = agreement.privacy else {
        return refuse("noise", "was not agreed on".to_owned());
    };
    let epsilon = privacy::epsilon(rho, privacy.delta)?;
    // The limit was turned into a rho and back: allow for the rounding of that.
    if epsilon > privacy.epsilon * (1.0 + 1e-9) {
        let [needed, limit] = [epsilon, privacy.epsilon].map(|value| format!("{value:.4}"));
        return Err(Refusal::Budget { needed, limit }.into());
    }
    Ok(())
}

/// What is asked, whatever the round and attempt.
fn subject(opening: &Opening, roster: &Roster) -> Result<[u8; 32]> {
    let asked = Opening { round: 0, attempt: 0, upload_seconds: 0, share_seconds: 0, ..opening.clone() };
    asked.hash(roster)
}

/// The same for equal functions of the parties' rows: parties, keys, names and deadlines do not enter.
fn question(opening: &Opening, agreement: &Agreement) -> Result<[u8; 32]> {
    let mut w = Writer::new();
    let (name, receiver) = (String::new(), String::new());
    let (epoch, parties, threshold, quorum, privacy) = (0, 0, 0, 0, None);
    Agreement { name, receiver, epoch, parties, threshold, quorum, privacy, ..agreement.clone() }
        .encode(&mut w)?;
    let (round, attempt, upload_seconds, share_seconds) = (0, 0, 0, 0);
    Opening { round, attempt, upload_seconds, share_seconds, noise: None, ..opening.clone() }
        .encode(&mut w)?;
    Ok(blake3::derive_key("arras/1 round question", w.as_bytes()))
}

/// zCDP of the noisy sums of earlier epochs that this party gave a share of.
pub fn spent_before(past: &[Past]) -> f64 {
    past.iter().filter(|past| past.is_release).filter_map(|past| past.rho).sum()
}

/// Ascending, distinct, below `count`.
fn is_set(positions: &[u32], count: usize) -> bool {
    positions.is_sorted_by(|a, b| a < b) && positions.iter().all(|&position| (position as usize) < count)
}

fn refuse<T>(what: &'static str, reason: String) -> Result<T> {
    Err(Refusal::NotAgreed { what, reason }.into())
}

impl Release {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u32(self.round);
        w.u32(self.attempt);
        w.array(&self.proposal);
        w.array(&self.subject);
        w.flag(self.is_statistics);
        w.flag(self.rho.is_some());
        w.f64(self.rho.unwrap_or_default());
        w.array(&self.data);
        w.array(&self.question);
        w.u32(self.members.len() as u32);
        self.members.iter().for_each(|&member| w.u32(member));
        w.into_bytes()
    }

    /// Reads [`encode`](Self::encode).
    ///
    /// # Errors
    /// Whatever is wrong with a field.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let (round, attempt) = (r.u32("round")?, r.u32("attempt")?);
        let (proposal, subject) = (r.array("proposal")?, r.array("subject")?);
        let is_statistics = r.flag("statistics")?;
        let has_noise = r.flag("noise")?;
        let rho = r.finite_f64("rho")?;
        let (data, question) = (r.array("data")?, r.array("question")?);
        let count = r.count("members", arras_ckks::threshold::MAX_PARTIES, 4)?;
        let members = (0..count).map(|_| r.u32("members")).collect::<arras_wire::Result<_>>()?;
        r.finish()?;
        let rho = has_noise.then_some(rho);
        Ok(Release { round, attempt, proposal, subject, is_statistics, rho, members, data, question })
    }
}

/// Refuses a roster whose members are not those that were pinned beforehand, by name and verifying key: a coordinator that
/// invents parties would otherwise be alone with one upload. Nor is one with a revoked party pinned.
///
/// # Errors
/// [`Refusal::Stranger`] or [`Refusal::Revoked`] naming the first; [`Error::Invalid`] if one is missing.
pub fn check_members(roster: &Roster, pinned: &[(String, [u8; 32])], revoked: &[String]) -> Result<()> {
    for member in &roster.members {
        if revoked.contains(&member.name) {
            return Err(Refusal::Revoked(member.name.clone()).into());
        }
        if !pinned.iter().any(|(name, key)| *name == member.name && key == member.verifying.as_bytes()) {
            return Err(Refusal::Stranger(member.name.clone()).into());
        }
    }
    match pinned.iter().find(|(name, _)| roster.position(name).is_none()) {
        Some((name, _)) => Err(Error::invalid("roster", format!("lacks {name}"))),
        None => Ok(()),
    }
}
