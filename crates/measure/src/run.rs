//! Timing: rounds over the cases of a group, one after the other, so that what disturbs the machine for a while disturbs
//! all of them a little rather than one of them a lot.

use std::time::{Duration, Instant};

use arras_rns::Backend as _;

use crate::Result;
use crate::cases::{Cases, Ready, Wanted};
use crate::ceiling::{Ceilings, control};
use crate::clock::Clock as _;
use crate::device::Device;
use crate::record::{Benchmark, Ceiling};
use crate::stats::Summary;
use crate::telemetry::{Energy, Sensors};

/// How much is measured.
///
/// ```
/// use arras_measure::Effort;
/// use std::time::Duration;
///
/// let effort = Effort { samples: 5, warm_up: Duration::from_millis(1), ..Effort::QUICK };
/// assert!(effort.rounds < Effort::FULL.rounds && effort.sample < effort.round);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Effort {
    /// Rounds over the cases of a group.
    pub rounds: usize,
    /// Samples of each case in a round, unless they take too long.
    pub samples: usize,
    /// How long a sample takes at least: short work is executed many times in one.
    pub sample: Duration,
    /// How long all samples of a case in a round may take; one sample is always taken.
    pub round: Duration,
    /// How long a case is executed before it is timed.
    pub warm_up: Duration,
    /// Beyond this much time a case takes part in no further round, once it has been in [`LEAST_ROUNDS`].
    pub case: Duration,
    /// How long a case is executed once more to measure its energy, where that can be done.
    pub energy: Duration,
}

/// Rounds that every case takes part in.
pub const LEAST_ROUNDS: usize = 5;

impl Effort {
    /// The full list in a few minutes.
    pub const FULL: Self = Self {
        rounds: 15,
        samples: 3,
        sample: Duration::from_micros(100),
        round: Duration::from_millis(20),
        warm_up: Duration::from_millis(5),
        case: Duration::from_millis(1500),
        energy: Duration::from_millis(100),
    };
    /// A look: every case, few samples.
    pub const QUICK: Self =
        Self { rounds: LEAST_ROUNDS, samples: 2, sample: Duration::from_micros(50), ..Self::FULL };
}

/// Makes, checks and times the cases of a list that are wanted. `progress` is told each result as it is there.
///
/// # Errors
/// [`Wrong`](crate::Error::Wrong) if a case does not agree with the oracle; a device that fails.
pub fn measure<D: Device>(
    device: &D,
    list: &Cases<D>,
    wanted: Wanted<'_>,
    effort: &Effort,
    progress: &mut dyn FnMut(&Benchmark),
) -> Result<(Vec<Benchmark>, Vec<Ceiling>)> {
    let mut ceilings = Ceilings::new(device);
    let sensors = Sensors::open();
    let sensors = sensors.counts_energy().then_some(sensors);
    let mut all = Vec::new();
    list.visit(device, wanted, &mut |cases| {
        let all_times = in_rounds(device, cases, effort)?;
        for (case, times) in cases.iter_mut().zip(all_times) {
            let energy = match &sensors {
                Some(sensors) => energy(device, case, effort, sensors)?,
                None => Energy::default(),
            };
            let floor = ceilings.floor(case.work, case.footprint)?;
            let benchmark = Benchmark {
                id: case.name.clone(),
                what: case.what.clone(),
                backend: case.on.0.name(),
                threads: device.threads(),
                parameters: case.parameters.clone(),
                unit: "ns".into(),
                items: case.items.0,
                item: case.items.1.into(),
                headline: case.headline,
                work: Some(case.work),
                floor: Some(floor),
                rounds: times.control.len(),
                blocks: 1,
                control: times.control,
                energy,
                summary: Summary::of(&times.samples),
                samples: times.samples,
            };
            progress(&benchmark);
            all.push(benchmark);
        }
        Ok(())
    })?;
    Ok((all, ceilings.into_list()))
}

/// What the rounds gave for one case.
struct Times {
    /// Executions in one sample.
    executions: u32,
    /// Samples in one round.
    samples_per_round: usize,
    control: Vec<f64>,
    samples: Vec<f64>,
    /// Time that the samples took.
    taken: Duration,
}

/// Warms up, then times all cases in every round.
fn in_rounds<D: Device>(
    device: &D,
    cases: &mut [Ready<'_, D::Backend>],
    effort: &Effort,
) -> Result<Vec<Times>> {
    let mut all = cases.iter_mut().map(|case| warm_up(device, case, effort)).collect::<Result<Vec<_>>>()?;
    for _ in 0..effort.rounds {
        for (case, times) in cases.iter_mut().zip(&mut all) {
            if times.control.len() >= LEAST_ROUNDS && times.taken > effort.case {
                continue;
            }
            let start = Instant::now();
            times.control.push(control());
            for _ in 0..times.samples_per_round {
                times.samples.push(time(device, case, times.executions)?);
            }
            times.taken += start.elapsed();
        }
    }
    Ok(all)
}

/// Executes a case for a while, and finds how often it has to be executed.
fn warm_up<D: Device>(device: &D, case: &mut Ready<'_, D::Backend>, effort: &Effort) -> Result<Times> {
    let start = Instant::now();
    let mut executions = 1u32;
    let mut once = time(device, case, executions)?;
    while start.elapsed() < effort.warm_up {
        executions = executions.saturating_mul(2);
        once = time(device, case, executions)?;
    }
    let once = once.max(1.0);
    let executions = (effort.sample.as_nanos() as f64 / once).ceil().max(1.0) as u32;
    let samples = effort.round.as_nanos() as f64 / (once * f64::from(executions));
    Ok(Times {
        executions,
        samples_per_round: (samples as usize).clamp(1, effort.samples.max(1)),
        control: Vec::new(),
        samples: Vec::new(),
        taken: Duration::ZERO,
    })
}

/// Joules of one execution: a case is executed for a while, as counters move in steps.
fn energy<D: Device>(
    device: &D,
    case: &mut Ready<'_, D::Backend>,
    effort: &Effort,
    sensors: &Sensors,
) -> Result<Energy> {
    let (start, before) = (Instant::now(), sensors.read());
    let mut executions = 0u32;
    while start.elapsed() < effort.energy {
        let more = executions.clamp(1, 1 << 20);
        time(device, case, more)?;
        executions += more;
    }
    Ok(sensors.spent(&before, &sensors.read()).over(executions.into()))
}

/// Nanoseconds of one execution, the mean of several.
fn time<D: Device>(device: &D, case: &mut Ready<'_, D::Backend>, executions: u32) -> Result<f64> {
    let (backend, queue) = case.on;
    let run = &mut case.run;
    let all = device.clock().time(backend, queue, &mut || (0..executions).try_for_each(|_| run()))?;
    // A clock that did not move says that the work took less than it can tell.
    Ok(all.max(1.0) / f64::from(executions))
}
