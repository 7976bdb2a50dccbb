//! What a server answers: encrypted logits, trimmed to the bits that matter.

use arras_rns::check::packed_row;
use arras_wire::frame::{self, Kind};
use arras_wire::{Reader, Writer};

use crate::budget::{Budget, REPLY_BITS};
use crate::layout::{Groups, Piece};
use crate::preset::Preset;
use crate::query::{KeyId, Query};
use crate::{Error, Result};

/// Largest payload of a reply.
pub const MAX_BYTES: u64 = 64 << 30;
/// Largest number of classes.
const MAX_CLASSES: u32 = crate::head::MAX_CLASSES as u32;

/// Encrypted logits of some images.
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    /// How the images were cut into polynomials.
    pub groups: Groups,
    /// Number of classes C.
    pub classes: usize,
    /// The weight scale S; logits carry it times the scale of the features.
    pub weight_scale: u32,
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
#[derive(Clone, Copy, Debug)]
pub struct PackedPiece<'a> {
    /// The coefficients of component 0 that hold logits, a row per polynomial.
    pub logits: &'a [u8],
    /// All coefficients of component 1, a row per polynomial.
    pub masks: &'a [u8],
}

impl Reply {
    /// A reply without its body, to which the pieces are added in order.
    pub(crate) fn start(query: &Query, classes: usize, budget: &Budget) -> Self {
        Self {
            groups: query.groups,
            classes,
            weight_scale: budget.weight_scale,
            bits: budget.reply_bits,
            logit_bound: budget.logit_bound,
            key: query.key,
            preset: query.preset(),
            body: Vec::new(),
        }
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

    fn piece_len(&self, piece: &Piece) -> (usize, usize) {
        let polynomials = self.groups.reply_polynomials(piece, self.classes);
        let logits = packed_row(self.groups.reply_positions(piece).count, self.bits);
        (polynomials * logits, polynomials * packed_row(self.groups.degree, self.bits))
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
        w.u32(self.weight_scale);
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
        let groups = Groups::read(&mut r, preset.params.degree())?;
        let classes = r.u32_in("classes", 1..=MAX_CLASSES)? as usize;
        let weight_scale = r.u32_in("weight scale", 1..=u32::MAX)?;
        let bits = u32::from(r.u8("bits")?);
        if !REPLY_BITS.contains(&bits) {
            return Err(arras_wire::Error::invalid("bits", format!("{bits} is not in {REPLY_BITS:?}")).into());
        }
        let logit_bound = r.finite_f64("logit bound")?;
        if logit_bound < 0.0 {
            return Err(arras_wire::Error::invalid("logit bound", "is negative").into());
        }
        let key = r.array("key id")?;
        let body = Vec::new();
        let mut reply = Self { groups, classes, weight_scale, bits, logit_bound, key, preset, body };
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
