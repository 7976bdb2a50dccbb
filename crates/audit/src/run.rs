//! An audit from start to end: the attacks one after another, their rows kept as they come, the document and the page.

use std::path::{Path, PathBuf};
use std::time::Instant;

use arras_fit::Features;
use arras_heads::Head;
use arras_vit::config::{Activation, Architecture, Size, Trunk};
use arras_vit::{Tensors, Vit};
use arras_wire::file::{Access, write_atomically};
use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::attacks::adversarial::{Twin, WhiteBox};
use crate::attacks::aggregate::Privacy;
use crate::attacks::closed_form::Precision;
use crate::attacks::matching::Descent;
use crate::attacks::{
    adversarial, aggregate, ciphertext, closed_form, decoder, differencing, head, key, logits, matching,
    membership, single,
};
use crate::metrics::Lpips;
use crate::network::Network;
use crate::picture::{Sample, Scale};
use crate::quality::{Guesses, scores};
use crate::scene::{Inverted, Scene};
use crate::source::Source;
use crate::{Attack, Audit, Error, Finding, Image, Picture, Result, Rows, SCHEMA, Verdict, report};

/// Victims shown in the report, for each row.
const SHOWN: usize = 4;
/// SSIM from which a reconstruction counts as the original.
const RECOVERED: f64 = 0.99;
/// Own pictures behind the guesses beside gradient inversion.
const GUESSED_FROM: usize = 16;
/// Images that go through the transformer together.
const BATCH: usize = 32;
/// Privacy budgets of the rows with noise.
const BUDGETS: [Privacy; 2] = [Privacy { epsilon: 8.0, delta: 1e-6 }, Privacy { epsilon: 1.0, delta: 1e-6 }];

/// Largest changes of a picture's values by descent.
const RADII: [f32; 2] = [1.0 / 255.0, 4.0 / 255.0];
/// Pictures that are changed, and pictures that the head which they fool is fitted to.
const FOOLED: usize = 12;
const FOOLED_BY: usize = 150;

/// Which attacks, how large.
///
/// ```
/// use arras_audit::{Attack, Plan};
///
/// let quick = Plan { attacks: vec![Attack::Head, Attack::Single], victims: 8, own: 60, ..Plan::default() };
/// assert_eq!((Plan::default().attacks.len(), quick.seed), (12, 7));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What everything random depends on but encryption.
    pub seed: u64,
    /// The attacks, in any order.
    pub attacks: Vec<Attack>,
    /// Victims of attacks on tokens.
    pub victims: usize,
    /// The attacker's own pictures.
    pub own: usize,
    /// Batches of each size that gradients are inverted of.
    pub batches: usize,
    /// Batch sizes of gradient matching.
    pub batch_sizes: Vec<usize>,
    /// Steps of gradient matching, at least 1.
    pub iterations: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 7,
            attacks: Attack::ALL.to_vec(),
            victims: 100,
            own: 600,
            batches: 3,
            batch_sizes: vec![1, 2, 4, 8],
            iterations: 200,
        }
    }
}

/// What is attacked.
///
/// ```
/// use arras_audit::{Attack, Plan, Source, Subject, Watch, run};
/// use arras_vit::{Device, Vit};
///
/// /// Tells nobody.
/// struct Quiet;
///
/// impl Watch for Quiet {
///     fn begin(&self, _: &str, _: usize) {}
///     fn step(&self) {}
/// }
/// # use arras_vit::config::{Activation, Architecture, Size, Trunk};
/// # let trunk = Trunk { image: Size::square(32), patch: Size::square(8), width: 32, depth: 1, heads: 2,
/// #     activation: Activation::Gelu, layer_norm_eps: 1e-6, qkv_bias: true };
/// # let vit = Vit::random(&Architecture::Vit(trunk, 64), 1, &Device::Cpu)?;
/// # let folder = tempfile::tempdir()?;
/// let subject = Subject { vit: &vit, model: None, source: Source::Tiles(7), lpips: None };
/// let plan = Plan { attacks: vec![Attack::Single], victims: 8, own: 60, ..Plan::default() };
/// let audit = run(subject, &plan, folder.path(), &Quiet)?;
/// assert!(audit.findings.iter().all(|row| row.attack == Attack::Single));
/// assert!(folder.path().join("audit.json").exists() && folder.path().join("report.html").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Subject<'a> {
    /// Makes the tokens.
    pub vit: &'a Vit,
    /// Where it was loaded from; without, it is random, and the gradients are those of the published geometry.
    pub model: Option<&'a Path>,
    /// Where pictures come from.
    pub source: Source,
    /// The network of LPIPS, if its weights are at hand.
    pub lpips: Option<&'a Lpips>,
}

