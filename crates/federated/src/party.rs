//! A party: its keys, its uploads, its shares. Whatever it draws at random is stored before it is sent, and only the stored bytes
//! are ever sent again.

use arras_ckks::integers::{decode_integers, encode_integers};
use arras_ckks::{Context, bytes};
use arras_rns::Backend;
use arras_rounds::agreement::{Agreement, Member, Roster};
use arras_rounds::format::Format;
use arras_rounds::ledger::Event;
use arras_rounds::message::{Message, Opening, Outcome, Proposal, Share, Signed, Upload, body_hash};
use arras_rounds::rule::{self, Past, Release};
use arras_rounds::{Journal, Ledger, Refusal};
use arras_secret::threshold::{KeyShare, Request, decryption_share};
use arras_secret::{Cipher, PublicKey, SecretKey};
use arras_wire::{Reader, Writer};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use ed25519_dalek::{Signer, SigningKey};
use x25519_dalek::{PublicKey as SealingPublic, StaticSecret};
use zeroize::Zeroizing;

use crate::session::ledger_text;
use crate::{Error, Result};

/// Round number under which the masks of the collective public key are expanded: no data round has it.
const KEY_ROUND: u32 = 0;

/// A party with its journal. Its state is what the journal holds: a restart is [`Party::new`] with the same journal.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_federated::Party;
/// use arras_rounds::journal::MemoryJournal;
/// use arras_rounds::message::{Message, Signed};
///
/// # let agreement = arras_rounds::Agreement { name: "irises".into(), epoch: 1, backbone: "lengths".into(), dimension: 4,
/// #     classes: vec!["a".into(), "b".into()], row_bound: 16.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// let party = Party::new("alpha", agreement.clone(), Cpu::sequential(), MemoryJournal::default())?;
/// let join = Signed::decode(&party.join()?)?;
/// join.verify(None)?;
/// assert!(matches!(join.message, Message::Join(agreed, _) if *agreed == agreement));
/// // The journal holds the keys: a restart is the same party.
/// let restarted = Party::new("alpha", agreement, Cpu::sequential(), party.journal().clone())?;
/// assert_eq!(restarted.verifying_key(), party.verifying_key());
/// assert!(party.roster().is_err());
/// # Ok::<(), arras_federated::Error>(())
/// ```
pub struct Party<B: Backend, J> {
    name: String,
    agreement: Agreement,
    format: Format,
    context: Context<B>,
    identity: Identity,
    journal: J,
    memory: Memory,
}

/// What a party remembers of epochs other than the one it is in.
///
/// ```
/// use arras_federated::party::Memory;
/// use arras_federated::session;
/// use arras_rounds::journal::MemoryJournal;
/// use arras_rounds::ledger::Event;
///
/// // The journal of an earlier epoch, in which a party was revoked.
/// let mut journal = MemoryJournal::default();
/// session::record(&mut journal, 1_700_000_000, Event::Revoked { member: "beta".into() })?;
/// let mut memory = Memory::default();
/// memory.add(&journal)?;
/// assert_eq!(memory.revoked, ["beta"]);
/// # Ok::<(), arras_federated::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Sums that its data entered.
    pub past: Vec<Past>,
    /// Names of parties that it revoked.
    pub revoked: Vec<String>,
}

impl Memory {
    /// Adds what the journal of another epoch holds.
    ///
    /// # Errors
    /// A journal that cannot be read; a ledger that was changed.
    pub fn add(&mut self, journal: &impl Journal) -> Result<()> {
        self.revoked.extend(revoked(journal)?);
        let Some(roster) = journal.get("roster")? else { return Ok(()) };
        let roster = Roster::decode(&roster)?;
        for (prefix, is_release) in [(RELEASES, true), (CONTRIBUTIONS, false)] {
            let stored = stored_releases(journal, prefix)?;
            self.past.extend(stored.iter().map(|release| Past::of(release, &roster, is_release)));
        }
        Ok(())
    }
}

/// Prefixes of the names under which releases and contributions are stored.
const RELEASES: &str = "release/";
const CONTRIBUTIONS: &str = "contribution/";

