//! What parties say to each other. Every message is signed by its sender over the pinned roster.

use arras_ckks::threshold::MAX_PARTIES;
use arras_wire::{Reader, Writer};
use ed25519_dalek::{Signature, Verifier};

use crate::agreement::{Agreement, Member, Roster, short};
use crate::privacy::Noise;
use crate::{Error, Refusal, Result};

/// Largest body of an upload or a share, in bytes.
pub const MAX_BODY_BYTES: u64 = 1 << 30;
/// Most candidate heads in one round of counts.
pub const MAX_CANDIDATES: u32 = 64;
/// Most bins of a histogram of scores.
pub const MAX_BINS: u32 = 256;
/// Largest head that an outcome carries, in bytes.
const MAX_HEAD_BYTES: u64 = 1 << 28;

/// A head whose quality the parties count.
///
/// See the example of [`Purpose`].
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The penalty that gave it.
    pub l2: f64,
    /// `[C][D]`, row-major, on unprojected features.
    pub weight: Vec<f32>,
    /// `[C]`.
    pub bias: Vec<f32>,
}

/// What is summed.
///
/// ```
/// use arras_rounds::message::{Candidate, Purpose};
///
/// # let agreement = arras_rounds::Agreement { name: "irises".into(), epoch: 1, backbone: "lengths".into(), dimension: 4,
/// #     classes: vec!["a".into(), "b".into()], row_bound: 16.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// // Four features, two classes: the triangle of a 5 by 5 matrix, and 5 by 2 sums.
/// assert_eq!(Purpose::Statistics.integers(&agreement)?, 15 + 10);
/// let head = Candidate { l2: 0.1, weight: vec![0.0; 2 * 4], bias: vec![0.5; 2] };
/// // A 2 by 2 confusion, and two histograms of 20 bins for each class.
/// let counts = Purpose::Counts { candidates: vec![head], bins: 20 };
/// assert_eq!((counts.name(), counts.integers(&agreement)?), ("counts", 4 + 2 * 2 * 20));
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Purpose {
    /// `X'^T X'` and `X'^T Y` of the training rows.
    Statistics,
    /// For every candidate, on rows held out: confusion counts, then histograms of each class's score.
    Counts {
        /// The heads, 1 to [`MAX_CANDIDATES`].
        candidates: Vec<Candidate>,
        /// Bins of the histograms, 1 to [`MAX_BINS`].
        bins: u32,
    },
}

impl Purpose {
    /// Its name in records.
    pub fn name(&self) -> &'static str {
        match self {
            Purpose::Statistics => "statistics",
            Purpose::Counts { .. } => "counts",
        }
    }

    /// Number of integers that are summed.
    ///
    /// # Errors
    /// As [`Agreement::format`].
    pub fn integers(&self, agreement: &Agreement) -> Result<usize> {
        match self {
            Purpose::Statistics => Ok(agreement.format()?.entries),
            Purpose::Counts { candidates, bins } => {
                let classes = agreement.classes.len();
                Ok(candidates.len() * (classes * classes + classes * 2 * *bins as usize))
            }
        }
    }
}

/// The receiver opens an attempt of a round.
///
/// ```
/// use arras_rounds::message::{Opening, Purpose};
/// use arras_rounds::privacy::Noise;
///
/// # let agreement = arras_rounds::Agreement { name: "irises".into(), epoch: 1, backbone: "lengths".into(), dimension: 4,
/// #     classes: vec!["a".into(), "b".into()], row_bound: 16.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// let opening = Opening {
///     round: 1,
///     attempt: 1,
///     purpose: Purpose::Statistics,
///     noise: None,
///     upload_seconds: 3600,
///     share_seconds: 600,
/// };
/// opening.check(&agreement)?;
/// let noisy = Opening { noise: Some(Noise { rho: 0.01, honest: 3 }), ..opening };
/// assert_eq!(noisy.check(&agreement).unwrap_err().to_string(), "refused: noise was not agreed on");
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// Counts from 1.
    pub round: u32,
    /// Counts from 1 within a round.
    pub attempt: u32,
    /// What is summed.
    pub purpose: Purpose,
    /// Noise that uploads carry; without it the sum is exact.
    pub noise: Option<Noise>,
    /// Seconds from the opening until the accepted set is fixed, at least 1.
    pub upload_seconds: u32,
    /// Seconds from then until a missing share fails the attempt, at least 1.
    pub share_seconds: u32,
}

