//! What all parties agree on, and who they are.

use arras_ckks::threshold::MAX_PARTIES;
use arras_rns::Seed;
use arras_wire::{Reader, Writer};
use ed25519_dalek::VerifyingKey;

use crate::format::Format;
use crate::{Error, Result};

/// Uploads that an exact sum needs: with two, each learns the other's.
pub const MIN_EXACT_UPLOADS: u32 = 3;
/// Longest name of a party, class or backbone, in bytes.
const MAX_NAME: u16 = 256;
/// Most classes.
const MAX_CLASSES: u32 = 4096;
/// Largest public key of a receiver that is read.
const MAX_PUBLIC_KEY_BYTES: u64 = 1 << 20;

/// A limit on what noisy releases may cost together.
///
/// ```
/// use arras_rounds::agreement::Privacy;
/// use arras_rounds::privacy;
///
/// let agreed = Privacy { epsilon: 2.0, delta: 1e-6, rows_per_unit: 4 };
/// // What all noisy releases together may spend, as zCDP.
/// let rho = privacy::rho(agreed.epsilon, agreed.delta)?;
/// assert!(privacy::epsilon(rho, agreed.delta)? <= 2.0);
/// assert!(privacy::epsilon(1.01 * rho, agreed.delta)? > 2.0);
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Privacy {
    /// Largest epsilon over all releases, above 0.
    pub epsilon: f64,
    /// The delta that it is stated at, between 0 and 1.
    pub delta: f64,
    /// Most rows of one unit (patient, group), at least 1.
    pub rows_per_unit: u32,
}

/// A public random projection of the features to fewer dimensions.
///
/// ```
/// use arras_rounds::Agreement;
/// use arras_rounds::agreement::{Projection, seed_of};
///
/// # let agreement = Agreement { name: "tiles".into(), epoch: 1, backbone: "vit".into(), dimension: 768,
/// #     classes: vec!["a".into(), "b".into()], row_bound: 8.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// assert_eq!(agreement.format()?.entries, 769 * 770 / 2 + 769 * 2);
/// let projection = Projection { dimension: 64, seed: seed_of("tiles, epoch 1") };
/// let projected = Agreement { projection: Some(projection), ..agreement };
/// assert_eq!((projected.features(), projected.format()?.entries), (64, 65 * 66 / 2 + 65 * 2));
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// Dimensions that are kept, 1 to those of the features.
    pub dimension: u32,
    /// The seed of the matrix.
    pub seed: Seed,
}

/// Everything that has to be the same at all parties. A party that holds another agreement is refused at join.
///
/// ```
/// use arras_rounds::Agreement;
///
/// let agreement = Agreement {
///     name: "irises".into(),
///     epoch: 1,
///     backbone: "four lengths in cm".into(),
///     dimension: 4,
///     classes: vec!["setosa".into(), "versicolor".into(), "virginica".into()],
///     row_bound: 16.0,
///     rows: 1000,
///     parties: 3,
///     threshold: 2,
///     quorum: 3,
///     receiver: "alpha".into(),
///     projection: None,
///     privacy: None,
/// };
/// agreement.check()?;
/// let error = Agreement { quorum: 2, ..agreement }.check().unwrap_err();
/// assert!(error.to_string().starts_with("quorum: 2, exact sums need at least 3 uploads"));
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Name of the federation and number of its key epoch: a new epoch means new keys.
    pub name: String,
    /// Counts up when keys are renewed or a party is revoked.
    pub epoch: u32,
    /// Fingerprint of the backbone and preprocessing that make the features.
    pub backbone: String,
    /// Number of features of the backbone, 1 to 65,536.
    pub dimension: u32,
    /// Class names in the order of the head, distinct, 1 to 4096.
    pub classes: Vec<String>,
    /// Rows are clipped to this Euclidean norm, above 0 (after the projection, if there is one), then divided by it.
    pub row_bound: f64,
    /// Most rows of all parties together, 1 to 2^30.
    pub rows: u32,
    /// Number of parties, all of which hold key shares, 1 to [`MAX_PARTIES`].
    pub parties: u32,
    /// Shares that a decryption needs: more than half of the parties unless every release is noisy.
    pub threshold: u32,
    /// Uploads that a round needs, at least [`MIN_EXACT_UPLOADS`] unless every release is noisy.
    pub quorum: u32,
    /// Name of the party that sums are decrypted for.
    pub receiver: String,
    /// Fewer dimensions, fewer bytes.
    pub projection: Option<Projection>,
    /// Noise in what is released.
    pub privacy: Option<Privacy>,
}

