//! Clocks, power and temperatures while something runs, and the energy that it takes: from NVML for GPUs, from RAPL for the
//! CPU. Where one is missing its columns say why; nothing fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use serde::{Deserialize, Serialize};

use crate::machine::{self, Gpu};

/// How often sensors are asked.
const INTERVAL: Duration = Duration::from_millis(500);
/// Where Linux shows the energy counters of the CPU.
const POWERCAP: &str = "/sys/class/powercap";
/// What a source says that can be asked.
pub const AVAILABLE: &str = "available";

/// What was asked for while something ran.
///
/// ```
/// use arras_measure::telemetry::{GpuSample, Sample, Telemetry};
///
/// let hot = GpuSample { celsius: Some(91), throttled: ["heat".into()].into(), ..GpuSample::default() };
/// let samples = vec![Sample::default(), Sample { ms: 500.0, gpus: vec![hot], ..Sample::default() }];
/// let telemetry = Telemetry { samples, ..Telemetry::default() };
/// assert_eq!(telemetry.throttled(), ["heat"].into());
/// ```
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// `nvml` and `rapl`: `available`, or why not.
    pub sources: BTreeMap<String, String>,
    /// What they said, twice a second.
    pub samples: Vec<Sample>,
}

/// One moment.
///
/// See the example of [`Telemetry`].
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Milliseconds since the beginning.
    pub ms: f64,
    /// Mean clock rate of the cores in MHz, where the system tells; virtual machines tell a nominal one.
    pub cpu_mhz: Option<f64>,
    /// Watts of all packages since the sample before.
    pub package_watts: Option<f64>,
    /// Every GPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuSample>,
}

/// A GPU at one moment; what its driver does not tell is missing.
///
/// See the example of [`Telemetry`].
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuSample {
    /// Clock rate of the multiprocessors in MHz.
    pub clock_mhz: Option<u32>,
    /// Clock rate of the memory in MHz.
    pub memory_mhz: Option<u32>,
    /// Power in watts.
    pub watts: Option<f64>,
    /// Temperature in degrees Celsius.
    pub celsius: Option<u32>,
    /// Why it ran slower than it could: power or heat. Being idle is no such reason.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub throttled: BTreeSet<String>,
}

/// Joules.
///
/// ```
/// use arras_measure::telemetry::Energy;
///
/// let of_ten = Energy { package: Some(25.0), gpu: None };
/// assert_eq!(of_ten.over(10.0), Energy { package: Some(2.5), gpu: None });
/// assert!(Energy::default().is_unknown() && !of_ten.is_unknown());
/// ```
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Energy {
    /// Of the CPU's packages, everything else that ran on them included.
    pub package: Option<f64>,
    /// Of all GPUs.
    pub gpu: Option<f64>,
}

impl Energy {
    /// Both, divided by a count.
    pub fn over(self, count: f64) -> Self {
        Self {
            package: self.package.map(|joules| joules / count),
            gpu: self.gpu.map(|joules| joules / count),
        }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.package.is_none() && self.gpu.is_none()
    }
}

impl Telemetry {
    /// Every reason why a GPU ran slower than it could at some moment: what was measured then does not count.
    pub fn throttled(&self) -> BTreeSet<&str> {
        let gpus = self.samples.iter().flat_map(|sample| &sample.gpus);
        gpus.flat_map(|gpu| &gpu.throttled).map(String::as_str).collect()
    }
}

/// The GPUs of this machine, if their driver tells.
pub fn gpus() -> Vec<Gpu> {
    let Ok(nvml) = Nvml::init() else { return Vec::new() };
    let driver = nvml.sys_driver_version().unwrap_or_else(|error| error.to_string());
    let count = nvml.device_count().unwrap_or(0);
    let names = (0..count).filter_map(|index| nvml.device_by_index(index).ok()?.name().ok());
    names.map(|name| Gpu { name, driver: driver.clone() }).collect()
}

/// The energy counters of the CPU.
#[derive(Debug)]
struct Rapl {
    /// Counter in microjoules, and where it starts again.
    packages: Vec<(PathBuf, u64)>,
}

impl Rapl {
    fn open(root: &Path) -> Result<Self, String> {
        let entries = std::fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
        let mut packages = Vec::new();
        for folder in entries.flatten().map(|entry| entry.path()) {
            let name = std::fs::read_to_string(folder.join("name")).unwrap_or_default();
            if name.starts_with("package") {
                let counter = folder.join("energy_uj");
                number(&counter)?;
                packages.push((counter, number(&folder.join("max_energy_range_uj"))?));
            }
        }
        if packages.is_empty() {
            Err(format!("{}: no package", root.display()))
        } else {
            Ok(Self { packages })
        }
    }