fn stored_releases(journal: &impl Journal, prefix: &str) -> Result<Vec<Release>> {
    let names = journal.names(prefix)?;
    let read = |name: &String| Ok(Release::decode(&journal.get(name)?.unwrap_or_default())?);
    names.iter().map(read).collect()
}

/// Names of the parties that the ledger of a journal revokes.
fn revoked(journal: &impl Journal) -> Result<Vec<String>> {
    let ledger = Ledger::verify(&ledger_text(journal)?)?;
    let names = ledger.entries().iter().filter_map(|entry| match &entry.event {
        Event::Revoked { member } => Some(member.clone()),
        _ => None,
    });
    Ok(names.collect())
}

impl<B: Backend, J> std::fmt::Debug for Party<B, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Party({})", self.name)
    }
}

/// All secrets of a party in one epoch.
struct Identity {
    signing: SigningKey,
    sealing: StaticSecret,
    nonce: [u8; 32],
    /// s_i: what its uploads are encrypted under.
    upload: SecretKey,
    /// The key that sums are encrypted for if it is the receiver.
    receiving: SecretKey,
    public_key: Vec<u8>,
}

impl<B: Backend, J: Journal> Party<B, J> {
    /// Opens the party of a journal, or makes its keys.
    ///
    /// # Errors
    /// An agreement out of range; a journal that cannot be read or written, or is another party's; no randomness.
    pub fn new(name: &str, agreement: Agreement, backend: B, mut journal: J) -> Result<Self> {
        agreement.check()?;
        let format = agreement.format()?;
        let context = Context::new(backend, format.params.clone())?;
        let mut w = Writer::new();
        w.string("name", name, 256).map_err(arras_rounds::Error::from)?;
        agreement.encode(&mut w)?;
        // Refuses a journal that was begun under another name or agreement.
        journal.put("agreement", w.as_bytes())?;
        let stored = Zeroizing::new(journal.once("identity", || Ok(Identity::generate(&context)?.to_vec()))?);
        let identity = Identity::decode(&context, &stored)?;
        let memory = Memory::default();
        Ok(Party { name: name.to_owned(), agreement, format, context, identity, journal, memory })
    }

    /// With what it remembers of other epochs. Without it the release rule holds within this epoch only.
    #[must_use]
    pub fn remembering(self, memory: Memory) -> Self {
        Party { memory, ..self }
    }

    /// Names of the parties that it revoked, in this epoch or another.
    fn revoked(&self) -> Result<Vec<String>> {
        let mut all = revoked(&self.journal)?;
        all.extend_from_slice(&self.memory.revoked);
        Ok(all)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The agreement.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The key that others pin beforehand.
    pub fn verifying_key(&self) -> [u8; 32] {
        self.identity.signing.verifying_key().to_bytes()
    }

    /// The stored bytes.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    pub(crate) fn journal_mut(&mut self) -> &mut J {
        &mut self.journal
    }

    /// Stores something under a name of its own, once.
    pub(crate) fn keep(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(self.journal.put(name, bytes)?)
    }

    fn sign(&self, message: Message, roster: Option<&Roster>) -> Result<Vec<u8>> {
        let signature = self.identity.signing.sign(&message.signed_bytes(roster.map(Roster::hash))?);
        Ok(Signed { from: self.name.clone(), message, signature }.encode()?)
    }

    /// The message that presents it.
    ///
    /// # Errors
    /// None in practice: names and keys were checked.
    pub fn join(&self) -> Result<Vec<u8>> {
        let member = Member {
            name: self.name.clone(),
            verifying: self.identity.signing.verifying_key(),
            sealing: SealingPublic::from(&self.identity.sealing).to_bytes(),
            nonce: self.identity.nonce,
            public_key: self.identity.public_key.clone(),
        };
        self.sign(Message::Join(Box::new(self.agreement.clone()), Box::new(member)), None)
    }