impl Agreement {
    /// Number of features that statistics are taken over.
    pub fn features(&self) -> u32 {
        self.projection.map_or(self.dimension, |projection| projection.dimension)
    }

    /// The fixed-point format of the sums.
    ///
    /// # Errors
    /// As [`Format::new`].
    pub fn format(&self) -> Result<Format> {
        Format::new(self)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first that is out of range, with its value.
    pub fn check(&self) -> Result<()> {
        for (field, name) in
            [("name", &self.name), ("backbone", &self.backbone), ("receiver", &self.receiver)]
        {
            check_name(field, name)?;
        }
        self.classes.iter().try_for_each(|class| check_name("classes", class))?;
        let mut distinct = self.classes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if self.classes.is_empty()
            || distinct.len() != self.classes.len()
            || self.classes.len() > MAX_CLASSES as usize
        {
            return Err(Error::invalid(
                "classes",
                format!("{:?} are not 1 to {MAX_CLASSES} distinct names", self.classes),
            ));
        }
        let numbers = [
            ("dimension", self.dimension, 1, 65_536),
            ("rows", self.rows, 1, 1 << 30),
            ("parties", self.parties, 1, MAX_PARTIES),
            ("threshold", self.threshold, 1, self.parties),
            ("quorum", self.quorum, 1, self.parties),
            ("projection", self.features(), 1, self.dimension),
        ];
        for (field, value, low, high) in numbers {
            if !(low..=high).contains(&value) {
                return Err(Error::invalid(field, format!("{value} is outside {low}..={high}")));
            }
        }
        if !(self.row_bound.is_finite() && self.row_bound > 0.0) {
            return Err(Error::invalid("row_bound", format!("{} is not a number above 0", self.row_bound)));
        }
        if let Some(privacy) = &self.privacy {
            crate::privacy::rho(privacy.epsilon, privacy.delta)?;
            if privacy.rows_per_unit == 0 {
                return Err(Error::invalid("rows_per_unit", "0, at least 1"));
            }
        } else if self.quorum < MIN_EXACT_UPLOADS {
            let reason = format!(
                "{}, exact sums need at least {MIN_EXACT_UPLOADS} uploads: of a sum of two, each party can take off its own and see the other's; two parties need `privacy`",
                self.quorum
            );
            return Err(Error::invalid("quorum", reason));
        } else if 2 * self.threshold <= self.parties {
            let reason = format!(
                "{} of {} parties: exact sums need more than half, so that no two groups that decrypt are without a party in common, which remembers both sums",
                self.threshold, self.parties
            );
            return Err(Error::invalid("threshold", reason));
        }
        self.format().map(|_| ())
    }

    /// The agreement as bytes: equal agreements give equal bytes.
    ///
    /// # Errors
    /// Names or lists that are too long.
    pub fn encode(&self, w: &mut Writer) -> Result<()> {
        w.string("name", &self.name, MAX_NAME)?;
        w.u32(self.epoch);
        w.string("backbone", &self.backbone, MAX_NAME)?;
        w.u32(self.dimension);
        w.count("classes", self.classes.len(), MAX_CLASSES)?;
        for class in &self.classes {
            w.string("classes", class, MAX_NAME)?;
        }
        w.f64(self.row_bound);
        for number in [self.rows, self.parties, self.threshold, self.quorum] {
            w.u32(number);
        }
        w.string("receiver", &self.receiver, MAX_NAME)?;
        w.flag(self.projection.is_some());
        if let Some(projection) = &self.projection {
            w.u32(projection.dimension);
            w.array(&projection.seed);
        }
        w.flag(self.privacy.is_some());
        if let Some(privacy) = &self.privacy {
            w.f64(privacy.epsilon);
            w.f64(privacy.delta);
            w.u32(privacy.rows_per_unit);
        }
        Ok(())
    }

    /// Reads [`encode`](Self::encode) and checks the result.
    ///
    /// # Errors
    /// Whatever is wrong with a field.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let name = r.string("name", MAX_NAME)?.to_owned();
        let epoch = r.u32("epoch")?;
        let backbone = r.string("backbone", MAX_NAME)?.to_owned();
        let dimension = r.u32("dimension")?;
        let count = r.count("classes", MAX_CLASSES, 2)?;
        let classes =
            (0..count).map(|_| Ok(r.string("classes", MAX_NAME)?.to_owned())).collect::<Result<_>>()?;
        let row_bound = r.finite_f64("row_bound")?;
        let [rows, parties, threshold, quorum] =
            [r.u32("rows")?, r.u32("parties")?, r.u32("threshold")?, r.u32("quorum")?];
        let receiver = r.string("receiver", MAX_NAME)?.to_owned();
        let projection = match r.flag("projection")? {
            true => Some(Projection { dimension: r.u32("projection")?, seed: r.array("projection seed")? }),
            false => None,
        };
        let privacy = match r.flag("privacy")? {
            true => Some(Privacy {
                epsilon: r.finite_f64("epsilon")?,
                delta: r.finite_f64("delta")?,
                rows_per_unit: r.u32("rows_per_unit")?,
            }),
            false => None,
        };
        let agreement = Agreement {
            name,
            epoch,
            backbone,
            dimension,
            classes,
            row_bound,
            rows,
            parties,
            threshold,
            quorum,
            receiver,
            projection,
            privacy,
        };
        agreement.check()?;
        Ok(agreement)
    }
}

