//! The record of measured errors, and the table that `docs/precision.md` makes of it.

use serde_json::Value;

/// Where the table starts in `docs/precision.md`.
pub(crate) const BEGIN: &str = "<!-- precision:begin -->";
/// Where it ends.
pub(crate) const END: &str = "<!-- precision:end -->";

fn text<'v>(row: &'v Value, field: &str) -> Result<&'v str, String> {
    row[field].as_str().ok_or_else(|| format!("field '{field}' is missing in {row}"))
}

fn number(row: &Value, field: &str) -> Result<f64, String> {
    row[field].as_f64().ok_or_else(|| format!("field '{field}' is missing in {row}"))
}

/// Holds a row against its prediction: the root mean square within the band, the largest error below the bound.
pub(crate) fn check(row: &Value) -> Result<(), String> {
    let name = format!("{}, {}", text(row, "set")?, text(row, "operation")?);
    let apart = number(row, "measured")? - number(row, "predicted")?;
    let [low, high] = [0, 1].map(|end| row["band"][end].as_f64().unwrap_or(f64::NAN));
    if !(low <= apart && apart <= high) {
        return Err(format!("{name}: {apart:+.2} bits from the prediction, expected {low} to {high}: {row}"));
    }
    if number(row, "worst")? < number(row, "bound")? {
        return Err(format!("{name}: the largest error exceeds its bound: {row}"));
    }
    Ok(())
}

/// Holds a row of agreements against what the reply promised.
pub(crate) fn check_agreement(row: &Value) -> Result<(), String> {
    let name = format!("{}, {}", text(row, "preset")?, text(row, "layout")?);
    if number(row, "worst")? < number(row, "bound")? {
        return Err(format!("{name}: the largest error exceeds its bound: {row}"));
    }
    match number(row, "disagreements")? {
        0.0 => Ok(()),
        found => Err(format!("{name}: {found} classes differ beyond ties")),
    }
}

/// The table of agreements.
fn agreements(record: &Value) -> Result<String, String> {
    let head =
        "| preset | layout | hidden units | images | median | 99 % | worst | bound | ties | disagreements |";
    let mut out =
        format!("\n**Heads against the clear model**\n\n{head}\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for row in record["agreements"].as_array().ok_or("field 'agreements' is missing")? {
        let hidden = row["hidden"].as_u64().map_or("none".into(), |units| units.to_string());
        out += &format!("| {} | {} | {hidden} |", text(row, "preset")?, text(row, "layout")?);
        out += &format!(" {} |", row["images"]);
        for field in ["median", "p99", "worst", "bound"] {
            out += &format!(" {:.2} |", number(row, field)?);
        }
        out += &format!(" {} | {} |\n", row["ties"], row["disagreements"]);
    }
    Ok(out)
}

/// A table for each parameter set.
pub(crate) fn table(record: &Value) -> Result<String, String> {
    let rows = record["rows"].as_array().filter(|rows| !rows.is_empty()).ok_or("there are no rows")?;
    let mut out = String::new();
    let mut last = "";
    for row in rows {
        let set = text(row, "set")?;
        if set != last {
            let head = "| operation | predicted | measured | median | 99 % | worst | bound | errors |";
            out += &format!("\n**{set}**\n\n{head}\n|---|--:|--:|--:|--:|--:|--:|--:|\n");
            last = set;
        }
        out += &format!("| {} |", text(row, "operation")?);
        for field in ["predicted", "measured", "median", "p99", "worst", "bound"] {
            out += &format!(" {:.2} |", number(row, field)?);
        }
        out += &format!(" {} |\n", row["values"]);
    }
    out += &agreements(record)?;
    let commit = text(record, "commit")?;
    Ok(format!("\nCommit {}, {} runs.\n{out}\n", commit.get(..8).unwrap_or(commit), record["runs"]))
}

/// Replaces what stands between the markers.
pub(crate) fn with_table(page: &str, table: &str) -> Result<String, String> {
    let (before, rest) = page.split_once(BEGIN).ok_or_else(|| format!("{BEGIN} is missing"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("{END} is missing"))?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}