    /// Pins a roster: this party in it as it presented itself, the agreement its own, all others those that were pinned
    /// beforehand by name and verifying key. Returns the confirmation.
    ///
    /// # Errors
    /// Anything else; another roster than the one pinned before.
    pub fn pin(&mut self, roster: &[u8], others: &[(String, [u8; 32])]) -> Result<Vec<u8>> {
        let decoded = Roster::decode(roster)?;
        if decoded.agreement != self.agreement {
            let reason = "is to another agreement".to_owned();
            return Err(arras_rounds::Error::from(Refusal::NotAgreed { what: "roster", reason }).into());
        }
        let own = decoded.position(&self.name).map(|position| &decoded.members[position]);
        let is_own = own.is_some_and(|own| {
            own.verifying == self.identity.signing.verifying_key()
                && own.nonce == self.identity.nonce
                && own.sealing == SealingPublic::from(&self.identity.sealing).to_bytes()
                && own.public_key == self.identity.public_key
        });
        if !is_own {
            return Err(arras_rounds::Error::from(Refusal::Stranger(self.name.clone())).into());
        }
        rule::check_members(&decoded, others, &self.revoked()?)?;
        self.journal.put("roster", roster)?;
        self.sign(Message::Confirm, Some(&decoded))
    }

    /// The pinned roster.
    ///
    /// # Errors
    /// [`Error::TooEarly`] before there is one.
    pub fn roster(&self) -> Result<Roster> {
        let stored = self.journal.get("roster")?;
        let stored = stored.ok_or(Error::TooEarly { what: "this step", missing: "the roster" })?;
        Ok(Roster::decode(&stored)?)
    }

    fn position(&self, roster: &Roster) -> u32 {
        // A roster without this party is never pinned.
        roster.position(&self.name).unwrap_or_default() as u32
    }

    /// The message that deals its key shares, each sealed for its party, and its share of the collective public key.
    ///
    /// # Errors
    /// Before the roster; no randomness; the journal.
    pub fn deal(&mut self) -> Result<Vec<u8>> {
        let roster = self.roster()?;
        if let Some(stored) = self.journal.get("deal")? {
            return Ok(stored);
        }
        let shares = self.identity.upload.share(self.agreement.threshold, self.agreement.parties)?;
        let sealed = shares.iter().zip(&roster.members).map(|(share, member)| {
            let bytes = share.to_bytes()?;
            self.seal(&roster, &self.name, &member.name, &member.sealing)
                .encrypt(&Nonce::default(), bytes.as_slice())
                .map_err(|_| Error::Sealed { from: self.name.clone() })
        });
        let sealed = sealed.collect::<Result<Vec<_>>>()?;
        let cipher = Cipher::new(&self.context, &self.identity.upload)?;
        let share = cipher.public_key_share(roster.seed(KEY_ROUND, 0))?;
        let public_key_share = bytes::encode_polys(&self.context, &share)?;
        let message = self.sign(Message::Deal { sealed, public_key_share }, Some(&roster))?;
        self.journal.put("deal", &message)?;
        Ok(message)
    }

    /// The cipher that seals one message from one party to another in one roster: its key is used once.
    fn seal(&self, roster: &Roster, from: &str, to: &str, other: &[u8; 32]) -> ChaCha20Poly1305 {
        let shared = self.identity.sealing.diffie_hellman(&SealingPublic::from(*other));
        let mut hasher = blake3::Hasher::new_derive_key("arras/1 sealed key share");
        hasher.update(shared.as_bytes());
        hasher.update(&roster.hash());
        for name in [from, to] {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
        }
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        ChaCha20Poly1305::new((&*key).into())
    }