fn check_name(field: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > usize::from(MAX_NAME) || name.chars().any(char::is_control) {
        return Err(Error::invalid(
            field,
            format!("{name:?} is not a name of 1 to {MAX_NAME} printable bytes"),
        ));
    }
    Ok(())
}

/// A party as the others see it.
///
/// See the example of [`Roster`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, distinct within a roster.
    pub name: String,
    /// Verifies its signatures (Ed25519). This is what the others pin beforehand.
    pub verifying: VerifyingKey,
    /// Key shares for it are sealed with this (X25519).
    pub sealing: [u8; 32],
    /// Its share of the randomness that all masks come from.
    pub nonce: [u8; 32],
    /// Its public key under which sums are encrypted if it is the receiver.
    pub public_key: Vec<u8>,
}

impl Member {
    /// Writes the fields.
    ///
    /// # Errors
    /// A name that is too long.
    pub fn encode(&self, w: &mut Writer) -> Result<()> {
        w.string("member", &self.name, MAX_NAME)?;
        w.array(self.verifying.as_bytes());
        w.array(&self.sealing);
        w.array(&self.nonce);
        w.blob(&self.public_key);
        Ok(())
    }

    /// Reads [`encode`](Self::encode).
    ///
    /// # Errors
    /// Whatever is wrong with a field.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let name = r.string("member", MAX_NAME)?.to_owned();
        check_name("member", &name)?;
        let verifying = VerifyingKey::from_bytes(&r.array("verifying key")?)
            .map_err(|_| Error::invalid("verifying key", format!("of {name} is not a point of the curve")))?;
        Ok(Member {
            name,
            verifying,
            sealing: r.array("sealing key")?,
            nonce: r.array("nonce")?,
            public_key: r.blob("public key", MAX_PUBLIC_KEY_BYTES)?.to_vec(),
        })
    }
}