/// Is told what is being done.
///
/// See the example of [`Subject`].
pub trait Watch {
    /// A stage of so many steps begins.
    fn begin(&self, what: &str, steps: usize);
    /// One step is done.
    fn step(&self);
}

/// Rows of one attack on disk, with what they depend on.
#[derive(Serialize, Deserialize)]
struct Kept {
    settings: String,
    findings: Vec<Finding>,
}

/// Runs the attacks and writes `audit.json`, `report.html` and `images/` to a folder. Rows of an earlier run in the same
/// folder that depended on the same settings are taken as they are.
///
/// # Errors
/// A folder that cannot be written, pictures or models that cannot be used.
pub fn run(subject: Subject<'_>, plan: &Plan, folder: &Path, watch: &dyn Watch) -> Result<Audit> {
    let results = folder.join("results");
    for needed in [&results, &folder.join("images")] {
        std::fs::create_dir_all(needed).map_err(|error| Error::file(needed, error))?;
    }
    let mut world = World { subject, plan, folder, watch, tokens: None };
    let mut findings = Vec::new();
    for attack in Attack::ALL.into_iter().filter(|attack| plan.attacks.contains(attack)) {
        let file = results.join(format!("{}.json", attack.name()));
        let settings = world.settings(attack)?;
        let rows = match kept(&file, &settings) {
            Some(rows) => rows,
            None => {
                let rows = Kept { settings: settings.clone(), findings: world.attack(attack)? };
                write(&file, &to_json(&rows)?)?;
                // As the next run will read them, to the last bit.
                kept(&file, &settings).unwrap_or(rows.findings)
            }
        };
        findings.extend(rows);
    }
    let audit = world.document(findings);
    write(&folder.join("audit.json"), &to_json(&audit)?)?;
    write(&folder.join("report.html"), &report::html(&audit))?;
    Ok(audit)
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::invalid("document", error.to_string()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    write_atomically(file, text.as_bytes(), Access::Shared).map_err(|error| Error::file(file, error))
}

/// Rows of an earlier run with the same settings; none where there is anything else.
fn kept(file: &Path, settings: &str) -> Option<Vec<Finding>> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (kept.settings == settings).then_some(kept.findings)
}

/// Tokens of the attacker's pictures and of the victims, and the scene they play in.
struct Tokens<'a> {
    own: Vec<Vec<f32>>,
    own_classes: Vec<usize>,
    victims: Vec<Vec<f32>>,
    scene: Scene<'a>,
}

struct World<'a> {
    subject: Subject<'a>,
    plan: &'a Plan,
    folder: &'a Path,
    watch: &'a dyn Watch,
    tokens: Option<Tokens<'a>>,
}

impl<'a> World<'a> {
    /// Everything that the rows of an attack depend on.
    fn settings(&self, attack: Attack) -> Result<String> {
        let plan = Plan { attacks: vec![attack], ..self.plan.clone() };
        let lpips = if self.subject.lpips.is_some() { "with LPIPS" } else { "without LPIPS" };
        let model = self.subject.vit.fingerprint();
        Ok(format!("{} {} {model} {lpips} {}", SCHEMA, self.subject.source.name(), to_json(&plan)?))
    }

    fn document(&self, findings: Vec<Finding>) -> Audit {
        let mut notes = vec![
            "Every score stands beside the best guess that ignores the victim; the interval is that of the difference."
                .to_owned(),
            "A row that did not converge says nothing about protection.".to_owned(),
        ];
        if matches!(self.subject.source, Source::Tiles(_)) {
            notes.push("Generated tiles: no evidence about histology.".to_owned());
        }
        if self.subject.model.is_none() {
            notes.push("Random weights: a trained model may show more or less of its images.".to_owned());
        }
        if self.subject.lpips.is_none() {
            notes.push("LPIPS was not measured: no weights were given (--lpips).".to_owned());
        }
        Audit {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: self.plan.seed,
            images: self.subject.source.name(),
            model: match self.subject.model {
                Some(folder) => folder.display().to_string(),
                None => "random weights".to_owned(),
            },
            notes,
            findings,
        }
    }