    fn read(&self) -> Option<Vec<u64>> {
        self.packages.iter().map(|(counter, _)| number(counter).ok()).collect()
    }

    /// Joules between two readings less than one turn of the counters apart.
    fn joules(&self, before: &[u64], after: &[u64]) -> f64 {
        let spent = before.iter().zip(after).zip(&self.packages).map(|((&before, &after), (_, range))| {
            let micro = if after >= before { after - before } else { after + range.saturating_sub(before) };
            micro as f64 / 1e6
        });
        spent.sum()
    }
}

fn number(path: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.trim().parse().map_err(|_| format!("{}: not a number", path.display()))
}

/// What this machine can be asked.
///
/// ```
/// use arras_measure::telemetry::Sensors;
///
/// let sensors = Sensors::open();
/// let before = sensors.read();
/// // Something that takes energy.
/// let spent = sensors.spent(&before, &sensors.read());
/// assert!(sensors.counts_energy() || spent.is_unknown());
/// for (source, state) in sensors.sources() {
///     assert!(["nvml", "rapl"].contains(&source.as_str()) && !state.is_empty());
///     println!("{source}: {state}");
/// }
/// ```
#[derive(Debug)]
pub struct Sensors {
    rapl: Result<Rapl, String>,
    nvml: Result<Nvml, String>,
}

/// Counters at one moment.
///
/// See the example of [`Sensors`].
#[derive(Clone, Debug, Default)]
pub struct Reading {
    package: Option<Vec<u64>>,
    /// Millijoules of all GPUs.
    gpu: Option<u64>,
}

impl Sensors {
    /// Those of this machine.
    pub fn open() -> Self {
        Self { rapl: Rapl::open(Path::new(POWERCAP)), nvml: Nvml::init().map_err(|error| error.to_string()) }
    }

    /// `nvml` and `rapl`, and why not.
    pub fn sources(&self) -> BTreeMap<String, String> {
        fn state<T>(source: &Result<T, String>) -> String {
            source.as_ref().map_or_else(|reason| format!("not available: {reason}"), |_| AVAILABLE.into())
        }
        [("nvml".to_owned(), state(&self.nvml)), ("rapl".to_owned(), state(&self.rapl))].into()
    }

    /// Whether energy can be measured at all.
    pub fn counts_energy(&self) -> bool {
        let reading = self.read();
        reading.package.is_some() || reading.gpu.is_some()
    }

    /// The energy counters now.
    pub fn read(&self) -> Reading {
        let gpu = self.nvml.as_ref().ok().and_then(|nvml| {
            let count = nvml.device_count().ok()?;
            let one = |index| nvml.device_by_index(index).ok()?.total_energy_consumption().ok();
            (0..count).map(one).sum()
        });
        Reading { package: self.rapl.as_ref().ok().and_then(Rapl::read), gpu }
    }

    /// What was spent between two readings.
    pub fn spent(&self, before: &Reading, after: &Reading) -> Energy {
        let package = match (&self.rapl, &before.package, &after.package) {
            (Ok(rapl), Some(before), Some(after)) => Some(rapl.joules(before, after)),
            _ => None,
        };
        let gpu = before.gpu.zip(after.gpu).map(|(before, after)| after.saturating_sub(before) as f64 / 1e3);
        Energy { package, gpu }
    }

    fn gpus(&self) -> Vec<GpuSample> {
        let Ok(nvml) = &self.nvml else { return Vec::new() };
        let count = nvml.device_count().unwrap_or(0);
        let one = |index| {
            let device = nvml.device_by_index(index).ok()?;
            Some(GpuSample {
                clock_mhz: device.clock_info(Clock::SM).ok(),
                memory_mhz: device.clock_info(Clock::Memory).ok(),
                watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
                celsius: device.temperature(TemperatureSensor::Gpu).ok(),
                throttled: device.current_throttle_reasons().map(reasons).unwrap_or_default(),
            })
        };
        (0..count).filter_map(one).collect()
    }
}

/// The reasons among them that make a time worthless.
fn reasons(all: ThrottleReasons) -> BTreeSet<String> {
    let slow = ThrottleReasons::SW_POWER_CAP
        | ThrottleReasons::HW_SLOWDOWN
        | ThrottleReasons::SW_THERMAL_SLOWDOWN
        | ThrottleReasons::HW_THERMAL_SLOWDOWN
        | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN;
    (all & slow).iter_names().map(|(name, _)| name.to_lowercase()).collect()
}

