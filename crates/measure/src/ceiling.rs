//! What the machine reaches at its simplest work, measured in the same run as the cases.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use crate::device::{Device, Run, Traffic};
use crate::record::{Ceiling, Floor, Work};
use crate::stats::{quantile, sorted};
use crate::{Error, Result};

/// How often a ceiling is timed.
const SAMPLES: usize = 9;
/// How long each time takes at least, in nanoseconds.
const SAMPLE_NS: f64 = 500_000.0;
/// Memory below which streams are not told apart: in the first-level cache the loop around them would be what is timed.
const SMALLEST: u64 = 1 << 14;

/// Ceilings of a device, measured when they are first asked for.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_measure::CpuDevice;
/// use arras_measure::ceiling::Ceilings;
/// use arras_measure::record::Work;
///
/// let device = CpuDevice::new(Cpu::sequential());
/// let mut ceilings = Ceilings::new(&device);
/// // A transform of degree 4096: every word read and written once, 12 stages of 2048 butterflies.
/// let work = Work { multiplications: 12 * 2048, ..Work::moving(8 * 4096, 8 * 4096) };
/// let floor = ceilings.floor(work, 16 * 4096)?;
/// assert!(floor.memory > 0.0 && floor.ns() >= floor.arithmetic);
/// let kinds: Vec<String> = ceilings.into_list().into_iter().map(|ceiling| ceiling.kind).collect();
/// assert_eq!(kinds, ["multiply", "stream"]);
/// # Ok::<(), arras_measure::Error>(())
/// ```
pub struct Ceilings<'d, D: Device> {
    device: &'d D,
    known: BTreeMap<Kind, Ceiling>,
}

/// What a ceiling is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Multiply,
    Fma,
    Stream(Traffic),
}

impl<D: Device> std::fmt::Debug for Ceilings<'_, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.known.values()).finish()
    }
}

impl<'d, D: Device> Ceilings<'d, D> {
    /// None yet.
    pub fn new(device: &'d D) -> Self {
        Self { device, known: BTreeMap::new() }
    }

    /// Nanoseconds per modular multiplication.
    ///
    /// # Errors
    /// Memory that is not there.
    pub fn multiplication(&mut self) -> Result<f64> {
        self.measured(Kind::Multiply)
    }

    /// Nanoseconds per byte of a stream. Proportions and sizes are rounded, so that a few streams serve many cases.
    ///
    /// # Errors
    /// Memory that is not there.
    pub fn byte(&mut self, traffic: Traffic) -> Result<f64> {
        self.measured(Kind::Stream(rounded(traffic)))
    }

    fn measured(&mut self, kind: Kind) -> Result<f64> {
        if let Some(ceiling) = self.known.get(&kind) {
            return Ok(ceiling.ns);
        }
        let nothing = Traffic { read: 0, written: 0, footprint: 0 };
        let (name, traffic, (mut run, count)) = match kind {
            Kind::Multiply => ("multiply", nothing, self.device.multiply()?),
            Kind::Fma => ("fma", nothing, self.device.fma()?),
            Kind::Stream(traffic) => ("stream", traffic, self.device.stream(traffic)?),
        };
        let Traffic { read, written, footprint } = traffic;
        let ns = best(&mut run)? / count as f64;
        let ceiling = Ceiling { kind: name.into(), read, written, footprint, ns };
        Ok(self.known.entry(kind).or_insert(ceiling).ns)
    }

    /// The least time for some work.
    ///
    /// # Errors
    /// Memory that is not there.
    pub fn floor(&mut self, work: Work, footprint: u64) -> Result<Floor> {
        let bytes = work.read + work.written;
        let memory = match bytes {
            0 => 0.0,
            _ => bytes as f64 * self.byte(Traffic { read: work.read, written: work.written, footprint })?,
        };
        let mut arithmetic = 0.0;
        for (count, kind) in [(work.multiplications, Kind::Multiply), (work.fmas, Kind::Fma)] {
            if count > 0 {
                arithmetic += count as f64 * self.measured(kind)?;
            }
        }
        Ok(Floor { memory, arithmetic })
    }

    /// All that were asked for.
    pub fn into_list(self) -> Vec<Ceiling> {
        self.known.into_values().collect()
    }
}

/// Sizes to a power of two; proportions to eighths of the larger part.
fn rounded(Traffic { read, written, footprint }: Traffic) -> Traffic {
    let larger = read.max(written).max(1);
    let eighths = |bytes: u64| (8 * bytes).div_ceil(larger).min(8);
    Traffic {
        read: eighths(read),
        written: eighths(written),
        footprint: footprint.max(SMALLEST).next_power_of_two(),
    }
}

/// Nanoseconds per execution: the lower quartile of a few times.
fn best(run: &mut Run<'_>) -> Result<f64> {
    run()?;
    let start = Instant::now();
    run()?;
    let once = start.elapsed().as_nanos().max(1) as f64;
    let executions = (SAMPLE_NS / once).ceil().max(1.0) as u32;
    let sample = |_| -> Result<f64> {
        let start = Instant::now();
        for _ in 0..executions {
            run()?;
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(executions))
    };
    let samples = (0..SAMPLES).map(sample).collect::<Result<Vec<_>>>()?;
    let ns = quantile(&sorted(&samples), 0.25);
    if ns > 0.0 { Ok(ns) } else { Err(Error::field("clock", "stands still")) }
}

/// Nanoseconds that the calling thread needs for a fixed chain of multiplications: how fast its core is at this moment.
/// No operation of the chain can begin before the one before it has ended. The shortest of three, in case others had the core.
pub fn control() -> f64 {
    (0..3).map(|_| chain()).fold(f64::INFINITY, f64::min)
}

fn chain() -> f64 {
    const LENGTH: u32 = 2000;
    let start = Instant::now();
    let mut x = black_box(1u64);
    for _ in 0..LENGTH {
        x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 1;
    }
    black_box(x);
    start.elapsed().as_nanos().max(1) as f64
}

#[cfg(test)]
mod tests {
    use arras_cpu::Cpu;

    use super::*;
    use crate::device::CpuDevice;

    #[test]
    fn proportions_and_sizes_are_few() {
        let of = |read, written, footprint| rounded(Traffic { read, written, footprint });
        assert_eq!(of(200, 100, 1 << 20), Traffic { read: 8, written: 4, footprint: 1 << 20 });
        assert_eq!(of(768, 5, 5), Traffic { read: 8, written: 1, footprint: SMALLEST });
        assert_eq!(of(7, 0, (1 << 20) + 1), Traffic { read: 8, written: 0, footprint: 2 << 20 });
    }

    #[test]
    fn ceilings_are_plausible_and_measured_once() {
        let device = CpuDevice::new(Cpu::sequential());
        let mut ceilings = Ceilings::new(&device);
        let work = Work { multiplications: 1 << 20, ..Work::moving(2 << 20, 1 << 20) };
        let floor = ceilings.floor(work, 3 << 20).unwrap();
        // Between 0.5 and 1000 GB/s, and between 0.01 and 100 multiplications per nanosecond.
        assert!(floor.memory > 3e3 && floor.memory < 7e6, "{floor:?}");
        assert!(floor.arithmetic > 1e4 && floor.arithmetic < 1e8, "{floor:?}");
        assert_eq!(ceilings.floor(work, 3 << 20).unwrap(), floor);
        assert_eq!(ceilings.into_list().len(), 2);
        assert!(control() > 100.0);
    }
}
