//! The record of who released what to whom: a text file, one line per entry, each line hashed together with the one before.
//!
//! A line is `HASH JSON`, where HASH is 64 hexadecimal digits of BLAKE3 (key derivation, context `arras/1 ledger`) of the
//! previous line's hash (32 zero bytes for the first) and the JSON as it stands. A changed, missing, added or reordered line
//! breaks the chain at that line; a cut end shows only to those who know the last hash, which is why parties exchange it.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What happened.
///
/// See the example of [`Ledger`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A roster was pinned: a key epoch began.
    Epoch {
        /// Hash of the roster.
        roster: String,
        /// Number of the epoch.
        epoch: u32,
        /// Names of the members.
        members: Vec<String>,
        /// Name of the receiver.
        receiver: String,
    },
    /// This party's data went into an upload.
    Contributed {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// What is summed.
        purpose: String,
        /// Hash of the data.
        data: String,
        /// Number of rows.
        rows: u64,
    },
    /// A share of a sum was given.
    Released {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// What was summed.
        purpose: String,
        /// Names of those whose uploads are in the sum.
        members: Vec<String>,
        /// Who can read it.
        receiver: String,
        /// Hash of the proposal.
        proposal: String,
        /// zCDP of the noise; absent for an exact sum.
        rho: Option<f64>,
        /// Epsilon of all noisy releases so far; absent where there are none.
        epsilon: Option<f64>,
    },
    /// Something that was asked was refused.
    Refused {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
    /// An attempt came to nothing.
    Failed {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// The receiver published a head.
    Outcome {
        /// The last round.
        round: u32,
        /// BLAKE3 of the head file.
        head: String,
    },
    /// A party is no longer trusted: the next epoch is without it.
    Revoked {
        /// Its name.
        member: String,
    },
}

/// A line.
///
/// See the example of [`Ledger`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 0.
    pub sequence: u64,
    /// Seconds since 1970.
    pub time: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The chain.
///
/// ```
/// use arras_rounds::Ledger;
/// use arras_rounds::ledger::Event;
///
/// let mut ledger = Ledger::default();
/// let mut text = ledger.append(1_700_000_000, Event::Revoked { member: "beta".into() })?;
/// text += &ledger.append(1_700_000_060, Event::Failed { round: 1, attempt: 2, reason: "late".into() })?;
/// assert_eq!(Ledger::verify(&text)?.last(), ledger.last());
/// assert_eq!(ledger.entries()[1].time, 1_700_000_060);
///
/// let error = Ledger::verify(&text.replace("beta", "zeta")).unwrap_err();
/// assert!(error.to_string().contains("line 1"));
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    entries: Vec<Entry>,
    last: [u8; 32],
}

impl Ledger {
    /// Reads a ledger and checks every link.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first line that does not follow from those before.
    pub fn verify(text: &str) -> Result<Self> {
        let mut ledger = Ledger::default();
        for (number, line) in text.lines().enumerate() {
            let broken = |reason: String| Error::invalid(format!("ledger line {}", number + 1), reason);
            let (hash, json) = line.split_once(' ').ok_or_else(|| broken("is not HASH JSON".to_owned()))?;
            let entry: Entry = serde_json::from_str(json).map_err(|error| broken(error.to_string()))?;
            let link = ledger.link(json);
            if hex(&link) != hash {
                return Err(broken("does not follow from the lines before it".to_owned()));
            }
            if entry.sequence != number as u64 {
                return Err(broken(format!("is entry {}", entry.sequence)));
            }
            ledger.last = link;
            ledger.entries.push(entry);
        }
        if !text.is_empty() && !text.ends_with('\n') {
            let line = format!("ledger line {}", ledger.entries.len());
            return Err(Error::invalid(line, "is cut off"));
        }
        Ok(ledger)
    }

    /// Appends an event and returns its line, to be added to the file.
    ///
    /// # Errors
    /// None in practice: entries serialise.
    pub fn append(&mut self, time: u64, event: Event) -> Result<String> {
        let entry = Entry { sequence: self.entries.len() as u64, time, event };
        let json =
            serde_json::to_string(&entry).map_err(|error| Error::invalid("ledger", error.to_string()))?;
        self.last = self.link(&json);
        self.entries.push(entry);
        Ok(format!("{} {json}\n", hex(&self.last)))
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The hash that stands for the whole ledger, in hexadecimal.
    pub fn last(&self) -> String {
        hex(&self.last)
    }

    fn link(&self, json: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("arras/1 ledger");
        hasher.update(&self.last);
        hasher.update(json.as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// In hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (Ledger, String) {
        let mut ledger = Ledger::default();
        let mut text = String::new();
        for attempt in 1..=3 {
            let event = Event::Failed { round: 1, attempt, reason: "a \"deadline\"\nwas missed".to_owned() };
            text += &ledger.append(1000 + u64::from(attempt), event).unwrap();
        }
        (ledger, text)
    }

    #[test]
    fn what_was_written_verifies() {
        let (ledger, text) = ledger();
        assert_eq!(Ledger::verify(&text).unwrap(), ledger);
        assert_eq!(Ledger::verify("").unwrap(), Ledger::default());
    }

    #[test]
    fn every_change_is_found_at_its_line() {
        let (_, text) = ledger();
        let lines: Vec<&str> = text.lines().collect();
        let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let changed = lines[1].replace("1002", "1003");
        for (broken, line) in [
            (joined(&[lines[0], &changed, lines[2]]), "line 2"),
            (joined(&[lines[1], lines[2]]), "line 1"),
            (joined(&[lines[0], lines[2], lines[1]]), "line 2"),
            (joined(&[lines[0], lines[0]]), "line 2"),
            (text[..text.len() - 1].to_owned(), "line 3"),
            (text[..text.len() - 5].to_owned(), "line 3"),
            ("rubbish\n".to_owned(), "line 1"),
        ] {
            let error = Ledger::verify(&broken).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
    }
}
