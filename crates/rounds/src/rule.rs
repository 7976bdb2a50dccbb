//! The release rule: what a party demands before it uploads, and what a holder of a key share demands before it answers. The
//! coordinator is not trusted with it, and neither are the share holders of others: what leaves a party is its upload.
//!
//! 1. The accepted set is fixed and signed: every upload in it bears its sender's signature over this opening, and one in this
//!    party's name is the one it made.
//! 2. An exact sum has at least three uploads, and the quorum of the agreement.
//! 3. A share is given once per (round, attempt): the masks of an attempt never serve two accepted sets or sums.
//! 4. All exact sums of a key epoch are over the same members and, at this party, the same data; of each kind there is one.
//!    A difference of two sums is a sum over their difference. Two sets of share holders have one in common, who knows
//!    of both ([`Agreement::check`](crate::Agreement::check) sees to that); a party's own data are fixed by its first exact upload.
//! 5. Sums with noise compose: the epsilon of a party's uploads together stays within the agreement, and so does that of its shares.
//!    Where noise was agreed on there are no exact sums.

use crate::agreement::{Agreement, MIN_EXACT_UPLOADS, Roster, short};
use crate::message::{Message, Opening, Proposal, Purpose, Upload};
use crate::privacy;
use crate::{Error, Refusal, Result};
use arras_wire::{Reader, Writer};
use ed25519_dalek::Verifier;

/// A release that this party gave its share for.
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
}

/// What a party knows when it is asked for an upload. It may never be asked for a share of the sum.
#[derive(Debug, Clone, Copy)]
pub struct Contributor<'a> {
    /// The agreement.
    pub agreement: &'a Agreement,
    /// What stands for its data.
    pub data: [u8; 32],
    /// Everything it uploaded in this epoch, whatever became of it.
    pub history: &'a [Contribution],
}

/// An upload that this party made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contribution {
    /// What stands for the data.
    pub data: [u8; 32],
    /// zCDP of the noise, or nothing for an exact upload.
    pub rho: Option<f64>,
}

impl Contributor<'_> {
    /// Applies the rule to an opening that was not answered yet. The contribution that comes back has to be stored before the
    /// upload is sent.
    ///
    /// # Errors
    /// [`Refusal::SecondRelease`] for other data than those of an earlier exact upload; [`Refusal::Budget`].
    pub fn check(&self, opening: &Opening) -> Result<Contribution> {
        let exact = self.history.iter().find(|earlier| earlier.rho.is_none());
        match (opening.noise, exact) {
            (Some(noise), _) => {
                let spent = self.history.iter().filter_map(|earlier| earlier.rho).sum::<f64>();
                check_budget(self.agreement, spent + noise.rho)?;
            }
            (None, Some(earlier)) if earlier.data != self.data => {
                let [before, now] = [&earlier.data, &self.data].map(|data| format!("data {}", short(data)));
                return Err(Refusal::SecondRelease { round: opening.round, before, now }.into());
            }
            (None, _) => {}
        }
        Ok(Contribution { data: self.data, rho: opening.noise.map(|noise| noise.rho) })
    }
}

impl Contribution {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(&self.data);
        w.flag(self.rho.is_some());
        w.f64(self.rho.unwrap_or_default());
        w.into_bytes()
    }

    /// Reads [`encode`](Self::encode).
    ///
    /// # Errors
    /// Whatever is wrong with a field.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let (data, has_noise, rho) = (r.array("data")?, r.flag("noise")?, r.finite_f64("rho")?);
        r.finish()?;
        Ok(Contribution { data, rho: has_noise.then_some(rho) })
    }
}

/// What a party knows when it is asked for a share.
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
        let release = Release {
            round: opening.round,
            attempt: opening.attempt,
            proposal: proposal.hash(self.roster)?,
            subject: subject(opening, self.roster)?,
            is_statistics: matches!(opening.purpose, Purpose::Statistics),
            rho: opening.noise.map(|noise| noise.rho),
            members: proposal.members(),
            data: self.data,
        };
        self.check_history(&release)?;
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
        Ok(())
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
                let spent = self.history.iter().filter_map(|release| release.rho).sum::<f64>();
                check_budget(&self.roster.agreement, spent + rho)
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
        let data = r.array("data")?;
        let count = r.count("members", arras_ckks::threshold::MAX_PARTIES, 4)?;
        let members = (0..count).map(|_| r.u32("members")).collect::<arras_wire::Result<_>>()?;
        r.finish()?;
        let rho = has_noise.then_some(rho);
        Ok(Release { round, attempt, proposal, subject, is_statistics, rho, members, data })
    }
}

/// Refuses a roster whose members are not those that were pinned beforehand, by name and verifying key: a coordinator that
/// invents parties would otherwise be alone with one upload.
///
/// # Errors
/// [`Refusal::Stranger`] naming the first; [`Error::Invalid`] if one is missing.
pub fn check_members(roster: &Roster, pinned: &[(String, [u8; 32])]) -> Result<()> {
    for member in &roster.members {
        if !pinned.iter().any(|(name, key)| *name == member.name && key == member.verifying.as_bytes()) {
            return Err(Refusal::Stranger(member.name.clone()).into());
        }
    }
    match pinned.iter().find(|(name, _)| roster.position(name).is_none()) {
        Some((name, _)) => Err(Error::invalid("roster", format!("lacks {name}"))),
        None => Ok(()),
    }
}
