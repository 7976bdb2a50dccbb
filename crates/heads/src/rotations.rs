//! The server's computation in layout rotations: matrices by diagonals, baby and giant steps, and sums by rotations.
//!
//! An image takes W slots' worth of features, I images are interleaved: feature j of image i stands in slot `j I + i`, and
//! a rotation by `r I` turns the features of all of them, cyclically modulo W. A layer of R outputs (rounded up to a power
//! of two) on inputs of period P takes `min(R, P)` diagonals,
//!
//! `p_j = sum_d M[j mod R][(j + d) mod P] x_(j + d)`
//!
//! and, if P > R, the sum of the `P / R` values `p_(j + b R)` (the hybrid of Juvekar, Vaikuntanathan and Chandrakasan,
//! *GAZELLE*, USENIX Security 2018). The result has period R, so it is ready for the next layer. The sum is taken by factors
//! of up to eight, each of which raises digits once for all its rotations.
//!
//! The last layer leaves that sum out. A reply sends `2 R I` coefficients of component 0 and not N, those of powers of
//! `X^(N / 2RI)`. They are a projection: the mean of the automorphisms that fix these powers, which are the rotations by
//! multiples of `R I`. So the coefficients that the client reads of `P / R` times the product are those of the sum, and the
//! sum takes no key and adds no noise.
//!
//! A layer is divided by a prime between the product and the sum, so that the sum works at the lower level.

use std::collections::BTreeMap;

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::evaluator::{BabyGiant, Evaluator, LinearTransform};
use arras_ckks::fft::Complex;
use arras_ckks::keys::RELINEARISATION;
use arras_ckks::{Ciphertext, Context, EvaluationKeys, Params, Plaintext, Slots, Workspace};
use arras_rns::{Backend, Input};

use crate::budget::Norms;
use crate::budget::slots::Layers;
use crate::head::{Head, Model};
use crate::intake::Intake;
use crate::layout::{Groups, ROTATIONS_PIECE};
use crate::noise::Noise;
use crate::preset::Bounds;
use crate::reply::{SLOT_BITS, Scaling};
use crate::{Error, Layout, Query, Reply, Result};

/// Fraction of a modulus that values leave free for errors.
const MARGIN: f64 = 1.0 / 256.0;
/// log2 of the scale of hidden units: high enough for the noise of their sums, low enough that their squares leave thirty
/// bits of the last level to the weights of the second layer.
const HIDDEN_SCALE_BITS: f64 = 43.0;
/// Most bits of a weight scale.
const MAX_WEIGHT_BITS: f64 = 52.0;
/// Below this many bits weights are too coarse to be of use.
const MIN_WEIGHT_BITS: f64 = 10.0;
/// Rotations of a sum that share raised digits are at most one less than 2 to this power.
const MAX_FACTOR_BITS: u32 = 3;
/// What a giant step costs in baby steps: it raises digits of its own.
const GIANT_COST: usize = 4;

/// The numbers of a head that decide on the rotations it takes.
///
/// See the examples of [`RotationsPlan`] and [`Plan`](crate::Plan).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Features D.
    pub dimension: usize,
    /// Hidden units, if there are any.
    pub hidden: Option<usize>,
    /// Classes C.
    pub classes: usize,
}

impl Shape {
    /// That of a head.
    pub fn of(model: &Model) -> Self {
        Self { dimension: model.dimension(), hidden: model.hidden(), classes: model.class_count() }
    }
}

/// How a layer is computed: which diagonals, in which steps, and which sums. It follows from counts alone, so that who
/// makes the keys need not know the weights.
#[derive(Clone, PartialEq, Eq, Debug)]
struct LayerPlan {
    /// Outputs R, rounded up to a power of two.
    rows: usize,
    /// Period P of the inputs.
    period: usize,
    /// Level of the product; sums are one below.
    level: usize,
    steps: BabyGiant,
    /// Baby steps of the product.
    babies: usize,
    /// Terms `P / min(R, P)` of the sum.
    blocks: usize,
    /// Slots from one term to the next, and number of terms, of each factor of the sum; empty in the last layer, whose sum is
    /// taken by who reads it.
    sums: Vec<(usize, usize)>,
}

