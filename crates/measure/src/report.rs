//! Records as one HTML page that needs nothing else: no script, no font, no network. Every plot has its numbers in a table
//! beneath it, and what no record has says so.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::record::{Benchmark, Record};
use crate::table::{duration, three_digits};
use crate::telemetry::AVAILABLE;
use crate::waterfall::{BUDGET_MS, Scope, Waterfall};

use self::svg::{Axis, Bar, Plot, bars, escape};

mod svg;

/// Groups of cases by the beginning of their names, in the order of the legend.
const FAMILIES: [(&str, &[&str]); 7] = [
    ("transforms", &["ntt"]),
    ("pointwise and sums", &["pointwise", "product", "convert", "automorphism"]),
    ("key switching", &["switch"]),
    ("evaluator", &["ckks"]),
    ("keys, encryption", &["secret"]),
    ("in and out", &["outside", "memory", "prepare", "queue"]),
    ("heads, whole road", &["head", "road", "vit", "beside peers"]),
];
const CLASSES: [&str; 7] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6"];

/// The operations whose times are plotted over N, over limbs and over batches.
const SCALING: [&str; 7] = [
    "ntt/forward",
    "ntt/inverse",
    "switch/key_switch",
    "ckks/multiply",
    "ckks/rescale_with",
    "ckks/relinearise",
    "ckks/rotate",
];

/// The page.
pub fn html(records: &[Record]) -> String {
    let mut newest: Vec<&Record> = records.iter().collect();
    newest.sort_by_key(|record| std::cmp::Reverse(record.source.committed));
    let sections = [
        ("Machines", machines(&newest)),
        ("Roofline", roofline(&newest)),
        ("The budget of 66 ms per image", budget(&newest)),
        ("Scaling", scaling(&newest)),
        ("CPU and GPU", devices(&newest)),
        ("Energy", energy(&newest)),
        ("During the runs", telemetry(&newest)),
    ];
    let body = sections.iter().fold(String::new(), |mut body, (name, section)| {
        // Writing to a string cannot fail.
        let _ = write!(body, "<section>\n<h2>{name}</h2>\n{section}</section>\n");
        body
    });
    format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta name=viewport content='width=device-width,initial-scale=1'>\n\
         <meta name=color-scheme content='light dark'>\n<link rel=icon href='data:,'>\n\
         <title>arras: measurements</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>arras: measurements</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

const STYLE: &str = include_str!("report/style.css");

/// A table; the first column is text, the others are numbers.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(&cell))).collect::<String>()
    };
    let head = cells("th", &mut head.iter().map(|&cell| cell.to_owned()));
    let rows: String =
        rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", &mut row.iter().cloned()))).collect();
    format!(
        "<div class=table><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// A table that is shown on demand.
fn folded(summary: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    format!("<details><summary>{}</summary>\n{}</details>\n", escape(summary), table(head, rows))
}

fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

fn legend<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let items = entries.map(|(class, name)| format!("<li><i class={class}></i>{}</li>", escape(name)));
    format!("<ul class=legend>{}</ul>\n", items.collect::<String>())
}

fn machine(record: &Record) -> String {
    let gpus: String = record.machine.gpus.iter().map(|gpu| format!(", {}", gpu.name)).collect();
    let cores =
        if record.machine.cores == 1 { "1 core".into() } else { format!("{} cores", record.machine.cores) };
    format!("{}, {cores}{gpus}", record.machine.cpu)
}

fn machines(records: &[&Record]) -> String {
    let row = |record: &&Record| {
        let drivers: Vec<&str> = record.machine.gpus.iter().map(|gpu| gpu.driver.as_str()).collect();
        let clock = |of: &[f64]| of.first().map_or_else(|| "?".into(), |mhz| format!("{mhz:.0}"));
        vec![
            machine(record),
            record.source.short(10).to_owned() + if record.source.dirty { " with changes" } else { "" },
            record.machine.system.clone(),
            if drivers.is_empty() { "no GPU".into() } else { drivers.join(", ") },
            format!("{} / {} MHz", clock(&record.clocks[0]), clock(&record.clocks[1])),
            record.load.map_or_else(|| "?".into(), |load| format!("{load:.2}")),
            record.benchmarks.len().to_string(),
        ]
    };
    let head = ["machine", "commit", "system", "driver", "clock before / after", "load", "cases"];
    table(&head, &records.iter().map(row).collect::<Vec<_>>())
}

