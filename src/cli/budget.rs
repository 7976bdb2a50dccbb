//! `budget`: the whole road stage by stage, against 66 ms per image.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use arras_ckks::Context;
use arras_fit::tiles::TileSet;
use arras_heads::{Layout, Model, Plan, Preset, Rates, Shape};
use arras_measure::Record;
use arras_measure::machine::{self, Source};
use arras_measure::telemetry::{Sampler, Sensors};
use arras_measure::trace::{Spent, Traced};
use arras_measure::waterfall::{BUDGET_MS, Once, Quantiles, Scope, Stage, Waterfall};
use arras_rns::Backend as _;
use arras_vit::{Architecture, Device as VitDevice, ImageFile, Vit, decode, images_in};
use arras_wire::file::check_writable;
use clap::{Args, ValueEnum};
use image::DynamicImage;
use serde::Serialize;

use super::bench::source;
use super::device::{self, Device};
use super::embed::{progress, use_threads};
use super::road::{self, Road, Step};
use super::tiles::write_tiles;
use super::{Common, Text};

/// Rounds of one waterfall at least and at most, and how long they may take in all.
const LEAST_ROUNDS: usize = 5;
const MOST_ROUNDS: usize = 200;
/// Rounds that are run first and not counted.
const WARM_UP: usize = 1;

/// Arguments of `budget`.
#[derive(Args, Debug)]
pub struct Budget {
    /// File for the record
    #[arg(value_name = "FILE")]
    record: Option<PathBuf>,
    /// Images in the larger query
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=4096))]
    batch: u16,
    /// Shape of the transformer with seeded weights
    #[arg(long, value_enum, default_value_t = Shaped::Tiny)]
    architecture: Shaped,
    /// A transformer from a Hugging Face directory instead
    #[arg(long, value_name = "HF_DIR", conflicts_with = "architecture")]
    model: Option<PathBuf>,
    /// Seconds that each waterfall may take, once it has five rounds
    #[arg(long, default_value_t = 8.0, value_parser = seconds)]
    seconds: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let parsed = text.parse::<f64>().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    parsed.ok_or_else(|| "expected 0 to 3600".into())
}

/// Transformers that need no weights to be timed.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Shaped {
    /// 64 x 64 pixels, 2 blocks: the demo's
    Tiny,
    /// 200 x 200 pixels, patches of 25, 12 blocks: arXiv 2511.20983
    Paper,
    /// ViT-B/16, 224 x 224 pixels, 12 blocks
    Base,
}

/// A preset, and how its head is computed for one image and for a batch.
struct Configuration {
    preset: &'static Preset,
    /// What it is, in words.
    head: &'static str,
    queries: [(Layout, usize); 2],
}