/// The parties of a federation, in the order of their points: member i holds the shares of point i + 1.
///
/// ```
/// use arras_rounds::{Agreement, Member, Roster};
/// use ed25519_dalek::SigningKey;
///
/// # let agreement = Agreement { name: "irises".into(), epoch: 1, backbone: "lengths".into(), dimension: 4,
/// #     classes: vec!["a".into(), "b".into()], row_bound: 16.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "alpha".into(), projection: None, privacy: None };
/// let member = |name: &str, number: u8| Member {
///     name: name.into(),
///     verifying: SigningKey::from_bytes(&[number; 32]).verifying_key(),
///     sealing: [number; 32],
///     nonce: [number; 32],
///     public_key: vec![],
/// };
/// let members = vec![member("gamma", 3), member("alpha", 1), member("beta", 2)];
/// let roster = Roster::new(agreement, members)?;
/// assert_eq!((roster.receiver(), roster.position("beta")), (0, Some(1)));
/// assert_eq!(Roster::decode(&roster.encode()?)?.hash(), roster.hash());
/// assert_ne!(roster.seed(1, 1), roster.seed(1, 2));
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Roster {
    /// What they agreed on.
    pub agreement: Agreement,
    /// As many as the agreement says, with distinct names and keys.
    pub members: Vec<Member>,
    hash: [u8; 32],
}

impl Roster {
    /// Pins the parties. Their order is that of their names, so that every party arrives at the same roster.
    ///
    /// # Errors
    /// Another number of parties than agreed, two with one name or key, no party with the receiver's name.
    pub fn new(agreement: Agreement, mut members: Vec<Member>) -> Result<Self> {
        agreement.check()?;
        members.sort_by(|a, b| a.name.cmp(&b.name));
        if members.len() != agreement.parties as usize {
            return Err(Error::invalid(
                "members",
                format!("{}, agreed were {}", members.len(), agreement.parties),
            ));
        }
        for (i, member) in members.iter().enumerate() {
            let is_same = |other: &Member| other.name == member.name || other.verifying == member.verifying;
            if members[..i].iter().any(is_same) {
                return Err(Error::invalid(
                    "members",
                    format!("{} shares its name or key with another", member.name),
                ));
            }
        }
        if !members.iter().any(|member| member.name == agreement.receiver) {
            return Err(Error::invalid("receiver", format!("{} is not a member", agreement.receiver)));
        }
        let mut w = Writer::new();
        agreement.encode(&mut w)?;
        members.iter().try_for_each(|member| member.encode(&mut w))?;
        let hash = blake3::derive_key("arras/1 roster", w.as_bytes());
        Ok(Roster { agreement, members, hash })
    }

    /// What stands for the agreement and all members, their nonces included.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The hash in hexadecimal, short enough to be compared by eye.
    pub fn name(&self) -> String {
        short(&self.hash)
    }

    /// The position of a member.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name == name)
    }

    /// The position of the receiver.
    pub fn receiver(&self) -> usize {
        // `new` made sure that there is one.
        self.position(&self.agreement.receiver).unwrap_or_default()
    }

    /// The seed of the masks of one attempt of one round: every member's nonce is in it, so that nobody chose it, and no
    /// two attempts share one.
    pub fn seed(&self, round: u32, attempt: u32) -> Seed {
        let mut hasher = blake3::Hasher::new_derive_key("arras/1 common random string");
        hasher.update(&self.hash);
        hasher.update(&round.to_le_bytes());
        hasher.update(&attempt.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// As bytes.
    ///
    /// # Errors
    /// None in practice: the fields were checked.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut w = Writer::new();
        self.agreement.encode(&mut w)?;
        w.count("members", self.members.len(), MAX_PARTIES)?;
        self.members.iter().try_for_each(|member| member.encode(&mut w))?;
        Ok(w.into_bytes())
    }

    /// Reads [`encode`](Self::encode).
    ///
    /// # Errors
    /// Whatever is wrong with a field, or with the roster as a whole.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let agreement = Agreement::decode(&mut r)?;
        let count = r.count("members", MAX_PARTIES, 100)?;
        let members = (0..count).map(|_| Member::decode(&mut r)).collect::<Result<_>>()?;
        r.finish()?;
        Roster::new(agreement, members)
    }
}

/// A public seed from any text.
pub fn seed_of(text: &str) -> Seed {
    blake3::derive_key("arras/1 public seed", text.as_bytes())
}

/// The first eight bytes in hexadecimal.
pub fn short(hash: &[u8; 32]) -> String {
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
