//! Named parameters with the public bounds of the features.

use std::sync::LazyLock;

use arras_ckks::{Params, Security, Spec};
use arras_wire::frame::Fingerprint;

use crate::{Error, Result};

/// Public bounds that every row of features has to keep. Client and server derive from them that nothing overflows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// Largest magnitude of a feature.
    pub x_max: f32,
    /// Largest Euclidean norm of a row. A layer-normalised token of 768 features has norm 28 before its learned scale;
    /// the norm bounds logits, and the effect of rounding the weights, far more tightly than `x_max` does.
    pub norm_max: f32,
}

/// A parameter set for encrypted heads, under a name.
#[derive(Clone, Debug)]
pub struct Preset {
    /// The name on the command line.
    pub name: &'static str,
    /// One line about what it is for.
    pub purpose: &'static str,
    /// The parameters: a single prime, since nothing is rescaled. The scale is that of the features.
    pub params: Params,
    /// What features have to keep.
    pub bounds: Bounds,
}

impl PartialEq for Preset {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Primes are c * 2^32 + 1: three instructions fewer per GPU butterfly, and good for any ring degree.
const PRESETS: [(&str, &str, u64, u32, Bounds); 3] = [
    // c = 131070: the largest such prime below 2^49, so that a token of 768 features costs 4704 bytes.
    (
        "linear",
        "linear heads on layer-normalised tokens; 4.7 KB per image of 768 features",
        562_941_363_486_721,
        20,
        Bounds { x_max: 16.0, norm_max: 64.0 },
    ),
    (
        "linear-wide",
        "linear heads on features of larger magnitude",
        562_941_363_486_721,
        17,
        Bounds { x_max: 128.0, norm_max: 512.0 },
    ),
    // c = 15150: the largest such prime below 2^45.89, where AVX-512 IFMA needs no corrections inside the transform.
    (
        "linear-compact",
        "the smallest upload, 4.4 KB per image, and the fastest CPU arithmetic; a coarser logit bound",
        65_068_754_534_401,
        18,
        Bounds { x_max: 16.0, norm_max: 64.0 },
    ),
];

/// The degree of all presets for linear heads.
const DEGREE: usize = 2048;

static ALL: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let presets = PRESETS.iter().filter_map(|&(name, purpose, prime, scale_bits, bounds)| {
        let spec = Spec {
            degree: DEGREE,
            moduli: vec![prime],
            special: Vec::new(),
            digits: 1,
            scale_bits,
            security: Security::Classical128,
        };
        Some(Preset { name, purpose, params: Params::new(spec).ok()?, bounds })
    });
    presets.collect()
});

/// How often the bound on the norm may be tightened by a factor of 1.41.
const MAX_STEPS: u32 = 12;

impl Preset {
    /// The name of the preset that is used when none is named.
    pub const DEFAULT: &'static str = "linear";

    /// All presets.
    pub fn all() -> &'static [Preset] {
        &ALL
    }

    /// The preset of a name.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`], listing the names there are.
    pub fn named(name: &str) -> Result<&'static Preset> {
        ALL.iter().find(|preset| preset.name == name).ok_or_else(|| Error::UnknownPreset {
            name: name.into(),
            known: ALL.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// The preset with parameters of a fingerprint, as found in a file.
    ///
    /// # Errors
    /// [`Error::UnknownParameters`].
    pub fn of(fingerprint: Fingerprint) -> Result<&'static Preset> {
        ALL.iter()
            .find(|preset| preset.params.fingerprint() == fingerprint)
            .ok_or(Error::UnknownParameters { fingerprint })
    }

    /// The public bounds of some rows: the preset's, with the norm tightened to the smallest
    /// `norm_max / 2^(k/2)` that every row keeps. Tighter bounds leave more bits to the weights; what the step reveals
    /// about the rows is the size of the largest, to a factor of 1.41.
    ///
    /// # Errors
    /// [`Error::Bound`] naming the first row that exceeds a bound or holds a number that is not finite and, for a single
    /// feature, its index.
    pub fn bounds_of(&self, features: &[f32], dimension: usize) -> Result<Bounds> {
        let Bounds { x_max, norm_max } = self.bounds;
        let mut largest = 0f64;
        for (row, x) in features.chunks_exact(dimension.max(1)).enumerate() {
            let refuse =
                |what: String, found, limit| Error::Bound { row, what, found, limit, preset: self.name };
            // Written so that a NaN is refused, too.
            if let Some(j) =
                x.iter().position(|x| !matches!(x.abs().partial_cmp(&x_max), Some(o) if o.is_le()))
            {
                return Err(refuse(format!("feature {j}"), x[j], x_max));
            }
            let norm = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            if norm > f64::from(norm_max) {
                return Err(refuse("the norm".into(), norm as f32, norm_max));
            }
            largest = largest.max(norm);
        }
        let steps = (0..=MAX_STEPS).map(|k| norm_max * 0.5f32.powf(k as f32 / 2.0));
        let tightest = steps.take_while(|&step| f64::from(step) >= largest).last();
        Ok(Bounds { x_max, norm_max: tightest.unwrap_or(norm_max) })
    }
}

#[cfg(test)]
mod tests {
    use super::{PRESETS, Preset};
    use crate::Error;

    #[test]
    fn presets_are_valid_and_distinct() {
        assert_eq!(Preset::all().len(), PRESETS.len());
        for preset in Preset::all() {
            assert_eq!(Preset::named(preset.name).unwrap().params, preset.params);
            assert_eq!(Preset::of(preset.params.fingerprint()).unwrap().name, preset.name);
            assert_eq!(preset.params.spec().moduli[0] % (1 << 32), 1, "{}", preset.name);
        }
        assert!(matches!(Preset::named("x"), Err(Error::UnknownPreset { .. })));
    }

    #[test]
    fn norms_are_tightened_in_steps_that_every_row_keeps() {
        let preset = Preset::named("linear").unwrap();
        let bounds = |rows: &[f32]| preset.bounds_of(rows, 4).unwrap();
        for (row, step) in [(16.0, 32.0), (15.9, 32.0), (11.0, 22.6), (10.0, 22.6), (8.0, 16.0), (0.0, 1.0)] {
            let found = bounds(&[row; 4]).norm_max;
            assert!(found >= 2.0 * row && (found - step).abs() < 0.1, "{row}: {found}");
        }
        assert_eq!(bounds(&[1.0, 1.0, 1.0, 1.0, 16.0, 16.0, 16.0, 16.0]).norm_max, 32.0);
        assert_eq!(bounds(&[]).x_max, 16.0);
    }

    #[test]
    fn rows_beyond_a_bound_are_named() {
        let preset = Preset::named("linear").unwrap();
        let mut features = vec![1.0; 6];
        assert!(preset.bounds_of(&features, 3).is_ok());
        for (bad, what) in
            [(16.5, "row 1: feature 1"), (f32::NAN, "row 1: feature 1"), (f32::INFINITY, "row 1")]
        {
            features[4] = bad;
            let error = preset.bounds_of(&features, 3).unwrap_err().to_string();
            assert!(error.starts_with(what), "{error}");
        }
        let error = preset.bounds_of(&[15.0; 32], 32).unwrap_err().to_string();
        assert!(error.starts_with("row 0: the norm is 84.85"), "{error}");
    }
}
