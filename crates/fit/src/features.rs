//! The file of features: one row of D numbers per image.
//!
//! A `safetensors` container with the tensor `cls` f32 `[n, D]`. The metadata holds, each as JSON, `names`
//! (n file names), `labels` and `groups` (n texts each, optional) and `fingerprint` (the backbone and
//! preprocessing that made the numbers, optional). A container from another tool needs `cls`, or exactly one
//! two-dimensional tensor under any name, in f16, bf16, f32 or f64; its rows are then called "0", "1", ....

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use arras_heads::head::MAX_DIMENSION;
use arras_heads::head::tensors::{Archive, encode};
use arras_wire::file::{Access, read_bounded, write_atomically};

use crate::Error;

/// Largest file of features that is read; checked before anything is allocated.
pub const MAX_FILE_BYTES: u64 = 8 << 30;
/// Longest header: tensor table, names, labels and groups.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

type FileError = arras_heads::head::Error;

/// Features of n images, `[n][D]` row-major, with what is known about each image.
///
/// ```
/// use arras_fit::{Features, import};
///
/// let table = b"file,label,f0,f1\na.png,normal,0.5,1.0\nb.png,tumour,2.0,-1.0\n";
/// let features = import::from_csv("tokens.csv", table)?;
/// assert_eq!((features.rows(), features.dimension), (2, 2));
/// assert_eq!(features.row(1), Some(&[2.0, -1.0][..]));
/// let (classes, class_of_row) = features.classes().ok_or("no labels")?;
/// assert_eq!((classes[1].as_str(), class_of_row), ("tumour", vec![0, 1]));
///
/// let bytes = features.to_bytes("tokens.safetensors")?;
/// assert_eq!(Features::from_bytes("tokens.safetensors", &bytes)?, features);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Features {
    /// Number of features D per row, 1 to 65,536.
    pub dimension: usize,
    /// `[n][D]`, all finite.
    pub values: Vec<f32>,
    /// n distinct names, usually paths relative to the folder of images.
    pub names: Vec<String>,
    /// n class names.
    pub labels: Option<Vec<String>>,
    /// n group names; rows of one group (a patient) are never split between training and validation.
    pub groups: Option<Vec<String>>,
    /// Backbone and preprocessing that made the numbers.
    pub fingerprint: Option<String>,
}