impl LayerPlan {
    /// The last layer.
    fn last(params: &Params, interleave: usize, outputs: usize, period: usize, level: usize) -> Result<Self> {
        let rows = outputs.next_power_of_two();
        let diagonals = rows.min(period);
        let widths = (0..=diagonals.ilog2()).map(|log| 1usize << log);
        let babies =
            widths.min_by_key(|babies| babies + GIANT_COST * (diagonals / babies)).unwrap_or(1) * interleave;
        let offsets = (0..diagonals).map(|d| (d * interleave) as i64);
        let steps = BabyGiant::new(params.degree() / 2, offsets, Some(babies))?;
        let blocks = period / diagonals;
        Ok(Self { rows, period, level, steps, babies, blocks, sums: Vec::new() })
    }

    /// With a layer to follow, for which values have to repeat with period R.
    fn summed(mut self, interleave: usize) -> Self {
        let mut stride = self.rows * interleave;
        let mut left = self.blocks.ilog2();
        while left > 0 {
            // Factors of nearly the same size.
            let bits = left.div_ceil(left.div_ceil(MAX_FACTOR_BITS));
            self.sums.push((stride, 1 << bits));
            stride <<= bits;
            left -= bits;
        }
        self
    }

    /// Rotations with the level at which each is used.
    fn rotations(&self) -> impl Iterator<Item = (i64, usize)> + '_ {
        let steps = self.steps.rotations().into_iter().map(|rotation| (rotation, self.level));
        let sums = self.sums.iter().flat_map(move |&(stride, terms)| {
            (1..terms).map(move |term| ((term * stride) as i64, self.level.saturating_sub(1)))
        });
        steps.chain(sums)
    }
}

/// How a head of a shape is computed with a parameter set.
///
/// ```
/// use arras_ckks::keys::RELINEARISATION;
/// use arras_heads::{Preset, RotationsPlan, Shape};
///
/// // Who makes the keys need not know the weights: three features, two hidden units, two classes.
/// let preset = Preset::named("mlp-rotations")?;
/// let plan = RotationsPlan::new(&preset.params, Shape { dimension: 3, hidden: Some(2), classes: 2 })?;
/// let keys = plan.keys()?;
/// assert_eq!((plan.level(), keys.get(&RELINEARISATION)), (3, Some(&2)));
/// // A layer less is less work.
/// let linear = RotationsPlan::new(&preset.params, Shape { dimension: 3, hidden: None, classes: 2 })?;
/// assert!(linear.work().transforms < plan.work().transforms);
///
/// let refused = RotationsPlan::new(&preset.params, Shape { dimension: 3, hidden: Some(5), classes: 2 });
/// let refused = refused.unwrap_err().to_string();
/// assert!(refused.starts_with("the number of hidden units is 5, expected 1 to 4"));
/// # Ok::<(), arras_heads::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RotationsPlan {
    degree: usize,
    interleave: usize,
    first: LayerPlan,
    second: Option<LayerPlan>,
}

impl RotationsPlan {
    /// The plan for a shape.
    ///
    /// # Errors
    /// [`Error::Count`] if features, hidden units or classes do not fit the slots of an image;
    /// [`arras_ckks::Error::LevelsExhausted`] if the parameters have too few levels: 1 for a linear head, 3 with a hidden
    /// layer.
    pub fn new(params: &Params, shape: Shape) -> Result<Self> {
        let groups = Groups::new(Layout::Rotations, params.degree(), shape.dimension, 1)?;
        let (width, interleave) = (groups.width(), groups.images_per_polynomial());
        for (what, found) in [
            ("the number of hidden units", shape.hidden.unwrap_or(1)),
            ("the number of classes", shape.classes),
        ] {
            if found == 0 || found > width {
                let expected = format!("1 to {width}, the slots of an image of {} features", shape.dimension);
                return Err(Error::Count { what, found, expected });
            }
        }
        let (needed, level) = (if shape.hidden.is_some() { 3 } else { 1 }, params.max_level());
        if level < needed {
            let operation = "head by rotations";
            return Err(arras_ckks::Error::LevelsExhausted { operation, needed, level }.into());
        }
        let layer = |outputs, period, level| LayerPlan::last(params, interleave, outputs, period, level);
        let (first, second) = match shape.hidden {
            None => (layer(shape.classes, width, needed)?, None),
            Some(hidden) => {
                let first = layer(hidden, width, needed)?.summed(interleave);
                let period = first.rows;
                (first, Some(layer(shape.classes, period, needed - 2)?))
            }
        };
        Ok(Self { degree: params.degree(), interleave, first, second })
    }

