//! The server's computation in layout slots: scalar integer matrices and squares, without any key.
//!
//! Polynomial j holds feature j of up to N/2 images, so a layer is a product of its integer matrix with the polynomials, in
//! whatever domain they are. Squares have three components, and since the second layer is a matrix again, what is left
//! in the end is three components for each class: the client decrypts with the square of its secret, and nothing is
//! relinearised. Nothing is divided away before the logits, which are brought down to one prime and trimmed.

use arras_ckks::evaluator::Evaluator;
use arras_ckks::{Ciphertext, Context};
use arras_rns::{Backend, Coefficient, Evaluation, Input, LimbSet, Poly};

use crate::budget::slots::SlotsBudget;
use crate::head::Model;
use crate::intake::Intake;
use crate::preset::Bounds;
use crate::reply::Scaling;
use crate::{Error, Layout, Query, Reply, Result};

/// A head on a backend, its weights rounded for one preset and one pair of bounds.
///
/// ```
/// use arras_heads::layout::{Groups, Layout};
/// use arras_heads::{Preset, SlotsHead};
/// # use arras_ckks::Context;
/// # use arras_cpu::Cpu;
/// # use arras_secret::{Cipher, SecretKey};
/// # use arras_heads::{Head, Mlp, Model, ModelCard};
///
/// # let classes = vec!["adenoma".to_owned(), "other".to_owned()];
/// # let output =
/// #     Head { weight: vec![1.0, -0.5, 0.25, 2.0], bias: vec![1.0, -0.5], classes, card: ModelCard::default() };
/// # let model: Model =
/// #     Mlp { weight: vec![0.5, -1.0, 0.25, 0.0, 1.0, -0.125], bias: vec![0.5, -1.0], output }.into();
/// let preset = Preset::named("mlp")?;
/// let context = Context::new(Cpu::sequential(), preset.params.clone())?;
/// # let key = SecretKey::generate(&preset.params)?;
/// # let cipher = Cipher::new(&context, &key)?;
/// let features = [2.0, 1.0, 4.0, -1.0, 0.5, 0.0];
/// let groups = Groups::new(Layout::Slots, preset.params.degree(), 3, 2)?;
/// let query = cipher.encrypt_features(groups, &features, None)?;
///
/// // Two hidden units: integer weights of both layers.
/// let server = SlotsHead::new(&context, &model, preset.bounds)?;
/// assert_eq!((server.budget().first.len(), server.budget().second.len()), (2 * 3, 2 * 2));
/// let reply = server.classify(&query)?;
/// assert_eq!(reply.components(), 3); // squares that are not relinearised
///
/// let logits = cipher.decrypt_logits(&reply)?;
/// let exact = model.scores(&features);
/// assert!(logits.iter().zip(exact).all(|(x, y)| (x - y).abs() <= reply.logit_bound));
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Debug)]
pub struct SlotsHead<'c, B: Backend> {
    context: &'c Context<B>,
    intake: Intake<'c, B>,
    budget: SlotsBudget,
    dimension: usize,
    classes: usize,
    first: B::Matrix,
    hidden: Option<Hidden<B>>,
    /// The biases of the classes, as polynomials.
    bias: Poly<B, Evaluation>,
}

/// What a hidden layer adds.
#[derive(Debug)]
struct Hidden<B: Backend> {
    units: usize,
    /// The biases of the units, as polynomials.
    bias: Poly<B, Evaluation>,
    second: B::Matrix,
}

impl<'c, B: Backend> SlotsHead<'c, B> {
    /// Rounds the weights and brings them to the backend.
    ///
    /// # Errors
    /// [`Error::Overflow`] or [`Error::HiddenOverflow`] if the head does not fit, [`Error::UnknownParameters`] if the
    /// context is of no preset, [`Error::Layout`] if the preset has no slots.
    pub fn new(context: &'c Context<B>, model: &Model, bounds: Bounds) -> Result<Self> {
        let intake = Intake::new(context, model, bounds)?;
        intake.preset().require(Layout::Slots)?;
        let budget = SlotsBudget::new(model, context.params(), bounds)?;
        let (classes, dimension) = (model.class_count(), model.dimension());
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let rows = model.hidden().unwrap_or(classes);
        let first = backend.matrix(queue, tables, rows, dimension, &budget.first)?;
        let limbs = context.params().limbs_at(budget.level);
        let hidden = |units| -> Result<_> {
            let bias = constants(context, limbs, &budget.first_bias)?;
            let second = backend.matrix(queue, tables, classes, units, &budget.second)?;
            Ok(Hidden { units, bias, second })
        };
        let hidden = model.hidden().map(hidden).transpose()?;
        let (Model::Linear(last) | Model::Mlp(crate::head::Mlp { output: last, .. })) = model;
        let bias: Vec<i128> =
            last.bias.iter().map(|&b| (f64::from(b) * budget.scale).round_ties_even() as i128).collect();
        let bias = constants(context, context.params().limbs_at(0), &bias)?;
        Ok(Self { context, intake, budget, dimension, classes, first, hidden, bias })
    }

    /// The integer weights and the error bound.
    pub fn budget(&self) -> &SlotsBudget {
        &self.budget
    }