fn family(id: &str) -> usize {
    let starts = |starts: &[&str]| {
        starts.iter().any(|start| id.strip_prefix(start).is_some_and(|rest| rest.starts_with('/')))
    };
    FAMILIES.iter().position(|(_, list)| starts(list)).unwrap_or(FAMILIES.len() - 1)
}

// --- roofline -------------------------------------------------------------------------------------------------------

/// One plot for the newest record of every machine and kind of device that has ceilings.
fn roofline(records: &[&Record]) -> String {
    let mut seen = Vec::new();
    let mut text = paragraph(
        "Modular multiplications per nanosecond over multiplications per byte that has to move. The roof is what the machine \
         reached in the same run: the multiplication kernel on words in the first-level cache, and streams through the largest \
         and the smallest memory.",
    );
    for record in records {
        let mut kinds: Vec<&str> = record.benchmarks.iter().map(Benchmark::device).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let key = (record.machine.clone(), kind.to_owned());
            let plotted = (!seen.contains(&key)).then(|| roof(record, kind)).flatten();
            if let Some(plot) = plotted {
                seen.push(key);
                let _ = write!(text, "<h3>{}</h3>\n{plot}", escape(&format!("{}: {kind}", machine(record))));
            }
        }
    }
    if seen.is_empty() { text + &paragraph("Not available: no record has ceilings.") } else { text }
}

fn roof(record: &Record, kind: &str) -> Option<String> {
    let of = |kind: &'static str| record.ceilings.iter().filter(move |ceiling| ceiling.kind == kind);
    let peak = 1.0 / of("multiply").next()?.ns;
    let streams: Vec<_> = of("stream").collect();
    let slow = streams.iter().max_by_key(|ceiling| ceiling.footprint)?;
    let fast = streams.iter().min_by(|a, b| a.ns.total_cmp(&b.ns))?;
    let points: Vec<(&Benchmark, f64, f64)> = record
        .benchmarks
        .iter()
        .filter(|b| b.device() == kind)
        .filter_map(|b| {
            let work = b.work.filter(|work| work.multiplications > 0 && work.read + work.written > 0)?;
            let count = work.multiplications as f64;
            Some((b, count / (work.read + work.written) as f64, count / b.summary.median))
        })
        .collect();
    let x = Axis::holding(points.iter().map(|point| point.1).chain([0.02, peak * fast.ns]));
    let y = Axis::holding(points.iter().map(|point| point.2).chain([peak]));
    let plain = |value: f64| short(value);
    let mut plot =
        Plot::new((x, "multiplications per byte"), (y, "multiplications per ns"), [&plain, &plain]);
    for (class, ceiling) in [("roof thin", fast), ("roof", slow)] {
        // The slope of the bandwidth from where it enters the plot up to the ridge, then level.
        let first = x.low().max(y.low() * ceiling.ns);
        let points = [(first, first / ceiling.ns), (peak * ceiling.ns, peak), (x.high(), peak)];
        plot.line(class, &points);
    }
    plot.words((x.high(), peak), &format!("{} multiplications per ns", three_digits(peak)));
    for &(benchmark, at, rate) in &points {
        let title = format!("{}: {}", benchmark.id, duration(benchmark.summary.median));
        plot.dot(CLASSES[family(&benchmark.id)], (at, rate), &title);
    }
    let bandwidth = |ceiling: &crate::record::Ceiling| {
        let (size, unit) = match ceiling.footprint >> 20 {
            0 => (ceiling.footprint >> 10, "KiB"),
            size => (size, "MiB"),
        };
        format!("{} GB/s through {size} {unit}", three_digits(1.0 / ceiling.ns))
    };
    let mut text = plot.finish("Roofline: rates of all cases below the ceilings of the machine");
    text += &legend(CLASSES.into_iter().zip(FAMILIES.iter().map(|(name, _)| *name)));
    text += &paragraph(&format!("Thick: {}. Thin: {}.", bandwidth(slow), bandwidth(fast)));
    let shown = record.benchmarks.iter().filter(|b| b.device() == kind);
    let rows: Vec<Vec<String>> = shown.map(floor_row).collect();
    Some(
        text + &folded(
            &format!("{} cases", rows.len()),
            &["case", "median", "floor", "of floor", "bound"],
            &rows,
        ),
    )
}

