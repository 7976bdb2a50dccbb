//! The server's computation: logits of encrypted features.

use std::ops::Range;

use arras_ckks::{Context, PublicKey};
use arras_rns::backend::PreparedView;
use arras_rns::{Backend, Coefficient, Evaluation, Input, Poly, Positions};

use crate::intake::Intake;
use crate::layout::{DOT_PIECE, Groups, Layout, Piece};
use crate::preset::Bounds;
use crate::{Budget, Head, Query, Reply, Result, hide};

/// What is the same for all of a query.
struct Job<'q, B: Backend> {
    groups: &'q Groups,
    /// What the head is hidden under, if the preset hides heads.
    key: Option<PublicKey<B>>,
}

/// A linear head on a backend, its weights rounded for one preset and one pair of bounds.
///
/// ```
/// use arras_heads::layout::{Groups, Layout};
/// use arras_heads::{LinearHead, Preset, Query, Reply};
/// # use arras_ckks::Context;
/// # use arras_cpu::Cpu;
/// # use arras_secret::{Cipher, SecretKey};
/// # use arras_heads::{Head, ModelCard};
///
/// # let (weight, bias) = (vec![0.5, -1.0, 0.25, 0.0, 3.0, -0.125], vec![1.0, -0.5]);
/// # let classes = vec!["adenoma".to_owned(), "other".to_owned()];
/// # let head = Head { weight, bias, classes, card: ModelCard::default() };
/// let preset = Preset::named("linear")?;
/// let context = Context::new(Cpu::sequential(), preset.params.clone())?;
/// # let key = SecretKey::generate(&preset.params)?;
/// # let cipher = Cipher::new(&context, &key)?;
/// // The client: two rows of three features.
/// let features = [2.0, 1.0, 4.0, -1.0, 0.5, 0.0];
/// let groups = Groups::new(Layout::Dot, preset.params.degree(), 3, 2)?;
/// let query = cipher.encrypt_features(groups, &features, None)?.to_bytes();
///
/// // The server, which has no key.
/// let server = LinearHead::new(&context, &head, preset.bounds)?;
/// let reply = server.classify(&Query::from_bytes(&query)?)?.to_bytes();
///
/// // The client.
/// let reply = Reply::from_bytes(&reply)?;
/// let logits = cipher.decrypt_logits(&reply)?;
/// let exact = head.logits(&features);
/// assert!(logits.iter().zip(exact).all(|(x, y)| (x - f64::from(y)).abs() <= reply.logit_bound));
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Debug)]
pub struct LinearHead<'c, B: Backend> {
    context: &'c Context<B>,
    intake: Intake<'c, B>,
    budget: Budget,
    dimension: usize,
    classes: usize,
    matrix: B::Matrix,
}

impl<'c, B: Backend> LinearHead<'c, B> {
    /// Rounds the weights and brings them to the backend.
    ///
    /// # Errors
    /// [`Error::Overflow`](crate::Error::Overflow) if the head does not fit,
    /// [`Error::UnknownParameters`](crate::Error::UnknownParameters) if the context is of no preset.
    pub fn new(context: &'c Context<B>, head: &Head, bounds: Bounds) -> Result<Self> {
        let backbone = head.card.fingerprint.clone();
        let intake = Intake::of(context, head.dimension(), backbone, bounds)?;
        let budget = match intake.preset().hides {
            true => Budget::hiding(head, context.params(), bounds)?,
            false => Budget::new(head, context.params(), bounds)?,
        };
        let (classes, dimension) = (head.class_count(), head.dimension());
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let matrix = backend.matrix(queue, tables, classes, dimension, &budget.weights)?;
        Ok(Self { context, intake, budget, dimension, classes, matrix })
    }

    /// The integer weights and the error bound.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Encrypted logits for encrypted features.
    ///
    /// # Errors
    /// What does not belong together: [`Error::Dimension`](crate::Error::Dimension),
    /// [`Error::Bounds`](crate::Error::Bounds), [`Error::Backbone`](crate::Error::Backbone),
    /// [`Error::Preset`](crate::Error::Preset), [`Error::Prepared`](crate::Error::Prepared); or
    /// [`Error::Ckks`](crate::Error::Ckks) if a residue is out of range.
    pub fn classify(&self, query: &Query) -> Result<Reply> {
        self.intake.check(query, &[Layout::Dot, Layout::Transposed])?;
        let hides = self.intake.preset().hides;
        let key = hides.then(|| hide::public_key(self.context, query)).transpose()?;
        let job = Job { groups: &query.groups, key };
        let mut reply = Reply::start(query, self.classes, &self.budget);
        let weights = match query.groups.layout {
            Layout::Dot => Some(self.dot_weights(&query.groups)?),
            _ => None,
        };
        for (piece, packed) in query.pieces() {
            let body = self.intake.unpack(&piece, packed)?;
            let mask = self.intake.mask(query, &piece, self.context.params().limbs())?;
            match &weights {
                Some(weights) => self.dot(&job, &piece, weights, body, mask, &mut reply)?,
                None => {
                    let products = self.transposed(body, mask)?;
                    self.answer(&job, &piece, 0..self.classes, products, reply.push(&piece))?;
                }
            }
        }
        Ok(reply)
    }

