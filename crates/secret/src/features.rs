//! The client's side of an encrypted head: requests out, logits in.

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::fft::Complex;
use arras_ckks::sampling::{Sampler, float, small_polynomials};
use arras_ckks::{Context, Plaintext, Slots};
use arras_heads::layout::{Groups, Layout, Piece};
use arras_heads::preset::Bounds;
use arras_heads::query::KeyId;
use arras_heads::reply::PackedPiece;
use arras_heads::{Preset, Query, Reply};
use arras_rns::backend::{Packing, Quantise};
use arras_rns::{
    Backend, Coefficient, Evaluation, Input, LimbSet, Modulus, Poly, Positions, Purpose, Ring, SeedLabel,
};
use arras_wire::bits;
use zeroize::Zeroizing;

use crate::{Cipher, Error, Result};

/// Most primes of a preset for encrypted heads.
const MAX_LIMBS: usize = 8;

/// Features as scaled integers in polynomials, not yet encrypted. Overwritten, in queue order, when dropped.
///
/// ```
/// use arras_heads::layout::{Groups, Layout};
/// # use arras_ckks::Context;
/// # use arras_cpu::Cpu;
/// # use arras_heads::Preset;
/// # use arras_secret::{Cipher, SecretKey};
///
/// # let preset = Preset::named("linear")?;
/// # let context = Context::new(Cpu::sequential(), preset.params.clone())?;
/// # let key = SecretKey::generate(&preset.params)?;
/// # let cipher = Cipher::new(&context, &key)?;
/// // Two images of three features; one encoding may be encrypted more than once.
/// let groups = Groups::new(Layout::Dot, preset.params.degree(), 3, 2)?;
/// let encoded = cipher.encode_features(groups, &[0.5, -1.0, 2.0, 0.0, 0.25, 1.0])?;
/// let (first, second) = (cipher.encrypt_encoded(&encoded, None)?, cipher.encrypt_encoded(&encoded, None)?);
/// assert_eq!(first.groups, groups);
/// assert_ne!(first.seed, second.seed);
///
/// let refused = cipher.encode_features(groups, &[0.5, -1.0, 2.0, 0.0, 17.0, 1.0]).unwrap_err();
/// assert_eq!(refused.to_string(), "row 1: feature 1 is 17, the preset 'linear' allows 16");
/// # Ok::<(), arras_secret::Error>(())
/// ```
pub struct EncodedFeatures<'c, B: Backend> {
    pub(crate) context: &'c Context<B>,
    pub(crate) groups: Groups,
    pub(crate) bounds: Bounds,
    pub(crate) messages: Vec<(Piece, Poly<B, Coefficient>)>,
}

impl<B: Backend> std::fmt::Debug for EncodedFeatures<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EncodedFeatures({} images)", self.groups.images)
    }
}

impl<B: Backend> Drop for EncodedFeatures<'_, B> {
    fn drop(&mut self) {
        for (_, message) in &mut self.messages {
            // A device that cannot wipe has failed as a whole; there is nothing left to report it to.
            let _ = self.context.backend().wipe(self.context.queue(), message.buffer_mut());
        }
    }
}

