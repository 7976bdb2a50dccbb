//! The rows of one degree: units, peers and cases, in interleaved rounds.

use std::collections::BTreeMap;

use arras_cpu::{Cpu, CpuOptions};
use arras_measure::device::{Device as _, Traffic};
use arras_measure::record::{Benchmark, Ratio};
use arras_measure::stats::{Summary, median_interval};
use arras_measure::sweep::Sweep;
use arras_measure::telemetry::Energy;
use arras_measure::{Cases, CpuDevice, Ready};
use arras_rns::Backend as _;

use crate::peers;
use crate::rows::{BITS, By, ROWS, Row};
use crate::timing::Timed;
use crate::{Failure, Options};

/// Something that is timed in every round.
struct Entry<'a> {
    name: String,
    items: u64,
    item: String,
    work: Timed<'a>,
    /// Its rows in the table of targets.
    rows: Vec<&'static Row>,
    /// Streaming, for rows that are divided by it, and its bytes over those of the case.
    stream: Option<(Timed<'a>, f64)>,
    /// Nanoseconds of one execution, of the unit before it, and of streaming as many bytes, one entry per round.
    times: Vec<f64>,
    units: Vec<f64>,
    streams: Vec<f64>,
}

/// Times everything of one degree.
pub fn measure(degree: usize, options: &Options) -> Result<(Vec<Benchmark>, Vec<Ratio>), Failure> {
    let device = CpuDevice::new(Cpu::with(CpuOptions { threads: 1, path: options.simd })?);
    // The heads have a degree of their own.
    let heads = degree == 1 << 11;
    let bits = if heads { Vec::new() } else { BITS.to_vec() };
    let sweep = Sweep { degrees: vec![degree], limbs: vec![1], bits, heads, ..Sweep::default() };
    let rows = |name: &str| ROWS.iter().filter(|row| row.is_about(name)).collect::<Vec<_>>();
    // What is asked for, and what that is divided by.
    let wanted = |name: &str| {
        let about = |other: &str| !rows(other).is_empty() && options.wanted(other);
        about(name) || divided(name, &sweep).iter().any(|other| about(other))
    };
    let (mut benchmarks, mut ratios) = (Vec::new(), Vec::new());
    let mut failure = Ok(());
    let mut alone = true;
    Cases::new(&sweep).visit(&device, &wanted, &mut |cases| {
        let measured = group(&device, degree, cases, &rows, options, std::mem::take(&mut alone));
        failure = measured.map(|(more, found)| {
            benchmarks.extend(more);
            ratios.extend(found);
        });
        Ok(())
    })?;
    failure?;
    Ok((benchmarks, ratios))
}

/// The cases whose rows divide by this one.
fn divided(name: &str, sweep: &Sweep) -> Vec<String> {
    let names = Cases::<CpuDevice>::new(sweep).names();
    let by = |other: &String| {
        ROWS.iter().any(|row| row.is_about(other) && row.divisor(other).as_deref() == Some(name))
    };
    names.into_iter().filter(by).collect()
}

