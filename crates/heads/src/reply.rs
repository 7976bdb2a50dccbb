//! What a server answers: encrypted logits, trimmed to the bits that matter.

use arras_rns::check::packed_row;
use arras_wire::frame::{self, Kind};
use arras_wire::{Reader, Writer};

use crate::budget::{Budget, HIDDEN_REPLY_BITS, REPLY_BITS};
use crate::layout::{Groups, Layout, Piece};
use crate::preset::Preset;
use crate::query::{KeyId, Query};
use crate::{Error, Result};

/// Largest payload of a reply.
pub const MAX_BYTES: u64 = 64 << 30;
/// Largest number of classes.
const MAX_CLASSES: u32 = crate::head::MAX_CLASSES as u32;

/// Range of bits that replies of the layouts in slots are trimmed to.
pub const SLOT_BITS: std::ops::RangeInclusive<u32> = 24..=56;

/// What turns decrypted integers into logits.
///
/// See the example of [`Reply`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scaling {
    /// In the coefficient layouts logits carry the weight scale S times the scale of the features.
    Weights(u32),
    /// In the layouts in slots.
    Slots {
        /// What logits carry modulo the first prime.
        scale: f64,
        /// Components of the ciphertext: 3 after a square that was not relinearised.
        components: usize,
    },
}

/// Encrypted logits of some images.
///
/// ```
/// use arras_heads::reply::Scaling;
/// use arras_heads::{LinearHead, Preset, Reply};
/// # use arras_heads::layout::{Groups, Layout};
/// # use arras_ckks::Context;
/// # use arras_cpu::Cpu;
/// # use arras_secret::{Cipher, SecretKey};
/// # use arras_heads::{Head, ModelCard};
///
/// # let (weight, bias) = (vec![0.5, -1.0, 0.25, 0.0, 3.0, -0.125], vec![1.0, -0.5]);
/// # let classes = vec!["adenoma".to_owned(), "other".to_owned()];
/// # let head = Head { weight, bias, classes, card: ModelCard::default() };
/// # let preset = Preset::named("linear")?;
/// # let context = Context::new(Cpu::sequential(), preset.params.clone())?;
/// # let key = SecretKey::generate(&preset.params)?;
/// # let cipher = Cipher::new(&context, &key)?;
/// # let groups = Groups::new(Layout::Dot, preset.params.degree(), 3, 1)?;
/// # let query = cipher.encrypt_features(groups, &[2.0, 1.0, 4.0], None)?;
/// let server = LinearHead::new(&context, &head, preset.bounds)?;
/// let reply = server.classify(&query)?;
/// assert_eq!((reply.classes, reply.scaling), (2, Scaling::Weights(server.budget().weight_scale)));
/// // A polynomial per class, its logits and its masks trimmed to so many bits.
/// for (piece, packed) in reply.pieces() {
///     assert_eq!((piece.images, packed.logits.len()), (1, 2 * (reply.bits as usize).div_ceil(8)));
///     assert_eq!(packed.masks.len(), 2 * (2048 * reply.bits as usize).div_ceil(8));
/// }
/// assert_eq!(Reply::from_bytes(&reply.to_bytes())?, reply);
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    /// How the images were cut into polynomials.
    pub groups: Groups,
    /// Number of classes C.
    pub classes: usize,
    /// What logits carry.
    pub scaling: Scaling,
    /// Bits of every coefficient.
    pub bits: u32,
    /// The server's bound on the error of a logit.
    pub logit_bound: f64,
    /// The key that the query was encrypted under.
    pub key: KeyId,
    preset: &'static Preset,
    body: Vec<u8>,
}

/// The packed coefficients of one piece of a reply.
///
/// See the example of [`Reply`].
#[derive(Clone, Copy, Debug)]
pub struct PackedPiece<'a> {
    /// The coefficients of component 0 that logits depend on, a row per polynomial.
    pub logits: &'a [u8],
    /// All coefficients of the other components, one after the other, a row per polynomial.
    pub masks: &'a [u8],
}

impl Reply {
    /// A reply without its body, to which the pieces are added in order.
    pub(crate) fn start(query: &Query, classes: usize, budget: &Budget) -> Self {
        let scaling = Scaling::Weights(budget.weight_scale);
        Self::with(query, classes, scaling, budget.reply_bits, budget.logit_bound)
    }

    /// As [`start`](Self::start), for any layout.
    pub(crate) fn with(query: &Query, classes: usize, scaling: Scaling, bits: u32, logit_bound: f64) -> Self {
        let (groups, key, preset) = (query.groups, query.key, query.preset());
        Self { groups, classes, scaling, bits, logit_bound, key, preset, body: Vec::new() }
    }

    /// Room for the next piece: bytes for the logits, and for the masks.
    pub(crate) fn push(&mut self, piece: &Piece) -> (&mut [u8], &mut [u8]) {
        let (logits, masks) = self.piece_len(piece);
        let start = self.body.len();
        self.body.resize(start + logits + masks, 0);
        self.body[start..].split_at_mut(logits)
    }