    /// The level at which features enter.
    pub fn level(&self) -> usize {
        self.first.level
    }

    /// The evaluation keys it takes: Galois elements, or [`RELINEARISATION`], with the level each is used up to, in
    /// ascending order.
    ///
    /// # Errors
    /// None in practice: rotations are below the number of slots.
    pub fn keys(&self) -> Result<BTreeMap<usize, usize>> {
        let slots = Slots::new(self.degree, Slots::GENERATOR)?;
        let mut keys = BTreeMap::new();
        let layers = std::iter::once(&self.first).chain(&self.second);
        for (rotation, level) in layers.flat_map(LayerPlan::rotations) {
            let known = keys.entry(slots.element(rotation)?).or_insert(level);
            *known = level.max(*known);
        }
        if self.second.is_some() {
            keys.insert(RELINEARISATION, self.first.level - 1);
        }
        Ok(keys)
    }

    /// Number-theoretic transforms of single limbs that one ciphertext takes, and limbs that products with keys and
    /// diagonals, automorphisms included, pass over: what costs are predicted from.
    pub fn work(&self) -> Work {
        let mut work = Work::default();
        for layer in std::iter::once(&self.first).chain(&self.second) {
            work.layer(layer);
        }
        if let Some(second) = &self.second {
            work.switch(self.first.level - 1, 1, 2);
            work.rescale(self.first.level - 1);
            debug_assert_eq!(second.level + 2, self.first.level);
        }
        work
    }
}

/// Counts of work on single limbs, with one special prime and a digit per prime.
///
/// See the example of [`RotationsPlan`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Transforms.
    pub transforms: usize,
    /// Multiplications of a limb and additions to a sum.
    pub products: usize,
}

impl Work {
    /// Raising digits once for `keys` gadget products, and dividing `divided` polynomials.
    fn switch(&mut self, level: usize, keys: usize, divided: usize) {
        let limbs = level + 1;
        self.transforms += limbs * (limbs + 1) + divided * (limbs + 1);
        self.products += keys * 2 * (limbs + 1) * (limbs + 1);
    }

    fn rescale(&mut self, level: usize) {
        self.transforms += 2 * (level + 1);
    }

    fn layer(&mut self, layer: &LayerPlan) {
        let (babies, giants) = (layer.steps.babies().len(), layer.steps.giants().len());
        self.switch(layer.level, babies - 1, 2);
        (1..giants).for_each(|_| self.switch(layer.level, 1, 1));
        self.products += 2 * babies * giants * (layer.level + 2);
        self.rescale(layer.level);
        layer.sums.iter().for_each(|&(_, terms)| self.switch(layer.level - 1, terms - 1, 2));
    }
}

/// A layer on a backend.
#[derive(Debug)]
struct Layer<B: Backend> {
    matrix: LinearTransform<B>,
    /// The rotations of each factor of the sum.
    sums: Vec<Vec<i64>>,
    /// Of the last layer, what stands in for the sum: the number of its terms, modulo every prime.
    factors: Option<Vec<u64>>,
    bias: Plaintext<B>,
}

/// A head on a backend with the keys of one client, for one preset and one pair of bounds.
///
/// ```
/// use arras_ckks::EvaluationKeys;
/// use arras_heads::layout::{Groups, Layout};
/// use arras_heads::{Preset, RotationsHead, RotationsPlan, Shape};
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
/// let preset = Preset::named("mlp-rotations")?;
/// let context = Context::new(Cpu::sequential(), preset.params.clone())?;
/// # let key = SecretKey::generate(&preset.params)?;
/// # let cipher = Cipher::new(&context, &key)?;
/// // The client makes the keys that the plan lists, and encrypts.
/// let mut keys = EvaluationKeys::new(&preset.params);
/// for (element, level) in RotationsPlan::new(&preset.params, Shape::of(&model))?.keys()? {
///     keys.insert(&context, &cipher.evaluation_key(element, level)?)?;
/// }
/// let groups = Groups::new(Layout::Rotations, preset.params.degree(), 3, 1)?;
/// let query = cipher.encrypt_features(groups, &[2.0, 1.0, 4.0], None)?;
///
/// let server = RotationsHead::new(&context, &model, preset.bounds, keys)?;
/// let reply = server.classify(&query)?;
/// assert_eq!(reply.logit_bound, server.budget().logit_bound);
/// let logits = cipher.decrypt_logits(&reply)?;
/// let exact = model.scores(&[2.0, 1.0, 4.0]);
/// assert!(logits.iter().zip(exact).all(|(x, y)| (x - y).abs() <= reply.logit_bound));
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Debug)]
pub struct RotationsHead<'c, B: Backend> {
    context: &'c Context<B>,
    intake: Intake<'c, B>,
    plan: RotationsPlan,
    classes: usize,
    budget: RotationsBudget,
    keys: EvaluationKeys<B>,
    first: Layer<B>,
    second: Option<Layer<B>>,
}