impl Features {
    /// Number of rows n.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.names.len()
    }

    /// The D numbers of a row, or nothing past the end.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<&[f32]> {
        let start = row.checked_mul(self.dimension)?;
        self.values.get(start..start.checked_add(self.dimension)?)
    }

    /// The given rows in the given order; rows past the end are left out.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Features {
        let pick = |texts: &Vec<String>| rows.iter().filter_map(|&row| texts.get(row).cloned()).collect();
        Features {
            dimension: self.dimension,
            values: rows.iter().filter_map(|&row| self.row(row)).flatten().copied().collect(),
            names: pick(&self.names),
            labels: self.labels.as_ref().map(pick),
            groups: self.groups.as_ref().map(pick),
            fingerprint: self.fingerprint.clone(),
        }
    }

    /// The distinct labels, sorted, and the class of each row as an index into them.
    #[must_use]
    pub fn classes(&self) -> Option<(Vec<String>, Vec<usize>)> {
        self.labels.as_deref().map(index_of_each)
    }

    /// The distinct groups, sorted, and the group of each row as an index into them.
    #[must_use]
    pub fn group_indices(&self) -> Option<(Vec<String>, Vec<usize>)> {
        self.groups.as_deref().map(index_of_each)
    }

    /// BLAKE3, in hex, of everything in here: shape, numbers, names, labels, groups, fingerprint. Every text is
    /// preceded by its length and every list by its own, so that different contents never hash alike.
    #[must_use]
    pub fn data_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("arras/1 features");
        let number = |hasher: &mut blake3::Hasher, value: usize| {
            hasher.update(&(value as u64).to_le_bytes());
        };
        number(&mut hasher, self.dimension);
        number(&mut hasher, self.values.len());
        for value in &self.values {
            hasher.update(&value.to_le_bytes());
        }
        let fingerprint = self.fingerprint.clone().map(|text| vec![text]);
        for texts in [Some(&self.names), self.labels.as_ref(), self.groups.as_ref(), fingerprint.as_ref()] {
            let Some(texts) = texts else {
                hasher.update(&[0]);
                continue;
            };
            hasher.update(&[1]);
            number(&mut hasher, texts.len());
            for text in texts {
                number(&mut hasher, text.len());
                hasher.update(text.as_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Parses a container; `file` names the source in errors.
    ///
    /// # Errors
    /// Anything that is not a file of features; a number that is not finite is named by row and column.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let archive = Archive::parse(file, bytes, MAX_HEADER_BYTES)?;
        let (name, rows, dimension) = choose_tensor(&archive)?;
        check_dimension(file, &name, dimension)?;
        let features = Features {
            dimension,
            values: archive.tensor(&name)?.values,
            names: archive.json("names")?.unwrap_or_else(|| numbered_names(rows)),
            labels: archive.json("labels")?,
            groups: archive.json("groups")?,
            fingerprint: archive.json("fingerprint")?,
        };
        features.check(file)?;
        Ok(features)
    }

    /// The container: equal features give equal bytes. `file` names the destination in errors.
    ///
    /// # Errors
    /// Features that break the rules stated at the fields.
    pub fn to_bytes(&self, file: &str) -> Result<Vec<u8>, Error> {
        self.check(file)?;
        let json = |field: &str, text: Result<String, serde_json::Error>| {
            text.map_err(|error| FileError::malformed(file, field, error))
        };
        let mut metadata = BTreeMap::from([("names", json("names", serde_json::to_string(&self.names))?)]);
        for (field, texts) in [("labels", &self.labels), ("groups", &self.groups)] {
            if let Some(texts) = texts {
                metadata.insert(field, json(field, serde_json::to_string(texts))?);
            }
        }
        if let Some(fingerprint) = &self.fingerprint {
            metadata.insert("fingerprint", json("fingerprint", serde_json::to_string(fingerprint))?);
        }
        Ok(encode(file, &[("cls", &[self.rows(), self.dimension], &self.values)], &metadata)?)
    }

    /// Reads a file of features.
    ///
    /// # Errors
    /// See [`Features::from_bytes`]; also a file above [`MAX_FILE_BYTES`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = read_bounded(path, MAX_FILE_BYTES).map_err(FileError::from)?;
        Self::from_bytes(&path.display().to_string(), &bytes)
    }

    /// Writes a file of features, whole or not at all.
    ///
    /// # Errors
    /// See [`Features::to_bytes`]; also what the operating system refuses.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = self.to_bytes(&path.display().to_string())?;
        Ok(write_atomically(path, &bytes, Access::Owner).map_err(FileError::from)?)
    }

    /// Every rule stated at the fields. `file` names the source in errors.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, file: &str) -> Result<(), Error> {
        let malformed = |field: &str, reason: String| Err(FileError::malformed(file, field, reason).into());
        check_dimension(file, "cls", self.dimension)?;
        if self.names.is_empty() {
            return malformed("cls", "no rows".to_owned());
        }
        if Some(self.values.len()) != self.rows().checked_mul(self.dimension) {
            let reason = format!(
                "{} names for {} values in rows of {}",
                self.rows(),
                self.values.len(),
                self.dimension
            );
            return malformed("names", reason);
        }
        for (field, texts) in [("labels", &self.labels), ("groups", &self.groups)] {
            if let Some(texts) = texts.as_ref().filter(|texts| texts.len() != self.rows()) {
                return malformed(field, format!("{} entries for {} rows", texts.len(), self.rows()));
            }
            if let Some(row) = texts.iter().flatten().position(String::is_empty) {
                return malformed(field, format!("row {row} is empty"));
            }
        }
        let mut seen = HashSet::with_capacity(self.rows());
        if let Some(name) = self.names.iter().find(|name| !seen.insert(name.as_str())) {
            return malformed("names", format!("{name:?} occurs twice"));
        }
        self.check_values(file)
    }

    fn check_values(&self, file: &str) -> Result<(), Error> {
        let Some(index) = self.values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let (row, column) = (index / self.dimension, index % self.dimension);
        let reason =
            format!("row {row} ({}), column {column} is {}, not finite", self.names[row], self.values[index]);
        Err(FileError::malformed(file, "cls", reason).into())
    }
}

