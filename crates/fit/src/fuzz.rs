use crate::Features;
use crate::features::numbered_names;
use crate::import::{Format, column_for, from_bytes};

/// Feeds arbitrary bytes to every decoder of this crate. Features that are accepted must keep their rules and
/// survive a round trip unchanged.
///
/// # Panics
/// Only if they do not, which is the finding a fuzzer looks for.
pub fn fuzz_one(bytes: &[u8]) {
    for format in [Format::Safetensors, Format::Npy, Format::Csv] {
        let Ok(features) = from_bytes("fuzz", bytes, format) else { continue };
        let again = features.to_bytes("fuzz").and_then(|bytes| Features::from_bytes("fuzz", &bytes));
        assert!(again.is_ok_and(|again| again == features));
    }
    let names = numbered_names(2);
    if let Ok(labels) = column_for(&names, "fuzz", bytes, "label") {
        assert!(labels.len() == 2 && labels.iter().all(|label| !label.is_empty()));
    }
}