impl<'c, B: Backend> RotationsHead<'c, B> {
    /// Encodes the weights.
    ///
    /// # Errors
    /// As [`RotationsPlan::new`]; [`Error::LevelOverflow`] if the worst-case values do not fit;
    /// [`arras_ckks::Error::MissingGaloisKey`], [`MissingRelinearisationKey`](arras_ckks::Error::MissingRelinearisationKey)
    /// or [`KeyLevel`](arras_ckks::Error::KeyLevel) naming the first key that is not there, or ends at too low a level;
    /// [`arras_ckks::Error::Parameters`] if the keys belong to other parameters.
    pub fn new(
        context: &'c Context<B>,
        model: &Model,
        bounds: Bounds,
        keys: EvaluationKeys<B>,
    ) -> Result<Self> {
        let intake = Intake::new(context, model, bounds)?;
        intake.preset().require(Layout::Rotations)?;
        let params = context.params();
        let plan = RotationsPlan::new(params, Shape::of(model))?;
        keys.require("head by rotations", params, &plan.keys()?)?;
        let budget = RotationsBudget::new(model, params, bounds, &plan)?;
        let encoder = SlotEncoder::new(params.degree(), Slots::GENERATOR)?;
        let layer = |plan: &LayerPlan, weight: &[f32], bias: &[f32], scales: [f64; 2]| {
            let interleave = params.degree() / 2 / model.dimension().next_power_of_two();
            Layer::new(context, &encoder, plan, interleave, weight, bias, scales)
        };
        let (first, second) = match (model, &plan.second) {
            (Model::Mlp(mlp), Some(second)) => (
                layer(&plan.first, &mlp.weight, &mlp.bias, [budget.weight_scales[0], budget.hidden_scale])?,
                Some(layer(
                    second,
                    &mlp.output.weight,
                    &mlp.output.bias,
                    [budget.weight_scales[1], budget.scale],
                )?),
            ),
            (
                Model::Linear(Head { weight, bias, .. }) | Model::Mlp(crate::head::Mlp { weight, bias, .. }),
                _,
            ) => (layer(&plan.first, weight, bias, [budget.weight_scales[0], budget.scale])?, None),
        };
        let classes = model.class_count();
        Ok(Self { context, intake, plan, classes, budget, keys, first, second })
    }

    /// Scales and the error bound.
    pub fn budget(&self) -> &RotationsBudget {
        &self.budget
    }

    /// The rotations and keys.
    pub fn plan(&self) -> &RotationsPlan {
        &self.plan
    }

    /// Constants and scratch memory for [`apply`](Self::apply) on batches of up to `batch` ciphertexts.
    ///
    /// # Errors
    /// A device without memory.
    pub fn workspace(&self, batch: usize) -> Result<Workspace<B>> {
        Ok(Workspace::new(self.context, 0..=self.plan.level(), batch)?)
    }

    /// Encrypted logits for encrypted features.
    ///
    /// # Errors
    /// As [`LinearHead::classify`](crate::LinearHead::classify).
    pub fn classify(&self, query: &Query) -> Result<Reply> {
        self.intake.check(query, &[Layout::Rotations])?;
        let scaling = Scaling::Slots { scale: self.budget.scale, components: 2 };
        let (bits, bound) = (self.budget.reply_bits, self.budget.logit_bound);
        let mut reply = Reply::with(query, self.classes, scaling, bits, bound);
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let pieces: Vec<_> = query.pieces().collect();
        let batch = pieces.iter().map(|(piece, _)| piece.polynomials).max().unwrap_or(1);
        let mut workspace = self.workspace(batch.min(ROTATIONS_PIECE))?;
        for (piece, packed) in pieces {
            let mut body = self.intake.unpack(&piece, packed)?.retag();
            backend.ntt(queue, tables, &mut body.view_mut(), Input::InPlace)?;
            let mask = self.intake.mask(query, &piece, body.limbs())?;
            let scale = self.context.params().scale();
            let features = Ciphertext { components: vec![body, mask], scale, seed: None };
            let logits = self.apply(&features, &mut workspace)?;
            let positions = query.groups.reply_positions(&piece, self.classes);
            self.intake.trim(logits.components, bits, positions, reply.push(&piece))?;
        }
        Ok(reply)
    }