/// "0", "1", ..., the names of rows that came without any.
pub(crate) fn numbered_names(rows: usize) -> Vec<String> {
    (0..rows).map(|row| row.to_string()).collect()
}

fn check_dimension(file: &str, field: &str, dimension: usize) -> Result<(), FileError> {
    if (1..=MAX_DIMENSION).contains(&dimension) {
        return Ok(());
    }
    Err(FileError::malformed(file, field, format!("{dimension} features per row, not 1 to {MAX_DIMENSION}")))
}

fn choose_tensor(archive: &Archive<'_>) -> Result<(String, usize, usize), FileError> {
    let shapes = archive.shapes();
    if let Some(shape) = shapes.get("cls") {
        return match *shape.as_slice() {
            [rows, dimension] => Ok(("cls".to_owned(), rows, dimension)),
            _ => Err(archive.malformed("cls", format!("shape {shape:?}, not [n, D]"))),
        };
    }
    let mut planar = shapes.iter().filter_map(|(name, shape)| match *shape.as_slice() {
        [rows, dimension] => Some((name.clone(), rows, dimension)),
        _ => None,
    });
    match (planar.next(), planar.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(archive.malformed("cls", "no such tensor, and no other of two dimensions")),
        (Some(_), Some(_)) => {
            Err(archive.malformed("cls", "no such tensor, and several others of two dimensions"))
        }
    }
}

