//! Constants and scratch memory of the operations that switch keys.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use arras_rns::backend::Backend;
use arras_rns::{Evaluation, KeySwitchPlan, LimbSet, ModDownPlan, Poly};
use arras_wire::frame::Fingerprint;

use crate::keys::same_parameters;
use crate::{Ciphertext, Context, Error, Result};

/// What the keyed operations of an [`Evaluator`](crate::evaluator::Evaluator) need at each level: conversions between
/// primes, and memory for extended digits. Owned by the caller and made for stated levels and batches; nothing is added to
/// it later. At a level with L primes in d digits and k special primes it holds `(d + 4) (L + k) + 6 L` rows per ciphertext
/// of the batch.
///
/// ```
/// use arras_ckks::evaluator::Evaluator;
/// use arras_ckks::{EvaluationKeys, Workspace};
/// # use arras_ckks::Slots;
/// # use arras_ckks::encoder::SlotEncoder;
/// # use arras_ckks::fft::Complex;
/// # use arras_ckks::{Context, Params, Security, Spec};
/// # use arras_cpu::Cpu;
/// # use arras_secret::{Cipher, SecretKey};
///
/// # let q = arras_rns::prime::ntt_primes(45, 64, 4, &[])?;
/// # let (moduli, special) = (q[1..].to_vec(), vec![q[0]]);
/// # let spec = Spec { degree: 64, moduli, special, digits: 3, scale_bits: 40, security: Security::Unchecked };
/// # let context = Context::new(Cpu::sequential(), Params::insecure(spec)?)?;
/// # let secret = SecretKey::generate(context.params())?;
/// # let cipher = Cipher::new(&context, &secret)?;
/// # let (encoder, scale) = (SlotEncoder::new(64, Slots::GENERATOR)?, context.params().scale());
/// # let numbers: Vec<Complex> = (0..32).map(|j| Complex::new(f64::from(j), 0.0)).collect();
/// # let x = cipher.encrypt(&encoder.encode(&context, &numbers, 32, scale, 2)?)?;
/// let mut workspace = Workspace::new(&context, 1..=2, 4)?;
/// assert_eq!((workspace.levels(), workspace.batch()), (1..=2, 4));
///
/// let evaluator = Evaluator::new(&context);
/// let keys = EvaluationKeys::from_keys(&context, &[cipher.relinearisation_key(2)?])?;
/// // `x` encrypts j in slot j.
/// let square = evaluator.relinearise(&evaluator.square(&x)?, &keys, &mut workspace)?;
/// let square = evaluator.rescale_with(&square, &mut workspace)?;
/// let decrypted = encoder.decode(&context, &cipher.decrypt(&square)?)?;
/// assert!((decrypted[3].re - 9.0).abs() < 1e-6);
/// # Ok::<(), arras_secret::Error>(())
/// ```
#[derive(Debug)]
pub struct Workspace<B: Backend> {
    fingerprint: Fingerprint,
    batch: usize,
    levels: BTreeMap<usize, Space<B>>,
}

/// The part for one level.
#[derive(Debug)]
pub(crate) struct Space<B: Backend> {
    pub(crate) plan: KeySwitchPlan<B>,
    /// Drops the last prime; none at level 0.
    pub(crate) rescale: Option<ModDownPlan<B>>,
    /// What a key switch gives, before an automorphism.
    pub(crate) switched: [Poly<B, Evaluation>; 2],
}

impl<B: Backend> Workspace<B> {
    /// For ciphertexts of every level of `levels`, in batches of up to `batch`.
    ///
    /// # Errors
    /// [`Error::LevelsExhausted`] if there is no such level; [`Error::Count`] if there is none in the range;
    /// [`Error::Ring`] if the parameters have no special primes or memory runs out.
    pub fn new(context: &Context<B>, levels: RangeInclusive<usize>, batch: usize) -> Result<Self> {
        const OPERATION: &str = "workspace";
        let highest = context.params().max_level();
        if levels.is_empty() {
            let expected = "1 or more".into();
            return Err(Error::Count { operation: OPERATION, what: "levels", found: 0, expected });
        }
        if *levels.end() > highest {
            let (needed, level) = (*levels.end(), highest);
            return Err(Error::LevelsExhausted { operation: OPERATION, needed, level });
        }
        let levels = levels.map(|level| Ok((level, Space::new(context, level, batch)?)));
        let fingerprint = context.params().fingerprint();
        Ok(Self { fingerprint, batch, levels: levels.collect::<Result<_>>()? })
    }

    /// The largest batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The levels it serves.
    pub fn levels(&self) -> RangeInclusive<usize> {
        let first = self.levels.first_key_value().map_or(0, |(&level, _)| level);
        first..=self.levels.last_key_value().map_or(0, |(&level, _)| level)
    }

    /// Refuses if one of `levels` is missing.
    pub(crate) fn serves(&self, operation: &'static str, levels: RangeInclusive<usize>) -> Result<()> {
        let (first, last) = self.levels().into_inner();
        match levels.into_iter().find(|level| !self.levels.contains_key(level)) {
            None => Ok(()),
            Some(level) => Err(Error::WorkspaceLevel { operation, first, last, level }),
        }
    }

    /// The part for the level of `a`.
    pub(crate) fn space(
        &mut self,
        operation: &'static str,
        context: &Context<B>,
        a: &Ciphertext<B>,
    ) -> Result<&mut Space<B>> {
        same_parameters(operation, "workspace", self.fingerprint, context.params().fingerprint())?;
        if a.batch() > self.batch {
            let expected = format!("at most {}, that of the workspace", self.batch);
            return Err(Error::Count { operation, what: "batch", found: a.batch(), expected });
        }
        let (level, (first, last)) = (a.level(), self.levels().into_inner());
        self.levels.get_mut(&level).ok_or(Error::WorkspaceLevel { operation, first, last, level })
    }
}

impl<B: Backend> Space<B> {
    fn new(context: &Context<B>, level: usize, batch: usize) -> Result<Self> {
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let params = context.params();
        let (limbs, special) = (params.limbs_at(level), params.special_limbs());
        let drop_last = |level: usize| {
            let (keep, drop) = (params.limbs_at(level - 1), LimbSet::single(level));
            // All components at once.
            ModDownPlan::new(backend, queue, tables, keep, drop, 3 * batch)
        };
        Ok(Self {
            plan: KeySwitchPlan::new(backend, queue, tables, limbs, &params.digit_limbs(), special, batch)?,
            rescale: (level > 0).then(|| drop_last(level)).transpose()?,
            switched: [context.allocate(limbs, batch)?, context.allocate(limbs, batch)?],
        })
    }
}