/// One party's encrypted integers. The body travels beside it.
///
/// See the example of [`Holder`](crate::rule::Holder).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// The opening it answers.
    pub opening: [u8; 32],
    /// Hash of the polynomials.
    pub body: [u8; 32],
}

/// The coordinator fixes whose uploads are in the sum and who decrypts.
///
/// See the example of [`Holder`](crate::rule::Holder).
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The opening.
    pub opening: [u8; 32],
    /// Accepted uploads by position of their sender, ascending, with what they signed.
    pub accepted: Vec<(u32, Upload, Signature)>,
    /// Positions of the parties that give shares, ascending, as many as the threshold.
    pub decryptors: Vec<u32>,
    /// Hash of the sum of the polynomials.
    pub sum: [u8; 32],
}

/// One party's share of a decryption. The body travels beside it.
///
/// ```
/// use arras_rounds::message::{Message, Share, Signed, body_hash};
/// # use ed25519_dalek::{Signer, SigningKey};
///
/// # let key = SigningKey::from_bytes(&[1; 32]);
/// # let proposal = [2; 32];
/// // The header carries the hash of the body, and the signature is over the header.
/// let body = b"a ciphertext".to_vec();
/// let message = Message::Share(Share { proposal, body: body_hash(&body) }, body);
/// # let signature = key.sign(&message.signed_bytes(Some([7; 32]))?);
/// let mut bytes = Signed { from: "alpha".into(), message, signature }.encode()?;
/// assert_eq!(Signed::decode(&bytes)?.message.name(), "share");
/// let body = bytes.windows(12).position(|part| part == b"a ciphertext").ok_or("no body")?;
/// bytes[body] ^= 1;
/// assert!(Signed::decode(&bytes).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The proposal it answers.
    pub proposal: [u8; 32],
    /// Hash of the ciphertext.
    pub body: [u8; 32],
}

/// What the receiver made of the sums.
///
/// See the example of [`Message`].
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The last round that went into it.
    pub round: u32,
    /// The head as the contents of a head file, its model card included.
    pub head: Vec<u8>,
}

/// A message.
///
/// ```
/// use arras_rounds::message::{Message, Outcome};
///
/// let message = Message::Outcome(Outcome { round: 2, head: b"the bytes of a head file".to_vec() });
/// assert_eq!(message.name(), "outcome");
/// // A signature holds for one roster only.
/// assert_ne!(message.signed_bytes(Some([1; 32]))?, message.signed_bytes(Some([2; 32]))?);
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A party presents itself and what it agrees to; signed before there is a roster.
    Join(Box<Agreement>, Box<Member>),
    /// A party has pinned the roster.
    Confirm,
    /// A party's key shares, sealed for each party in the order of the roster, and its share of the collective public key.
    Deal {
        /// One sealed share per party.
        sealed: Vec<Vec<u8>>,
        /// One polynomial.
        public_key_share: Vec<u8>,
    },
    /// The receiver opens an attempt.
    Open(Opening),
    /// A party's integers.
    Upload(Upload, Vec<u8>),
    /// A party's share.
    Share(Share, Vec<u8>),
    /// The receiver publishes the head.
    Outcome(Outcome),
}

/// A message with its sender and signature.
///
/// ```
/// use arras_rounds::message::{Message, Signed};
/// use ed25519_dalek::{Signer, SigningKey};
///
/// # use arras_rounds::{Agreement, Member, Roster};
/// # let agreement = Agreement { name: "irises".into(), epoch: 1, backbone: "lengths".into(), dimension: 4,
/// #     classes: vec!["a".into(), "b".into()], row_bound: 16.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// # let keys = [1, 2, 3].map(|number| SigningKey::from_bytes(&[number; 32]));
/// # let members = keys.iter().zip(["alpha", "beta", "gamma"]).map(|(key, name)| Member { name: name.into(),
/// #     verifying: key.verifying_key(), sealing: [0; 32], nonce: [0; 32], public_key: vec![] });
/// # let roster = Roster::new(agreement, members.collect())?;
/// let [alpha, ..] = &keys;
/// let signature = alpha.sign(&Message::Confirm.signed_bytes(Some(roster.hash()))?);
/// let signed = Signed { from: "alpha".into(), message: Message::Confirm, signature };
/// Signed::decode(&signed.encode()?)?.verify(Some(&roster))?;
///
/// let forged = Signed { from: "beta".into(), ..signed };
/// let error = forged.verify(Some(&roster)).unwrap_err();
/// assert_eq!(error.to_string(), "refused: the signature of beta on confirmation is wrong");
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Signed {
    /// Name of the sender.
    pub from: String,
    /// The message.
    pub message: Message,
    /// Over [`Message::signed_bytes`].
    pub signature: Signature,
}

