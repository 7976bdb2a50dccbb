//! The client's side of an encrypted head: requests out, logits in.

use arras_ckks::{Context, small};
use arras_heads::layout::{Groups, Layout, Piece};
use arras_heads::preset::Bounds;
use arras_heads::query::KeyId;
use arras_heads::reply::PackedPiece;
use arras_heads::{Preset, Query, Reply};
use arras_rns::backend::{Packing, Quantise};
use arras_rns::{Backend, Coefficient, Evaluation, Input, Poly, Purpose, SeedLabel};
use arras_wire::bits;
use zeroize::Zeroizing;

use crate::sampling::SecretRng;
use crate::{Cipher, Error, Result};

/// Features as scaled integers in polynomials, not yet encrypted. Overwritten, in queue order, when dropped.
pub struct EncodedFeatures<'c, B: Backend> {
    context: &'c Context<B>,
    groups: Groups,
    bounds: Bounds,
    messages: Vec<(Piece, Poly<B, Coefficient>)>,
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
    /// [`crate::Error::Randomness`], or a failing device.
    pub fn encrypt_encoded(
        &self,
        encoded: &EncodedFeatures<'_, B>,
        backbone: Option<[u8; 32]>,
    ) -> Result<Query> {
        let preset = Preset::of(self.context().params().fingerprint())?;
        let mut rng = SecretRng::from_os()?;
        let seed = rng.bytes();
        let mut body = Vec::new();
        for (piece, message) in &encoded.messages {
            let label =
                SeedLabel { seed, purpose: Purpose::Ciphertext, object: piece.first_object, polynomial: 0 };
            let mut b = self.encrypt_piece(piece, message, label, &mut rng)?;
            self.pack(piece, &b, &mut body)?;
            self.context().backend().wipe(self.context().queue(), b.buffer_mut())?;
        }
        Ok(Query::new(preset, encoded.groups, encoded.bounds, backbone, seed, self.key_id(), body)?)
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

    /// The b-part m + e - a s of a piece, in coefficients. Those that are not packed have no noise, so that they give the
    /// secret away: they must not leave, and the caller wipes them.
    fn encrypt_piece(
        &self,
        piece: &Piece,
        message: &Poly<B, Coefficient>,
        label: SeedLabel,
        rng: &mut SecretRng,
    ) -> Result<Poly<B, Coefficient>> {
        let context = self.context();
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let limbs = context.params().limbs();
        let mask = self.mask(label, limbs, piece.polynomials)?;
        let mut product = self.times_secret(mask)?;
        let count = piece.packing.coefficients();
        let mut noise = Zeroizing::new(vec![0; piece.polynomials * count]);
        rng.noise(&mut noise, small::float);
        let mut b = small::upload(context, limbs, count, &noise)?;
        backend.add(queue, tables, &mut b.view_mut(), Input::InPlace, &message.view())?;
        backend.sub(queue, tables, &mut b.view_mut(), Input::InPlace, &product.view())?;
        backend.wipe(queue, product.buffer_mut())?;
        Ok(b)
    }

    /// The scaled features where the layout wants them.
    fn quantise(&self, groups: &Groups, piece: &Piece, features: &[f32]) -> Result<Poly<B, Coefficient>> {
        let context = self.context();
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let values: Zeroizing<Vec<u64>> =
            Zeroizing::new(features.iter().map(|&x| f64::from(x).to_bits()).collect());
        let mut buffer = backend.allocate(queue, values.len())?;
        backend.write(queue, &mut buffer, 0, &values)?;
        let count = piece.packing.coefficients();
        let (batch_stride, coefficient_stride) = match groups.layout {
            Layout::Dot => (count, 1),
            Layout::Transposed => (1, groups.dimension),
        };
        let scale_bits = context.params().spec().scale_bits as i32;
        let how = Quantise { first: 0, batch_stride, coefficient_stride, count, scale_bits };
        let mut message = context.allocate(context.params().limbs(), piece.polynomials)?;
        backend.quantise(queue, tables, &mut message.view_mut(), &buffer, how)?;
        backend.wipe(queue, &mut buffer)?;
        Ok(message)
    }

    /// Appends the packed coefficients of a piece.
    fn pack(&self, piece: &Piece, b: &Poly<B, Coefficient>, body: &mut Vec<u8>) -> Result<()> {
        let context = self.context();
        let (degree, q) = (context.params().degree(), context.params().ring().modulus(0));
        let mut words = Zeroizing::new(vec![0; b.extent().words()]);
        context.backend().download(context.queue(), &b.view(), &mut words)?;
        let pack = |row: &[u64], body: &mut Vec<u8>| {
            bits::pack(row, q.bits(), body).map_err(|problem| arras_wire::Error::field("residues", problem))
        };
        match piece.packing {
            Packing::ByPolynomial { coefficients } => {
                words.chunks_exact(degree).try_for_each(|row| pack(&row[..coefficients], body))?;
            }
            Packing::ByCoefficient { coefficients } => {
                // A cache line of every polynomial at a time: rows alone would touch each line eight times.
                const LINE: usize = 8;
                let mut rows = vec![0; LINE * piece.polynomials];
                for start in (0..coefficients).step_by(LINE) {
                    let count = LINE.min(coefficients - start);
                    for (j, polynomial) in words.chunks_exact(degree).enumerate() {
                        for (i, &word) in polynomial[start..start + count].iter().enumerate() {
                            rows[i * piece.polynomials + j] = word;
                        }
                    }
                    rows.chunks_exact(piece.polynomials).take(count).try_for_each(|row| pack(row, body))?;
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
        // A trimmed coefficient counts in units of q / 2^bits.
        let modulus = params.ring().modulus(0).value() as f64;
        let scales = 2f64.powi(reply.bits as i32) * params.scale() * f64::from(reply.weight_scale);
        let unit = modulus / scales;
        let mut logits = vec![0.0; reply.groups.images * reply.classes];
        for (piece, packed) in reply.pieces() {
            let phases = self.phases(reply, &piece, packed)?;
            let count = reply.groups.reply_positions(&piece).count;
            for image in 0..piece.images {
                for class in 0..reply.classes {
                    let (polynomial, position) = reply.groups.locate(&piece, image, class);
                    let phase = phases[polynomial * count + position];
                    logits[(piece.first_image + image) * reply.classes + class] = phase as f64 * unit;
                }
            }
        }
        Ok(logits)
    }

    /// c0 + c1 s at the positions of the logits, centred modulo `2^bits`.
    ///
    /// The product with the secret is computed modulo q: with c1 centred it stays below N 2^(bits-1) < q/2, so the
    /// integer is exact and can be reduced modulo `2^bits` afterwards.
    fn phases(&self, reply: &Reply, piece: &Piece, packed: PackedPiece<'_>) -> Result<Vec<i64>> {
        let context = self.context();
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let (degree, q) = (context.params().degree(), context.params().ring().modulus(0));
        let polynomials = reply.groups.reply_polynomials(piece, reply.classes);
        let positions = reply.groups.reply_positions(piece);
        let mut words = Zeroizing::new(unpack_rows(packed.masks, polynomials, degree, reply.bits)?);
        words.iter_mut().for_each(|x| *x = q.reduce_signed(centre(*x, reply.bits).into()));
        let mut masks: Poly<B, Coefficient> = context.allocate(context.params().limbs(), polynomials)?;
        backend.upload(queue, &mut masks.view_mut(), &words)?;
        let mut masks: Poly<B, Evaluation> = masks.retag();
        backend.ntt(queue, tables, &mut masks.view_mut(), Input::InPlace)?;
        let mut product = self.times_secret(masks)?;
        backend.download(queue, &product.view(), &mut words)?;
        backend.wipe(queue, product.buffer_mut())?;
        let bodies = unpack_rows(packed.logits, polynomials, positions.count, reply.bits)?;
        let phase = |(row, body): (&[u64], &[u64])| -> Vec<i64> {
            let at =
                |(i, &b): (usize, &u64)| centre(q.centre(row[i]).wrapping_add_unsigned(b) as u64, reply.bits);
            positions.iter().zip(body).map(at).collect()
        };
        Ok(words.chunks_exact(degree).zip(bodies.chunks_exact(positions.count)).flat_map(phase).collect())
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
