//! Features from anywhere: NumPy arrays, CSV tables and foreign safetensors; labels and groups from CSV.

use std::collections::HashMap;
use std::path::Path;

use arras_heads::head::Error as FileError;
use arras_wire::file::read_bounded;
use csv::StringRecord;

use crate::features::{MAX_FILE_BYTES, numbered_names};
use crate::{Error, Features};

mod npy;
mod table;

use table::Table;

/// The formats that [`import`] understands.
///
/// ```
/// use std::path::Path;
/// use arras_fit::import::{Format, from_bytes};
///
/// assert_eq!(Format::of(Path::new("tokens.NPY"))?, Format::Npy);
/// let error = Format::of(Path::new("tokens.txt")).unwrap_err();
/// assert_eq!(error.to_string(), "tokens.txt: extension: not one of .npy, .csv, .safetensors");
///
/// let features = from_bytes("tokens.csv", b"0.5,1.0\n2.0,-1.0\n", Format::Csv)?;
/// assert_eq!((features.rows(), features.dimension, features.names[1].as_str()), (2, 2, "1"));
/// # Ok::<(), arras_fit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// NumPy's `.npy`, versions 1 to 3: one array of `<f2`, `<f4` or `<f8` in C or Fortran order, `[n, D]`, or
    /// `[D]` for a single row.
    Npy,
    /// Comma-separated values, one row per image; see [`from_csv`].
    Csv,
    /// A safetensors container; see [`Features::from_bytes`].
    Safetensors,
}

impl Format {
    /// The format that a file name's extension announces.
    ///
    /// # Errors
    /// Any extension other than npy, csv and safetensors.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("npy") => Ok(Format::Npy),
            Some("csv") => Ok(Format::Csv),
            Some("safetensors") => Ok(Format::Safetensors),
            _ => {
                let file = path.display().to_string();
                Err(FileError::malformed(&file, "extension", "not one of .npy, .csv, .safetensors").into())
            }
        }
    }
}

/// Reads features from a file whose extension announces its format.
///
/// # Errors
/// An unknown extension, a file that is too long or cannot be read, contents that break the format.
pub fn import(path: &Path) -> Result<Features, Error> {
    let format = Format::of(path)?;
    let bytes = read_bounded(path, MAX_FILE_BYTES).map_err(FileError::from)?;
    from_bytes(&path.display().to_string(), &bytes, format)
}

/// Parses features; `file` names the source in errors.
///
/// # Errors
/// Contents that break the format; the message names the line and column, or the field.
pub fn from_bytes(file: &str, bytes: &[u8], format: Format) -> Result<Features, Error> {
    let features = match format {
        Format::Safetensors => return Features::from_bytes(file, bytes),
        Format::Csv => from_csv(file, bytes)?,
        Format::Npy => {
            let array = npy::parse(file, bytes)?;
            let names = numbered_names(array.rows);
            Features { dimension: array.columns, values: array.values, names, ..Features::default() }
        }
    };
    features.check(file)?;
    Ok(features)
}

/// Where the special columns of a table are.
#[derive(Debug, Default, PartialEq)]
struct Layout {
    file: Option<usize>,
    label: Option<usize>,
    group: Option<usize>,
    has_header: bool,
}

impl Layout {
    /// The first row is a header if a cell is called `file`, `label` or `group` or if no cell is a number.
    /// Without a header, a first cell that is no number is the file name and a last one the label.
    fn of(first: &StringRecord) -> Self {
        let named = |name| first.iter().position(|cell| cell.eq_ignore_ascii_case(name));
        let is_number = |cell: &str| cell.parse::<f32>().is_ok();
        let (file, label, group) = (named("file"), named("label"), named("group"));
        let is_named = file.is_some() || label.is_some() || group.is_some();
        if is_named || !first.iter().any(is_number) {
            return Layout { file, label, group, has_header: true };
        }
        let last = first.len().saturating_sub(1);
        Layout {
            file: first.get(0).is_some_and(|cell| !is_number(cell)).then_some(0),
            label: first.get(last).is_some_and(|cell| last > 0 && !is_number(cell)).then_some(last),
            ..Layout::default()
        }
    }

    fn is_feature(&self, column: usize) -> bool {
        ![self.file, self.label, self.group].contains(&Some(column))
    }
}

