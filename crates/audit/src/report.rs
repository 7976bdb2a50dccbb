//! An audit as a page and as a table in plain text.

use std::fmt::Write as _;

use crate::{Audit, Finding, Picture, Score, Verdict};

/// The columns of scores: name in the document, heading, digits.
const COLUMNS: [(&str, &str, usize); 6] = [
    ("psnr", "PSNR, dB", 2),
    ("ssim_uniform", "SSIM", 3),
    ("nmi_0_1", "NMI", 3),
    ("lpips", "LPIPS", 3),
    ("auc", "AUC", 3),
    ("reid", "re-id", 2),
];
/// Shown in columns of their own, or as another form of one.
const NOT_OTHERS: [&str; 8] =
    ["psnr", "ssim_uniform", "ssim_gaussian", "nmi_0_1", "nmi_1_2", "lpips", "auc", "reid"];

/// The table: one row per finding; scores as `value (advantage)`.
#[must_use]
pub fn text(audit: &Audit) -> String {
    let mut rows = vec![vec!["attack".to_owned(), "what is seen".into(), "protection".into()]];
    rows[0].extend(COLUMNS.map(|(_, heading, _)| heading.to_owned()));
    rows[0].push("verdict".into());
    for finding in &audit.findings {
        let attack = format!("({}) {}", finding.letter, finding.attack.name());
        let mut row = vec![attack, finding.seen.clone(), finding.protection.clone()];
        row.extend(COLUMNS.map(|(name, _, digits)| match finding.scores.get(name) {
            Some(score) => format!("{:.digits$} ({:+.digits$})", score.value, score.advantage),
            None => "-".to_owned(),
        }));
        row.push(finding.verdict.name().to_owned());
        rows.push(row);
    }
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("(in brackets: what the attacker gains over the best guess that ignores the victim)\n");
    text
}