    /// The polynomials w(X) of layout dot, one per class.
    fn dot_weights(&self, groups: &Groups) -> Result<B::Prepared> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let (params, degree) = (self.context.params(), groups.degree);
        let limbs = params.limbs();
        let mut words = vec![0; self.classes * limbs.len() * degree];
        let polynomials = words.chunks_exact_mut(limbs.len() * degree);
        for (polynomial, weights) in polynomials.zip(self.budget.weights.chunks_exact(self.dimension)) {
            for (limb, row) in limbs.iter().zip(polynomial.chunks_exact_mut(degree)) {
                for (word, &weight) in row.iter_mut().zip(weights.iter().rev()) {
                    *word = params.ring().modulus(limb).reduce_signed(weight.into());
                }
            }
        }
        let mut poly: Poly<B, Coefficient> = self.context.allocate(limbs, self.classes)?;
        backend.upload(queue, &mut poly.view_mut(), &words)?;
        let mut poly = poly.retag();
        backend.ntt(queue, tables, &mut poly.view_mut(), Input::InPlace)?;
        Ok(backend.prepare(queue, tables, &poly.view())?)
    }

    /// Layout dot: both components times every weight polynomial.
    fn dot(
        &self,
        job: &Job<'_, B>,
        piece: &Piece,
        weights: &B::Prepared,
        body: Poly<B, Coefficient>,
        mask: Poly<B, Evaluation>,
        reply: &mut Reply,
    ) -> Result<()> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let mut body = body.retag();
        backend.ntt(queue, tables, &mut body.view_mut(), Input::InPlace)?;
        // So many classes at a time that the products take no more memory than a full piece does.
        let step = (DOT_PIECE / piece.polynomials).clamp(1, self.classes);
        let (logits, masks) = reply.push(piece);
        let [logit_bytes, mask_bytes] = [logits.len(), masks.len()].map(|bytes| bytes / self.classes * step);
        let rooms = logits.chunks_mut(logit_bytes).zip(masks.chunks_mut(mask_bytes));
        for (first, room) in (0..self.classes).step_by(step).zip(rooms) {
            let classes = first..self.classes.min(first + step);
            let products = |input| self.products(input, weights, classes.clone());
            let components = [products(&body)?, products(&mask)?];
            self.answer(job, piece, classes, components, room)?;
        }
        Ok(())
    }

    /// Polynomials times the weight polynomials of some classes, class by class.
    fn products(
        &self,
        input: &Poly<B, Evaluation>,
        weights: &B::Prepared,
        classes: Range<usize>,
    ) -> Result<Poly<B, Coefficient>> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let mut out: Poly<B, Evaluation> =
            self.context.allocate(input.limbs(), classes.len() * input.batch())?;
        for (at, class) in classes.enumerate() {
            let right = PreparedView { prepared: weights, first: class, term_stride: 0, batch_stride: 0 };
            let mut out = out.view_mut().range(at * input.batch()..(at + 1) * input.batch())?;
            backend.inner_product(queue, tables, &mut out, &[input.view()], right)?;
        }
        let mut out = out.retag();
        backend.intt(queue, tables, &mut out.view_mut(), Input::InPlace)?;
        Ok(out)
    }

    /// The integer matrix times both components; the mask's is transformed back only afterwards, C polynomials instead
    /// of D.
    fn transposed(
        &self,
        body: Poly<B, Coefficient>,
        mask: Poly<B, Evaluation>,
    ) -> Result<[Poly<B, Coefficient>; 2]> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let mut logits = self.context.allocate(body.limbs(), self.classes)?;
        backend.matrix_product(queue, tables, &mut logits.view_mut(), &self.matrix, &body.view())?;
        let mut masks: Poly<B, Evaluation> = self.context.allocate(mask.limbs(), self.classes)?;
        backend.matrix_product(queue, tables, &mut masks.view_mut(), &self.matrix, &mask.view())?;
        let mut masks = masks.retag();
        backend.intt(queue, tables, &mut masks.view_mut(), Input::InPlace)?;
        Ok([logits, masks])
    }

    /// Adds the bias to the products of some classes, hides what has to be hidden, trims and packs.
    fn answer(
        &self,
        job: &Job<'_, B>,
        piece: &Piece,
        classes: Range<usize>,
        [mut logits, masks]: [Poly<B, Coefficient>; 2],
        (logit_bytes, mask_bytes): (&mut [u8], &mut [u8]),
    ) -> Result<()> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let positions = job.groups.reply_positions(piece, self.classes);
        let bias = self.bias(job.groups, piece, &self.budget.bias[classes])?;
        backend.add(queue, tables, &mut logits.view_mut(), Input::InPlace, &bias.view())?;
        let bits = self.budget.reply_bits;
        if let (Some(key), Some(flood_bits)) = (&job.key, self.budget.flood_bits) {
            let components = hide::hide(self.context, key, [logits, masks], flood_bits, positions)?;
            return self.intake.trim(components, bits, positions, (logit_bytes, mask_bytes));
        }
        backend.trim(queue, tables, &logits.view(), bits, positions, logit_bytes)?;
        backend.trim(queue, tables, &masks.view(), bits, Positions::first(job.groups.degree), mask_bytes)?;
        Ok(())
    }

    /// The bias of some classes at the coefficients of their logits.
    fn bias(&self, groups: &Groups, piece: &Piece, bias: &[i128]) -> Result<Poly<B, Coefficient>> {
        let (params, degree) = (self.context.params(), groups.degree);
        let (positions, limbs) = (groups.reply_positions(piece, self.classes), params.limbs());
        let polynomials = groups.reply_polynomials(piece, bias.len());
        let mut words = vec![0; polynomials * limbs.len() * degree];
        for (index, limb) in limbs.iter().enumerate() {
            for (class, &bias) in bias.iter().enumerate() {
                let residue = params.ring().modulus(limb).reduce_signed(bias);
                for image in 0..piece.images {
                    let (polynomial, position) = groups.locate(piece, image, class);
                    let at = positions.first + position * positions.step;
                    words[(polynomial * limbs.len() + index) * degree + at] = residue;
                }
            }
        }
        let mut poly = self.context.allocate(limbs, polynomials)?;
        self.context.backend().upload(self.context.queue(), &mut poly.view_mut(), &words)?;
        Ok(poly)
    }
}
