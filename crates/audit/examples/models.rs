//! The attacks on heads, keys and releases on generated rows: what `docs/privacy-models.md` states.
//!
//! `cargo run --release -p arras-audit --example models [membership|head|key|differencing|single]...`

use arras_audit::attacks::{differencing, head, key, membership, single};
use arras_audit::{Finding, Result, Rows};

const SEED: u64 = 1;

/// An attack by its name.
type Named<'a> = (&'a str, &'a dyn Fn() -> Result<Vec<Finding>>);

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let rows = Rows::synthetic(SEED, 2048, 32, 3);
    let wide = Rows::synthetic(SEED, 600, 64, 3);
    let attacks: [Named<'_>; 5] = [
        ("membership", &|| membership::findings(&rows, SEED)),
        ("head", &|| head::findings(&wide, SEED)),
        ("key", &|| key::findings(SEED)),
        ("differencing", &|| differencing::findings(&rows, SEED)),
        ("single", &|| single::findings(&rows, SEED)),
    ];
    for (name, attack) in attacks {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            attack()?.iter().for_each(show);
        }
    }
    Ok(())
}

fn show(row: &Finding) {
    println!(
        "({}) {}, {}: {} [{:.1} s]",
        row.letter,
        row.seen,
        row.protection,
        row.verdict.name(),
        row.seconds
    );
    for (name, score) in &row.scores {
        let [low, high] = score.interval_95;
        println!(
            "      {name} {:.4}, guess {:.4}, gain {:.4} ({low:.4} to {high:.4})",
            score.value, score.baseline, score.advantage
        );
    }
    for name in ["accuracy_others", "root_hermite_factor_768", "asked"] {
        if let Some(value) = row.parameters.get(name) {
            println!("      {name}: {value}");
        }
    }
}