    /// Opens its shares of everybody's key and stores them.
    ///
    /// # Errors
    /// A deal that is not signed by its party, is missing, or holds nothing that opens; the journal.
    pub fn receive(&mut self, deals: &[Vec<u8>]) -> Result<()> {
        let roster = self.roster()?;
        let own = self.position(&roster);
        if deals.len() != roster.members.len() {
            return Err(Error::Data(format!("{} deals for {} parties", deals.len(), roster.members.len())));
        }
        for (member, deal) in roster.members.iter().zip(deals) {
            let signed = Signed::decode(deal)?;
            signed.verify(Some(&roster))?;
            let broken = || Error::Sealed { from: member.name.clone() };
            let Message::Deal { sealed, .. } = signed.message else { return Err(broken()) };
            if signed.from != member.name {
                return Err(broken());
            }
            let sealed = sealed.get(own as usize).ok_or_else(broken)?;
            let opened = self.seal(&roster, &member.name, &self.name, &member.sealing);
            let opened = opened.decrypt(&Nonce::default(), sealed.as_slice()).map_err(|_| broken())?;
            let opened = Zeroizing::new(opened);
            let share = KeyShare::from_bytes(&opened, &self.format.params)?;
            if share.point() != own + 1 {
                return Err(broken());
            }
            self.journal.put(&format!("share-of/{}", member.name), &opened)?;
        }
        Ok(())
    }

    /// Whether it holds a share of everybody's key.
    ///
    /// # Errors
    /// The journal.
    pub fn is_ready(&self) -> Result<bool> {
        Ok(self.journal.names("share-of/")?.len() == self.agreement.parties as usize)
    }

    /// Checks that an opening comes from the receiver and fits the agreement.
    fn opening(&self, roster: &Roster, signed: &[u8]) -> Result<Opening> {
        let signed = Signed::decode(signed)?;
        signed.verify(Some(roster))?;
        let is_receiver = signed.from == self.agreement.receiver;
        match signed.message {
            Message::Open(opening) if is_receiver => {
                opening.check(&self.agreement)?;
                Ok(opening)
            }
            _ => Err(arras_rounds::Error::from(Refusal::Stranger(signed.from)).into()),
        }
    }

    /// The upload to an opening. `integers` is asked at most once per attempt, and what it gives is stored encrypted before it is
    /// sent: a second message under the masks of the attempt never exists.
    ///
    /// # Errors
    /// An opening that is not the receiver's, does not fit, or is not the one this attempt had before; integers of another
    /// number; the journal.
    pub fn upload(
        &mut self,
        opening: &[u8],
        integers: impl FnOnce(&Opening) -> Result<Vec<i64>>,
    ) -> Result<Vec<u8>> {
        let roster = self.roster()?;
        let decoded = self.opening(&roster, opening)?;
        let hash = decoded.hash(&roster)?;
        let (round, attempt) = (decoded.round, decoded.attempt);
        // The attempt's number decides the masks, so its first opening is the only one.
        self.journal.put(&format!("opening/{round:06}/{attempt:06}"), &hash)?;
        let name = upload_name(round, attempt);
        if let Some(stored) = self.journal.get(&name)? {
            return Ok(stored);
        }
        let integers = integers(&decoded)?;
        let expected = decoded.purpose.integers(&self.agreement)?;
        if integers.len() != expected {
            return Err(Error::Data(format!("{} integers, asked for were {expected}", integers.len())));
        }
        let message = encode_integers(&self.context, &integers, self.format.scale_bits)?;
        let cipher = Cipher::new(&self.context, &self.identity.upload)?;
        let polys = cipher.upload(roster.seed(round, attempt), &message)?;
        let body = bytes::encode_polys(&self.context, &polys)?;
        let upload = Upload { opening: hash, body: body_hash(&body) };
        let message = self.sign(Message::Upload(upload, body), Some(&roster))?;
        self.journal.put(&name, &message)?;
        Ok(message)
    }

    /// Stores that its data, which `data` stands for, enter the sum of an opening, for this epoch and later ones. To be called
    /// before [`upload`](Self::upload).
    ///
    /// # Errors
    /// [`Refusal::EarlierEpoch`] or [`Refusal::Budget`] if the release rule forbids it; an opening that is not the receiver's;
    /// the journal.
    pub fn contribute(&mut self, opening: &[u8], data: [u8; 32]) -> Result<()> {
        let roster = self.roster()?;
        let opening = self.opening(&roster, opening)?;
        let mut earlier = stored_releases(&self.journal, CONTRIBUTIONS)?;
        earlier.retain(|other| (other.round, other.attempt) != (opening.round, opening.attempt));
        let contribution = rule::contribution(&roster, &opening, data, &self.memory.past, &earlier)?;
        let name = format!("{CONTRIBUTIONS}{:06}/{:06}", opening.round, opening.attempt);
        Ok(self.journal.put(&name, &contribution.encode())?)
    }

