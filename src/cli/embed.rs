//! `embed`: images to CLS tokens.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use arras_fit::{Features, import};
use arras_vit::{Architecture, ImageFile, Vit, images_in};
use arras_wire::file::check_writable;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use rayon::prelude::*;
use serde::Serialize;

use super::device::Device as Backend;
use super::{Common, EXIT_PARTIAL, Text, in_file, refuse_replacing, table};

/// Images that are read and go through the transformer together.
const BATCH: usize = if cfg!(feature = "cuda-vit") { 128 } else { 32 };
/// The file in a folder of images that names their groups.
pub const GROUPS: &str = "groups.csv";
/// How often unfinished work is put on disk.
const CHECKPOINT: Duration = Duration::from_secs(10);

/// Which transformer to use.
#[derive(Args, Clone, Debug, Default)]
pub struct Backbone {
    /// A Hugging Face directory with config.json and safetensors (ViTModel or Dinov2Model)
    #[arg(long, conflicts_with = "random", value_name = "HF_DIR")]
    pub model: Option<PathBuf>,
    /// A small transformer with random weights from this seed: to try things, not to classify
    #[arg(long, value_name = "SEED")]
    pub random: Option<u64>,
    /// What the transformer computes with on a GPU
    #[cfg(feature = "cuda-vit")]
    #[arg(long, value_enum, default_value_t)]
    pub precision: super::device::Precision,
}

impl Backbone {
    /// The one in a directory, or else random weights.
    pub fn of(model: Option<PathBuf>, seed: u64) -> Self {
        let random = model.is_none().then_some(seed);
        Self {
            model,
            random,
            #[cfg(feature = "cuda-vit")]
            precision: super::device::Precision::default(),
        }
    }

    /// Loads it, onto the device of `backend` in a build with the feature `cuda-vit`, else onto the CPU.
    ///
    /// # Errors
    /// Neither option given, a directory that cannot be loaded, a GPU that cannot be used.
    pub fn load(&self, common: &Common, backend: &Backend) -> Result<Vit> {
        use_threads(common);
        #[cfg(feature = "cuda-vit")]
        let device = super::device::transformer(common, backend, self.precision)?;
        #[cfg(not(feature = "cuda-vit"))]
        let (device, _) = (arras_vit::Device::Cpu, backend);
        match (&self.model, self.random) {
            (Some(dir), _) => Ok(Vit::load(dir, &device)?),
            (None, Some(seed)) => Ok(Vit::random(&Architecture::tiny(), seed, &device)?),
            (None, None) => bail!("name a backbone: --model HF_DIR, or --random SEED to try without weights"),
        }
    }
}

/// Gives the common pool, which decodes images among other things, the number of threads that was asked for. The tensor
/// library has pools of its own, settled when the program starts.
pub fn use_threads(common: &Common) {
    // Fails only if the pool exists already, which then has the same number.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(common.threads).build_global();
}

/// A progress bar on standard error; invisible with `--quiet` or where standard error is no terminal.
pub fn progress(common: &Common, what: &'static str, length: usize) -> ProgressBar {
    if common.quiet || common.json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:10} {bar:40} {pos}/{len} {rate} eta {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // A bar that cannot be drawn is no reason to stop.
        let _ = write!(out, "{:.0}/s", state.per_sec());
    };
    let style = style.with_key("rate", rate);
    ProgressBar::new(length as u64).with_style(style).with_message(what)
}

/// What became of a list of images.
#[derive(Debug)]
pub struct Embedded {
    /// Tokens of the images that could be read, in their order.
    pub features: Features,
    /// Why the others could not, one line each.
    pub failures: Vec<String>,
    /// Milliseconds to decode and preprocess, for each image.
    pub decode_ms: Vec<f64>,
    /// Milliseconds in the transformer, for each image.
    pub vit_ms: Vec<f64>,
}