/// Asks the sensors from a thread of its own, twice a second, until it is finished or dropped.
///
/// ```
/// use arras_measure::telemetry::{Sampler, Sensors};
///
/// let sampler = Sampler::start(Sensors::open());
/// // What is watched.
/// let telemetry = sampler.finish();
/// assert!(telemetry.sources.contains_key("nvml") && telemetry.sources.contains_key("rapl"));
/// ```
#[derive(Debug)]
pub struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Telemetry>,
}

impl Sampler {
    /// Begins.
    pub fn start(sensors: Sensors) -> Self {
        let (stop, stopped) = channel();
        // Here, not in the thread: on a busy machine that one begins late.
        let start = Instant::now();
        let thread = std::thread::spawn(move || {
            let mut telemetry = Telemetry { sources: sensors.sources(), samples: Vec::new() };
            let mut last = (sensors.read(), start.elapsed().as_secs_f64() * 1e3);
            loop {
                let ended = stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout);
                let (now, ms) = (sensors.read(), start.elapsed().as_secs_f64() * 1e3);
                let joules = sensors.spent(&last.0, &now).package;
                telemetry.samples.push(Sample {
                    ms,
                    cpu_mhz: mean(&machine::clocks()),
                    package_watts: joules.map(|joules| joules / ((ms - last.1) / 1e3).max(1e-3)),
                    gpus: sensors.gpus(),
                });
                if ended {
                    return telemetry;
                }
                last = (now, ms);
            }
        });
        Self { stop, thread }
    }

    /// Ends, and gives what was seen.
    pub fn finish(self) -> Telemetry {
        // The thread ends if nobody listens any more, too.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as Linux shows it.
    fn powercap(energy: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (zone, name) in [("intel-rapl:0", "package-0\n"), ("intel-rapl:0:0", "core\n")] {
            let folder = root.path().join(zone);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("name"), name).unwrap();
            std::fs::write(folder.join("energy_uj"), energy).unwrap();
            std::fs::write(folder.join("max_energy_range_uj"), "10000000\n").unwrap();
        }
        root
    }

    #[test]
    fn counters_that_start_again_are_followed() {
        let root = powercap("9000000\n");
        let rapl = Rapl::open(root.path()).unwrap();
        assert_eq!(rapl.packages.len(), 1);
        let before = rapl.read().unwrap();
        std::fs::write(root.path().join("intel-rapl:0/energy_uj"), "500000\n").unwrap();
        assert_eq!(rapl.joules(&before, &rapl.read().unwrap()), 1.5);
        let sensors = Sensors { rapl: Ok(rapl), nvml: Err("no GPU".into()) };
        assert!(sensors.counts_energy());
        assert_eq!(sensors.sources()["nvml"], "not available: no GPU");
        assert_eq!(sensors.sources()["rapl"], AVAILABLE);
        let spent = sensors.spent(&Reading { package: Some(before), gpu: None }, &sensors.read());
        assert_eq!((spent.over(3.0).package, spent.gpu), (Some(0.5), None));
    }

    #[test]
    fn what_cannot_be_asked_says_why() {
        let root = powercap("soon\n");
        assert!(Rapl::open(root.path()).unwrap_err().contains("energy_uj: not a number"));
        assert!(Rapl::open(&root.path().join("none")).unwrap_err().contains("none"));
        assert!(Rapl::open(&root.path().join("intel-rapl:0")).unwrap_err().contains("no package"));
    }

    #[test]
    fn a_sampler_samples_on_any_machine() {
        let sampler = Sampler::start(Sensors::open());
        std::thread::sleep(Duration::from_millis(20));
        let telemetry = sampler.finish();
        assert!(telemetry.sources.keys().eq(["nvml", "rapl"]), "{:?}", telemetry.sources);
        assert!(telemetry.samples.last().is_some_and(|last| last.ms >= 20.0));
    }

    #[test]
    fn idling_is_no_throttling() {
        assert!(reasons(ThrottleReasons::GPU_IDLE | ThrottleReasons::SYNC_BOOST).is_empty());
        let found = reasons(ThrottleReasons::GPU_IDLE | ThrottleReasons::SW_POWER_CAP);
        assert_eq!(found, BTreeSet::from(["sw_power_cap".to_owned()]));
        let hot = GpuSample { throttled: found, ..GpuSample::default() };
        let sample = Sample { gpus: vec![hot], ..Sample::default() };
        let telemetry = Telemetry { samples: vec![sample], ..Telemetry::default() };
        assert!(telemetry.throttled().contains("sw_power_cap"));
    }
}