fn floor_row(benchmark: &Benchmark) -> Vec<String> {
    let floor = benchmark.floor.filter(|floor| floor.ns() > 0.0);
    let nothing = || "-".to_owned();
    vec![
        benchmark.id.clone(),
        duration(benchmark.summary.median),
        floor.map_or_else(nothing, |floor| duration(floor.ns())),
        benchmark.fraction().map_or_else(nothing, |part| format!("{:.0} %", 100.0 * part)),
        floor.map_or_else(nothing, |floor| floor.bound().into()),
    ]
}

/// A number for an axis.
fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{:.0}M", value / 1e6)
    } else if value >= 1e4 {
        format!("{:.0}k", value / 1e3)
    } else if value >= 0.999 {
        format!("{value:.0}")
    } else {
        format!("{value}").chars().take(8).collect()
    }
}

// --- budget ---------------------------------------------------------------------------------------------------------

fn budget(records: &[&Record]) -> String {
    let mut text = paragraph(
        "Two scopes, never mixed: from encoding to decryption, which is what arXiv 2511.20983 reports as 66.0 ms, and from a \
         decoded image to decrypted logits. Medians of each stage in milliseconds per image; a bar begins where the one above \
         ends. Decoding the file is outside both.",
    );
    let mut shown: Vec<(&str, &str)> = Vec::new();
    for record in records {
        // Single images first.
        let mut waterfalls: Vec<&Waterfall> = record.waterfalls.iter().collect();
        waterfalls.sort_by_key(|waterfall| waterfall.images);
        for waterfall in waterfalls {
            if !shown.contains(&waterfall.key()) {
                shown.push(waterfall.key());
                text += &cascade(record, waterfall);
            }
        }
    }
    for device in ["cpu", "cuda"] {
        if !shown.iter().any(|(_, known)| *known == device) {
            text += &paragraph(&format!(
                "{}: not available: no record has its waterfall.",
                device.to_uppercase()
            ));
        }
    }
    text
}

fn cascade(record: &Record, waterfall: &Waterfall) -> String {
    let mut end = 0.0;
    let bars_of = |stage: &crate::waterfall::Stage| {
        let median = stage.quantiles().map(|q| q.over(waterfall.images).p50);
        let outside = stage.scopes.is_empty();
        let from = if outside { 0.0 } else { end };
        let to = from + median.unwrap_or(0.0);
        if !outside {
            end = to;
        }
        let class = match (outside, stage.scopes.contains(&Scope::EncodeToDecrypt)) {
            (true, _) => "s6",
            (_, true) => "s0",
            _ => "s1",
        };
        let label = median.map_or_else(|| "not needed".into(), |ms| format!("{} ms", fine(ms)));
        Bar { name: stage.name.clone(), from, to, class, label }
    };
    let cascade: Vec<Bar> = waterfall.stages.iter().map(bars_of).collect();
    let mark = format!("{BUDGET_MS} ms");
    let mut text = format!("<h3>{}</h3>\n", escape(&waterfall.what));
    text += &paragraph(&format!(
        "{}, {}, {} threads, {} rounds, commit {}",
        machine(record),
        waterfall.backend,
        waterfall.threads,
        waterfall.rounds(),
        record.source.short(10)
    ));
    text += &bars(&cascade, Some((BUDGET_MS, &mark)), "Waterfall of the stages of the road");
    text += &legend(
        [("s6", "decoding the file"), ("s1", "image to features"), ("s0", "encode to decrypt")].into_iter(),
    );
    let numbers = |quantiles: Option<crate::waterfall::Quantiles>| match quantiles {
        Some(q) => [q.p50, q.p95, q.p99].map(|ms| fine(ms / waterfall.images as f64)).to_vec(),
        None => vec!["-".to_owned(); 3],
    };
    let row = |name: &str, cells: Vec<String>| [vec![name.to_owned()], cells].concat();
    let stages = waterfall.stages.iter().map(|s| row(&s.name, numbers(s.quantiles())));
    let totals = Scope::ALL.map(|scope| row(scope.name(), numbers(waterfall.total(scope))));
    let rows: Vec<Vec<String>> = totals.into_iter().chain(stages).collect();
    text += &table(&["ms per image", "p50", "p95", "p99"], &rows);
    let missing =
        waterfall.stages.iter().filter_map(|s| Some(format!("{}: {}", s.name, s.missing.as_ref()?)));
    let once = waterfall.once.iter().map(|once| {
        let bytes = if once.bytes > 0 { format!(", {} bytes", once.bytes) } else { String::new() };
        format!("{} {} ms{bytes}", once.name, fine(once.ns / 1e6))
    });
    let once = format!("Paid once: {}", once.collect::<Vec<_>>().join("; "));
    text + &paragraph(&(missing.chain([once]).collect::<Vec<_>>().join(". ") + "."))
}