/// Tokens of images, a batch at a time. What `done` knows already is not computed again; `checkpoint` is given what there
/// is from time to time.
///
/// # Errors
/// Only the transformer's; an image that cannot be read is reported in the result.
pub fn embed_images(
    vit: &Vit,
    images: &[ImageFile],
    done: &HashMap<String, Vec<f32>>,
    bar: &ProgressBar,
    mut checkpoint: impl FnMut(&Features) -> Result<()>,
) -> Result<Embedded> {
    let labelled = images.iter().all(|image| image.label.is_some());
    let features = Features {
        dimension: vit.config().width(),
        labels: labelled.then(Vec::new),
        fingerprint: Some(vit.fingerprint().to_string()),
        ..Features::default()
    };
    let mut all = Embedded { features, failures: Vec::new(), decode_ms: Vec::new(), vit_ms: Vec::new() };
    let mut last = Instant::now();
    for batch in images.chunks(BATCH) {
        embed_batch(vit, batch, done, &mut all)?;
        bar.inc(batch.len() as u64);
        if last.elapsed() > CHECKPOINT && all.features.rows() > 0 {
            checkpoint(&all.features)?;
            last = Instant::now();
        }
    }
    Ok(all)
}

fn embed_batch(
    vit: &Vit,
    batch: &[ImageFile],
    done: &HashMap<String, Vec<f32>>,
    all: &mut Embedded,
) -> Result<()> {
    let load = |image: &ImageFile| {
        if let Some(row) = done.get(&image.relative_name) {
            return Loaded::Done(row.clone());
        }
        let started = Instant::now();
        match vit.preprocessor().load(&image.path) {
            Ok(pixels) => Loaded::Pixels(pixels, started.elapsed()),
            Err(error) => Loaded::Failed(error.to_string()),
        }
    };
    let mut loaded: Vec<Loaded> = batch.par_iter().map(load).collect();
    let pixels: Vec<&[f32]> = loaded.iter().filter_map(Loaded::pixels).collect();
    let started = Instant::now();
    let mut rows = vit.embed_batch(&pixels)?.into_iter();
    let each = started.elapsed().as_secs_f64() * 1e3 / rows.len().max(1) as f64;
    for (image, loaded) in batch.iter().zip(&mut loaded) {
        let row = match loaded {
            Loaded::Failed(reason) => {
                all.failures.push(std::mem::take(reason));
                continue;
            }
            Loaded::Done(row) => std::mem::take(row),
            Loaded::Pixels(_, time) => {
                all.decode_ms.push(time.as_secs_f64() * 1e3);
                all.vit_ms.push(each);
                rows.next().unwrap_or_default()
            }
        };
        all.features.values.extend(row);
        all.features.names.push(image.relative_name.clone());
        if let (Some(labels), Some(label)) = (&mut all.features.labels, &image.label) {
            labels.push(label.clone());
        }
    }
    Ok(())
}

/// An image on its way to the transformer.
enum Loaded {
    Done(Vec<f32>),
    Pixels(Vec<f32>, Duration),
    Failed(String),
}

impl Loaded {
    fn pixels(&self) -> Option<&[f32]> {
        if let Loaded::Pixels(pixels, _) = self { Some(pixels) } else { None }
    }
}

/// The images of a folder, and the groups of its groups.csv if it has one.
///
/// # Errors
/// A folder that cannot be read or holds no image.
pub fn list(folder: &Path) -> Result<Vec<ImageFile>> {
    let images = images_in(folder)?;
    if images.is_empty() {
        bail!("{}: no PNG, JPEG or TIFF image in this folder", folder.display());
    }
    // Names that are not UTF-8 are shown with replacement characters, under which two may look alike.
    if let Some(twice) = images.windows(2).find(|pair| pair[0].relative_name == pair[1].relative_name) {
        bail!("{}: {:?} names two images; rename one", folder.display(), twice[0].relative_name);
    }
    Ok(images)
}

/// Refuses before the long work what would only come to light after it: an output that cannot be written, or that is
/// one of the images or of the other `inputs`.
///
/// # Errors
/// Each of these.
pub fn check_output(output: &Path, images: &[ImageFile], inputs: &[&Path]) -> Result<()> {
    let images = images.iter().map(|image| image.path.as_path());
    refuse_replacing(output, images.chain(inputs.iter().copied()))?;
    Ok(check_writable(output)?)
}

/// Groups of images by name, from the groups.csv of their folder; `None` without that file.
pub type Groups = Option<HashMap<String, String>>;

/// Reads the groups of `images`.
///
/// # Errors
/// A file that cannot be read, or that lacks an image.
pub fn read_groups(images: &[ImageFile], folder: &Path) -> Result<Groups> {
    let path = folder.join(GROUPS);
    if !path.exists() {
        return Ok(None);
    }
    let names = images.iter().map(|image| image.relative_name.clone()).collect();
    let mut rows = Features { names, ..Features::default() };
    import::attach_groups(&mut rows, &path)?;
    Ok(rows.groups.map(|groups| rows.names.into_iter().zip(groups).collect()))
}