    /// zCDP of the noisy sums of other epochs.
    pub fn spent_before(&self) -> f64 {
        rule::spent_before(&self.memory.past)
    }

    /// Everything it gave a share for in this epoch.
    ///
    /// # Errors
    /// The journal.
    pub fn releases(&self) -> Result<Vec<Release>> {
        stored_releases(&self.journal, RELEASES)
    }

    /// Its share of the decryption of a proposal, if the release rule allows it. `data` stands for its data.
    ///
    /// # Errors
    /// [`arras_rounds::Error::Refused`] by the rule; before the key shares; the journal.
    pub fn share(&mut self, opening: &[u8], proposal: &[u8], data: [u8; 32]) -> Result<Vec<u8>> {
        let roster = self.roster()?;
        let opening = self.opening(&roster, opening)?;
        let mut r = Reader::new(proposal);
        let proposal = Proposal::decode(&mut r)?;
        r.finish().map_err(arras_rounds::Error::from)?;
        let own_upload = self.stored_upload(&opening)?;
        let history = self.releases()?;
        let position = self.position(&roster);
        let holder = rule::Holder {
            roster: &roster,
            position,
            data,
            upload: own_upload.as_ref(),
            history: &history,
            past: &self.memory.past,
            revoked: &self.revoked()?,
        };
        let release = holder.check(&opening, &proposal)?;
        let (round, attempt) = (opening.round, opening.attempt);
        let name = format!("share/{round:06}/{attempt:06}");
        if let Some(stored) = self.journal.get(&name)? {
            return Ok(stored);
        }
        // From here on this attempt has been answered, whatever happens to the answer.
        self.journal.put(&format!("{RELEASES}{round:06}/{attempt:06}"), &release.encode())?;
        let body = self.decryption_share(&roster, &opening, &proposal)?;
        let share = Share { proposal: release.proposal, body: body_hash(&body) };
        let message = self.sign(Message::Share(share, body), Some(&roster))?;
        self.journal.put(&name, &message)?;
        Ok(message)
    }

    fn stored_upload(&self, opening: &Opening) -> Result<Option<Upload>> {
        let Some(stored) = self.journal.get(&upload_name(opening.round, opening.attempt))? else {
            return Ok(None);
        };
        match Signed::decode(&stored)?.message {
            Message::Upload(upload, _) => Ok(Some(upload)),
            _ => Ok(None),
        }
    }

    /// Of the sum of the keys of the accepted set, never of a single key.
    fn decryption_share(&self, roster: &Roster, opening: &Opening, proposal: &Proposal) -> Result<Vec<u8>> {
        let mut sum: Option<KeyShare> = None;
        for position in proposal.members() {
            let name = format!("share-of/{}", roster.members[position as usize].name);
            let stored = self.journal.get(&name)?;
            let stored =
                stored.ok_or(Error::TooEarly { what: "a share", missing: "everybody's key shares" })?;
            let share = KeyShare::from_bytes(&Zeroizing::new(stored), &self.format.params)?;
            match &mut sum {
                Some(sum) => sum.add(&share)?,
                None => sum = Some(share),
            }
        }
        let sum = sum.ok_or(Error::TooEarly { what: "a share", missing: "an accepted set" })?;
        let points: Vec<u32> = proposal.decryptors.iter().map(|position| position + 1).collect();
        let request = Request {
            seed: roster.seed(opening.round, opening.attempt),
            polynomials: self.format.polynomials(opening.purpose.integers(&self.agreement)?),
            points: &points,
            uploads: self.agreement.parties,
        };
        let receiver = &roster.members[roster.receiver()];
        let key = PublicKey::from_bytes(&self.context, &receiver.public_key)?;
        let share = decryption_share(&self.context, &sum, &request, &key)?;
        Ok(bytes::encode_ciphertext(&self.context, &share)?)
    }