    /// The computation alone: ciphertexts at the level of the plan or above, with the features of interleaved images in
    /// their slots, to as many at level 0. Logit c of image i is the mean of the slots that are multiples of [`Groups::period`]
    /// away from slot `c I + i`, or what that slot holds if only the coefficients at [`Groups::reply_positions`] are read; at
    /// scale [`RotationsBudget::scale`].
    ///
    /// # Errors
    /// [`Error::Ckks`] if the scale is not that of the preset, or as [`Evaluator::transform`].
    pub fn apply(&self, features: &Ciphertext<B>, workspace: &mut Workspace<B>) -> Result<Ciphertext<B>> {
        let evaluator = Evaluator::new(self.context);
        let (left, right) = (features.scale.log2(), self.context.params().scale().log2());
        if left != right {
            return Err(arras_ckks::Error::Scales { operation: "head by rotations", left, right }.into());
        }
        let features = evaluator.drop_to_level(features, self.plan.level())?;
        let units = self.first.apply(self.context, &features, &self.keys, workspace)?;
        let Some(second) = &self.second else { return Ok(units) };
        let squares = evaluator.relinearise(&evaluator.square(&units)?, &self.keys, workspace)?;
        let squares = evaluator.rescale_with(&squares, workspace)?;
        second.apply(self.context, &squares, &self.keys, workspace)
    }
}

impl<B: Backend> Layer<B> {
    fn new(
        context: &Context<B>,
        encoder: &SlotEncoder,
        plan: &LayerPlan,
        interleave: usize,
        weight: &[f32],
        bias: &[f32],
        [weight_scale, scale]: [f64; 2],
    ) -> Result<Self> {
        let (slots, columns) = (encoder.slots(), weight.len() / bias.len().max(1));
        let entry = |row: usize, column: usize| match weight.get(row * columns + column) {
            Some(&w) if column < columns => f64::from(w),
            _ => 0.0,
        };
        let diagonal = |d: usize| {
            let value = |slot: usize| {
                let j = slot / interleave;
                Complex::new(entry(j % plan.rows, (j + d) % plan.period), 0.0)
            };
            ((d * interleave) as i64, (0..slots).map(value).collect())
        };
        let diagonals: BTreeMap<i64, Vec<Complex>> = (0..plan.rows.min(plan.period)).map(diagonal).collect();
        let babies = Some(plan.babies);
        let matrix = LinearTransform::new(context, encoder, &diagonals, weight_scale, plan.level, babies)?;
        let sum = |&(stride, terms): &(usize, usize)| (0..terms).map(|term| (term * stride) as i64).collect();
        let sums = plan.sums.iter().map(sum).collect();
        let (params, limbs) = (context.params(), context.params().limbs_at(plan.level - 1));
        let terms = |limb| params.ring().modulus(limb).reduce(plan.blocks as u128);
        let factors = plan.sums.is_empty().then(|| limbs.iter().map(terms).collect());
        let row = |slot: usize| bias.get(slot / interleave % plan.rows).map_or(0.0, |&b| f64::from(b));
        let values: Vec<_> = (0..slots).map(|slot| Complex::new(row(slot), 0.0)).collect();
        let bias = encoder.encode(context, &values, slots, scale, plan.level - 1)?;
        Ok(Self { matrix, sums, factors, bias })
    }

    fn apply(
        &self,
        context: &Context<B>,
        input: &Ciphertext<B>,
        keys: &EvaluationKeys<B>,
        workspace: &mut Workspace<B>,
    ) -> Result<Ciphertext<B>> {
        let evaluator = Evaluator::new(context);
        let product = evaluator.transform(input, &self.matrix, keys, workspace)?;
        let mut out = evaluator.rescale_with(&product, workspace)?;
        for sum in &self.sums {
            out = evaluator.sum_of_rotations(&out, sum, keys, workspace)?;
        }
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        if let Some(factors) = &self.factors {
            for component in &mut out.components {
                backend.scale_add(queue, tables, &mut component.view_mut(), Input::InPlace, factors, None)?;
            }
        }
        Ok(evaluator.add_plain(&out, &self.bias)?)
    }
}