    /// The rows of one attack: the list of what there is.
    fn attack(&mut self, attack: Attack) -> Result<Vec<Finding>> {
        match attack {
            Attack::ClosedForm => self.closed_form(),
            Attack::Matching => self.matching(),
            Attack::Decoder => self.on_tokens(attack.name(), |t| decoder::run(&t.scene, &t.own, &t.victims)),
            Attack::Aggregate => self.aggregate(),
            Attack::Ciphertext => {
                self.on_tokens(attack.name(), |t| ciphertext::run(&t.scene, &t.own, &t.victims))
            }
            Attack::Logits => {
                if self.subject.source.classes() < 2 {
                    let row =
                        Finding::new(attack, "logits", "whoever is shown the logits", "none", self.plan.seed);
                    return Ok(vec![row.judged(false, "The pictures have no classes to fit a head to.")]);
                }
                self.on_tokens(attack.name(), |t| {
                    logits::run(&t.scene, &head_of(&t.own, &t.own_classes)?, &t.own, &t.victims)
                })
            }
            Attack::Key => self.on_nothing(attack, key::findings),
            Attack::Membership => self.on_rows(attack, membership::findings),
            Attack::Head => self.on_rows(attack, head::findings),
            Attack::Differencing => self.on_rows(attack, differencing::findings),
            Attack::Single => self.on_rows(attack, single::findings),
            Attack::Adversarial => self.adversarial(),
        }
    }

    /// Attacks that make all they need.
    fn on_nothing(
        &self,
        attack: Attack,
        run: impl FnOnce(u64) -> Result<Vec<Finding>>,
    ) -> Result<Vec<Finding>> {
        self.watch.begin(attack.name(), 1);
        let rows = run(self.plan.seed);
        self.watch.step();
        rows
    }

    /// Attacks on tokens with classes, no matter of which pictures.
    fn on_rows(
        &mut self,
        attack: Attack,
        run: impl FnOnce(&Rows, u64) -> Result<Vec<Finding>>,
    ) -> Result<Vec<Finding>> {
        let class_count = self.subject.source.classes();
        if class_count < 2 {
            let row = Finding::new(attack, "a head", "whoever has it", "none", self.plan.seed);
            return Ok(vec![row.judged(false, "The pictures have no classes to fit a head to.")]);
        }
        let tokens = self.tokens()?;
        let rows = Rows {
            dimension: tokens.own.first().map_or(0, Vec::len),
            values: tokens.own.concat(),
            classes: tokens.own_classes.clone(),
            class_count,
        };
        self.on_nothing(attack, |seed| run(&rows, seed))
    }

    /// On the model that was given, or on a small one with random weights, which is as easily fooled.
    fn adversarial(&mut self) -> Result<Vec<Finding>> {
        let seed = self.plan.seed;
        let small;
        let (vit, model) = match self.subject.model {
            Some(folder) => (self.subject.vit, Tensors::load(folder)?),
            None => {
                let architecture = small_architecture();
                small = Vit::random(&architecture, seed, &arras_vit::Device::Cpu)?;
                (&small, Tensors::random(&architecture, seed)?)
            }
        };
        let (victims, own) = self.subject.source.limits(FOOLED, FOOLED_BY);
        let own = self.subject.source.own(vit.preprocessor(), own)?;
        let victims = images(&self.subject.source.victims(vit.preprocessor(), victims)?);
        let network = Network::new(model, self.subject.source.classes().max(2), seed, &Device::Cpu)?;
        let twin = Twin { vit, network: &network };
        let tokens = twin.tokens(&images(&own))?;
        let classes: Vec<usize> = own.iter().map(|sample| sample.class).collect();
        let head = head_of(&tokens, &classes)?;
        self.watch.begin(Attack::Adversarial.name(), RADII.len());
        let mut rows = Vec::new();
        for radius in RADII {
            let settings = adversarial::Settings { radius, steps: 10, seed };
            rows.extend(adversarial::of_pipeline(&twin, &head, &victims, &settings)?);
            self.watch.step();
        }
        Ok(rows)
    }