/// Hash of a body that travels beside its header.
pub fn body_hash(body: &[u8]) -> [u8; 32] {
    blake3::derive_key("arras/1 round body", body)
}

impl Message {
    /// Its name in errors and records.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Join(..) => "join",
            Message::Confirm => "confirmation",
            Message::Deal { .. } => "deal",
            Message::Open(_) => "opening",
            Message::Upload(..) => "upload",
            Message::Share(..) => "share",
            Message::Outcome(_) => "outcome",
        }
    }

    /// What a signature is made over: the kind, the roster, and the contents with bodies replaced by their hashes. A join
    /// has no roster yet; its agreement and nonce take its place.
    ///
    /// # Errors
    /// Contents that cannot be encoded.
    pub fn signed_bytes(&self, roster: Option<[u8; 32]>) -> Result<Vec<u8>> {
        let mut w = Writer::new();
        w.array(b"arras/1 round message");
        w.array(&roster.unwrap_or_default());
        self.encode_header(&mut w)?;
        Ok(w.into_bytes())
    }

    fn encode_header(&self, w: &mut Writer) -> Result<()> {
        match self {
            Message::Join(agreement, member) => {
                w.u8(0);
                agreement.encode(w)?;
                member.encode(w)?;
            }
            Message::Confirm => w.u8(1),
            Message::Deal { sealed, public_key_share } => {
                w.u8(2);
                w.count("sealed shares", sealed.len(), MAX_PARTIES)?;
                sealed.iter().for_each(|share| w.blob(share));
                w.blob(public_key_share);
            }
            Message::Open(opening) => {
                w.u8(3);
                opening.encode(w)?;
            }
            Message::Upload(upload, _) => {
                w.u8(4);
                w.array(&upload.opening);
                w.array(&upload.body);
            }
            Message::Share(share, _) => {
                w.u8(5);
                w.array(&share.proposal);
                w.array(&share.body);
            }
            Message::Outcome(outcome) => {
                w.u8(6);
                w.u32(outcome.round);
                w.blob(&outcome.head);
            }
        }
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(match r.u8("message")? {
            0 => Message::Join(Box::new(Agreement::decode(r)?), Box::new(Member::decode(r)?)),
            1 => Message::Confirm,
            2 => {
                let count = r.count("sealed shares", MAX_PARTIES, 8)?;
                let sealed = (0..count)
                    .map(|_| Ok(r.blob("sealed share", MAX_BODY_BYTES)?.to_vec()))
                    .collect::<Result<_>>()?;
                Message::Deal {
                    sealed,
                    public_key_share: r.blob("public key share", MAX_BODY_BYTES)?.to_vec(),
                }
            }
            3 => Message::Open(Opening::decode(r)?),
            4 => {
                let upload = Upload { opening: r.array("opening")?, body: r.array("body hash")? };
                Message::Upload(upload, checked_body(r, upload.body)?)
            }
            5 => {
                let share = Share { proposal: r.array("proposal")?, body: r.array("body hash")? };
                Message::Share(share, checked_body(r, share.body)?)
            }
            6 => Message::Outcome(Outcome {
                round: r.u32("round")?,
                head: r.blob("head", MAX_HEAD_BYTES)?.to_vec(),
            }),
            kind => return Err(Error::invalid("message", format!("kind {kind} is unknown"))),
        })
    }
}

/// A body that is what its hash says.
fn checked_body(r: &mut Reader<'_>, hash: [u8; 32]) -> Result<Vec<u8>> {
    let body = r.blob("body", MAX_BODY_BYTES)?;
    if body_hash(body) != hash {
        return Err(Error::invalid("body", "is not what its hash says"));
    }
    Ok(body.to_vec())
}