/// Parses a table with one image per row and one feature per column.
///
/// A header is optional; the columns called `file`, `label` and `group` in it hold texts and every other column
/// a feature. Without a header, a first column that is not a number holds file names and a last column that is
/// not a number holds labels. Rows without file names are called "0", "1", ....
///
/// # Errors
/// A cell that is not a finite number, a row of another length, an empty text; named by line and column,
/// counted from 1.
pub fn from_csv(file: &str, bytes: &[u8]) -> Result<Features, Error> {
    let table = Table { file, bytes };
    let mut rows = table.rows();
    let Some(first) = rows.next().transpose()? else {
        return Err(table.malformed("csv", "the table is empty").into());
    };
    let layout = Layout::of(&first);
    let columns: Vec<usize> = (0..first.len()).filter(|&column| layout.is_feature(column)).collect();
    let mut features = Features { dimension: columns.len(), ..Features::default() };
    let (mut names, mut labels, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut count = 0;
    let width = first.len();
    let first = (!layout.has_header).then_some(Ok(first));
    for row in first.into_iter().chain(rows) {
        let row = row?;
        table.check_width(&row, width)?;
        for &column in &columns {
            features.values.push(table.number(&row, column)?);
        }
        let texts = [(&mut names, layout.file), (&mut labels, layout.label), (&mut groups, layout.group)];
        for (texts, column) in texts {
            if let Some(column) = column {
                texts.push(table.text(&row, column)?);
            }
        }
        count += 1;
    }
    features.names = if layout.file.is_some() { names } else { numbered_names(count) };
    features.labels = layout.label.map(|_| labels);
    features.groups = layout.group.map(|_| groups);
    features.check(file)?;
    Ok(features)
}

/// Reads labels for the rows of `features` from a table: rows `file,label` matched by name (a header decides
/// the order of the columns, others are ignored; names that no feature has are ignored), or a single column
/// with one label per line in the order of the rows, with or without the header `label`.
///
/// # Errors
/// A row of `features` without a label, a file with two, a wrong number of lines, a table that does not parse.
pub fn attach_labels(features: &mut Features, path: &Path) -> Result<(), Error> {
    let bytes = read_bounded(path, MAX_FILE_BYTES).map_err(FileError::from)?;
    features.labels = Some(column_for(&features.names, &path.display().to_string(), &bytes, "label")?);
    Ok(())
}

/// Reads groups (patients) for the rows of `features`: as [`attach_labels`], with the column `group`.
///
/// # Errors
/// As [`attach_labels`].
pub fn attach_groups(features: &mut Features, path: &Path) -> Result<(), Error> {
    let bytes = read_bounded(path, MAX_FILE_BYTES).map_err(FileError::from)?;
    features.groups = Some(column_for(&features.names, &path.display().to_string(), &bytes, "group")?);
    Ok(())
}

/// The texts of the column `column` of a table for each of `names`; see [`attach_labels`] for its two forms.
///
/// # Errors
/// As [`attach_labels`]. `file` names the table in errors.
pub fn column_for(names: &[String], file: &str, bytes: &[u8], column: &str) -> Result<Vec<String>, Error> {
    let table = Table { file, bytes };
    let rows = table.rows().collect::<Result<Vec<_>, _>>()?;
    let Some(first) = rows.first() else {
        return Err(table.malformed(column, "the table is empty").into());
    };
    let position = |name: &str| first.iter().position(|cell| cell.eq_ignore_ascii_case(name));
    if first.len() == 1 {
        let skipped = usize::from(rows.len() == names.len() + 1 && position(column).is_some());
        return Ok(in_order(names, table, &rows[skipped..], column)?);
    }
    let (key, value, skipped) = match (position("file"), position(column)) {
        (Some(key), Some(value)) => (key, value, 1),
        (None, None) if first.len() == 2 => (0, 1, 0),
        _ => {
            let reason = format!("needs the columns file and {column}, or a single one");
            return Err(table.malformed("header", reason).into());
        }
    };
    Ok(by_name(names, table, &rows[skipped..], key, value)?)
}

fn in_order(
    names: &[String],
    table: Table<'_>,
    rows: &[StringRecord],
    column: &str,
) -> Result<Vec<String>, FileError> {
    if rows.len() != names.len() {
        let reason = format!("{} lines for {} rows of features", rows.len(), names.len());
        return Err(table.malformed(column, reason));
    }
    let texts = rows.iter().map(|row| table.check_width(row, 1).and_then(|()| table.text(row, 0)));
    texts.collect()
}

fn by_name(
    names: &[String],
    table: Table<'_>,
    rows: &[StringRecord],
    key: usize,
    value: usize,
) -> Result<Vec<String>, FileError> {
    let mut found: HashMap<String, String> = HashMap::with_capacity(rows.len());
    for row in rows {
        let name = table.text(row, key)?;
        let reason = format!("{name:?} occurs twice");
        if found.insert(name, table.text(row, value)?).is_some() {
            return Err(table.malformed(table.place(row), reason));
        }
    }
    let text_for = |name: &String| {
        let missing = || table.malformed("file", format!("no row for {name:?}"));
        found.get(name).cloned().ok_or_else(missing)
    };
    names.iter().map(text_for).collect()
}

#[cfg(test)]
mod tests;
