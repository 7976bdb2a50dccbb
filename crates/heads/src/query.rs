//! What a client sends: encrypted features.

use arras_rns::check::packed_rows;
use arras_rns::{Purpose, Seed, SeedLabel};
use arras_wire::frame::{self, Kind};
use arras_wire::{Reader, Writer};

use crate::layout::{Groups, Piece};
use crate::preset::{Bounds, Preset};
use crate::{Error, Result};

/// Largest payload of a query: a million images of 4.7 KB.
pub const MAX_BYTES: u64 = 8 << 30;

/// Largest public key.
const MAX_PUBLIC_KEY_BYTES: u64 = 1 << 20;

/// A random public number that tells a client's keys apart, so that a reply is not decrypted with the wrong one.
pub type KeyId = [u8; 8];

/// Encrypted features of some images.
///
/// ```
/// use arras_heads::{Preset, Query};
/// # use arras_heads::layout::{Groups, Layout};
/// # use arras_ckks::Context;
/// # use arras_cpu::Cpu;
/// # use arras_secret::{Cipher, SecretKey};
///
/// # let preset = Preset::named("linear")?;
/// # let context = Context::new(Cpu::sequential(), preset.params.clone())?;
/// # let key = SecretKey::generate(&preset.params)?;
/// # let cipher = Cipher::new(&context, &key)?;
/// // One row of 768 features, at 49 bits each.
/// let groups = Groups::new(Layout::Dot, preset.params.degree(), 768, 1)?;
/// let query = cipher.encrypt_features(groups, &[0.5; 768], None)?;
/// let bytes = query.to_bytes();
/// assert!((4704..4900).contains(&bytes.len()));
/// assert_eq!(Query::from_bytes(&bytes)?, query);
/// // A reply repeats the id of the key.
/// assert_eq!(query.key, cipher.key_id());
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Query {
    /// How the images are cut into polynomials.
    pub groups: Groups,
    /// Bounds that every row keeps.
    pub bounds: Bounds,
    /// The backbone and preprocessing that made the features, if known.
    pub backbone: Option<[u8; 32]>,
    /// What the masks are expanded from.
    pub seed: Seed,
    /// The key it is encrypted under; the reply repeats it.
    pub key: KeyId,
    /// The parameters, through their preset.
    preset: &'static Preset,
    /// A public key as the contents of a file; there exactly if the preset hides heads.
    public_key: Vec<u8>,
    /// The b-parts of all pieces, one after the other.
    body: Vec<u8>,
}

impl Query {
    /// A query whose pieces are packed in `body`. Where the preset hides heads, a public key has to be
    /// [added](Self::with_public_key).
    ///
    /// # Errors
    /// [`Error::Count`] or [`Error::Layout`] if the groups are not of the preset, or the body does not have the size that
    /// they imply.
    pub fn new(
        preset: &'static Preset,
        groups: Groups,
        bounds: Bounds,
        backbone: Option<[u8; 32]>,
        seed: Seed,
        key: KeyId,
        body: Vec<u8>,
    ) -> Result<Self> {
        groups.check(preset)?;
        let query = Self { groups, bounds, backbone, seed, key, preset, public_key: Vec::new(), body };
        let expected = query.body_len();
        if query.body.len() != expected {
            let (found, expected) = (query.body.len(), expected.to_string());
            return Err(Error::Count { what: "the number of packed bytes", found, expected });
        }
        Ok(query)
    }

    /// The query with a public key, as the contents of a file, under which the server hides its head.
    ///
    /// # Errors
    /// [`Error::PublicKey`] if the preset does not hide heads, or the key is too long.
    pub fn with_public_key(self, public_key: Vec<u8>) -> Result<Self> {
        if !self.preset.hides {
            return Err(Error::PublicKey("the preset does not hide heads"));
        }
        if public_key.len() as u64 > MAX_PUBLIC_KEY_BYTES {
            return Err(Error::PublicKey("is too long"));
        }
        Ok(Self { public_key, ..self })
    }

    /// The public key as the contents of a file; empty if there is none.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The preset.
    pub fn preset(&self) -> &'static Preset {
        self.preset
    }

    /// Number of bytes that a piece takes.
    pub fn piece_len(&self, piece: &Piece) -> usize {
        let (rows, values) = piece.packing.extent(piece.polynomials);
        rows * packed_rows(self.preset.params.ring(), self.preset.params.limbs(), values)
    }

    fn body_len(&self) -> usize {
        self.groups.pieces().iter().map(|piece| self.piece_len(piece)).sum()
    }

    /// Every piece with its bytes.
    pub fn pieces(&self) -> impl Iterator<Item = (Piece, &[u8])> {
        let mut rest = &self.body[..];
        self.groups.pieces().into_iter().map(move |piece| {
            let (bytes, later) = rest.split_at(self.piece_len(&piece));
            rest = later;
            (piece, bytes)
        })
    }

    /// The label of the first mask of a piece.
    pub fn label(&self, piece: &Piece) -> SeedLabel {
        SeedLabel { seed: self.seed, purpose: Purpose::Ciphertext, object: piece.first_object, polynomial: 0 }
    }

    /// The query as the contents of a file or message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.body.len() + 128);
        self.groups.write(&mut w);
        w.array(&self.bounds.x_max.to_le_bytes());
        w.array(&self.bounds.norm_max.to_le_bytes());
        w.flag(self.backbone.is_some());
        if let Some(backbone) = self.backbone {
            w.array(&backbone);
        }
        w.array(&self.seed);
        w.array(&self.key);
        if self.preset.hides {
            w.blob(&self.public_key);
        }
        w.array(&self.body);
        frame::encode(Kind::EncryptedFeatures, &self.preset.params.fingerprint(), w.as_bytes())
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// Whatever is wrong with the frame or a field; parameters of no preset. Residues are checked when they are used.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let frame = frame::decode(bytes, Kind::EncryptedFeatures, MAX_BYTES)?;
        let preset = Preset::of(frame.fingerprint)?;
        let mut r = Reader::new(frame.payload);
        let groups = Groups::read(&mut r, preset)?;
        let bounds = Bounds { x_max: positive(&mut r, "x_max")?, norm_max: positive(&mut r, "norm_max")? };
        let backbone = if r.flag("backbone given")? { Some(r.array("backbone")?) } else { None };
        let (seed, key) = (r.array("seed")?, r.array("key id")?);
        let public_key =
            if preset.hides { r.blob("public key", MAX_PUBLIC_KEY_BYTES)?.to_vec() } else { Vec::new() };
        let mut query = Self { groups, bounds, backbone, seed, key, preset, public_key, body: Vec::new() };
        query.body = r.bytes("residues", query.body_len())?.to_vec();
        r.finish()?;
        Ok(query)
    }
}

fn positive(r: &mut Reader<'_>, field: &'static str) -> Result<f32> {
    let value = f32::from_le_bytes(r.array(field)?);
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(arras_wire::Error::invalid(field, format!("{value} is not a positive number")).into())
}