    /// As the receiver: opens an attempt.
    ///
    /// # Errors
    /// Before the roster; an opening that does not fit the agreement.
    pub fn open(&mut self, opening: Opening) -> Result<Vec<u8>> {
        let roster = self.roster()?;
        opening.check(&self.agreement)?;
        let name = format!("opened/{:06}/{:06}", opening.round, opening.attempt);
        let message = self.sign(Message::Open(opening), Some(&roster))?;
        self.journal.put(&name, &message)?;
        Ok(message)
    }

    /// As the receiver: the integers of a sum.
    ///
    /// # Errors
    /// Bytes that are no sum of this opening, or are encrypted for somebody else.
    pub fn decrypt(&self, opening: &Opening, total: &[u8]) -> Result<Vec<i64>> {
        let ciphertext = bytes::decode_ciphertext(&self.context, total)?;
        let cipher = Cipher::new(&self.context, &self.identity.receiving)?;
        let plaintext = cipher.decrypt(&ciphertext)?;
        let count = opening.purpose.integers(&self.agreement)?;
        let (scale_bits, noise) = (self.format.scale_bits, self.format.noise_bound());
        Ok(decode_integers(&self.context, &plaintext, count, scale_bits, noise)?)
    }

    /// As the receiver: publishes a head.
    ///
    /// # Errors
    /// Before the roster; another head than the one published before.
    pub fn publish(&mut self, outcome: Outcome) -> Result<Vec<u8>> {
        let roster = self.roster()?;
        let message = self.sign(Message::Outcome(outcome), Some(&roster))?;
        self.journal.put("outcome", &message)?;
        Ok(message)
    }

    /// The head that the receiver published, after checking that it was the receiver.
    ///
    /// # Errors
    /// A message of somebody else, or another one.
    pub fn outcome(&self, signed: &[u8]) -> Result<Outcome> {
        let roster = self.roster()?;
        let signed = Signed::decode(signed)?;
        signed.verify(Some(&roster))?;
        match signed.message {
            Message::Outcome(outcome) if signed.from == self.agreement.receiver => Ok(outcome),
            _ => Err(arras_rounds::Error::from(Refusal::Stranger(signed.from)).into()),
        }
    }
}

fn upload_name(round: u32, attempt: u32) -> String {
    format!("upload/{round:06}/{attempt:06}")
}

impl Identity {
    /// Fresh keys, as they are stored.
    fn generate<B: Backend>(context: &Context<B>) -> Result<Zeroizing<Vec<u8>>> {
        let mut rng = arras_ckks::sampling::Sampler::from_os()?;
        let mut w = Writer::new();
        for _ in 0..3 {
            w.array(&*Zeroizing::new(rng.bytes::<32>()));
        }
        let upload = SecretKey::generate(context.params())?;
        let receiving = SecretKey::generate(context.params())?;
        w.blob(&upload.to_bytes());
        w.blob(&receiving.to_bytes());
        w.blob(&Cipher::new(context, &receiving)?.public_key()?.to_bytes(context)?);
        Ok(Zeroizing::new(w.into_bytes()))
    }

    fn decode<B: Backend>(context: &Context<B>, bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let mut read = || -> std::result::Result<_, arras_wire::Error> {
            let signing = Zeroizing::new(r.array("signing key")?);
            let sealing = Zeroizing::new(r.array("sealing key")?);
            let nonce = r.array("nonce")?;
            let upload = r.blob("upload key", 1 << 20)?;
            let receiving = r.blob("receiving key", 1 << 20)?;
            Ok((signing, sealing, nonce, upload, receiving, r.blob("public key", 1 << 20)?))
        };
        let (signing, sealing, nonce, upload, receiving, public_key) =
            read().map_err(arras_rounds::Error::from)?;
        Ok(Identity {
            signing: SigningKey::from_bytes(&signing),
            sealing: StaticSecret::from(*sealing),
            nonce,
            upload: SecretKey::from_bytes(upload, context.params())?,
            receiving: SecretKey::from_bytes(receiving, context.params())?,
            public_key: public_key.to_vec(),
        })
    }
}
