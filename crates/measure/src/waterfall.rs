//! The whole road, stage by stage: from an image file to decrypted logits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stats::{quantile, sorted};
use crate::{Error, Result};

/// Milliseconds per image that are to be kept: what arXiv 2511.20983 reports from encoding to decryption.
pub const BUDGET_MS: f64 = 66.0;

/// From where to where something is counted. The two are never mixed.
///
/// See the example of [`Waterfall`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// From encoding to decryption: what the paper measured.
    EncodeToDecrypt,
    /// From a decoded image to decrypted logits.
    ImageToLogits,
}

impl Scope {
    /// Both.
    pub const ALL: [Self; 2] = [Self::EncodeToDecrypt, Self::ImageToLogits];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::EncodeToDecrypt => "encode to decrypt",
            Self::ImageToLogits => "decoded image to logits",
        }
    }
}

/// A run of the whole road, many times.
///
/// ```
/// use arras_measure::waterfall::{Once, Scope, Stage, Waterfall};
///
/// // Three rounds of a query of two images; nanoseconds.
/// let stage = |name: &str, scopes: &[Scope], samples: [f64; 3]| -> Stage {
///     // ...
/// #   Stage { name: name.into(), scopes: scopes.to_vec(), samples: samples.to_vec(), missing: None }
/// };
/// let vit = stage("ViT", &[Scope::ImageToLogits], [20e6, 40e6, 30e6]);
/// let encrypt = stage("encrypt", &Scope::ALL, [3e6, 1e6, 2e6]);
/// let road = Waterfall {
///     stages: vec![vit, encrypt],
///     once: vec![Once { name: "secret key".into(), ns: 5e6, bytes: 0 }],
/// #     id: "linear".into(), what: "a road".into(), backend: "cpu".into(), threads: 1,
/// #     parameters: Default::default(),
///     images: 2,
///     // ...
/// };
/// // Sums of each round, then quantiles, in milliseconds.
/// let total = road.total(Scope::ImageToLogits).ok_or("no samples")?;
/// assert_eq!((total.p50, total.over(road.images).p50), (32.0, 16.0));
/// assert_eq!(road.total(Scope::EncodeToDecrypt).map(|found| found.p50), Some(2.0));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waterfall {
    /// Names the same road in every record.
    pub id: String,
    /// The road in words, and what of it is encrypted.
    pub what: String,
    /// Name of the backend of client and server.
    pub backend: String,
    /// Threads of the host.
    pub threads: usize,
    /// Layout, preset, transformer.
    pub parameters: BTreeMap<String, Value>,
    /// Images in a query.
    pub images: u64,
    /// In the order in which an image goes through them.
    pub stages: Vec<Stage>,
    /// What is paid once for all queries.
    pub once: Vec<Once>,
}

/// A stage and how long it took.
///
/// See the example of [`Waterfall`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// What is done.
    pub name: String,
    /// The scopes that it counts in.
    pub scopes: Vec<Scope>,
    /// Nanoseconds for all images of the query, one entry per round.
    pub samples: Vec<f64>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// Something that is done once.
///
/// See the example of [`Waterfall`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Once {
    /// What is done.
    pub name: String,
    /// How long it took.
    pub ns: f64,
    /// Bytes that travel for it.
    pub bytes: u64,
}

/// Quantiles in milliseconds.
///
/// See the example of [`Waterfall`].
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
}

impl Quantiles {
    fn of(samples: &[f64]) -> Option<Self> {
        let sorted = sorted(samples);
        let at = |share| quantile(&sorted, share) / 1e6;
        (!sorted.is_empty()).then(|| Self { p50: at(0.5), p95: at(0.95), p99: at(0.99) })
    }

    /// Each divided by a count.
    pub fn over(self, count: u64) -> Self {
        let share = |ms: f64| ms / count.max(1) as f64;
        Self { p50: share(self.p50), p95: share(self.p95), p99: share(self.p99) }
    }
}

impl Stage {
    /// Milliseconds for the whole query.
    pub fn quantiles(&self) -> Option<Quantiles> {
        Quantiles::of(&self.samples)
    }
}

impl Waterfall {
    /// What no other waterfall of a record shares.
    pub fn key(&self) -> (&str, &str) {
        (&self.id, self.device())
    }

    /// What kind of device did the arithmetic: `cpu` or `cuda`.
    pub fn device(&self) -> &str {
        self.backend.split(' ').next().unwrap_or_default()
    }

    /// Rounds of the whole road.
    pub fn rounds(&self) -> usize {
        self.stages.iter().map(|stage| stage.samples.len()).max().unwrap_or(0)
    }

    /// Milliseconds of a scope for the whole query: sums over the stages of each round, then quantiles.
    pub fn total(&self, scope: Scope) -> Option<Quantiles> {
        let stages = self.stages.iter().filter(|s| s.scopes.contains(&scope) && s.missing.is_none());
        let mut sums = vec![0.0; self.rounds()];
        for stage in stages {
            sums.iter_mut().zip(&stage.samples).for_each(|(sum, sample)| *sum += sample);
        }
        Quantiles::of(&sums)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |field: &str, problem: &str| Err(Error::field(format!("{}: {field}", self.id), problem));
        if self.images == 0 || self.threads == 0 {
            return refuse(if self.images == 0 { "images" } else { "threads" }, "is 0");
        }
        let rounds = self.rounds();
        if rounds == 0 {
            return refuse("stages", "have no samples");
        }
        for stage in &self.stages {
            let expected = if stage.missing.is_some() { 0 } else { rounds };
            if stage.samples.len() != expected {
                return refuse(&stage.name, "has not one sample per round");
            }
            if !stage.samples.iter().all(|x| x.is_finite() && *x >= 0.0) {
                return refuse(&stage.name, "has samples below 0");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn waterfall(backend: &str) -> Waterfall {
        let stage = |name: &str, scopes: &[Scope], samples: &[f64]| Stage {
            name: name.into(),
            scopes: scopes.to_vec(),
            samples: samples.to_vec(),
            missing: samples.is_empty().then(|| "not needed".into()),
        };
        let image = [Scope::ImageToLogits];
        Waterfall {
            id: "linear/layout=dot/images=1".into(),
            what: "a road".into(),
            backend: backend.into(),
            threads: 1,
            parameters: BTreeMap::new(),
            images: 2,
            stages: vec![
                stage("decode", &[], &[9e6, 9e6, 9e6]),
                stage("ViT", &image, &[20e6, 40e6, 30e6]),
                stage("encrypt", &Scope::ALL, &[3e6, 1e6, 2e6]),
                stage("key switch", &Scope::ALL, &[]),
            ],
            once: vec![Once { name: "secret key".into(), ns: 5e6, bytes: 0 }],
        }
    }

    #[test]
    fn scopes_are_not_mixed() {
        let all = waterfall("cpu (x)");
        all.check().unwrap();
        assert_eq!(all.total(Scope::EncodeToDecrypt).unwrap().p50, 2.0);
        // Sums of each round first: 23, 41 and 32.
        let total = all.total(Scope::ImageToLogits).unwrap();
        assert_eq!((total.p50, total.over(2).p50), (32.0, 16.0));
        assert!((total.p99 - 40.82).abs() < 1e-9, "{total:?}");
        assert!(all.stages[3].quantiles().is_none());
        assert_eq!(all.key(), ("linear/layout=dot/images=1", "cpu"));
    }

    #[test]
    fn what_is_missing_has_a_reason() {
        let mut bad = waterfall("cpu (x)");
        bad.stages[3].missing = None;
        assert!(bad.check().unwrap_err().to_string().contains("key switch"));
    }
}