/// Times one group; the first of a degree has the peers in it.
fn group(
    device: &CpuDevice,
    degree: usize,
    cases: &mut [Ready<'_, Cpu>],
    rows: &dyn Fn(&str) -> Vec<&'static Row>,
    options: &Options,
    with_peers: bool,
) -> Result<(Vec<Benchmark>, Vec<Ratio>), Failure> {
    let mut entries =
        cases.iter_mut().map(|case| entry(device, case, rows)).collect::<Result<Vec<_>, _>>()?;
    if with_peers && degree > 1 << 11 {
        for (name, work) in peers::transforms(degree)?.into_iter().filter(|(name, _)| options.wanted(name)) {
            entries.push(Entry::new(name, (1, "row"), work));
        }
    }
    let mut unit = peers::unit(degree)?;
    for _ in 0..options.rounds {
        for entry in &mut entries {
            entry.units.push(unit.measure()?);
            entry.times.push(entry.work.measure()?);
            if let Some((stream, factor)) = &mut entry.stream {
                entry.streams.push(stream.measure()? * *factor);
            }
        }
    }
    let times: BTreeMap<String, Vec<f64>> =
        entries.iter().map(|entry| (entry.name.clone(), entry.times.clone())).collect();
    let ratios = entries.iter().flat_map(|entry| entry.rows.iter().map(|row| entry.ratio(row, &times)));
    let ratios = ratios.collect::<Result<Vec<_>, Failure>>()?;
    entries.iter().for_each(Entry::show);
    Ok((entries.into_iter().map(|entry| entry.benchmark(device)).collect(), ratios))
}

fn entry<'a>(
    device: &CpuDevice,
    case: &'a mut Ready<'_, Cpu>,
    rows: &dyn Fn(&str) -> Vec<&'static Row>,
) -> Result<Entry<'a>, Failure> {
    let (name, items, traffic, work) = (case.name.clone(), case.items, case.traffic(), case.work);
    let rows = rows(&name);
    let bytes = work.read + work.written;
    let streamed = rows.iter().any(|row| row.by == By::Stream);
    // Through all operands once, as a stream goes through all of its memory.
    let executions = if streamed { traffic.footprint.div_ceil(bytes.max(1)) as u32 } else { 1 };
    let run = &mut case.run;
    let mut entry = Entry::new(name, items, Timed::new(move || Ok(run()?), executions)?);
    if streamed {
        let (mut run, moved) = device.stream(Traffic { ..traffic })?;
        entry.stream = Some((Timed::new(move || Ok(run()?), 1)?, bytes as f64 / moved as f64));
    }
    entry.rows = rows;
    Ok(entry)
}

impl<'a> Entry<'a> {
    fn new(name: String, (items, item): (u64, &str), work: Timed<'a>) -> Self {
        Self {
            name,
            items,
            item: item.into(),
            work,
            rows: Vec::new(),
            stream: None,
            times: Vec::new(),
            units: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Time per item in units, round by round.
    fn in_units(&self) -> Vec<f64> {
        let items = self.items as f64;
        self.times.iter().zip(&self.units).map(|(time, unit)| time / items / unit).collect()
    }

    fn ratio(&self, row: &Row, times: &BTreeMap<String, Vec<f64>>) -> Result<Ratio, Failure> {
        let over = |divisors: &[f64]| -> Vec<f64> {
            self.times.iter().zip(divisors).map(|(time, divisor)| time / divisor).collect()
        };
        let rounds = match row.by {
            By::Unit => self.in_units(),
            By::Stream => over(&self.streams),
            By::Case(_) => {
                let other = row.divisor(&self.name).unwrap_or_default();
                over(times.get(&other).ok_or_else(|| format!("{other}: was not measured"))?)
            }
        };
        let by = row.by_name();
        Ok(Ratio {
            id: format!("{} / {by}", self.name),
            what: format!("{} / {by}", self.name),
            value: median_interval(&rounds, 0.95),
            target: row.target,
            at_least: false,
        })
    }

    fn show(&self) {
        let time = Summary::of(&self.times).median / 1e3;
        let units = median_interval(&self.in_units(), 0.95);
        println!(
            "  {:<56} {time:>10.2} us {:>8.3} units ({:.3} to {:.3})",
            self.name, units.value, units.low, units.high
        );
    }

    fn benchmark(self, device: &CpuDevice) -> Benchmark {
        let peer = self.name.strip_prefix("peers/").and_then(|rest| rest.split('/').next());
        let backend = peer.map(str::to_owned);
        Benchmark {
            id: format!("beside peers/{}", self.name),
            what: self.name,
            backend: backend.unwrap_or_else(|| device.backend().map_or_else(|_| "cpu".into(), |b| b.name())),
            threads: 1,
            parameters: BTreeMap::new(),
            unit: "ns".into(),
            items: self.items,
            item: self.item,
            headline: false,
            work: None,
            floor: None,
            rounds: self.times.len(),
            blocks: 1,
            control: self.units,
            energy: Energy::default(),
            summary: Summary::of(&self.times),
            samples: self.times,
        }
    }
}