    fn tokens(&mut self) -> Result<&Tokens<'a>> {
        if self.tokens.is_none() {
            let preprocessor = self.subject.vit.preprocessor();
            let (victims, own) = self.subject.source.limits(self.plan.victims, self.plan.own);
            self.watch.begin("tokens", (victims + own).div_ceil(BATCH));
            let own = self.subject.source.own(preprocessor, own)?;
            let victims = self.subject.source.victims(preprocessor, victims)?;
            self.tokens = Some(Tokens {
                own: self.embed(&own)?,
                own_classes: own.iter().map(|sample| sample.class).collect(),
                victims: self.embed(&victims)?,
                scene: Scene::new(&images(&own), &images(&victims), self.subject.lpips, self.plan.seed)?,
            });
        }
        self.tokens.as_ref().ok_or_else(|| Error::invalid("tokens", "none"))
    }

    fn embed(&self, samples: &[Sample]) -> Result<Vec<Vec<f32>>> {
        let mut tokens = Vec::with_capacity(samples.len());
        for batch in samples.chunks(BATCH) {
            let pixels: Vec<&[f32]> = batch.iter().map(|sample| &*sample.pixels).collect();
            tokens.extend(self.subject.vit.embed_batch(&pixels)?);
            self.watch.step();
        }
        Ok(tokens)
    }

    /// One row from one inversion.
    fn on_tokens(
        &mut self,
        name: &str,
        attack: impl FnOnce(&Tokens<'a>) -> Result<(Finding, Inverted)>,
    ) -> Result<Vec<Finding>> {
        let started = Instant::now();
        self.tokens()?;
        self.watch.begin(name, 1);
        let (finding, inverted) = attack(self.tokens()?)?;
        self.watch.step();
        Ok(vec![self.shown(finding, name, &inverted.images, started)?])
    }

    fn aggregate(&mut self) -> Result<Vec<Finding>> {
        let seed = self.plan.seed;
        let mut cases: Vec<(usize, Option<Privacy>)> = [1, 2, 8, 64].map(|k| (k, None)).to_vec();
        cases.extend(BUDGETS.into_iter().flat_map(|budget| [(8, Some(budget)), (64, Some(budget))]));
        cases.retain(|case| case.0 <= self.plan.victims);
        let mut rows = Vec::new();
        for (index, (k, privacy)) in cases.into_iter().enumerate() {
            let name = format!("aggregate-{index}");
            rows.extend(
                self.on_tokens(&name, |t| {
                    aggregate::of_sums(&t.scene, &t.own, &t.victims, k, privacy, seed)
                })?,
            );
        }
        let started = Instant::now();
        let tokens = self.tokens()?;
        let half = tokens.victims.len() / 2;
        for privacy in [None, Some(BUDGETS[0]), Some(BUDGETS[1])] {
            let (members, others) = tokens.victims.split_at(half);
            rows.push(aggregate::of_statistics(members, others, privacy, seed)?);
        }
        let (members, others) = tokens.own.split_at(tokens.own.len() / 2);
        rows.push(aggregate::of_statistics(members, others, None, seed)?);
        for row in rows.iter_mut().filter(|row| row.seconds == 0.0) {
            row.seconds = started.elapsed().as_secs_f64();
        }
        Ok(rows)
    }

    /// Adds time and pictures to a row of reconstructions of the tokens' victims.
    fn shown(&mut self, mut row: Finding, name: &str, found: &[Image], started: Instant) -> Result<Finding> {
        row.seconds = started.elapsed().as_secs_f64();
        let folder = self.folder;
        let scene = &self.tokens()?.scene;
        let shown = scene.victims().iter().zip(found).take(SHOWN).enumerate();
        row.pictures = shown
            .map(|(at, (original, found))| {
                picture(folder, &format!("{name}-{at}"), [original, scene.guesses().mean(), found])
            })
            .collect::<Result<_>>()?;
        Ok(recovered(row))
    }

    fn closed_form(&mut self) -> Result<Vec<Finding>> {
        let model = match self.subject.model {
            Some(folder) => Tensors::load(folder)?,
            None => Tensors::random(&Architecture::paper(), self.plan.seed)?,
        };
        let gradients = Gradients::new(self, model, 2 * self.plan.batches)?;
        let cases = [
            (1, Precision::Single),
            (1, Precision::Half),
            (1, Precision::Brain),
            (2, Precision::Single),
            (4, Precision::Single),
        ];
        self.watch.begin(Attack::ClosedForm.name(), cases.len() * self.plan.batches);
        let mut rows = Vec::new();
        for (size, precision) in cases {
            let started = Instant::now();
            let mut batches = Batches::default();
            let mut residual = 0.0_f64;
            for batch in gradients.batches(size, self.plan.batches) {
                let seen = closed_form::gradients(&gradients.network, &batch)?;
                let found = closed_form::invert(&gradients.network, &gradients.scale, &seen, precision)?;
                residual = residual.max(found.residual);
                batches.add(&batch, &vec![found.image.clone(); batch.len()], found.fits());
                self.watch.step();
            }
            let seen = format!("gradients of {}, {}", batch_of(size), precision.name());
            let text = match batches.converged {
                true => "Least squares in closed form; the gradients are those of one image.",
                false => {
                    "The solver is for one image; its residual says that these gradients are not of one. \
                          No protection: see matching."
                }
            };
            let row = gradients.row(self, Attack::ClosedForm, &seen, &batches, text)?;
            let row = row.parameter("residual", residual).parameter("batch", size);
            rows.push(Finding { seconds: started.elapsed().as_secs_f64(), ..row });
        }
        Ok(rows)
    }

    fn matching(&mut self) -> Result<Vec<Finding>> {
        let model = Tensors::random(&small_architecture(), self.plan.seed)?;
        let largest = self.plan.batch_sizes.iter().copied().max().unwrap_or(1);
        let gradients = Gradients::new(self, model, largest.max(2))?;
        let descent = Descent { iterations: self.plan.iterations, ..Descent::default() };
        self.watch.begin(Attack::Matching.name(), descent.iterations * self.plan.batch_sizes.len());
        let mut rows = Vec::new();
        for &size in &self.plan.batch_sizes {
            let started = Instant::now();
            let mut batches = Batches::default();
            let mut distance = 0.0;
            for batch in gradients.batches(size, 1) {
                let target = matching::gradients(&gradients.network, &batch)?;
                let labels = matching::labels(&batch)?;
                let step = || self.watch.step();
                let (network, scale) = (&gradients.network, &gradients.scale);
                let found =
                    matching::invert(network, scale, (&target, &labels), descent, self.plan.seed, step)?;
                let originals: Vec<&Image> = batch.iter().map(|sample| &sample.image).collect();
                distance = found.distance;
                batches.add(&batch, &matching::paired(&originals, &found.images)?, found.converged);
            }
            let seen = format!("gradients of {}, small model", batch_of(size));
            let text = match batches.converged {
                true => format!("Converged to a cosine distance of {distance:.1e}."),
                false => format!(
                    "Ended at a cosine distance of {distance:.1e}, above {:.0e}: did not converge, which \
                     protects nothing.",
                    descent.reached
                ),
            };
            let row = gradients.row(self, Attack::Matching, &seen, &batches, &text)?;
            let row = row
                .parameter("iterations", descent.iterations)
                .parameter("cosine_distance", distance)
                .parameter("total_variation", descent.total_variation)
                .parameter("batch", size);
            rows.push(Finding { seconds: started.elapsed().as_secs_f64(), ..row });
        }
        Ok(rows)
    }
}