    /// The preset.
    pub fn preset(&self) -> &'static Preset {
        self.preset
    }

    /// Components of the ciphertexts.
    pub fn components(&self) -> usize {
        match self.scaling {
            Scaling::Weights(_) => 2,
            Scaling::Slots { components, .. } => components,
        }
    }

    /// What a decrypted integer has to be multiplied by: a trimmed coefficient counts in units of q / 2^bits.
    pub fn unit(&self) -> f64 {
        let moduli = &self.preset.params.spec().moduli;
        let (modulus, scale) = match self.scaling {
            Scaling::Weights(weight_scale) => {
                let modulus = moduli.iter().map(|&q| q as f64).product::<f64>();
                (modulus, self.preset.params.scale() * f64::from(weight_scale))
            }
            Scaling::Slots { scale, .. } => (moduli[0] as f64, scale),
        };
        modulus / (2f64.powi(self.bits as i32) * scale)
    }

    fn piece_len(&self, piece: &Piece) -> (usize, usize) {
        let polynomials = self.groups.reply_polynomials(piece, self.classes);
        let logits = packed_row(self.groups.reply_positions(piece, self.classes).count, self.bits);
        let masks = (self.components() - 1) * packed_row(self.groups.degree, self.bits);
        (polynomials * logits, polynomials * masks)
    }

    /// Every piece with its bytes.
    pub fn pieces(&self) -> impl Iterator<Item = (Piece, PackedPiece<'_>)> {
        let mut rest = &self.body[..];
        self.groups.pieces().into_iter().map(move |piece| {
            let (logits, masks) = self.piece_len(&piece);
            let (bytes, later) = rest.split_at(logits + masks);
            rest = later;
            let (logits, masks) = bytes.split_at(logits);
            (piece, PackedPiece { logits, masks })
        })
    }

    /// The reply as the contents of a file or message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.body.len() + 64);
        self.groups.write(&mut w);
        w.u32(self.classes as u32);
        match self.scaling {
            Scaling::Weights(weight_scale) => w.u32(weight_scale),
            Scaling::Slots { scale, components } => {
                w.f64(scale);
                w.u8(components as u8);
            }
        }
        w.u8(self.bits as u8);
        w.f64(self.logit_bound);
        w.array(&self.key);
        w.array(&self.body);
        frame::encode(Kind::Reply, &self.preset.params.fingerprint(), w.as_bytes())
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// Whatever is wrong with the frame or a field; parameters of no preset.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let frame = frame::decode(bytes, Kind::Reply, MAX_BYTES)?;
        let preset = Preset::of(frame.fingerprint)?;
        let mut r = Reader::new(frame.payload);
        let groups = Groups::read(&mut r, preset)?;
        let classes = r.u32_in("classes", 1..=MAX_CLASSES)? as usize;
        if groups.layout == Layout::Rotations && classes > groups.width() {
            let problem = format!("{classes} do not fit the {} slots of an image", groups.width());
            return Err(arras_wire::Error::invalid("classes", problem).into());
        }
        let scaling = read_scaling(&mut r, &groups)?;
        let bits = u32::from(r.u8("bits")?);
        let range = match (groups.layout.in_slots(), preset.hides) {
            (true, _) => SLOT_BITS,
            (false, true) => HIDDEN_REPLY_BITS,
            (false, false) => REPLY_BITS,
        };
        if !range.contains(&bits) {
            return Err(arras_wire::Error::invalid("bits", format!("{bits} is not in {range:?}")).into());
        }
        let logit_bound = r.finite_f64("logit bound")?;
        if logit_bound < 0.0 {
            return Err(arras_wire::Error::invalid("logit bound", "is negative").into());
        }
        let key = r.array("key id")?;
        let body = Vec::new();
        let mut reply = Self { groups, classes, scaling, bits, logit_bound, key, preset, body };
        let lengths = reply.groups.pieces().iter().map(|piece| reply.piece_len(piece)).collect::<Vec<_>>();
        let total = lengths.iter().try_fold(0usize, |total, &(a, b)| total.checked_add(a)?.checked_add(b));
        let total = total.ok_or(Error::Count {
            what: "the size of the reply",
            found: usize::MAX,
            expected: "less than the address space".into(),
        })?;
        reply.body = r.bytes("coefficients", total)?.to_vec();
        r.finish()?;
        Ok(reply)
    }
}

fn read_scaling(r: &mut Reader<'_>, groups: &Groups) -> Result<Scaling> {
    if !groups.layout.in_slots() {
        return Ok(Scaling::Weights(r.u32_in("weight scale", 1..=u32::MAX)?));
    }
    let scale = r.finite_f64("scale")?;
    if scale < 1.0 {
        return Err(arras_wire::Error::invalid("scale", "is below 1").into());
    }
    let components = usize::from(r.u8("components")?);
    let most = if groups.layout == Layout::Slots { 3 } else { 2 };
    if !(2..=most).contains(&components) {
        return Err(
            arras_wire::Error::invalid("components", format!("{components} is not in 2..={most}")).into()
        );
    }
    Ok(Scaling::Slots { scale, components })
}