    /// Encrypted logits for encrypted features.
    ///
    /// # Errors
    /// As [`LinearHead::classify`](crate::LinearHead::classify).
    pub fn classify(&self, query: &Query) -> Result<Reply> {
        self.intake.check(query, &[Layout::Slots])?;
        let components = if self.hidden.is_some() { 3 } else { 2 };
        let scaling = Scaling::Slots { scale: self.budget.scale, components };
        let (bits, bound) = (self.budget.reply_bits, self.budget.logit_bound);
        let mut reply = Reply::with(query, self.classes, scaling, bits, bound);
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        for (piece, packed) in query.pieces() {
            // The body comes in coefficients: its product is transformed, a row for every output instead of every feature.
            let body: Poly<B, Coefficient> = self.intake.unpack(&piece, packed)?;
            let mut body = self.first(&body)?.retag();
            backend.ntt(queue, tables, &mut body.view_mut(), Input::InPlace)?;
            let mask = self.intake.mask(query, &piece, self.limbs())?;
            let mask = self.first(&mask)?;
            let logits = self.rest(body, mask)?;
            let positions = query.groups.reply_positions(&piece, self.classes);
            self.intake.trim(logits.components, bits, positions, reply.push(&piece))?;
        }
        Ok(reply)
    }

    /// The computation alone: D ciphertexts of two components at the level of [`budget`](Self::budget) or above, each with
    /// one feature in its slots, to C ciphertexts at level 0 of scale [`SlotsBudget::scale`]. With a hidden layer these
    /// have three components.
    ///
    /// # Errors
    /// [`Error::Dimension`] for another number of ciphertexts; [`Error::Ckks`] if their scale is not that of the preset,
    /// they have other than two components or are at a lower level.
    pub fn apply(&self, features: &Ciphertext<B>) -> Result<Ciphertext<B>> {
        const NAME: &str = "slots";
        if features.batch() != self.dimension {
            return Err(Error::Dimension { head: self.dimension, query: features.batch() });
        }
        let [body, mask] = &features.components[..] else {
            let (found, expected) = (features.components.len(), "2".into());
            return Err(
                arras_ckks::Error::Count { operation: NAME, what: "components", found, expected }.into()
            );
        };
        if features.level() < self.budget.level {
            let (needed, level) = (self.budget.level, features.level());
            return Err(arras_ckks::Error::LevelsExhausted { operation: NAME, needed, level }.into());
        }
        let (left, right) = (features.scale.log2(), self.context.params().scale().log2());
        if left != right {
            return Err(arras_ckks::Error::Scales { operation: NAME, left, right }.into());
        }
        self.rest(self.first(body)?, self.first(mask)?)
    }

    fn limbs(&self) -> LimbSet {
        self.context.params().limbs_at(self.budget.level)
    }

    /// The first matrix times one component.
    fn first<D: arras_rns::Domain>(&self, input: &Poly<B, D>) -> Result<Poly<B, D>> {
        let rows = self.hidden.as_ref().map_or(self.classes, |hidden| hidden.units);
        self.intake.product(&self.first, rows, input, self.limbs())
    }

    /// What comes after the first matrix.
    fn rest(&self, body: Poly<B, Evaluation>, mask: Poly<B, Evaluation>) -> Result<Ciphertext<B>> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let evaluator = Evaluator::new(self.context);
        let [s1, s2] = self.budget.weight_scales;
        let scale = self.context.params().scale() * s1;
        let mut units = Ciphertext { components: vec![body, mask], scale, seed: None };
        if let Some(hidden) = &self.hidden {
            backend.add(
                queue,
                tables,
                &mut units.components[0].view_mut(),
                Input::InPlace,
                &hidden.bias.view(),
            )?;
            let squares = evaluator.square(&units)?;
            drop(units);
            let second = |component: &Poly<B, Evaluation>| {
                self.intake.product(&hidden.second, self.classes, component, self.limbs())
            };
            let components = squares.components.iter().map(second).collect::<Result<_>>()?;
            units = Ciphertext { components, scale: squares.scale * s2, seed: None };
        }
        while units.level() > 0 {
            units = evaluator.rescale(&units)?;
        }
        backend.add(queue, tables, &mut units.components[0].view_mut(), Input::InPlace, &self.bias.view())?;
        Ok(Ciphertext { scale: self.budget.scale, ..units })
    }
}

/// Constant polynomials: the same number in every slot, and at every point of the evaluation domain.
fn constants<B: Backend>(
    context: &Context<B>,
    limbs: LimbSet,
    values: &[i128],
) -> Result<Poly<B, Evaluation>> {
    let (ring, degree) = (context.params().ring(), context.params().degree());
    let residues = values.iter().flat_map(|&value| limbs.iter().map(move |limb| (limb, value)));
    let words: Vec<u64> = residues
        .flat_map(|(limb, value)| std::iter::repeat_n(ring.modulus(limb).reduce_signed(value), degree))
        .collect();
    let mut poly = context.allocate(limbs, values.len())?;
    context.backend().upload(context.queue(), &mut poly.view_mut(), &words)?;
    Ok(poly)
}