impl<'c, B: Backend> Cipher<'c, B> {
    /// Scales and rounds rows of features, `groups.images` times `groups.dimension` numbers.
    ///
    /// # Errors
    /// [`arras_heads::Error::Bound`] naming the first row that exceeds a public bound or holds a number that is not
    /// finite; [`arras_heads::Error::Count`] if the rows do not match the groups, or the groups not the parameters.
    pub fn encode_features(&self, groups: Groups, features: &[f32]) -> Result<EncodedFeatures<'c, B>> {
        let preset = Preset::of(self.context().params().fingerprint())?;
        groups.check(preset)?;
        if features.len() != groups.images * groups.dimension {
            let (found, expected) = (features.len(), (groups.images * groups.dimension).to_string());
            return Err(arras_heads::Error::Count { what: "the number of features", found, expected }.into());
        }
        let bounds = preset.bounds_of(features, groups.dimension)?;
        let messages = groups.pieces().into_iter().map(|piece| {
            let range =
                piece.first_image * groups.dimension..(piece.first_image + piece.images) * groups.dimension;
            Ok((piece, self.quantise(&groups, &piece, &features[range])?))
        });
        Ok(EncodedFeatures {
            context: self.context(),
            groups,
            bounds,
            messages: messages.collect::<Result<_>>()?,
        })
    }

    /// Encrypts encoded features under a fresh seed. Only the coefficients that the server's product looks at are sent.
    ///
    /// # Errors
    /// [`arras_ckks::Error::Randomness`], or a failing device.
    pub fn encrypt_encoded(
        &self,
        encoded: &EncodedFeatures<'_, B>,
        backbone: Option<[u8; 32]>,
    ) -> Result<Query> {
        let limbs = self.context().params().limbs();
        self.encrypt_pieces(encoded, backbone, &mut Sampler::from_os()?, |rng, polynomials, count| {
            let mut small = Zeroizing::new(vec![0; polynomials * count]);
            rng.noise(&mut small, float);
            Ok(small_polynomials(self.context(), limbs, count, &small)?)
        })
    }

    /// A query whose randomness comes from `rng`. `noise(rng, polynomials, count)` makes noise in the first `count` coefficients of so
    /// many polynomials, and zeros behind.
    pub(crate) fn encrypt_pieces(
        &self,
        encoded: &EncodedFeatures<'_, B>,
        backbone: Option<[u8; 32]>,
        rng: &mut Sampler,
        noise: impl Fn(&mut Sampler, usize, usize) -> Result<Poly<B, Coefficient>>,
    ) -> Result<Query> {
        let preset = Preset::of(self.context().params().fingerprint())?;
        let seed = rng.bytes();
        let mut body = Vec::new();
        for (piece, message) in &encoded.messages {
            let label =
                SeedLabel { seed, purpose: Purpose::Ciphertext, object: piece.first_object, polynomial: 0 };
            let noise = noise(rng, piece.polynomials, piece.packing.coefficients())?;
            let mut b = self.encrypt_piece(message, label, noise)?;
            self.pack(piece, &b, &mut body)?;
            self.context().backend().wipe(self.context().queue(), b.buffer_mut())?;
        }
        let query = Query::new(preset, encoded.groups, encoded.bounds, backbone, seed, self.key_id(), body)?;
        if !preset.hides {
            return Ok(query);
        }
        Ok(query.with_public_key(self.public_key()?.to_bytes(self.context())?)?)
    }

    /// [`encode_features`](Self::encode_features) and [`encrypt_encoded`](Self::encrypt_encoded).
    ///
    /// # Errors
    /// As there.
    pub fn encrypt_features(
        &self,
        groups: Groups,
        features: &[f32],
        backbone: Option<[u8; 32]>,
    ) -> Result<Query> {
        self.encrypt_encoded(&self.encode_features(groups, features)?, backbone)
    }

    /// The b-part m + e - a s of a piece, in coefficients, in the memory of e. Those that are not packed have no noise, so that they
    /// give the secret away: they must not leave, and the caller wipes them.
    fn encrypt_piece(
        &self,
        message: &Poly<B, Coefficient>,
        label: SeedLabel,
        noise: Poly<B, Coefficient>,
    ) -> Result<Poly<B, Coefficient>> {
        let context = self.context();
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let mask = self.mask(label, noise.limbs(), noise.batch())?;
        let mut product = self.times_secret(mask)?;
        let mut b = noise;
        backend.add(queue, tables, &mut b.view_mut(), Input::InPlace, &message.view())?;
        backend.sub(queue, tables, &mut b.view_mut(), Input::InPlace, &product.view())?;
        backend.wipe(queue, product.buffer_mut())?;
        Ok(b)
    }

    /// The scaled features where the layout wants them.
    fn quantise(&self, groups: &Groups, piece: &Piece, features: &[f32]) -> Result<Poly<B, Coefficient>> {
        if groups.layout.in_slots() {
            return self.encode_slots(groups, piece, features);
        }
        self.quantise_coefficients(groups, piece, features)
    }

    /// As polynomials whose slots are the features.
    fn encode_slots(&self, groups: &Groups, piece: &Piece, features: &[f32]) -> Result<Poly<B, Coefficient>> {
        let context = self.context();
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let encoder = SlotEncoder::new(groups.degree, Slots::GENERATOR)?;
        let (slots, per_polynomial) = (encoder.slots(), groups.images_per_polynomial());
        let mut values = vec![Complex::default(); piece.polynomials * slots];
        for (image, row) in features.chunks_exact(groups.dimension).enumerate() {
            for (j, &x) in row.iter().enumerate() {
                let (polynomial, slot) = match groups.layout {
                    Layout::Slots => (j, image),
                    _ => (image / per_polynomial, j * per_polynomial + image % per_polynomial),
                };
                values[polynomial * slots + slot] = Complex::new(x.into(), 0.0);
            }
        }
        let params = context.params();
        let plaintext = encoder.encode(context, &values, slots, params.scale(), params.max_level())?;
        let mut message = plaintext.poly.retag();
        backend.intt(queue, tables, &mut message.view_mut(), Input::InPlace)?;
        Ok(message)
    }

    fn quantise_coefficients(
        &self,
        groups: &Groups,
        piece: &Piece,
        features: &[f32],
    ) -> Result<Poly<B, Coefficient>> {
        let context = self.context();
        let (backend, queue) = (context.backend(), context.queue());
        let values: Zeroizing<Vec<u64>> =
            Zeroizing::new(features.iter().map(|&x| f64::from(x).to_bits()).collect());
        let mut buffer = backend.allocate(queue, values.len())?;
        backend.write(queue, &mut buffer, 0, &values)?;
        let message = self.quantise_words(groups, piece, &buffer, 0)?;
        backend.wipe(queue, &mut buffer)?;
        Ok(message)
    }

    /// The scaled features of a piece, which stand from word `first` on as 64-bit floats.
    pub(crate) fn quantise_words(
        &self,
        groups: &Groups,
        piece: &Piece,
        words: &B::Buffer,
        first: usize,
    ) -> Result<Poly<B, Coefficient>> {
        let context = self.context();
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let count = piece.packing.coefficients();
        let (batch_stride, coefficient_stride) = match groups.layout {
            Layout::Dot => (count, 1),
            _ => (1, groups.dimension),
        };
        let scale_bits = context.params().spec().scale_bits as i32;
        let how = Quantise { first, batch_stride, coefficient_stride, count, scale_bits };
        let mut message = context.allocate(context.params().limbs(), piece.polynomials)?;
        backend.quantise(queue, tables, &mut message.view_mut(), words, how)?;
        Ok(message)
    }

    /// Appends the packed coefficients of a piece.
    fn pack(&self, piece: &Piece, b: &Poly<B, Coefficient>, body: &mut Vec<u8>) -> Result<()> {
        let context = self.context();
        let (degree, ring, limbs) = (context.params().degree(), context.params().ring(), b.limbs());
        let mut words = Zeroizing::new(vec![0; b.extent().words()]);
        context.backend().download(context.queue(), &b.view(), &mut words)?;
        let pack = |row: &[u64], limb, body: &mut Vec<u8>| {
            let bits = ring.modulus(limb).bits();
            bits::pack(row, bits, body).map_err(|problem| arras_wire::Error::field("residues", problem))
        };
        match piece.packing {
            Packing::ByPolynomial { coefficients } => {
                let rows =
                    words.chunks_exact(degree).zip(limbs.iter().collect::<Vec<_>>().into_iter().cycle());
                rows.into_iter().try_for_each(|(row, limb)| pack(&row[..coefficients], limb, body))?;
            }
            Packing::ByCoefficient { coefficients } => {
                // A cache line of every polynomial at a time: rows alone would touch each line eight times.
                const LINE: usize = 8;
                let (width, stride) = (piece.polynomials, limbs.len() * degree);
                let mut rows = vec![0; limbs.len() * LINE * width];
                for start in (0..coefficients).step_by(LINE) {
                    let count = LINE.min(coefficients - start);
                    for (l, rows) in rows.chunks_exact_mut(LINE * width).enumerate() {
                        for (j, polynomial) in words.chunks_exact(stride).enumerate() {
                            let line = &polynomial[l * degree + start..][..count];
                            line.iter().enumerate().for_each(|(i, &word)| rows[i * width + j] = word);
                        }
                    }
                    for i in 0..count {
                        for (l, limb) in limbs.iter().enumerate() {
                            pack(&rows[(l * LINE + i) * width..][..width], limb, body)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Decrypts logits, row by row: image after image, class after class.
    ///
    /// Keep them: exact decryptions of many chosen inputs reveal the key to whoever sees them together with the
    /// ciphertexts (ePrint 2020/1533).
    ///
    /// # Errors
    /// [`arras_heads::Error::Preset`] if the reply was made for another preset, [`crate::Error::Wire`] if its
    /// bytes are damaged.
    pub fn decrypt_logits(&self, reply: &Reply) -> Result<Vec<f64>> {
        let params = self.context().params();
        let (ours, theirs) = (Preset::of(params.fingerprint())?.name, reply.preset().name);
        if ours != theirs {
            return Err(arras_heads::Error::Preset { ours, theirs }.into());
        }
        if reply.key != self.key_id() {
            let hex = |id: KeyId| id.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(Error::Key { reply: hex(reply.key), key: hex(self.key_id()) });
        }
        let (groups, unit) = (&reply.groups, reply.unit());
        let encoder = SlotEncoder::new(params.degree(), Slots::GENERATOR)?;
        let mut logits = vec![0.0; groups.images * reply.classes];
        for (piece, packed) in reply.pieces() {
            let positions = groups.reply_positions(&piece, reply.classes);
            let phases = self.phases(reply, &piece, packed)?;
            let (values, stride) = match groups.layout.in_slots() {
                true => (self.slots(&encoder, positions, &phases)?, encoder.slots()),
                false => (phases.iter().map(|&phase| phase as f64).collect(), positions.count),
            };
            for image in 0..piece.images {
                for class in 0..reply.classes {
                    let (polynomial, place) = groups.locate(&piece, image, class);
                    let value = values[polynomial * stride + place];
                    logits[(piece.first_image + image) * reply.classes + class] = value * unit;
                }
            }
        }
        Ok(logits)
    }

    /// c0 + c1 s + c2 s^2 at the positions that logits depend on, centred modulo `2^bits`.
    ///
    /// The products with the secret are computed modulo Q: with centred components they stay below
    /// `N 2^(bits-1)`, or `N (N + 1) 2^(bits-1)` with three components, which is below Q/2, so that the integers are exact
    /// and can be reduced modulo `2^bits` afterwards.
    fn phases(&self, reply: &Reply, piece: &Piece, packed: PackedPiece<'_>) -> Result<Vec<i64>> {
        let context = self.context();
        let (backend, queue) = (context.backend(), context.queue());
        let (params, degree) = (context.params(), context.params().degree());
        let polynomials = reply.groups.reply_polynomials(piece, reply.classes);
        let positions = reply.groups.reply_positions(piece, reply.classes);
        let limbs = if reply.groups.layout.in_slots() { params.limbs() } else { params.limbs_at(0) };
        let component = packed.masks.len() / (reply.components() - 1);
        // Horner's rule, from the highest component down.
        let mut product: Option<Poly<B, Coefficient>> = None;
        for masks in packed.masks.chunks_exact(component).rev() {
            let masks = unpack_rows(masks, polynomials, degree, reply.bits)?;
            product = Some(self.times_secret(self.sum(limbs, &masks, reply.bits, product)?)?);
        }
        let Some(mut product) = product else { return Ok(Vec::new()) };
        let mut words = Zeroizing::new(vec![0; product.extent().words()]);
        backend.download(queue, &product.view(), &mut words)?;
        backend.wipe(queue, product.buffer_mut())?;
        let bodies = unpack_rows(packed.logits, polynomials, positions.count, reply.bits)?;
        let lift = Lift::new(params.ring(), limbs);
        let phase = |(rows, body): (&[u64], &[u64])| -> Vec<i64> {
            let at = |(i, &b): (usize, &u64)| {
                let product = lift.low_bits(rows.iter().skip(i).step_by(degree).copied());
                centre(product.wrapping_add(b), reply.bits)
            };
            positions.iter().zip(body).map(at).collect()
        };
        let rows = words.chunks_exact(limbs.len() * degree).zip(bodies.chunks_exact(positions.count));
        Ok(rows.flat_map(phase).collect())
    }

    /// Trimmed coefficients, centred, plus `rest`, in the evaluation domain.
    fn sum(
        &self,
        limbs: LimbSet,
        words: &[u64],
        bits: u32,
        rest: Option<Poly<B, Coefficient>>,
    ) -> Result<Poly<B, Evaluation>> {
        let context = self.context();
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let (ring, degree) = (context.params().ring(), context.params().degree());
        let residues = words.chunks_exact(degree).flat_map(|row| limbs.iter().map(move |limb| (row, limb)));
        let residues: Vec<u64> = residues
            .flat_map(|(row, limb)| {
                let q = ring.modulus(limb);
                row.iter().map(move |&x| q.reduce_signed(centre(x, bits).into()))
            })
            .collect();
        let mut poly: Poly<B, Coefficient> = context.allocate(limbs, words.len() / degree)?;
        backend.upload(queue, &mut poly.view_mut(), &residues)?;
        if let Some(mut rest) = rest {
            backend.add(queue, tables, &mut poly.view_mut(), Input::InPlace, &rest.view())?;
            backend.wipe(queue, rest.buffer_mut())?;
        }
        let mut poly = poly.retag();
        backend.ntt(queue, tables, &mut poly.view_mut(), Input::InPlace)?;
        Ok(poly)
    }

    /// The real parts of the slots of polynomials that are given by their coefficients at `positions`.
    fn slots(&self, encoder: &SlotEncoder, positions: Positions, phases: &[i64]) -> Result<Vec<f64>> {
        let context = self.context();
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let (limbs, degree) = (context.params().limbs(), context.params().degree());
        let rows = phases.chunks_exact(positions.count);
        let mut words = Zeroizing::new(vec![0; rows.len() * limbs.len() * degree]);
        for (row, words) in rows.zip(words.chunks_exact_mut(limbs.len() * degree)) {
            for (limb, words) in limbs.iter().zip(words.chunks_exact_mut(degree)) {
                let q = context.params().ring().modulus(limb);
                for (at, &phase) in positions.iter().zip(row) {
                    words[at] = q.reduce_signed(phase.into());
                }
            }
        }
        let mut poly: Poly<B, Coefficient> = context.allocate(limbs, phases.len() / positions.count)?;
        backend.upload(queue, &mut poly.view_mut(), &words)?;
        let mut poly = poly.retag();
        backend.ntt(queue, tables, &mut poly.view_mut(), Input::InPlace)?;
        let values = encoder.decode(context, &Plaintext { poly, scale: 1.0 })?;
        Ok(values.into_iter().map(|z| z.re).collect())
    }
}

/// From residues to the low 64 bits of the centred integer, in balanced mixed radix:
/// `d_0 + q_0 (d_1 + q_1 (d_2 + ..))` with every digit in `(-q_i/2, q_i/2]`.
struct Lift {
    moduli: Vec<Modulus>,
    /// `inverses[i][j] = q_j^-1 mod q_i` for `j < i`.
    inverses: Vec<Vec<u64>>,
}

impl Lift {
    fn new(ring: &Ring, limbs: LimbSet) -> Self {
        let moduli: Vec<Modulus> = limbs.iter().map(|limb| ring.modulus(limb)).collect();
        let inverses = moduli.iter().enumerate().map(|(i, q)| {
            moduli[..i].iter().map(|other| q.inverse(q.reduce(other.value().into()))).collect()
        });
        Self { inverses: inverses.collect(), moduli }
    }

    fn low_bits(&self, residues: impl Iterator<Item = u64>) -> u64 {
        let mut digits: [i64; MAX_LIMBS] = [0; MAX_LIMBS];
        let (mut sum, mut radix) = (0u64, 1u64);
        for (i, ((mut residue, q), inverses)) in
            residues.zip(&self.moduli).zip(&self.inverses).enumerate().take(MAX_LIMBS)
        {
            for (&digit, &inverse) in digits.iter().zip(inverses) {
                residue = q.mul(q.sub(residue, q.reduce_signed(digit.into())), inverse);
            }
            digits[i] = q.centre(residue);
            sum = sum.wrapping_add(radix.wrapping_mul(digits[i] as u64));
            radix = radix.wrapping_mul(q.value());
        }
        sum
    }
}

/// The representative of `x` modulo `2^bits` in `[-2^(bits-1), 2^(bits-1))`.
fn centre(x: u64, bits: u32) -> i64 {
    ((x << (64 - bits)) as i64) >> (64 - bits)
}

/// `rows` rows of `count` values each.
fn unpack_rows(packed: &[u8], rows: usize, count: usize, width: u32) -> Result<Vec<u64>> {
    let mut words = vec![0; rows * count];
    let bytes = bits::packed_len(count, width);
    for (row, packed) in words.chunks_exact_mut(count).zip(packed.chunks_exact(bytes)) {
        bits::unpack(packed, width, row)
            .map_err(|problem| arras_wire::Error::field("coefficients", problem))?;
    }
    Ok(words)
}
