//! Named parameters with the public bounds of the features.

use std::sync::LazyLock;

use arras_ckks::{Params, Security, Spec};
use arras_wire::frame::Fingerprint;

use crate::{Error, Layout, Result};

/// Public bounds that every row of features has to keep. Client and server derive from them that nothing overflows.
///
/// ```
/// use arras_heads::Preset;
///
/// let preset = Preset::named("linear")?;
/// assert_eq!((preset.bounds.x_max, preset.bounds.norm_max), (16.0, 64.0));
/// // Rows of norm 5 and 3: the norm is tightened in steps of 2^(1/2).
/// let bounds = preset.bounds_of(&[3.0, 4.0, 3.0, 0.0], 2)?;
/// assert_eq!(bounds.x_max, 16.0);
/// assert!(bounds.norm_max > 5.0 && bounds.norm_max < 7.1);
///
/// let refused = preset.bounds_of(&[3.0, 4.0, 3.0, 17.0], 2).unwrap_err();
/// assert_eq!(refused.to_string(), "row 1: feature 1 is 17, the preset 'linear' allows 16");
/// # Ok::<(), arras_heads::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// Largest magnitude of a feature.
    pub x_max: f32,
    /// Largest Euclidean norm of a row. A layer-normalised token of 768 features has norm 28 before its learned scale;
    /// the norm bounds logits, and the effect of rounding the weights, far more tightly than `x_max` does.
    pub norm_max: f32,
}

/// A parameter set for encrypted heads, under a name.
///
/// ```
/// use arras_heads::{Layout, Preset};
///
/// let preset = Preset::named(Preset::DEFAULT)?;
/// assert_eq!((preset.params.degree(), preset.layouts), (2048, &[Layout::Dot, Layout::Transposed][..]));
/// // Files name the parameters by their fingerprint.
/// assert_eq!(Preset::of(preset.params.fingerprint())?, preset);
///
/// let refused = Preset::named("linaer").unwrap_err();
/// assert!(refused.to_string().starts_with("preset 'linaer' is unknown; there are linear, linear-wide"));
/// # Ok::<(), arras_heads::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Preset {
    /// The name on the command line.
    pub name: &'static str,
    /// One line about what it is for.
    pub purpose: &'static str,
    /// The parameters. The scale is that of the features. Where nothing is rescaled there is a single prime, or two if one
    /// is too small.
    pub params: Params,
    /// What features have to keep.
    pub bounds: Bounds,
    /// The layouts it is made for.
    pub layouts: &'static [Layout],
    /// Whether queries carry a public key, with which the server hides its head in the replies ([`crate::hide`]).
    pub hides: bool,
}