impl Budget {
    /// Runs the command.
    ///
    /// # Errors
    /// Only a machine without room or memory, a model that cannot be loaded, or a GPU that was asked for and is not there.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        self.record.as_deref().map(check_writable).transpose()?;
        use_threads(common);
        let vit = self.vit()?;
        let model: Model = road::head(vit.config().width()).into();
        let scratch = tempfile::tempdir().context("making a temporary folder")?;
        let files = files(scratch.path(), self.batch.into())?;
        // A build outside a checkout cannot name its commit; such a record is shown, and nobody can keep it.
        let nobody = || Source { commit: "0".repeat(40), committed: 0, dirty: true };
        let mut record = Record::start(source().unwrap_or_else(|_| nobody()));
        let sampler = Sampler::start(Sensors::open());
        let gpu = self.gpu(common)?;
        let lanes = [Some(device::cpu(common.cpu()?)), gpu.as_ref().ok().cloned()];
        let configurations = self.configurations(&model)?;
        let bar = progress(common, "timing", 2 * configurations.len() * lanes.iter().flatten().count());
        for configuration in &configurations {
            for query in configuration.queries {
                for backend in lanes.iter().flatten() {
                    record.waterfalls.push(self.measure(
                        backend,
                        &vit,
                        &model,
                        &files,
                        configuration,
                        query,
                    )?);
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
        record.telemetry = sampler.finish();
        record.clocks[1] = machine::clocks();
        if let Some(path) = &self.record {
            record.write(path)?;
            tracing::info!("wrote {}", path.display());
        }
        common.print(&Budgeted { record, gpu: gpu.err() })?;
        Ok(ExitCode::SUCCESS)
    }

    /// The GPU that was asked for, else the first one, else why there is none.
    fn gpu(&self, common: &Common) -> Result<Result<Device, String>> {
        match common.ordinal()? {
            Some(_) => Ok(Ok(common.backend()?)),
            None => Ok(device::cuda(0).map_err(|error| format!("{error:#}"))),
        }
    }

    fn vit(&self) -> Result<Vit> {
        let architecture = match (&self.model, self.architecture) {
            (Some(folder), _) => return Ok(Vit::load(folder, &VitDevice::Cpu)?),
            (None, Shaped::Tiny) => Architecture::tiny(),
            (None, Shaped::Paper) => Architecture::paper(),
            (None, Shaped::Base) => road::vit_base(),
        };
        Ok(Vit::random(&architecture, road::SEED, &VitDevice::Cpu)?)
    }

    /// The cheapest road for a linear head, and the paper's parameters, where keys have to be switched.
    fn configurations(&self, model: &Model) -> Result<Vec<Configuration>> {
        let (linear, paper) = (Preset::named(Preset::DEFAULT)?, Preset::named("paper")?);
        let cheapest = |images: usize| -> Result<(Layout, usize)> {
            let plan = Plan::new(vec![linear], Shape::of(model), images, None, Rates::default())?;
            Ok((plan.chosen.groups.layout, images))
        };
        let batch = usize::from(self.batch);
        Ok(vec![
            Configuration {
                preset: linear,
                head: "a linear head without keys",
                queries: [cheapest(1)?, cheapest(batch)?],
            },
            Configuration {
                preset: paper,
                head: "the same head at the parameters of arXiv 2511.20983",
                queries: [(Layout::Rotations, 1), (Layout::Rotations, batch)],
            },
        ])
    }

    fn measure(
        &self,
        backend: &Device,
        vit: &Vit,
        model: &Model,
        files: &[ImageFile],
        configuration: &Configuration,
        query: (Layout, usize),
    ) -> Result<Waterfall> {
        let (layout, images) = query;
        let traced = Traced::new(backend.clone());
        let context = Context::new(traced.clone(), configuration.preset.params.clone())?;
        let (road, once) = Road::new(&context, vit, model, query, &decode(&files[0].path)?)?;
        let mut rounds = Rounds::default();
        let (mut bytes, mut start) = ([0, 0], Instant::now());
        let limit = Duration::from_secs_f64(self.seconds);
        for round in 0.. {
            let taken = rounds.samples.values().next().map_or(0, Vec::len);
            if taken >= MOST_ROUNDS || taken >= LEAST_ROUNDS && start.elapsed() > limit {
                break;
            }
            if round == WARM_UP {
                rounds = Rounds::default();
                start = Instant::now();
            }
            // Other images each time, as far as there are others.
            let first = if images < files.len() { round % (files.len() - images) } else { 0 };
            let found = rounds.run(&road, &traced, &files[first..first + images])?;
            road.check(&found).context("checking the logits")?;
            bytes = found.bytes;
        }
        let keys = once.iter().map(|once| once.bytes).sum::<u64>();
        Ok(Waterfall {
            id: format!(
                "{}/layout={}/images={images}/{}",
                configuration.preset.name,
                layout.name(),
                self.name()
            ),
            what: format!(
                "{}, {images} image{}, layout {}; features and logits are encrypted, head and transformer are not",
                configuration.head,
                if images == 1 { "" } else { "s" },
                layout.name(),
            ),
            backend: backend.name(),
            threads: device::threads(backend),
            parameters: parameters(vit, configuration.preset, layout, bytes, keys),
            images: images as u64,
            stages: rounds.stages(layout),
            once,
        })
    }

    fn name(&self) -> String {
        let shaped = self.architecture.to_possible_value();
        let shaped = shaped.as_ref().map_or("", |value| value.get_name());
        if self.model.is_some() { "loaded".into() } else { shaped.to_owned() }
    }
}

fn parameters(
    vit: &Vit,
    preset: &Preset,
    layout: Layout,
    [query, reply]: [usize; 2],
    keys: u64,
) -> BTreeMap<String, serde_json::Value> {
    let trunk = vit.config().trunk();
    let parameters = [
        ("preset", preset.name.into()),
        ("degree", preset.params.degree().into()),
        ("layout", layout.name().into()),
        ("encrypted", "features, logits".into()),
        ("query bytes", query.into()),
        ("reply bytes", reply.into()),
        ("key bytes", keys.into()),
        ("image", trunk.image.to_string().into()),
        ("blocks", trunk.depth.into()),
        ("weights", vit.config().weights().into()),
        ("classes", road::CLASSES.into()),
    ];
    parameters.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Painted tiles as PNG files.
fn files(folder: &Path, count: usize) -> Result<Vec<ImageFile>> {
    // Some more than a query, so that queries differ.
    let per_class = (count + 8).div_ceil(3);
    let set = TileSet { seed: road::SEED, per_class, patients: 1, sites: 1, size: 224 };
    write_tiles(&set, folder, &indicatif::ProgressBar::hidden())?;
    let files = images_in(folder)?;
    ensure!(files.len() > count, "{} tiles", files.len());
    Ok(files)
}

/// Parts of the road that are shown, in order.
const STAGES: [(&str, &[Scope]); 13] = [
    ("decode", &[]),
    ("preprocess", IMAGE),
    ("host to device", IMAGE),
    ("ViT", IMAGE),
    ("encode", &Scope::ALL),
    ("encrypt", &Scope::ALL),
    ("serialise", &Scope::ALL),
    ("unpack, expand seeds", &Scope::ALL),
    ("product", &Scope::ALL),
    ("key switch, rescale", &Scope::ALL),
    ("trim", &Scope::ALL),
    ("rest of the server", &Scope::ALL),
    ("decrypt", &Scope::ALL),
];
const IMAGE: &[Scope] = &[Scope::ImageToLogits];
/// The stages of the server's work, which its backend's methods divide into.
const UNPACK: usize = 7;
const PRODUCT: usize = 8;
const SWITCH: usize = 9;
const TRIM: usize = 10;
const REST: usize = 11;

/// Which stage of the server a method of the backend belongs to.
fn part(method: &str) -> usize {
    match method {
        "unpack" | "expand_seed" => UNPACK,
        "key_switch"
        | "key_switch_automorphism"
        | "mod_up"
        | "gadget_product"
        | "mod_down"
        | "automorphism" => SWITCH,
        "trim" => TRIM,
        "ntt"
        | "intt"
        | "add"
        | "sub"
        | "negate"
        | "multiply"
        | "multiply_accumulate"
        | "scale_add"
        | "inner_product"
        | "matrix_product"
        | "prepare"
        | "base_convert" => PRODUCT,
        _ => REST,
    }
}

/// Samples of the stages by their places in [`STAGES`].
#[derive(Default)]
struct Rounds {
    samples: BTreeMap<usize, Vec<f64>>,
}

impl Rounds {
    fn add(&mut self, stage: usize, time: Duration) {
        self.samples.entry(stage).or_default().push(time.as_nanos() as f64);
    }

    /// One round: image files to logits.
    fn run(
        &mut self,
        road: &Road<'_, Traced<Device>>,
        traced: &Traced<Device>,
        files: &[ImageFile],
    ) -> Result<road::Logits> {
        let mut clock = Instant::now();
        let mut lap = || {
            let now = Instant::now();
            now - std::mem::replace(&mut clock, now)
        };
        let images = files.iter().map(|file| decode(&file.path)).collect::<Result<Vec<DynamicImage>, _>>()?;
        self.add(0, lap());
        road.logits(&images, &mut |step| {
            let time = lap();
            match step {
                Step::Preprocess => self.add(1, time),
                Step::Vit => self.add(3, time),
                Step::Encode => self.add(4, time),
                Step::Encrypt => self.add(5, time),
                // From here to the next step only the server works.
                Step::Serialise => {
                    self.add(6, time);
                    traced.take();
                }
                Step::Server => self.server(time, &traced.take()),
                Step::Decrypt => self.add(12, time),
            }
        })
    }

    fn server(&mut self, whole: Duration, spent: &Spent) {
        let mut parts = [Duration::ZERO; STAGES.len()];
        for (method, (_, time)) in spent {
            parts[part(method)] += *time;
        }
        let known: Duration = parts[UNPACK..REST].iter().sum();
        parts[REST] = whole.saturating_sub(known);
        (UNPACK..=REST).for_each(|stage| self.add(stage, parts[stage]));
    }

    fn stages(mut self, layout: Layout) -> Vec<Stage> {
        let missing = |index: usize| match (index, layout) {
            (2, _) => Some("not needed: the transformer runs in host memory".to_owned()),
            (SWITCH, Layout::Dot | Layout::Transposed | Layout::Slots) => {
                Some(format!("not needed: layout {} takes no keys", layout.name()))
            }
            _ => None,
        };
        let stage = |(index, &(name, scopes)): (usize, &(&str, &[Scope]))| {
            let missing = missing(index);
            let samples = self.samples.remove(&index).filter(|_| missing.is_none()).unwrap_or_default();
            Stage { name: name.into(), scopes: scopes.to_vec(), samples, missing }
        };
        STAGES.iter().enumerate().map(stage).collect()
    }
}

/// What was measured.
#[derive(Serialize)]
struct Budgeted {
    #[serde(flatten)]
    record: Record,
    #[serde(skip)]
    gpu: Option<String>,
}

impl Text for Budgeted {
    fn text(&self) -> String {
        let mut text = format!(
            "milliseconds per image; the budget is {BUDGET_MS} per image; seeded weights and painted tiles say nothing \
             about histology\n"
        );
        let all = &self.record.waterfalls;
        let mut ids: Vec<&str> = all.iter().map(|waterfall| waterfall.id.as_str()).collect();
        ids.dedup();
        for id in ids {
            let on = |device: &str| all.iter().find(|w| w.id == id && w.device() == device);
            if let Some(cpu) = on("cpu") {
                text += &self.block(cpu, on("cuda"));
            }
        }
        text
    }
}

impl Budgeted {
    /// One road, CPU and GPU side by side.
    fn block(&self, cpu: &Waterfall, gpu: Option<&Waterfall>) -> String {
        let mut text = format!("\n{}\n", cpu.what);
        let mut line = |name: &str, cpu: String, gpu: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:24} {cpu:34} {gpu}");
        };
        let reason = self.gpu.as_deref().unwrap_or("");
        let head = |waterfall: &Waterfall| format!("{}, {} threads", waterfall.backend, waterfall.threads);
        line("", head(cpu), gpu.map_or_else(|| format!("GPU: not available: {reason}"), head));
        let columns = format!("{:>10} {:>10} {:>10}", "p50", "p95", "p99");
        line(&format!("{} rounds", cpu.rounds()), columns.clone(), gpu.map_or_else(String::new, |_| columns));
        let images = cpu.images;
        for (index, stage) in cpu.stages.iter().enumerate() {
            let shown = |stage: &Stage| cell(stage.quantiles(), images, stage.missing.as_deref());
            line(
                &stage.name,
                shown(stage),
                gpu.and_then(|gpu| gpu.stages.get(index)).map_or_else(String::new, shown),
            );
        }
        for scope in Scope::ALL {
            let total = |waterfall: &Waterfall| cell(waterfall.total(scope), images, None);
            line(scope.name(), total(cpu), gpu.map_or_else(String::new, total));
        }
        for Once { name, ns, bytes } in &cpu.once {
            let bytes = if *bytes > 0 { format!(", {bytes} bytes") } else { String::new() };
            line(&format!("once: {name}"), format!("{:.2} ms{bytes}", ns / 1e6), String::new());
        }
        let bytes = |name: &str| cpu.parameters.get(name).map_or_else(String::new, ToString::to_string);
        let _ = writeln!(text, "bytes: query {}, reply {}", bytes("query bytes"), bytes("reply bytes"));
        text
    }
}

fn cell(quantiles: Option<Quantiles>, images: u64, missing: Option<&str>) -> String {
    match (quantiles, missing) {
        (Some(quantiles), None) => {
            let Quantiles { p50, p95, p99 } = quantiles.over(images);
            format!("{p50:>10.4} {p95:>10.4} {p99:>10.4}")
        }
        // The reason stands in the record.
        _ => format!("{:>10}", "-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method of the backend that the server uses belongs to a stage, and the stages add up to the whole.
    #[test]
    fn the_server_s_stages_add_up() {
        let ms = Duration::from_millis;
        let spent = Spent::from([("unpack", (1, ms(2))), ("intt", (3, ms(4))), ("key_switch", (1, ms(8)))]);
        let mut rounds = Rounds::default();
        rounds.server(ms(20), &spent);
        let of = |stage: usize| rounds.samples[&stage][0] / 1e6;
        assert_eq!([UNPACK, PRODUCT, SWITCH, TRIM, REST].map(of), [2.0, 4.0, 8.0, 0.0, 6.0]);
        assert_eq!(STAGES[SWITCH].0, "key switch, rescale");
        assert_eq!(STAGES[REST].0, "rest of the server");
        let stages = rounds.stages(Layout::Dot);
        assert!(stages[SWITCH].missing.as_deref().unwrap_or("").contains("no keys"));
    }
}