/// Milliseconds with three digits that matter.
fn fine(ms: f64) -> String {
    if ms >= 0.1 { three_digits(ms) } else { format!("{ms:.4}") }
}

// --- scaling --------------------------------------------------------------------------------------------------------

/// Times of one operation over a parameter.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

fn number(benchmark: &Benchmark, parameter: &str) -> Option<f64> {
    benchmark.parameters.get(parameter)?.as_f64()
}

/// The parameters that matter beside the one that is varied.
fn others<'a>(benchmark: &'a Benchmark, varied: &str) -> BTreeMap<&'a String, String> {
    let parameters = benchmark.parameters.iter().filter(|(name, _)| *name != varied);
    parameters.map(|(name, value)| (name, value.to_string())).collect()
}

fn scaling(records: &[&Record]) -> String {
    let mut text = String::new();
    for (parameter, what) in
        [("degree", "N"), ("limbs", "limbs"), ("batch", "polynomials"), ("images", "images")]
    {
        // The newest record that has the most points.
        let best = records
            .iter()
            .map(|record| series(record, parameter))
            .max_by_key(|series| series.iter().map(|series| series.points.len()).sum::<usize>());
        let _ = writeln!(text, "<h3>over {what}</h3>");
        match best.filter(|series| !series.is_empty()) {
            Some(series) => text += &curves(&series, what),
            None => {
                text += &paragraph(
                    "Not available: no record varies it (arras bench --limbs 1,2,4 --batches 1,8,32 does).",
                );
            }
        }
    }
    text
}

/// Times over a parameter, everything else equal, of operations that were measured at two values of it at least. Parameter
/// sets of CKKS grow with N: there only N is looked at.
fn series(record: &Record, parameter: &str) -> Vec<Series> {
    let mut found: BTreeMap<String, Vec<&Benchmark>> = BTreeMap::new();
    for benchmark in &record.benchmarks {
        let stem = benchmark.id.split("/n=").next().unwrap_or_default();
        let wanted = match parameter {
            "images" => stem.starts_with("head/") && stem.contains("/server/") || stem.starts_with("vit/"),
            _ => SCALING.contains(&stem),
        };
        if wanted && number(benchmark, parameter).is_some() {
            let name = if parameter == "images" { head_of(stem) } else { stem.to_owned() };
            found.entry(name).or_default().push(benchmark);
        }
    }
    let series = found.into_iter().filter_map(|(name, all)| {
        let sets = parameter == "degree" && (name.starts_with("ckks/")) || parameter == "images";
        // Of several primes those of 50 bits, the middle class.
        let alike = |b: &&&Benchmark| sets || others(b, parameter) == others(reference(&all), parameter);
        let mut points: Vec<(f64, f64)> = all
            .iter()
            .filter(alike)
            .filter_map(|b| Some((number(b, parameter)?, b.summary.median)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points.dedup_by(|a, b| a.0 == b.0);
        (points.len() > 1).then_some(Series { name, points })
    });
    series.collect()
}

/// The kind of head and its preset, whatever the layout.
fn head_of(stem: &str) -> String {
    let whole = |part: &&str| !["layout=", "images=", "hidden="].iter().any(|start| part.starts_with(start));
    stem.split('/').filter(whole).collect::<Vec<_>>().join("/")
}

/// The benchmark whose other parameters a curve keeps: primes of 50 bits if there are some.
fn reference<'a>(all: &[&'a Benchmark]) -> &'a Benchmark {
    all.iter().find(|b| number(b, "bits") == Some(50.0)).unwrap_or(&all[0])
}