/// A transformer whose gradients take milliseconds.
fn small_architecture() -> Architecture {
    let trunk = Trunk {
        image: Size::square(64),
        patch: Size::square(8),
        width: 128,
        depth: 4,
        heads: 4,
        activation: Activation::Gelu,
        layer_norm_eps: 1e-12,
        qkv_bias: true,
    };
    Architecture::Vit(trunk, 512)
}

fn batch_of(size: usize) -> String {
    if size == 1 { "one image".into() } else { format!("a batch of {size}") }
}

/// A network whose gradients are seen, and pictures as it takes them.
struct Gradients {
    network: Network,
    scale: Scale,
    victims: Vec<Sample>,
    guesses: Guesses,
}

impl Gradients {
    fn new(world: &World<'_>, model: Tensors, victims: usize) -> Result<Self> {
        let Subject { source, lpips, .. } = &world.subject;
        let (count, own) = source.limits(victims, GUESSED_FROM);
        let own = source.own(&model.preprocessor, own)?;
        Ok(Self {
            victims: source.victims(&model.preprocessor, count)?,
            guesses: Guesses::new(&images(&own), *lpips)?,
            scale: Scale::of(&model.preprocessor),
            network: Network::new(model, source.classes().max(2), world.plan.seed, &Device::Cpu)?,
        })
    }