impl PartialEq for Preset {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A row of the table of presets.
struct Row {
    name: &'static str,
    purpose: &'static str,
    degree: usize,
    moduli: &'static [u64],
    special: &'static [u64],
    scale_bits: u32,
    bounds: Bounds,
    layouts: &'static [Layout],
    hides: bool,
}

const COEFFICIENTS: &[Layout] = &[Layout::Dot, Layout::Transposed];
/// Of layer-normalised tokens.
const NORMALISED: Bounds = Bounds { x_max: 16.0, norm_max: 64.0 };

/// Own primes are c * 2^32 + 1: three instructions fewer per GPU butterfly, and good for any ring degree.
const PRESETS: [Row; 8] = [
    // c = 131070: the largest such prime below 2^49, so that a token of 768 features costs 4704 bytes.
    Row {
        name: "linear",
        purpose: "linear heads on layer-normalised tokens; 4.7 KB per image of 768 features",
        degree: 2048,
        moduli: &[562_941_363_486_721],
        special: &[],
        scale_bits: 20,
        bounds: NORMALISED,
        layouts: COEFFICIENTS,
        hides: false,
    },
    Row {
        name: "linear-wide",
        purpose: "linear heads on features of larger magnitude",
        degree: 2048,
        moduli: &[562_941_363_486_721],
        special: &[],
        scale_bits: 17,
        bounds: Bounds { x_max: 128.0, norm_max: 512.0 },
        layouts: COEFFICIENTS,
        hides: false,
    },
    // c = 15150: the largest such prime below 2^45.89, where AVX-512 IFMA needs no corrections inside the transform.
    Row {
        name: "linear-compact",
        purpose: "the smallest upload, 4.4 KB per image, and the fastest CPU arithmetic; a coarser logit bound",
        degree: 2048,
        moduli: &[65_068_754_534_401],
        special: &[],
        scale_bits: 18,
        bounds: NORMALISED,
        layouts: COEFFICIENTS,
        hides: false,
    },
    // The two largest such primes below 2^50. The scale leaves 2^40 between the noise and what drowns it; 16 times it
    // stays below the 2^62 that are rounded exactly.
    Row {
        name: "linear-hidden",
        purpose: "linear heads that replies do not reveal; 9.6 KB per image",
        degree: 4096,
        moduli: &[1_125_844_072_267_777, 1_125_818_302_464_001],
        special: &[],
        scale_bits: 57,
        bounds: NORMALISED,
        layouts: COEFFICIENTS,
        hides: true,
    },
    Row {
        name: "mlp",
        purpose: "heads with a hidden layer, batches of thousands: 19.2 KB per image in a full one, no keys",
        degree: 4096,
        moduli: &[1_125_844_072_267_777, 1_125_818_302_464_001],
        special: &[],
        scale_bits: 20,
        bounds: NORMALISED,
        layouts: &[Layout::Slots],
        hides: false,
    },
    // A third prime, for 14 bits more in each factor.
    Row {
        name: "mlp-precise",
        purpose: "as mlp, to a tighter logit bound: 28.8 KB per image in a full batch of 4096",
        degree: 8192,
        moduli: &[1_125_844_072_267_777, 1_125_818_302_464_001, 1_125_809_712_529_409],
        special: &[],
        scale_bits: 32,
        bounds: NORMALISED,
        layouts: &[Layout::Slots],
        hides: false,
    },
    // Three levels to divide away and one for the logits: c = 15138, then 406, 405, 403; for 2^45.89 see above. The
    // special prime is the largest of them, c = 15150, as P must not be below a digit.
    Row {
        name: "mlp-rotations",
        purpose: "heads with a hidden layer, single images and small batches; takes evaluation keys",
        degree: 8192,
        moduli: &[65_017_214_926_849, 1_743_756_722_177, 1_739_461_754_881, 1_730_871_820_289],
        special: &[65_068_754_534_401],
        scale_bits: 44,
        bounds: NORMALISED,
        layouts: &[Layout::Rotations],
        hides: false,
    },
    // The largest primes of 60 and 40 bits for this degree.
    Row {
        name: "paper",
        purpose: "the parameters of arXiv 2511.20983, N = 8192 and primes of 60, 40, 40 and 60 bits, to compare with",
        degree: 8192,
        moduli: &[1_152_921_504_606_748_673, 1_099_511_480_321, 1_099_510_890_497],
        special: &[1_152_921_504_606_830_593],
        scale_bits: 40,
        bounds: NORMALISED,
        layouts: &[Layout::Slots, Layout::Rotations],
        hides: false,
    },
];

static ALL: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let presets = PRESETS.iter().filter_map(|row| {
        let spec = Spec {
            degree: row.degree,
            moduli: row.moduli.to_vec(),
            special: row.special.to_vec(),
            digits: if row.special.is_empty() { 1 } else { row.moduli.len() },
            scale_bits: row.scale_bits,
            security: Security::Classical128,
        };
        let &Row { name, purpose, bounds, layouts, hides, .. } = row;
        Some(Preset { name, purpose, params: Params::new(spec).ok()?, bounds, layouts, hides })
    });
    presets.collect()
});

/// How often the bound on the norm may be tightened by a factor of 1.41.
const MAX_STEPS: u32 = 12;

impl Preset {
    /// The name of the preset that is used when none is named.
    pub const DEFAULT: &'static str = "linear";
    /// The name of the preset whose replies hide the head.
    pub const HIDING: &'static str = "linear-hidden";

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

    /// That the preset is made for a layout.
    ///
    /// # Errors
    /// [`Error::Layout`].
    pub fn require(&self, layout: Layout) -> Result<()> {
        if self.layouts.contains(&layout) {
            return Ok(());
        }
        let layouts = self.layouts.iter().map(|layout| layout.name()).collect::<Vec<_>>().join(" and ");
        Err(Error::Layout { layout: layout.name(), preset: self.name, layouts })
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
        Ok(self.bounds_for(largest))
    }

    /// The public bounds of rows that keep those of the preset, the largest of them with this norm: see
    /// [`bounds_of`](Self::bounds_of).
    pub fn bounds_for(&self, largest: f64) -> Bounds {
        let Bounds { x_max, norm_max } = self.bounds;
        let steps = (0..=MAX_STEPS).map(|k| norm_max * 0.5f32.powf(k as f32 / 2.0));
        let tightest = steps.take_while(|&step| f64::from(step) >= largest).last();
        Bounds { x_max, norm_max: tightest.unwrap_or(norm_max) }
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
            let own = preset.name != "paper";
            assert!(
                !own || preset.params.spec().moduli.iter().all(|q| q % (1 << 32) == 1),
                "{}",
                preset.name
            );
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