/// Scales of a head by rotations, and the error that they imply: the sum of crude bounds on every step, hidden
/// units being as large as the bounds of the features allow.
///
/// See the example of [`RotationsHead`].
#[derive(Clone, PartialEq, Debug)]
pub struct RotationsBudget {
    /// Scales of the weights of each layer; 1 for a second one that there is not.
    pub weight_scales: [f64; 2],
    /// Scale of the hidden units.
    pub hidden_scale: f64,
    /// Scale of the logits at level 0.
    pub scale: f64,
    /// Bits that reply coefficients are trimmed to.
    pub reply_bits: u32,
    /// Bound on the error of any logit.
    pub logit_bound: f64,
}

/// What a row of weights can do.
struct Row {
    norms: Norms,
    /// Largest magnitude of its output, bias included.
    size: f64,
}

impl RotationsBudget {
    fn new(model: &Model, params: &Params, bounds: Bounds, plan: &RotationsPlan) -> Result<Self> {
        let budget = Scales { params, bounds, plan, noise: Noise::new(params) };
        match model {
            Model::Linear(head) => {
                budget.linear(&rows(&head.weight, &head.bias, |norms| norms.bound(bounds)))
            }
            Model::Mlp(mlp) => {
                let units = rows(&mlp.weight, &mlp.bias, |norms| norms.bound(bounds));
                let squares: Vec<f64> = units.iter().map(|unit| unit.size * unit.size).collect();
                let (layers, n) = (Layers::exact(mlp), f64::from(bounds.norm_max));
                let sizes = (0..mlp.output.class_count()).map(|class| layers.partial_bound(class, n));
                budget.hidden(&units, &squares, &mlp.output, sizes.fold(0.0, f64::max))
            }
        }
    }
}

fn rows(weight: &[f32], bias: &[f32], bound: impl Fn(&Norms) -> f64) -> Vec<Row> {
    let columns = (weight.len() / bias.len().max(1)).max(1);
    let row = |(weight, &bias): (&[f32], &f32)| {
        let norms = Norms::of(weight.iter().map(|&w| f64::from(w)));
        let size = bound(&norms) + f64::from(bias).abs();
        Row { norms, size }
    };
    weight.chunks_exact(columns).zip(bias).map(row).collect()
}

/// What the scales are chosen from.
struct Scales<'a> {
    params: &'a Params,
    bounds: Bounds,
    plan: &'a RotationsPlan,
    noise: Noise<'a>,
}