    /// Up to `count` batches of victims; batches of larger sizes share some.
    fn batches(&self, size: usize, count: usize) -> impl Iterator<Item = Vec<&Sample>> {
        let starts = (0..count).map(move |batch| batch * size.min(2));
        starts
            .filter(move |start| start + size <= self.victims.len())
            .map(move |start| self.victims[start..start + size].iter().collect())
    }

    fn row(
        &self,
        world: &World<'_>,
        attack: Attack,
        seen: &str,
        batches: &Batches,
        text: &str,
    ) -> Result<Finding> {
        let (originals, found) =
            (batches.originals.iter().collect::<Vec<_>>(), batches.found.iter().collect::<Vec<_>>());
        let seed = world.plan.seed;
        let mut row = Finding::new(attack, seen, "server of plain federated learning", "none", seed);
        row.victims = originals.len();
        let lpips = world.subject.lpips;
        row.scores = scores(&originals, &found, &self.guesses.baselines(&originals, lpips)?, lpips, seed)?;
        let stem = seen.replace([' ', ','], "-");
        row.pictures = originals
            .iter()
            .zip(&found)
            .take(SHOWN)
            .enumerate()
            .map(|(at, (original, found))| {
                let name = format!("{}-{stem}-{at}", attack.name());
                picture(world.folder, &name, [original, self.guesses.mean(), found])
            })
            .collect::<Result<_>>()?;
        Ok(recovered(row.judged(batches.converged, text)))
    }
}

/// Originals and reconstructions over batches.
struct Batches {
    originals: Vec<Image>,
    found: Vec<Image>,
    converged: bool,
}

impl Default for Batches {
    fn default() -> Self {
        Self { originals: Vec::new(), found: Vec::new(), converged: true }
    }
}

impl Batches {
    fn add(&mut self, batch: &[&Sample], found: &[Image], converged: bool) {
        self.originals.extend(batch.iter().map(|sample| sample.image.clone()));
        self.found.extend_from_slice(found);
        self.converged &= converged;
    }
}

fn images(samples: &[Sample]) -> Vec<Image> {
    samples.iter().map(|sample| sample.image.clone()).collect()
}

/// A row whose pictures are the originals.
fn recovered(mut row: Finding) -> Finding {
    if row.scores.get("ssim_uniform").is_some_and(|score| score.value >= RECOVERED) {
        row.verdict = Verdict::Recovered;
    }
    row
}

/// Writes original, guess and reconstruction; their paths are relative to the folder.
fn picture(folder: &Path, name: &str, images: [&Image; 3]) -> Result<Picture> {
    let mut paths = Vec::with_capacity(3);
    for (role, image) in ["original", "guess", "found"].into_iter().zip(images) {
        let path = PathBuf::from("images").join(format!("{name}-{role}.png"));
        image.save(&folder.join(&path))?;
        paths.push(path);
    }
    let [original, guess, reconstruction] = <[PathBuf; 3]>::try_from(paths).unwrap_or_default();
    Ok(Picture { label: name.to_owned(), original, guess, reconstruction })
}

/// A ridge head on the attacker's own labelled tokens: as good as any for what its logits show.
fn head_of(tokens: &[Vec<f32>], classes: &[usize]) -> Result<Head> {
    let features = Features {
        dimension: tokens.first().map_or(0, Vec::len),
        values: tokens.concat(),
        names: (0..tokens.len()).map(|row| row.to_string()).collect(),
        labels: Some(classes.iter().map(|class| format!("class {class}")).collect()),
        ..Features::default()
    };
    Ok(arras_fit::train(&features, None)?.head)
}