impl Signed {
    /// Checks the signature with the sender's key in the roster, or for a join with the key it brings.
    ///
    /// # Errors
    /// [`Refusal::Stranger`], [`Refusal::Signature`].
    pub fn verify(&self, roster: Option<&Roster>) -> Result<()> {
        let key = match (&self.message, roster) {
            (Message::Join(_, member), _) if member.name == self.from => &member.verifying,
            (Message::Join(..), _) | (_, None) => return Err(Refusal::Stranger(self.from.clone()).into()),
            (_, Some(roster)) => {
                let position =
                    roster.position(&self.from).ok_or_else(|| Refusal::Stranger(self.from.clone()))?;
                &roster.members[position].verifying
            }
        };
        let roster = match &self.message {
            Message::Join(..) => None,
            _ => roster.map(Roster::hash),
        };
        let wrong = |_| Refusal::Signature { who: self.from.clone(), what: self.message.name() };
        Ok(key.verify(&self.message.signed_bytes(roster)?, &self.signature).map_err(wrong)?)
    }

    /// The message as bytes.
    ///
    /// # Errors
    /// Contents that cannot be encoded.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut w = Writer::new();
        w.string("from", &self.from, 256)?;
        w.array(&self.signature.to_bytes());
        self.message.encode_header(&mut w)?;
        if let Message::Upload(_, body) | Message::Share(_, body) = &self.message {
            w.blob(body);
        }
        Ok(w.into_bytes())
    }

    /// Reads [`encode`](Self::encode). The signature is not checked; a body is compared with its hash.
    ///
    /// # Errors
    /// Whatever is wrong with a field.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let from = r.string("from", 256)?.to_owned();
        let signature = Signature::from_bytes(&r.array("signature")?);
        let message = Message::decode(&mut r)?;
        r.finish()?;
        Ok(Signed { from, message, signature })
    }
}

impl Opening {
    /// What stands for the opening: its contents and the roster.
    ///
    /// # Errors
    /// Contents that cannot be encoded.
    pub fn hash(&self, roster: &Roster) -> Result<[u8; 32]> {
        let mut w = Writer::new();
        w.array(&roster.hash());
        self.encode(&mut w)?;
        Ok(blake3::derive_key("arras/1 round opening", w.as_bytes()))
    }

    pub(crate) fn encode(&self, w: &mut Writer) -> Result<()> {
        for number in [self.round, self.attempt, self.upload_seconds, self.share_seconds] {
            w.u32(number);
        }
        w.flag(self.noise.is_some());
        if let Some(noise) = &self.noise {
            w.f64(noise.rho);
            w.u32(noise.honest);
        }
        match &self.purpose {
            Purpose::Statistics => w.u8(0),
            Purpose::Counts { candidates, bins } => {
                w.u8(1);
                w.u32(*bins);
                w.count("candidates", candidates.len(), MAX_CANDIDATES)?;
                for candidate in candidates {
                    w.f64(candidate.l2);
                    for values in [&candidate.weight, &candidate.bias] {
                        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                        w.blob(&bytes);
                    }
                }
            }
        }
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let [round, attempt, upload_seconds, share_seconds] =
            [r.u32("round")?, r.u32("attempt")?, r.u32("upload seconds")?, r.u32("share seconds")?];
        let noise = match r.flag("noise")? {
            true => Some(Noise { rho: r.finite_f64("rho")?, honest: r.u32("honest parties")? }),
            false => None,
        };
        let purpose = match r.u8("purpose")? {
            0 => Purpose::Statistics,
            1 => {
                let bins = r.u32_in("bins", 1..=MAX_BINS)?;
                let count = r.count("candidates", MAX_CANDIDATES, 24)?;
                let candidates = (0..count)
                    .map(|_| Ok(Candidate { l2: r.finite_f64("l2")?, weight: floats(r)?, bias: floats(r)? }))
                    .collect::<Result<_>>()?;
                Purpose::Counts { candidates, bins }
            }
            purpose => return Err(Error::invalid("purpose", format!("{purpose} is unknown"))),
        };
        Ok(Opening { round, attempt, purpose, noise, upload_seconds, share_seconds })
    }