fn index_of_each(texts: &[String]) -> (Vec<String>, Vec<usize>) {
    let distinct: Vec<String> = texts.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
    let position: BTreeMap<&str, usize> = distinct.iter().map(String::as_str).zip(0..).collect();
    let indices = texts.iter().filter_map(|text| position.get(text.as_str()).copied()).collect();
    (distinct, indices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(rows: usize, dimension: usize) -> Features {
        Features {
            dimension,
            values: (0..rows * dimension).map(|index| (index as f32 * 0.37).sin()).collect(),
            names: (0..rows).map(|row| format!("b/tile \"{row}\" é.png")).collect(),
            labels: Some((0..rows).map(|row| format!("class {}", row % 3)).collect()),
            groups: Some((0..rows).map(|row| format!("patient {}", row / 2)).collect()),
            fingerprint: Some("vit \"x\"".to_owned()),
        }
    }

    #[test]
    fn a_round_trip_changes_nothing() {
        for (rows, dimension) in [(1, 1), (7, 3), (100, 768)] {
            let mut features = features(rows, dimension);
            let bytes = features.to_bytes("f").unwrap();
            assert_eq!(Features::from_bytes("f", &bytes).unwrap(), features);
            (features.labels, features.groups, features.fingerprint) = (None, None, None);
            let bytes = features.to_bytes("f").unwrap();
            assert_eq!(Features::from_bytes("f", &bytes).unwrap(), features);
        }
    }

    #[test]
    fn files_are_written_and_read_by_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cls.safetensors");
        features(5, 4).write(&path).unwrap();
        assert_eq!(Features::read(&path).unwrap(), features(5, 4));
        std::fs::write(&path, b"nonsense").unwrap();
        assert!(Features::read(&path).unwrap_err().to_string().contains("cls.safetensors: header"));
    }

    #[test]
    fn the_hash_sees_every_part() {
        let base = features(4, 3);
        let mut hashes = BTreeSet::from([base.data_hash()]);
        let changes: [fn(&mut Features); 7] = [
            |f| f.values[5] += 1.0,
            |f| f.dimension = 6,
            |f| f.names[0].push('x'),
            |f| f.labels = None,
            |f| f.groups.as_mut().unwrap().swap(0, 3),
            |f| f.fingerprint = None,
            |f| std::mem::swap(&mut f.labels, &mut f.groups),
        ];
        for change in changes {
            let mut changed = base.clone();
            change(&mut changed);
            assert!(hashes.insert(changed.data_hash()));
        }
        assert_eq!(base.data_hash(), features(4, 3).data_hash());
    }

    #[test]
    fn labels_become_sorted_classes() {
        let features =
            Features { labels: Some(["b", "a", "b"].map(String::from).to_vec()), ..features(3, 1) };
        assert_eq!(features.classes().unwrap(), (vec!["a".to_owned(), "b".to_owned()], vec![1, 0, 1]));
    }

    #[test]
    fn rows_are_selected_with_all_they_carry() {
        let picked = features(5, 2).select(&[4, 1, 99]);
        assert_eq!(picked.names, [features(5, 2).names[4].clone(), features(5, 2).names[1].clone()]);
        assert_eq!(picked.row(0), features(5, 2).row(4));
        assert_eq!(picked.labels.as_ref().unwrap()[1], "class 1");
        picked.check("f").unwrap();
    }

    #[test]
    fn foreign_containers_need_one_planar_tensor() {
        let name = |tensors: &[(&str, &[usize], &[f32])]| {
            Features::from_bytes("f", &encode("f", tensors, &BTreeMap::new()).unwrap())
        };
        let found = name(&[("a", &[3], &[0.0; 3]), ("emb", &[2, 2], &[1.0, 2.0, 3.0, 4.0])]).unwrap();
        assert_eq!((found.rows(), found.dimension, found.names[1].as_str()), (2, 2, "1"));
        let several = name(&[("a", &[1, 2], &[0.0; 2]), ("b", &[1, 2], &[0.0; 2])]);
        assert!(several.unwrap_err().to_string().contains("several others"));
        assert!(name(&[("a", &[2], &[0.0; 2])]).unwrap_err().to_string().contains("no other"));
        assert!(name(&[("cls", &[2], &[0.0; 2])]).unwrap_err().to_string().contains("shape [2]"));
        assert!(name(&[("cls", &[0, 2], &[])]).unwrap_err().to_string().contains("no rows"));
        assert!(name(&[("cls", &[2, 0], &[])]).unwrap_err().to_string().contains("0 features per row"));
    }

    #[test]
    fn broken_rules_are_named() {
        type Change = fn(&mut Features);
        let cases: [(Change, &str); 6] = [
            (|f| f.values[7] = f32::NAN, "f: cls: row 2 (b/tile \"2\" é.png), column 1 is NaN"),
            (|f| drop(f.names.pop()), "names: 3 names for 12 values"),
            (|f| f.names[3] = f.names[0].clone(), "occurs twice"),
            (|f| drop(f.labels.as_mut().unwrap().pop()), "labels: 3 entries for 4 rows"),
            (|f| f.groups.as_mut().unwrap()[2].clear(), "groups: row 2 is empty"),
            (|f| f.dimension = 0, "0 features per row"),
        ];
        for (change, expected) in cases {
            let mut changed = features(4, 3);
            change(&mut changed);
            let message = changed.to_bytes("f").unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }

    #[test]
    fn no_truncation_or_flipped_bit_panics() {
        let bytes = features(3, 2).to_bytes("f").unwrap();
        for length in 0..bytes.len() {
            assert!(Features::from_bytes("f", &bytes[..length]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            crate::fuzz::fuzz_one(&flipped);
        }
    }
}
