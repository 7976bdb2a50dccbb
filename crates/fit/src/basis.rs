//! Fewer features that keep what varies: principal components of public images.
//!
//! Noise for differential privacy grows with the bound on a row and with the number of features. A row less the mean of public rows,
//! in a few of their principal components, each divided by its standard deviation there, is short and has few entries. The basis has
//! to come from public images: one of the parties' own would itself be a release of them.

use std::collections::BTreeMap;
use std::path::Path;

use arras_heads::head::tensors::{Archive, encode};
use arras_wire::file::{Access, read_bounded, write_atomically};
use faer::{Mat, Side};

use crate::features::{MAX_FILE_BYTES, MAX_HEADER_BYTES};
use crate::{Error, Features};

type FileError = arras_heads::head::Error;

/// Least share of the largest eigenvalue that a kept component has: below, dividing by its root would blow up rounding.
const LEAST_EIGENVALUE: f64 = 1e-9;

/// Most features that a basis is made of: their covariance takes half a gigabyte.
const MOST_FEATURES: usize = 8192;

/// A mean and components: `x -> components (x - mean)`.
///
/// ```
/// use arras_fit::{Basis, import};
///
/// let public = import::from_csv("public.csv", b"f0,f1\n1,5\n3,5.1\n5,4.9\n7,5\n")?;
/// let basis = Basis::of(&public, 1)?;
/// let short = basis.apply(&public)?;
/// assert_eq!((short.rows(), short.dimension), (4, 1));
/// // Standard deviation 1 around 0, in the direction that varies most.
/// let square: f32 = short.values.iter().map(|x| x * x).sum();
/// assert!((square / 4.0 - 1.0).abs() < 1e-5);
/// # Ok::<(), arras_fit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    /// The mean of the public rows, D numbers.
    mean: Vec<f32>,
    /// `[k][D]`, each a principal component over its standard deviation, the largest first.
    components: Vec<f32>,
    /// The fingerprint of the features that it was made from, which it applies to.
    backbone: Option<String>,
}

impl Basis {
    /// The `kept` first principal components of public rows.
    ///
    /// # Errors
    /// D above 8192, more components than D or one less than the rows, components along which nothing varies, an eigendecomposition that does
    /// not converge.
    pub fn of(public: &Features, kept: usize) -> Result<Self, Error> {
        let (rows, dimension) = (public.rows(), public.dimension);
        if dimension > MOST_FEATURES {
            return Err(Error::invalid("features", format!("{dimension} per row, at most {MOST_FEATURES}")));
        }
        let most = dimension.min(rows.saturating_sub(1));
        if kept == 0 || kept > most {
            let reason = format!("{kept} of {dimension} features from {rows} rows: expected 1 to {most}");
            return Err(Error::invalid("dimension", reason));
        }
        let count = rows as f64;
        let at = |row: usize, column: usize| f64::from(public.values[row * dimension + column]);
        let mean: Vec<f64> =
            (0..dimension).map(|column| (0..rows).map(|row| at(row, column)).sum::<f64>() / count).collect();
        let centred = Mat::from_fn(rows, dimension, |row, column| at(row, column) - mean[column]);
        let covariance = centred.transpose() * &centred;
        let found = covariance.self_adjoint_eigen(Side::Lower).map_err(|_| Error::Eigendecomposition)?;
        // Ascending.
        let eigenvalues: Vec<f64> = found.S().column_vector().iter().map(|value| value / count).collect();
        let largest = eigenvalues[dimension - 1];
        let mut components = Vec::with_capacity(kept * dimension);
        for index in (dimension - kept..dimension).rev() {
            if eigenvalues[index] <= LEAST_EIGENVALUE * largest {
                let reason = format!("rows vary along {} directions only", dimension - 1 - index);
                return Err(Error::invalid("dimension", reason));
            }
            let vector = found.U().col(index);
            // The sign is arbitrary: the largest entry is positive.
            let extreme = vector.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            let scale = extreme.signum() / eigenvalues[index].sqrt();
            components.extend(vector.iter().map(|entry| (entry * scale) as f32));
        }
        let mean = mean.into_iter().map(|value| value as f32).collect();
        Ok(Self { mean, components, backbone: public.fingerprint.clone() })
    }