impl Scales<'_> {
    fn prime(&self, level: usize) -> f64 {
        self.params.ring().modulus(level).value() as f64
    }

    /// The largest scale at which logits of up to `size` fit level 0, and the weight scale of a layer that gives it.
    fn last(&self, plan: &LayerPlan, size: f64, input_scale: f64) -> Result<[f64; 2]> {
        // A scale beyond the modulus would be refused, however small the logits.
        let size = size.max(1.0);
        let room = self.params.log_modulus(0) - 1.0 + (1.0 - MARGIN).log2();
        let most = MAX_WEIGHT_BITS.exp2() * input_scale / self.prime(plan.level);
        let scale = (room.exp2() / size).min(most);
        let weight_scale = scale * self.prime(plan.level) / input_scale;
        if weight_scale.is_nan() || weight_scale.log2() < MIN_WEIGHT_BITS {
            let (scale, modulus_bits) =
                (MIN_WEIGHT_BITS + (input_scale / self.prime(plan.level)).log2(), self.params.log_modulus(0));
            return Err(Error::LevelOverflow { what: "logits", size, scale, modulus_bits, level: 0 });
        }
        Ok([weight_scale, scale])
    }

    fn linear(&self, rows: &[Row]) -> Result<RotationsBudget> {
        let size = rows.iter().map(|row| row.size).fold(0.0, f64::max);
        let data_scale = self.params.scale();
        let [weight_scale, scale] = self.last(&self.plan.first, size, data_scale)?;
        let fresh = self.noise.fresh() / data_scale;
        let input = f64::from(self.bounds.norm_max);
        let error = rows.iter().map(|row| {
            fresh * row.norms.two
                + self.layer(&self.plan.first, row, input, [data_scale, weight_scale, scale])
        });
        Ok(self.finish([weight_scale, 1.0], scale, scale, error.fold(0.0, f64::max)))
    }

    /// `size` bounds the logits and every sum of some of their terms.
    fn hidden(&self, units: &[Row], squares: &[f64], output: &Head, size: f64) -> Result<RotationsBudget> {
        let Some(second) = &self.plan.second else {
            return Err(Error::Count { what: "the number of layers", found: 1, expected: "2".into() });
        };
        let level = self.plan.first.level - 1;
        let (data_scale, hidden_scale) = (self.params.scale(), HIDDEN_SCALE_BITS.exp2());
        let largest = squares.iter().copied().fold(0.0, f64::max);
        let (scale, modulus_bits) = (2.0 * HIDDEN_SCALE_BITS, self.params.log_modulus(level));
        if largest.is_nan() || largest.log2() + scale > modulus_bits - 2.0 {
            let what = "squares of hidden units";
            return Err(Error::LevelOverflow { what, size: largest, scale, modulus_bits, level });
        }
        let square_scale = hidden_scale * hidden_scale / self.prime(level);
        let [second_scale, scale] = self.last(second, size, square_scale)?;
        let first_scale = hidden_scale * self.prime(self.plan.first.level) / data_scale;
        let fresh = self.noise.fresh() / data_scale;
        let input = f64::from(self.bounds.norm_max);
        // What every square is off by.
        let errors: Vec<f64> = units
            .iter()
            .map(|unit| {
                let scales = [data_scale, first_scale, hidden_scale];
                let error = fresh * unit.norms.two + self.layer(&self.plan.first, unit, input, scales);
                let switched = self.noise.switching(level) / (hidden_scale * hidden_scale);
                (2.0 * unit.size + 2.0 * error) * error + switched + self.noise.rescale() / square_scale
            })
            .collect();
        let input = squares.iter().map(|square| square * square).sum::<f64>().sqrt();
        let error = output.weight.chunks_exact(squares.len().max(1)).map(|weight| {
            let norms = Norms::of(weight.iter().map(|&v| f64::from(v)));
            let carried: f64 = weight.iter().zip(&errors).map(|(&v, error)| f64::from(v).abs() * error).sum();
            carried + self.layer(second, &Row { norms, size }, input, [square_scale, second_scale, scale])
        });
        Ok(self.finish([first_scale, second_scale], hidden_scale, scale, error.fold(0.0, f64::max)))
    }

    /// What a layer adds to an output: encoded weights, baby steps, giant steps, the division, the sums, the bias. `input`
    /// bounds the norm of its inputs.
    fn layer(&self, plan: &LayerPlan, row: &Row, input: f64, [from, weight, to]: [f64; 3]) -> f64 {
        let giants = plan.steps.giants().len() as f64;
        let blocks = plan.blocks as f64;
        let switching = self.noise.switching(plan.level);
        let summing = plan.sums.len() as f64
            * self.noise.switching(plan.level - 1)
            * f64::from(1 << MAX_FACTOR_BITS).sqrt();
        self.noise.encoding() / weight * input
            + switching / from * row.norms.one
            + blocks * (giants + 1.0) * switching / (from * weight)
            + blocks * (self.noise.rescale() + summing) / to
            + self.noise.encoding() / to
    }

    fn finish(&self, weight_scales: [f64; 2], hidden_scale: f64, scale: f64, error: f64) -> RotationsBudget {
        let last = self.plan.second.as_ref().unwrap_or(&self.plan.first);
        let count = (2 * last.rows * self.plan.interleave).min(self.params.degree());
        let rounding = self.noise.rounding(2, count) / scale;
        let q = self.params.log_modulus(0);
        let trim = |bits: u32| rounding * (q - f64::from(bits)).exp2();
        let bits = SLOT_BITS.into_iter().find(|&bits| trim(bits) <= crate::budget::TRIM_SHARE * error);
        let reply_bits = bits.unwrap_or(*SLOT_BITS.end());
        RotationsBudget {
            weight_scales,
            hidden_scale,
            scale,
            reply_bits,
            logit_bound: error + trim(reply_bits),
        }
    }
}