/// Attaches the groups of the images that could be read.
pub fn attach_groups(features: &mut Features, groups: Groups) {
    features.groups =
        groups.map(|groups| features.names.iter().map_while(|name| groups.get(name).cloned()).collect());
}

/// Prints what could not be read; the exit code that goes with it.
pub fn report_failures(failures: &[String]) -> ExitCode {
    failures.iter().for_each(|failure| tracing::error!("skipped {failure}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PARTIAL) }
}

/// Which of the folders above an image names its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClassFolder {
    /// The first below the folder of images: class/patient/image
    First,
    /// The one that the image is in: set/class/image
    Last,
}

/// Arguments of `embed`.
#[derive(Args, Debug)]
pub struct Embed {
    /// Folder of images; the names of its sub-folders are the labels, groups.csv names the groups
    images: PathBuf,
    /// Which of the folders above an image is its label
    #[arg(long, value_enum, default_value = "first")]
    class_folder: ClassFolder,
    #[command(flatten)]
    backbone: Backbone,
    /// Where to write the features
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
struct Report {
    images: usize,
    failed: Vec<String>,
    resumed: usize,
    features: usize,
    labelled: bool,
    classes: Vec<String>,
    grouped: bool,
    fingerprint: Option<String>,
    output: PathBuf,
}

impl Text for Report {
    fn text(&self) -> String {
        table(&[
            ("images", format!("{} ({} failed, {} resumed)", self.images, self.failed.len(), self.resumed)),
            ("features", self.features.to_string()),
            ("labels", if self.labelled { self.classes.join(", ") } else { "none".into() }),
            ("groups", if self.grouped { "from groups.csv" } else { "none" }.into()),
            ("fingerprint", self.fingerprint.clone().unwrap_or_default()),
            ("written to", self.output.display().to_string()),
        ])
    }
}

impl Embed {
    /// Runs the command.
    ///
    /// # Errors
    /// A backbone or folder that cannot be read, no image that can, an output that cannot be written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let mut images = list(&self.images)?;
        if self.class_folder == ClassFolder::Last {
            for image in &mut images {
                image.label = image.relative_name.rsplit('/').nth(1).map(str::to_owned);
            }
        }
        check_output(&self.output, &images, &[&self.images.join(GROUPS)])?;
        let groups = read_groups(&images, &self.images)?;
        #[cfg(not(feature = "cuda-vit"))]
        common.require_cpu("the vision transformer")?;
        let vit = self.backbone.load(common, &common.backend()?)?;
        let partial = partial_path(&self.output);
        let done = resume(&partial, &vit)?;
        let bar = progress(common, "embedding", images.len());
        let embedded = embed_images(&vit, &images, &done, &bar, |features| Ok(features.write(&partial)?))?;
        bar.finish_and_clear();
        let Embedded { mut features, failures, .. } = embedded;
        if features.rows() == 0 {
            report_failures(&failures);
            bail!("{}: none of {} images could be read", self.images.display(), images.len());
        }
        attach_groups(&mut features, groups);
        features.write(&self.output)?;
        if partial.exists() {
            in_file(&partial, std::fs::remove_file(&partial))?;
        }
        let code = report_failures(&failures);
        common.print(&Report {
            images: features.rows(),
            resumed: done.len(),
            features: features.dimension,
            labelled: features.labels.is_some(),
            classes: features.classes().map(|(classes, _)| classes).unwrap_or_default(),
            grouped: features.groups.is_some(),
            fingerprint: features.fingerprint,
            failed: failures,
            output: self.output.clone(),
        })?;
        Ok(code)
    }
}

/// Where unfinished work is kept: beside the output.
fn partial_path(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// The rows that an interrupted run left behind, if it used the same backbone.
fn resume(partial: &Path, vit: &Vit) -> Result<HashMap<String, Vec<f32>>> {
    if !partial.exists() {
        return Ok(HashMap::new());
    }
    let features = Features::read(partial)?;
    if features.fingerprint.as_deref() != Some(&vit.fingerprint().to_string()) {
        bail!("{}: left behind by another backbone; remove it to start afresh", partial.display());
    }
    tracing::info!("resuming: {} images are done", features.rows());
    let rows = features.values.chunks_exact(features.dimension).map(<[f32]>::to_vec);
    Ok(features.names.iter().cloned().zip(rows).collect())
}