fn curves(series: &[Series], what: &str) -> String {
    let all = || series.iter().flat_map(|series| &series.points);
    let (x, y) = (Axis::holding(all().map(|point| point.0)), Axis::holding(all().map(|point| point.1)));
    let mut plot = Plot::new((x, what), (y, "time"), [&short, &|ns| duration(ns).replace(".00", "")]);
    for (class, series) in CLASSES.iter().cycle().zip(series) {
        plot.line(class, &series.points);
        for &point in &series.points {
            plot.dot(class, point, &format!("{}, {what} {}: {}", series.name, point.0, duration(point.1)));
        }
    }
    let mut text = plot.finish(&format!("Times of operations over {what}"));
    text += &legend(CLASSES.into_iter().cycle().zip(series.iter().map(|series| series.name.as_str())));
    let mut values: Vec<f64> = all().map(|point| point.0).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let head: Vec<String> = values.iter().map(|value| format!("{what} {value}")).collect();
    let head: Vec<&str> = std::iter::once("operation").chain(head.iter().map(String::as_str)).collect();
    let row = |series: &Series| {
        let cell = |value: &f64| {
            let point = series.points.iter().find(|point| point.0 == *value);
            point.map_or_else(|| "-".into(), |point| duration(point.1))
        };
        std::iter::once(series.name.clone()).chain(values.iter().map(cell)).collect()
    };
    text + &table(&head, &series.iter().map(row).collect::<Vec<_>>())
}

// --- devices, energy, telemetry -------------------------------------------------------------------------------------

fn devices(records: &[&Record]) -> String {
    let newest = |device: &str| {
        let mut found: BTreeMap<&str, (&Record, &Benchmark)> = BTreeMap::new();
        for record in records {
            for benchmark in record.benchmarks.iter().filter(|b| b.device() == device) {
                found.entry(&benchmark.id).or_insert((record, benchmark));
            }
        }
        found
    };
    let (cpu, cuda) = (newest("cpu"), newest("cuda"));
    let both: Vec<_> = cpu.iter().filter_map(|(id, cpu)| Some((id, cpu.1, cuda.get(id)?.1))).collect();
    if both.is_empty() {
        let reason = match cuda.is_empty() {
            true => "Not available: no record of a GPU (arras bench --device cuda:0 makes one).",
            false => "Not available: no case was measured on both.",
        };
        return paragraph(reason);
    }
    let mut text = paragraph("Times per case; commits and threads may differ, see the table of machines.");
    for (id, cpu, cuda) in both.iter().filter(|(_, cpu, _)| cpu.headline || cpu.id.starts_with("ntt/")) {
        let bar = |benchmark: &Benchmark, class| Bar {
            name: benchmark.backend.chars().take(20).collect(),
            from: 0.0,
            to: benchmark.summary.median,
            class,
            label: duration(benchmark.summary.median),
        };
        let _ = writeln!(text, "<h3>{}</h3>", escape(id));
        text += &bars(&[bar(cpu, "s0"), bar(cuda, "s1")], None, "CPU beside GPU");
    }
    let row = |(id, cpu, cuda): &(&&str, &Benchmark, &Benchmark)| {
        let (a, b) = (cpu.summary.median, cuda.summary.median);
        vec![(**id).to_owned(), duration(a), duration(b), three_digits(a / b)]
    };
    let rows: Vec<_> = both.iter().map(row).collect();
    text + &folded(&format!("{} cases", rows.len()), &["case", "CPU", "GPU", "CPU over GPU"], &rows)
}

fn energy(records: &[&Record]) -> String {
    let known = |record: &&&Record| record.benchmarks.iter().any(|b| !b.energy.is_unknown());
    let Some(record) = records.iter().find(known) else {
        let reason = records.iter().find(|record| !record.telemetry.sources.is_empty()).map(|record| {
            let sources = record.telemetry.sources.iter().map(|(name, state)| format!("{name}: {state}"));
            sources.collect::<Vec<_>>().join("; ")
        });
        let reason = reason.unwrap_or_else(|| "no record says".into());
        return paragraph(&format!("Energy per operation and per image: not available. {reason}."));
    };
    let per_item = |b: &Benchmark| b.energy.over(b.items as f64);
    let joules = |joules: f64| format!("{} mJ", fine(1e3 * joules));
    let bars_of = |b: &&Benchmark| {
        let spent = per_item(b).gpu.or(per_item(b).package)?;
        let name: String = b.what.chars().take(20).collect();
        Some(Bar { name, from: 0.0, to: spent, class: "s2", label: joules(spent) })
    };
    let headlines: Vec<&Benchmark> = record.benchmarks.iter().filter(|b| b.headline).collect();
    let mut text = paragraph(&format!("{}: joules per item, other programs included.", machine(record)));
    text += &bars(&headlines.iter().filter_map(bars_of).collect::<Vec<_>>(), None, "Energy per item");
    let cell = |value: Option<f64>| value.map_or_else(|| "not available".into(), joules);
    let row =
        |b: &Benchmark| vec![b.id.clone(), b.item.clone(), cell(per_item(b).package), cell(per_item(b).gpu)];
    let rows: Vec<_> = record.benchmarks.iter().filter(|b| !b.energy.is_unknown()).map(row).collect();
    text + &folded(&format!("{} cases", rows.len()), &["case", "per", "CPU packages", "GPUs"], &rows)
}