    /// Number of features D that it takes.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.mean.len()
    }

    /// Number of features k that it gives.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.components.len() / self.mean.len().max(1)
    }

    /// What the shortened features are of: BLAKE3, in hex, of the basis with the fingerprint of its features.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("arras/1 basis");
        hasher.update(&(self.mean.len() as u64).to_le_bytes());
        self.mean.iter().chain(&self.components).for_each(|value| {
            hasher.update(&value.to_le_bytes());
        });
        hasher.update(self.backbone.as_deref().unwrap_or_default().as_bytes());
        hasher.finalize().to_hex().to_string()
    }

    /// The rows in this basis, with their names, labels and groups and the [`fingerprint`](Self::fingerprint) of the basis.
    ///
    /// # Errors
    /// Features of another dimension or with another fingerprint than the public ones.
    pub fn apply(&self, features: &Features) -> Result<Features, Error> {
        if features.dimension != self.dimension() {
            let reason = format!("{} per row, the basis takes {}", features.dimension, self.dimension());
            return Err(Error::invalid("features", reason));
        }
        if features.fingerprint != self.backbone {
            let name = |fingerprint: &Option<String>| fingerprint.clone().unwrap_or_else(|| "none".into());
            let (theirs, ours) = (name(&features.fingerprint), name(&self.backbone));
            return Err(Error::invalid(
                "features",
                format!("fingerprint {theirs}, the basis was made of {ours}"),
            ));
        }
        let entry = |row: &[f32], component: &[f32]| {
            let centred = row.iter().zip(&self.mean).map(|(&x, &mean)| f64::from(x) - f64::from(mean));
            centred.zip(component).map(|(x, &c)| x * f64::from(c)).sum::<f64>() as f32
        };
        let components = || self.components.chunks_exact(self.dimension());
        let rows = features.values.chunks_exact(self.dimension());
        let values = rows.flat_map(|row| components().map(move |component| entry(row, component))).collect();
        Ok(Features {
            dimension: self.kept(),
            values,
            names: features.names.clone(),
            labels: features.labels.clone(),
            groups: features.groups.clone(),
            fingerprint: Some(self.fingerprint()),
        })
    }

    /// Parses a container with the tensors `mean` `[D]` and `components` `[k, D]`; `file` names the source in errors.
    ///
    /// # Errors
    /// Anything else, and numbers that are not finite.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let archive = Archive::parse(file, bytes, MAX_HEADER_BYTES)?;
        let (mean, components) = (archive.tensor("mean")?, archive.tensor("components")?);
        let fits = match (mean.shape.as_slice(), components.shape.as_slice()) {
            (&[dimension], &[kept, columns]) => dimension == columns && (1..=dimension).contains(&kept),
            _ => false,
        };
        if !fits {
            let reason = format!("shapes {:?} and {:?}, not [D] and [k, D]", mean.shape, components.shape);
            return Err(archive.malformed("components", reason).into());
        }
        for (name, values) in [("mean", &mean.values), ("components", &components.values)] {
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(archive.malformed(name, format!("number {index} is not finite")).into());
            }
        }
        let backbone = archive.json("fingerprint")?;
        Ok(Self { mean: mean.values, components: components.values, backbone })
    }

    /// The container. `file` names the destination in errors.
    ///
    /// # Errors
    /// None that a basis made here could cause.
    pub fn to_bytes(&self, file: &str) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_string(&self.backbone)
            .map_err(|error| FileError::malformed(file, "fingerprint", error))?;
        let metadata =
            self.backbone.iter().map(|_| ("fingerprint", json.clone())).collect::<BTreeMap<_, _>>();
        let (dimension, kept) = (self.dimension(), self.kept());
        let tensors: [(&str, &[usize], &[f32]); 2] =
            [("mean", &[dimension], &self.mean), ("components", &[kept, dimension], &self.components)];
        Ok(encode(file, &tensors, &metadata)?)
    }

    /// Reads a basis.
    ///
    /// # Errors
    /// See [`from_bytes`](Self::from_bytes); also a file above [`MAX_FILE_BYTES`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = read_bounded(path, MAX_FILE_BYTES).map_err(FileError::from)?;
        Self::from_bytes(&path.display().to_string(), &bytes)
    }

    /// Writes a basis, whole or not at all.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = self.to_bytes(&path.display().to_string())?;
        Ok(write_atomically(path, &bytes, Access::Owner).map_err(FileError::from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows along two directions of five, of standard deviations 3 and 1, around a mean far away.
    fn rows() -> Features {
        let (n, first, second) = (200, [0.6, 0.0, 0.8, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]);
        let angle = |i: usize| i as f64 * std::f64::consts::TAU / n as f64;
        let row = |i: usize| {
            let (a, b) = (3.0 * 2f64.sqrt() * angle(i).cos(), 2f64.sqrt() * angle(i).sin());
            (0..5).map(move |j| (100.0 + a * first[j] + b * second[j]) as f32).collect::<Vec<_>>()
        };
        Features {
            dimension: 5,
            values: (0..n).flat_map(row).collect(),
            names: (0..n).map(|i| i.to_string()).collect(),
            fingerprint: Some("backbone".into()),
            ..Features::default()
        }
    }

    #[test]
    fn components_are_found_and_scaled() -> Result<(), Error> {
        let rows = rows();
        let basis = Basis::of(&rows, 2)?;
        assert_eq!((basis.dimension(), basis.kept()), (5, 2));
        let expected = [0.2, 0.0, 0.8 / 3.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        assert!(basis.components.iter().zip(expected).all(|(x, e)| (f64::from(*x) - e).abs() < 1e-5));
        let short = basis.apply(&rows)?;
        assert_eq!((short.rows(), short.dimension, &short.names), (200, 2, &rows.names));
        assert_eq!(short.fingerprint, Some(basis.fingerprint()));
        let mean_square =
            |c: usize| short.values.iter().skip(c).step_by(2).map(|x| x * x).sum::<f32>() / 200.0;
        assert!((mean_square(0) - 1.0).abs() < 1e-4 && (mean_square(1) - 1.0).abs() < 1e-4);
        Ok(())
    }

    #[test]
    fn files_come_back() -> Result<(), Error> {
        let basis = Basis::of(&rows(), 2)?;
        let bytes = basis.to_bytes("basis")?;
        assert_eq!(Basis::from_bytes("basis", &bytes)?, basis);
        for end in [0, 7, 8, bytes.len() / 2, bytes.len() - 1] {
            assert!(Basis::from_bytes("basis", &bytes[..end]).is_err(), "{end} bytes");
        }
        let other = rows().to_bytes("rows")?;
        let error = Basis::from_bytes("rows", &other).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("rows: mean: no such tensor"));
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<(), Error> {
        let rows = rows();
        let message =
            |result: Result<Basis, Error>| result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message(Basis::of(&rows, 0)).contains("expected 1 to 5"));
        assert!(message(Basis::of(&rows, 6)).contains("expected 1 to 5"));
        assert!(message(Basis::of(&rows, 3)).contains("vary along 2 directions only"));
        assert!(message(Basis::of(&rows.select(&[0, 1]), 2)).contains("expected 1 to 1"));
        let wide = Features {
            dimension: 10_000,
            values: vec![0.0; 20_000],
            names: vec!["a".into(), "b".into()],
            ..rows.clone()
        };
        assert!(message(Basis::of(&wide, 1)).contains("at most 8192"));
        let basis = Basis::of(&rows, 2)?;
        let other = Features { fingerprint: None, ..rows.clone() };
        assert!(basis.apply(&other).is_err_and(|error| error.to_string().contains("fingerprint none")));
        let short = basis.apply(&rows)?;
        assert!(basis.apply(&short).is_err_and(|error| error.to_string().contains("the basis takes 5")));
        Ok(())
    }
}
