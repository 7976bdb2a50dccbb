//! The server's computation that a query asks for.

use arras_ckks::{Context, EvaluationKeys};
use arras_rns::Backend;

use crate::head::Model;
use crate::preset::Bounds;
use crate::rotations::{RotationsPlan, Shape};
use crate::{Error, Layout, LinearHead, Query, Reply, Result, RotationsHead, SlotsHead};

/// A head on a backend, prepared for one layout, preset and pair of bounds.
///
/// ```
/// use arras_heads::{Classifier, Layout, Preset};
/// # use arras_ckks::Context;
/// # use arras_cpu::Cpu;
/// # use arras_heads::{Head, Mlp, Model, ModelCard};
///
/// # let classes = vec!["adenoma".to_owned(), "other".to_owned()];
/// # let output =
/// #     Head { weight: vec![1.0, -0.5, 0.25, 2.0], bias: vec![1.0, -0.5], classes, card: ModelCard::default() };
/// # let model: Model =
/// #     Mlp { weight: vec![0.5, -1.0, 0.25, 0.0, 1.0, -0.125], bias: vec![0.5, -1.0], output }.into();
/// let preset = Preset::named("mlp")?;
/// let context = Context::new(Cpu::sequential(), preset.params.clone())?;
/// // This model has a hidden layer.
/// let server = Classifier::new(&context, &model, Layout::Slots, preset.bounds, None)?;
/// assert!(matches!(server, Classifier::Slots(_)));
///
/// let refused = Classifier::new(&context, &model, Layout::Dot, preset.bounds, None).unwrap_err();
/// assert!(refused.to_string().contains("layout dot serves linear heads only"));
/// # Ok::<(), arras_heads::Error>(())
/// ```
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one for each server")]
pub enum Classifier<'c, B: Backend> {
    /// Layouts dot and transposed.
    Coefficients(LinearHead<'c, B>),
    /// Layout slots.
    Slots(SlotsHead<'c, B>),
    /// Layout rotations.
    Rotations(Box<RotationsHead<'c, B>>),
}

impl<'c, B: Backend> Classifier<'c, B> {
    /// Prepares a head for a layout. Only layout rotations takes `keys`, and leaves those of other layouts unused.
    ///
    /// # Errors
    /// As [`LinearHead::new`], [`SlotsHead::new`] and [`RotationsHead::new`]; [`Error::HiddenLayer`] if the layout serves
    /// linear heads only; [`Error::NoKeys`] if keys are missing.
    pub fn new(
        context: &'c Context<B>,
        model: &Model,
        layout: Layout,
        bounds: Bounds,
        keys: Option<EvaluationKeys<B>>,
    ) -> Result<Self> {
        match (layout, model) {
            (Layout::Dot | Layout::Transposed, Model::Linear(head)) => {
                Ok(Self::Coefficients(LinearHead::new(context, head, bounds)?))
            }
            (Layout::Dot | Layout::Transposed, Model::Mlp(mlp)) => {
                Err(Error::HiddenLayer { layout: layout.name(), hidden: mlp.hidden() })
            }
            (Layout::Slots, _) => Ok(Self::Slots(SlotsHead::new(context, model, bounds)?)),
            (Layout::Rotations, _) => match keys {
                Some(keys) => {
                    Ok(Self::Rotations(Box::new(RotationsHead::new(context, model, bounds, keys)?)))
                }
                None => {
                    let plan = RotationsPlan::new(context.params(), Shape::of(model))?;
                    Err(Error::NoKeys { count: plan.keys()?.len() })
                }
            },
        }
    }

    /// Encrypted logits for encrypted features.
    ///
    /// # Errors
    /// As [`LinearHead::classify`].
    pub fn classify(&self, query: &Query) -> Result<Reply> {
        match self {
            Classifier::Coefficients(head) => head.classify(query),
            Classifier::Slots(head) => head.classify(query),
            Classifier::Rotations(head) => head.classify(query),
        }
    }
}