fn telemetry(records: &[&Record]) -> String {
    let row = |record: &&Record| {
        let telemetry = &record.telemetry;
        let samples = &telemetry.samples;
        let range = |values: Vec<f64>, unit: &str| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if values.is_empty() { "not available".into() } else { format!("{low:.0} to {high:.0} {unit}") }
        };
        let gpus = || samples.iter().flat_map(|sample| &sample.gpus);
        let state = |name: &str| {
            let state = telemetry.sources.get(name).map_or("not recorded", String::as_str);
            if state == AVAILABLE { "no reason seen".to_owned() } else { state.to_owned() }
        };
        let throttled = Vec::from_iter(telemetry.throttled()).join(", ");
        vec![
            format!("{}, {}", record.machine.cpu, record.source.short(10)),
            range(samples.iter().filter_map(|sample| sample.cpu_mhz).collect(), "MHz"),
            range(samples.iter().filter_map(|sample| sample.package_watts).collect(), "W"),
            range(gpus().filter_map(|gpu| gpu.clock_mhz.map(f64::from)).collect(), "MHz"),
            range(gpus().filter_map(|gpu| gpu.watts).collect(), "W"),
            range(gpus().filter_map(|gpu| gpu.celsius.map(f64::from)).collect(), "°C"),
            if throttled.is_empty() { state("nvml") } else { throttled },
        ]
    };
    let head =
        ["record", "CPU clock", "CPU power", "GPU clock", "GPU power", "GPU temperature", "GPU throttled"];
    table(&head, &records.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ceiling;
    use crate::record::tests::record;
    use crate::telemetry::Energy;

    fn page(records: &[Record]) -> String {
        let page = html(records);
        // Nothing is fetched, and nothing runs.
        for foreign in ["http://", "https://", "<script", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        for tag in ["section", "table", "svg", "details", "p", "ul", "tr", "td", "h2", "h3"] {
            let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
            let opened =
                page.matches(&format!("{open}>")).count() + page.matches(&format!("{open} ")).count();
            assert_eq!(opened, page.matches(&close).count(), "{tag}");
        }
        page
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut bare = record('a', 1, &["x"]);
        bare.benchmarks[0].energy = Energy::default();
        bare.waterfalls.clear();
        let page = page(&[bare]);
        for missing in [
            "no record has ceilings",
            "CPU: not available",
            "no record of a GPU",
            "not available. no record says",
        ] {
            assert!(page.contains(missing), "{missing}");
        }
    }

    #[test]
    fn everything_that_is_there_is_shown() {
        let mut all = record('a', 1, &["ntt/forward/n=1024", "ntt/forward/n=2048", "head/linear/server/<b>"]);
        for (benchmark, degree) in all.benchmarks.iter_mut().zip([1024, 2048, 4096]) {
            benchmark.parameters.insert("degree".into(), degree.into());
        }
        all.ceilings.push(Ceiling { kind: "multiply".into(), read: 0, written: 0, footprint: 0, ns: 0.1 });
        let mut gpu = all.benchmarks[0].clone();
        gpu.backend = "cuda (H200)".into();
        all.benchmarks.push(gpu);
        all.waterfalls.push(crate::waterfall::tests::waterfall("cuda (H200)"));
        all.check().unwrap();
        let page = page(&[all]);
        assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"));
        for there in [
            "multiplications per byte",
            "over N",
            "encode to decrypt",
            "CPU over GPU",
            "mJ",
            "ntt/forward, N 2048",
        ] {
            assert!(page.contains(there), "{there}");
        }
        assert!(!page.contains("no record has ceilings"));
    }

    #[test]
    fn numbers_on_axes_are_short() {
        assert_eq!([0.01, 1.0, 1000.0, 65536.0, 1e7].map(short), ["0.01", "1", "1000", "66k", "10M"]);
    }
}
