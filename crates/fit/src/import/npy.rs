//! NumPy's array format: `\x93NUMPY`, two version bytes, the length of the header, a Python dictionary
//! literal with the keys `descr`, `fortran_order` and `shape`, then the numbers.
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use arras_heads::head::Error;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that is looked at; NumPy's own are padded to at most a few hundred bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// A two-dimensional array in row-major order.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) values: Vec<f32>,
}

/// Parses a whole `.npy` file; a one-dimensional array is a single row.
pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Array, Error> {
    let (header, data) = split(file, bytes)?;
    let malformed = |field: &str, reason: String| Error::malformed(file, field, reason);
    let header = Header::parse(header).map_err(|(field, reason)| malformed(field, reason))?;
    let (rows, columns) = match *header.shape.as_slice() {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => {
            let reason = format!("{} dimensions, not one or two", header.shape.len());
            return Err(malformed("shape", reason));
        }
    };
    let values = match header.descr.as_str() {
        "<f2" => words(data, |word| half::f16::from_le_bytes(word).to_f32()),
        "<f4" => words(data, f32::from_le_bytes),
        "<f8" => words(data, |word| f64::from_le_bytes(word) as f32),
        other => return Err(malformed("descr", format!("{other:?} is not one of '<f2', '<f4', '<f8'"))),
    };
    let values = values.filter(|values| Some(values.len()) == rows.checked_mul(columns));
    let Some(values) = values else {
        let reason =
            format!("{} bytes do not fill {rows} x {columns} numbers of type {}", data.len(), header.descr);
        return Err(malformed("data", reason));
    };
    let values = if header.fortran_order { transpose(&values, rows, columns) } else { values };
    Ok(Array { rows, columns, values })
}

fn split<'a>(file: &str, bytes: &'a [u8]) -> Result<(&'a str, &'a [u8]), Error> {
    let malformed = |field: &str, reason: &str| Error::malformed(file, field, reason);
    let truncated = || malformed("header", "the file ends within it");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| malformed("magic", "not a .npy file"))?;
    let (&[major, _minor], rest) = rest.split_first_chunk().ok_or_else(truncated)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => return Err(malformed("version", "is not 1, 2 or 3")),
    };
    if length > MAX_HEADER_BYTES {
        return Err(malformed("header", "is longer than 65,536 bytes"));
    }
    let (header, data) = rest.split_at_checked(length).ok_or_else(truncated)?;
    let header = std::str::from_utf8(header).map_err(|_| malformed("header", "is not text"))?;
    Ok((header, data))
}

fn words<const SIZE: usize>(data: &[u8], convert: impl Fn([u8; SIZE]) -> f32) -> Option<Vec<f32>> {
    let (words, rest) = data.as_chunks::<SIZE>();
    rest.is_empty().then(|| words.iter().map(|&word| convert(word)).collect())
}

/// Column-major to row-major.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows).flat_map(|row| (0..columns).map(move |column| values[column * rows + row])).collect()
}

struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

type Reason = (&'static str, String);

impl Header {
    /// Reads the dictionary literal, keys in any order, with or without trailing commas.
    fn parse(text: &str) -> Result<Header, Reason> {
        let mut rest = Cursor(text.trim());
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        rest.expect('{')?;
        while !rest.accept('}') {
            let key = rest.quoted()?;
            rest.expect(':')?;
            match key {
                "descr" => descr = Some(rest.descr()?),
                "fortran_order" => fortran_order = Some(rest.boolean()?),
                "shape" => shape = Some(rest.shape()?),
                other => return Err(("header", format!("unknown key {other:?}"))),
            }
            if !rest.accept(',') {
                rest.expect('}')?;
                break;
            }
        }
        let missing = |key: &'static str| (key, "missing from the header".to_owned());
        Ok(Header {
            descr: descr.ok_or_else(|| missing("descr"))?,
            fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }
}

/// What is left of a Python literal.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn accept(&mut self, wanted: char) -> bool {
        match self.0.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), Reason> {
        if self.accept(wanted) {
            return Ok(());
        }
        let found: String = self.0.trim_start().chars().take(12).collect();
        Err(("header", format!("{wanted:?} expected before {found:?}")))
    }

    fn quoted(&mut self) -> Result<&'a str, Reason> {
        let quote = if self.accept('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.expect('\'')?;
        }
        let (text, rest) =
            self.0.split_once(quote).ok_or_else(|| ("header", "a text does not end".to_owned()))?;
        self.0 = rest;
        Ok(text)
    }

    fn descr(&mut self) -> Result<String, Reason> {
        if self.0.trim_start().starts_with('[') {
            return Err(("descr", "a record of several fields is not a table of numbers".to_owned()));
        }
        self.quoted().map(str::to_owned)
    }

    fn boolean(&mut self) -> Result<bool, Reason> {
        let text = self.0.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = text.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err(("fortran_order", "is neither True nor False".to_owned()))
    }

    fn shape(&mut self) -> Result<Vec<usize>, Reason> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            let text = self.0.trim_start();
            let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (length, rest) = text.split_at(digits);
            let reason = || ("shape", "is not a tuple of lengths".to_owned());
            shape.push(length.parse().map_err(|_| reason())?);
            self.0 = rest;
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}