/// The page. Pictures are files beside it; nothing is loaded from elsewhere, no script runs.
#[must_use]
pub fn html(audit: &Audit) -> String {
    let mut page = String::new();
    let rows: String = audit.findings.iter().map(table_row).collect();
    let pictures: String = audit.findings.iter().filter(|f| !f.pictures.is_empty()).map(gallery).collect();
    let headings: String = COLUMNS.iter().map(|(_, heading, _)| format!("<th>{heading}</th>")).collect();
    let notes: String = audit.notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Privacy audit</title><link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head><body>\
         <h1>Privacy audit</h1>\
         <p>Images: {}. Model: {}. Seed {}. {} {}.</p><ul>{notes}</ul>\
         <h2>What each party sees, attacked</h2>\
         <table><thead><tr><th>attack</th><th>what is seen, by whom</th><th>protection</th>{headings}\
         <th>other</th><th>verdict</th></tr></thead><tbody>{rows}</tbody></table>\
         <p class=\"small\">Each score: value, what the best guess that ignores the victim reaches, and the gain with \
         its 95 % interval. Re-id: share of victims whose picture is the nearest of all to the reconstruction.</p>\
         <h2>The 20 dB line</h2>{}\
         <h2>Pictures</h2>{pictures}</body></html>\n",
        escape(&audit.images),
        escape(&audit.model),
        audit.seed,
        escape(&audit.schema),
        escape(&audit.version),
        line(audit),
    );
    page
}

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:120rem;padding:0 1rem;color:#1c1c1c;background:#fff}\
table{border-collapse:collapse;font-size:13px;width:100%}th,td{padding:.35rem .5rem;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}\
th{background:#f4f4f2}td.score{white-space:nowrap;font-variant-numeric:tabular-nums}.base{color:#666}.small{color:#555;font-size:13px}\
.gain{font-weight:600}.verdict{font-weight:600;white-space:nowrap}.recovered,.leaks{color:#a31515}.no-advantage{color:#1c6b33}\
.inconclusive{color:#7a5a00}figure{display:inline-block;margin:.4rem 1.2rem .8rem 0}figcaption{font-size:12px;color:#555}\
figure img{width:128px;height:128px;image-rendering:pixelated;margin-right:4px;border:1px solid #ccc}svg text{font:12px system-ui,sans-serif}";

fn table_row(finding: &Finding) -> String {
    let scores: String = COLUMNS
        .iter()
        .map(|&(name, _, digits)| match finding.scores.get(name) {
            Some(score) => format!("<td class=\"score\">{}</td>", score_cell(score, digits)),
            None => "<td>–</td>".to_owned(),
        })
        .collect();
    let others: String = finding
        .scores
        .iter()
        .filter(|(name, _)| !NOT_OTHERS.contains(&name.as_str()))
        .map(|(name, score)| format!("<div>{}: {}</div>", escape(name), score_cell(score, 3)))
        .collect();
    format!(
        "<tr><td>({}) {}</td><td>{}<br><span class=\"base\">{}</span></td><td>{}</td>{scores}\
         <td class=\"score\">{others}</td><td><span class=\"verdict {}\">{}</span><br>\
         <span class=\"small\">{} {} victims, {:.1} s.</span></td></tr>\n",
        finding.letter,
        finding.attack.name(),
        escape(&finding.seen),
        escape(&finding.party),
        escape(&finding.protection),
        finding.verdict.name(),
        words(finding.verdict),
        escape(&finding.text),
        finding.victims,
        finding.seconds,
    )
}

const fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Recovered => "recovered",
        Verdict::Leaks => "leaks",
        Verdict::NoAdvantage => "no advantage",
        Verdict::Inconclusive => "inconclusive",
    }
}

fn score_cell(score: &Score, digits: usize) -> String {
    let [low, high] = score.interval_95;
    let class = if score.gains() { " class=\"gain\"" } else { "" };
    format!(
        "{:.digits$}<br><span class=\"base\">guess {:.digits$}</span><br><span{class}>{:+.digits$}</span> \
         <span class=\"base\">[{low:+.digits$}, {high:+.digits$}]</span>",
        score.value, score.baseline, score.advantage
    )
}

fn gallery(finding: &Finding) -> String {
    let figures: String = finding.pictures.iter().map(figure).collect();
    format!(
        "<h3>({}) {}: {}, protection {}</h3>{figures}\n",
        finding.letter,
        finding.attack.name(),
        escape(&finding.seen),
        escape(&finding.protection)
    )
}

fn figure(picture: &Picture) -> String {
    let image = |path: &std::path::Path, what: &str| {
        format!("<img src=\"{}\" alt=\"{what}\">", escape(&path.to_string_lossy()))
    };
    format!(
        "<figure>{}{}{}<figcaption>original, guess that ignores it, reconstruction</figcaption></figure>",
        image(&picture.original, "original"),
        image(&picture.guess, "guess"),
        image(&picture.reconstruction, "reconstruction"),
    )
}

/// PSNR of every row and of its guess on one axis, with the line at 20 dB that the literature draws.
fn line(audit: &Audit) -> String {
    let rows: Vec<(&Finding, &Score)> =
        audit.findings.iter().filter_map(|finding| Some((finding, finding.scores.get("psnr")?))).collect();
    let (left, step, top) = (330.0, 20.0, 30.0);
    let x = |decibels: f64| left + 9.0 * decibels.clamp(0.0, 70.0);
    let height = top + step * rows.len() as f64 + 30.0;
    let mut marks = String::new();
    for (index, (finding, score)) in rows.iter().enumerate() {
        let y = top + step * (index as f64 + 0.5);
        let label = format!("({}) {}; {}", finding.letter, finding.seen, finding.protection);
        let _ = write!(
            marks,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
             <circle cx=\"{:.1}\" cy=\"{y:.0}\" r=\"4\" fill=\"none\" stroke=\"#666\"/>\
             <circle cx=\"{:.1}\" cy=\"{y:.0}\" r=\"4\" fill=\"{}\"/>",
            left - 8.0,
            y + 4.0,
            escape(&label),
            x(score.baseline),
            x(score.value),
            if score.gains() { "#a31515" } else { "#1c6b33" },
        );
    }
    for decibels in [0.0, 20.0, 40.0, 60.0] {
        let _ = write!(marks, "<text x=\"{:.0}\" y=\"20\">{decibels:.0} dB</text>", x(decibels) - 12.0);
    }
    let above = rows.iter().filter(|(_, score)| score.baseline >= 20.0).count();
    let below = rows.iter().filter(|(_, score)| score.gains() && score.value < 20.0).count();
    let best = rows.iter().map(|(_, score)| score.baseline).fold(f64::NEG_INFINITY, f64::max);
    let caption = match rows.is_empty() {
        true => "No row has a PSNR.".to_owned(),
        false => format!(
            "Filled: reconstruction (red: better than guessing). Empty: the best guess that ignores the victim. Below 20 dB \
             is often called protected; the line does not discriminate: guesses alone reach up to {best:.1} dB ({above} \
             of {} rows lie above the line without any attack), and {below} rows that gain over guessing lie below it. \
             Values above 70 dB are drawn there.",
            rows.len()
        ),
    };
    format!(
        "<p>{caption}</p><svg width=\"1000\" height=\"{height:.0}\" role=\"img\" aria-label=\"PSNR of every row\">\
         <line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{top:.0}\" y2=\"{1:.0}\" stroke=\"#1c1c1c\" stroke-dasharray=\"4 3\"/>{marks}</svg>",
        x(20.0),
        height - 30.0,
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attack, SCHEMA};

    fn audit() -> Audit {
        let score = Score { value: 21.0, baseline: 20.5, advantage: 0.5, interval_95: [0.25, 0.75] };
        let mut finding = Finding::new(Attack::Decoder, "tokens <&>", "server", "none", 1)
            .score("psnr", score)
            .score("epsilon_lower", score)
            .judged(true, "Gains.");
        let path = |name: &str| name.into();
        finding.pictures = vec![Picture {
            label: "a".into(),
            original: path("images/a.png"),
            guess: path("b"),
            reconstruction: path("c"),
        }];
        Audit {
            schema: SCHEMA.into(),
            version: "1".into(),
            seed: 1,
            images: "tiles".into(),
            model: "random".into(),
            notes: vec!["a note".into()],
            findings: vec![finding],
        }
    }

    #[test]
    fn pages_hold_every_score_and_escape_what_they_are_given() {
        let page = html(&audit());
        for needed in
            ["tokens &lt;&amp;&gt;", "+0.50", "[+0.25, +0.75]", "epsilon_lower", "images/a.png", "20.5 dB"]
        {
            assert!(page.contains(needed), "{needed}");
        }
        assert!(!page.contains("<script") && !page.contains("http"));
        assert!(text(&audit()).contains("21.00 (+0.50)"));
    }

    #[test]
    fn documents_survive_json() {
        let audit = audit();
        let again: Audit = serde_json::from_str(&serde_json::to_string(&audit).unwrap()).unwrap();
        assert_eq!(again, audit);
    }
}
