//! The table in the README that is made from the records.

use std::collections::BTreeSet;

use crate::record::{Benchmark, Ratio, Record};
use crate::{Error, Result};

/// Where the table starts in the README.
pub const BEGIN: &str = "<!-- records:begin -->";
/// Where it ends.
pub const END: &str = "<!-- records:end -->";

/// The README's tables: for every machine each headline once, from the newest commit that measured it; then the ratios.
pub fn table(records: &[Record]) -> String {
    let mut newest: Vec<&Record> = records.iter().collect();
    newest.sort_by_key(|record| (&record.machine, std::cmp::Reverse(record.source.committed)));
    let mut tables = Vec::new();
    for records in newest.chunk_by(|a, b| a.machine == b.machine) {
        let (mut shown, mut compared) = (BTreeSet::new(), BTreeSet::new());
        for record in records {
            let fresh = record.benchmarks.iter().filter(|b| b.headline && shown.insert(&b.id));
            let fresh: Vec<&Benchmark> = fresh.collect();
            let alike = fresh.chunk_by(|a, b| (&a.backend, a.threads) == (&b.backend, b.threads));
            tables.extend(alike.map(|alike| {
                let rows: String = alike.iter().map(|benchmark| row(benchmark)).collect();
                heading(record, alike[0]) + &rows
            }));
            let fresh: Vec<&Ratio> = record.ratios.iter().filter(|r| compared.insert(&r.id)).collect();
            if !fresh.is_empty() {
                tables.push(ratio_heading(record) + &fresh.iter().map(|r| ratio_row(r)).collect::<String>());
            }
        }
    }
    tables.join("\n")
}

fn heading(
    Record { machine, source, .. }: &Record,
    Benchmark { backend, threads, .. }: &Benchmark,
) -> String {
    let threads = if *threads == 1 { "one thread".into() } else { format!("{threads} threads") };
    format!(
        "{}, {}, {threads} of {} cores, {backend}, commit {}:\n\n\
         | work | median | per item | 95th percentile | spread |\n|---|--:|--:|--:|--:|\n",
        machine.cpu,
        machine.system,
        machine.cores,
        source.short(8)
    )
}

fn row(Benchmark { what, summary, items, item, .. }: &Benchmark) -> String {
    let per_item = match items {
        1 => String::new(),
        _ => format!("{} per {item}", duration(summary.median / *items as f64)),
    };
    let (median, p95) = (duration(summary.median), duration(summary.p95));
    format!("| {what} | {median} | {per_item} | {p95} | {:.1} % |\n", 100.0 * summary.spread)
}

fn ratio_heading(Record { machine, source, .. }: &Record) -> String {
    format!(
        "{}, {}, commit {}, times of the same rounds divided:\n\n\
         | ratio | median | 95 % interval | target | |\n|---|--:|--:|--:|---|\n",
        machine.cpu,
        machine.system,
        source.short(8)
    )
}

fn ratio_row(ratio: &Ratio) -> String {
    let (sign, met) = (if ratio.at_least { "≥" } else { "≤" }, if ratio.met() { "met" } else { "missed" });
    let [value, low, high] = [ratio.value.value, ratio.value.low, ratio.value.high].map(three_digits);
    format!("| {} | {value} | {low} to {high} | {sign} {} | {met} |\n", ratio.what, ratio.target)
}

/// Three significant digits in the unit that suits.
pub fn duration(nanoseconds: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
    let (size, unit) = units.into_iter().find(|(size, _)| nanoseconds >= *size).unwrap_or((1.0, "ns"));
    format!("{} {unit}", three_digits(nanoseconds / size))
}

/// Three significant digits, but no more than two decimals.
pub fn three_digits(value: f64) -> String {
    let decimals = 2 - value.max(1.0).log10().floor().clamp(0.0, 2.0) as usize;
    format!("{value:.decimals$}")
}

/// Replaces what stands between [`BEGIN`] and [`END`] by a table.
///
/// # Errors
/// If the markers are not there exactly once, in this order.
pub fn with_table(readme: &str, table: &str) -> Result<String> {
    for marker in [BEGIN, END] {
        let count = readme.matches(marker).count();
        if count != 1 {
            return Err(Error::field(marker, format!("occurs {count} times, expected once")));
        }
    }
    let (before, rest) = readme.split_once(BEGIN).unwrap_or_default();
    let (_, after) =
        rest.split_once(END).ok_or_else(|| Error::field(END, format!("stands before {BEGIN}")))?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn durations_have_three_digits() {
        let cases = [
            (0.5, "0.50 ns"),
            (12.34, "12.3 ns"),
            (1500.0, "1.50 µs"),
            (123_456.0, "123 µs"),
            (3.21e9, "3.21 s"),
        ];
        for (nanoseconds, expected) in cases {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    #[test]
    fn the_newest_commit_of_a_machine_is_shown() {
        let mut newer = record('b', 2, &["x", "z"]);
        newer.benchmarks[1].headline = false;
        let text = table(&[record('a', 1, &["x", "y"]), newer]);
        assert_eq!(text.matches("work x").count(), 1);
        assert!(text.contains("| work x | 3.00 ms | 1.50 µs per image | 4.80 ms | 66.7 % |"), "{text}");
        assert!(
            text.starts_with("Some CPU (R) 3, linux x86_64, one thread of 2 cores, cpu, commit bbbbbbbb:"),
            "{text}"
        );
        assert_eq!(
            text.matches("| one by another | 0.50 | 0.40 to 0.60 | ≤ 0.58 | met |").count(),
            1,
            "{text}"
        );
        assert!(!text.contains("work z"), "{text}");
        let older = text.split_once("commit aaaaaaaa,").or(text.split_once("commit aaaaaaaa:")).unwrap().1;
        assert!(older.contains("| work y |") && !older.contains("| work x |"), "{text}");
    }

    #[test]
    fn the_table_replaces_what_stands_between_the_markers() {
        let readme = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let renewed = with_table(&readme, "new\n").unwrap();
        assert_eq!(renewed, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        for bad in ["", BEGIN, END, &format!("{END} {BEGIN}"), &format!("{readme}{END}")] {
            assert!(with_table(bad, "").is_err(), "{bad:?}");
        }
    }
}
