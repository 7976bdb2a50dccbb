//! Comma-separated cells with errors that name the line and the column, counted from 1.

use arras_heads::head::Error;
use csv::{ReaderBuilder, StringRecord, Trim};

/// The text of a table and the name of its file.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) file: &'a str,
    pub(super) bytes: &'a [u8],
}

impl Table<'_> {
    /// The rows that are not empty, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Result<StringRecord, Error>> {
        let mut reader = ReaderBuilder::new();
        reader.has_headers(false).flexible(true).trim(Trim::All);
        reader
            .from_reader(self.bytes)
            .into_records()
            .map(|row| row.map_err(|error| self.malformed("csv", error)))
    }

    pub(super) fn check_width(&self, row: &StringRecord, width: usize) -> Result<(), Error> {
        if row.len() == width {
            return Ok(());
        }
        Err(self.malformed(self.place(row), format!("{} cells, not {width} as in the first row", row.len())))
    }

    pub(super) fn number(&self, row: &StringRecord, column: usize) -> Result<f32, Error> {
        let cell = row.get(column).unwrap_or_default();
        let reason = match cell.parse::<f32>() {
            Ok(value) if value.is_finite() => return Ok(value),
            Ok(_) => "is not finite in 32 bits",
            Err(_) => "is not a number",
        };
        let shown: String = cell.chars().take(40).collect();
        let place = format!("{}, column {}", self.place(row), column + 1);
        Err(self.malformed(place, format!("{shown:?} {reason}")))
    }

    pub(super) fn text(&self, row: &StringRecord, column: usize) -> Result<String, Error> {
        match row.get(column) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(self.malformed(format!("{}, column {}", self.place(row), column + 1), "is empty")),
        }
    }

    /// "line 7". The reader's own position lies before any empty lines that it skipped on the way to the row.
    pub(super) fn place(&self, row: &StringRecord) -> String {
        let (start, line) = row.position().map_or((0, 0), |position| (position.byte(), position.line()));
        let rest = usize::try_from(start).ok().and_then(|start| self.bytes.get(start..)).unwrap_or_default();
        let skipped = rest.iter().take_while(|byte| b"\r\n".contains(byte));
        format!("line {}", line + skipped.filter(|&&byte| byte == b'\n').count() as u64)
    }

    pub(super) fn malformed(&self, field: impl Into<String>, reason: impl std::fmt::Display) -> Error {
        Error::malformed(self.file, field, reason)
    }
}