    /// Checks the contents against the agreement.
    ///
    /// # Errors
    /// [`Refusal::NotAgreed`] with what differs.
    pub fn check(&self, agreement: &Agreement) -> Result<()> {
        let refuse = |what, reason: String| Err(Refusal::NotAgreed { what, reason }.into());
        if self.round == 0 || self.attempt == 0 {
            return refuse(
                "opening",
                format!("round {}, attempt {}: both count from 1", self.round, self.attempt),
            );
        }
        if self.upload_seconds == 0 || self.share_seconds == 0 {
            return refuse("opening", "leaves no time".to_owned());
        }
        if let Some(noise) = &self.noise {
            if agreement.privacy.is_none() {
                return refuse("noise", "was not agreed on".to_owned());
            }
            if noise.rho.is_nan() || noise.rho <= 0.0 || noise.honest == 0 || noise.honest > agreement.quorum
            {
                return refuse("noise", format!("of rho {} from {} honest parties", noise.rho, noise.honest));
            }
        } else if agreement.privacy.is_some() {
            return refuse("opening", "asks for an exact sum where noise was agreed on".to_owned());
        } else if agreement.quorum < crate::agreement::MIN_EXACT_UPLOADS {
            return refuse("opening", "asks for an exact sum of fewer than three uploads".to_owned());
        }
        if let Purpose::Counts { candidates, .. } = &self.purpose {
            let (classes, weights) =
                (agreement.classes.len(), agreement.classes.len() * agreement.dimension as usize);
            let fits = |candidate: &Candidate| {
                let finite = candidate.weight.iter().chain(&candidate.bias).all(|value| value.is_finite());
                candidate.weight.len() == weights && candidate.bias.len() == classes && finite
            };
            if candidates.is_empty() || !candidates.iter().all(fits) {
                let reason =
                    format!("are not finite heads of {classes} classes and {} features", agreement.dimension);
                return refuse("candidates", reason);
            }
        }
        Ok(())
    }
}

fn floats(r: &mut Reader<'_>) -> Result<Vec<f32>> {
    let bytes = r.blob("weights", MAX_HEAD_BYTES)?;
    if bytes.len() % 4 != 0 {
        return Err(Error::invalid("weights", format!("{} bytes", bytes.len())));
    }
    Ok(bytes.as_chunks::<4>().0.iter().map(|&chunk| f32::from_le_bytes(chunk)).collect())
}

impl Proposal {
    /// What stands for the proposal.
    ///
    /// # Errors
    /// Contents that cannot be encoded.
    pub fn hash(&self, roster: &Roster) -> Result<[u8; 32]> {
        let mut w = Writer::new();
        w.array(&roster.hash());
        self.encode(&mut w)?;
        Ok(blake3::derive_key("arras/1 round proposal", w.as_bytes()))
    }

    /// As bytes.
    ///
    /// # Errors
    /// Lists that are too long.
    pub fn encode(&self, w: &mut Writer) -> Result<()> {
        w.array(&self.opening);
        w.array(&self.sum);
        w.count("accepted", self.accepted.len(), MAX_PARTIES)?;
        for (position, upload, signature) in &self.accepted {
            w.u32(*position);
            w.array(&upload.opening);
            w.array(&upload.body);
            w.array(&signature.to_bytes());
        }
        w.count("decryptors", self.decryptors.len(), MAX_PARTIES)?;
        self.decryptors.iter().for_each(|&position| w.u32(position));
        Ok(())
    }

    /// Reads [`encode`](Self::encode).
    ///
    /// # Errors
    /// Whatever is wrong with a field.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (opening, sum) = (r.array("opening")?, r.array("sum hash")?);
        let count = r.count("accepted", MAX_PARTIES, 132)?;
        let accepted = (0..count)
            .map(|_| {
                let position = r.u32("accepted")?;
                let upload = Upload { opening: r.array("opening")?, body: r.array("body hash")? };
                Ok((position, upload, Signature::from_bytes(&r.array("signature")?)))
            })
            .collect::<Result<_>>()?;
        let count = r.count("decryptors", MAX_PARTIES, 4)?;
        let decryptors = (0..count).map(|_| Ok(r.u32("decryptors")?)).collect::<Result<_>>()?;
        Ok(Proposal { opening, accepted, decryptors, sum })
    }

    /// The accepted positions.
    pub fn members(&self) -> Vec<u32> {
        self.accepted.iter().map(|(position, ..)| *position).collect()
    }

    /// Its first bytes, for errors and records.
    ///
    /// # Errors
    /// As [`hash`](Self::hash).
    pub fn name(&self, roster: &Roster) -> Result<String> {
        Ok(short(&self.hash(roster)?))
    }
}
