//! The side of arras in `scripts/tenseal/compare.py`: does one case when told to, and says how long it took.
//!
//! Reads commands from standard input, a line each, and answers each with a line of JSON:
//!
//! ```text
//! load FILE     weights [5][768] and features [4096][768], f32 little endian
//! cases         names, descriptions and counts of everything below
//! time CASE     does it once; nanoseconds
//! check CASE    the numbers that the last execution stands for, in the clear
//! ```
//!
//! Everything runs on one thread.

use std::cell::RefCell;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::fft::Complex;
use arras_ckks::{Ciphertext, Context, EvaluationKeys, Slots, Workspace};
use arras_cpu::Cpu;
use arras_heads::layout::Groups;
use arras_heads::{
    Head, Layout, LinearHead, Model, ModelCard, Preset, Query, Reply, RotationsHead, RotationsPlan, Shape,
    SlotsHead,
};
use arras_rns::Backend;
use arras_secret::{Cipher, PublicKey, SecretKey};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CLASSES: usize = 5;
const FEATURES: usize = 768;
const BATCH: usize = 4096;

fn main() -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let load = lines.next().ok_or("no command")??;
    let file = load.strip_prefix("load ").ok_or("the first command has to be: load FILE")?;
    let data = Data::read(Path::new(file))?;
    let [papers, preset] = [Preset::named("paper")?, Preset::named(Preset::DEFAULT)?];
    let paper = Context::new(Cpu::sequential(), papers.params.clone())?;
    let own = Context::new(Cpu::sequential(), preset.params.clone())?;
    let paper = Paper::new(&paper, papers, &data)?;
    let own = Own::new(&own, preset, &data)?;
    let mut cases = [paper.cases(), own.cases()?].into_iter().flatten().collect::<Vec<_>>();
    answer(json!({"backend": paper.cipher.context().backend().name()}))?;
    for line in lines {
        let line = line?;
        let reply = match line.split_once(' ').unwrap_or((&line, "")) {
            ("cases", "") => cases.iter().map(Case::describe).collect(),
            ("time", name) => find(&mut cases, name)?.time()?,
            ("check", name) => (find(&mut cases, name)?.check)()?.into(),
            _ => return Err(format!("unknown command {line:?}").into()),
        };
        answer(reply)?;
    }
    Ok(())
}

fn answer(reply: Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{reply}")?;
    Ok(out.flush()?)
}

/// Weights by class, features by image.
struct Data {
    weights: Vec<f32>,
    features: Vec<f32>,
}

impl Data {
    fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let expected = 4 * FEATURES * (CLASSES + BATCH);
        if bytes.len() != expected {
            return Err(format!("{}: {} bytes, expected {expected}", path.display(), bytes.len()).into());
        }
        let mut weights: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let features = weights.split_off(FEATURES * CLASSES);
        Ok(Self { weights, features })
    }

    fn head(&self) -> Head {
        Head {
            weight: self.weights.clone(),
            bias: vec![0.0; CLASSES],
            classes: (0..CLASSES).map(|class| class.to_string()).collect(),
            card: ModelCard::default(),
        }
    }
}

/// Something to time: `run` does it and keeps the outcome, `check` looks at what was kept.
struct Case<'a> {
    name: &'static str,
    what: &'static str,
    items: usize,
    run: Box<dyn FnMut() -> Result<()> + 'a>,
    check: Box<dyn Fn() -> Result<Vec<f64>> + 'a>,
}

impl<'a> Case<'a> {
    fn new(
        (name, what, items): (&'static str, &'static str, usize),
        run: impl FnMut() -> Result<()> + 'a,
        check: impl Fn() -> Result<Vec<f64>> + 'a,
    ) -> Self {
        Self { name, what, items, run: Box::new(run), check: Box::new(check) }
    }

    fn describe(&self) -> Value {
        json!({"name": self.name, "what": self.what, "items": self.items})
    }

    fn time(&mut self) -> Result<Value> {
        let began = Instant::now();
        (self.run)()?;
        Ok((began.elapsed().as_nanos() as u64).into())
    }
}

fn find<'c, 'a>(cases: &'c mut [Case<'a>], name: &str) -> Result<&'c mut Case<'a>> {
    cases.iter_mut().find(|case| case.name == name).ok_or_else(|| format!("no case {name:?}").into())
}

/// What a case left, which has to be there before it is looked at.
type Kept<T> = RefCell<Option<T>>;

fn with<T, R>(kept: &Kept<T>, look: impl FnOnce(&T) -> Result<R>) -> Result<R> {
    look(kept.borrow().as_ref().ok_or("it has not run")?)
}

/// Heads at the parameters of the paper. Ciphertexts arrive at the top, as TenSEAL's do, and in memory.
struct Paper<'c> {
    cipher: Cipher<'c, Cpu>,
    public: PublicKey<Cpu>,
    encoder: SlotEncoder,
    rotations: RotationsHead<'c, Cpu>,
    slots: SlotsHead<'c, Cpu>,
    /// Where the image and its logits stand by rotations.
    groups: Groups,
    workspace: RefCell<Workspace<Cpu>>,
    data: &'c Data,
    image: Kept<Ciphertext<Cpu>>,
    logits: Kept<Ciphertext<Cpu>>,
    batch: Kept<Ciphertext<Cpu>>,
    batch_logits: Kept<Ciphertext<Cpu>>,
    clear: Kept<Vec<f64>>,
    batch_clear: Kept<Vec<f64>>,
}

impl<'c> Paper<'c> {
    fn new(context: &'c Context<Cpu>, preset: &'static Preset, data: &'c Data) -> Result<Self> {
        let params = context.params();
        let cipher = Cipher::new(context, &SecretKey::generate(params)?)?;
        let (model, bounds) = (Model::Linear(data.head()), preset.bounds_of(&data.features, FEATURES)?);
        let mut keys = EvaluationKeys::new(params);
        for (element, level) in RotationsPlan::new(params, Shape::of(&model))?.keys()? {
            keys.insert(context, &cipher.evaluation_key(element, level)?)?;
        }
        let rotations = RotationsHead::new(context, &model, bounds, keys)?;
        Ok(Self {
            public: cipher.public_key()?,
            encoder: SlotEncoder::new(params.degree(), Slots::GENERATOR)?,
            workspace: rotations.workspace(1)?.into(),
            rotations,
            slots: SlotsHead::new(context, &model, bounds)?,
            groups: Groups::new(Layout::Rotations, params.degree(), FEATURES, 1)?,
            cipher,
            data,
            image: None.into(),
            logits: None.into(),
            batch: None.into(),
            batch_logits: None.into(),
            clear: None.into(),
            batch_clear: None.into(),
        })
    }

    fn cases(&self) -> Vec<Case<'_>> {
        vec![
            Case::new(
                ("image/encrypt", "paper's parameters: one image encoded and encrypted, public key", 1),
                || self.encrypt_image(),
                || {
                    let features = |slots: Vec<f64>| slots.into_iter().step_by(self.step()).take(FEATURES);
                    with(&self.image, |image| Ok(features(self.decoded(image)?).collect()))
                },
            ),
            Case::new(
                ("image/head", "paper's parameters: head 768 x 5 of one image by rotations", 1),
                || self.head(),
                || with(&self.logits, |logits| self.read(logits)),
            ),
            Case::new(
                ("image/decrypt", "paper's parameters: logits of one image decrypted and decoded", 1),
                || {
                    *self.clear.borrow_mut() = Some(with(&self.logits, |logits| self.read(logits))?);
                    Ok(())
                },
                || with(&self.clear, |logits| Ok(logits.clone())),
            ),
            Case::new(
                ("batch/encrypt", "paper's parameters: 4096 images in slots encoded and encrypted", BATCH),
                || self.encrypt_batch(),
                || {
                    with(&self.batch, |batch| {
                        // One row of features of the last image.
                        let all = self.decoded(batch)?;
                        Ok(all.chunks_exact(BATCH).map(|row| row[BATCH - 1]).collect())
                    })
                },
            ),
            Case::new(
                ("batch/head", "paper's parameters: head 768 x 5 of 4096 images in slots", BATCH),
                || self.batch_head(),
                || with(&self.batch_logits, |logits| self.decoded(logits)),
            ),
            Case::new(
                ("batch/decrypt", "paper's parameters: logits of 4096 images decrypted and decoded", BATCH),
                || {
                    *self.batch_clear.borrow_mut() =
                        Some(with(&self.batch_logits, |logits| self.decoded(logits))?);
                    Ok(())
                },
                || with(&self.batch_clear, |slots| Ok(slots.clone())),
            ),
        ]
    }

    fn context(&self) -> &'c Context<Cpu> {
        self.cipher.context()
    }

    /// All slots, real parts.
    fn decoded(&self, ciphertext: &Ciphertext<Cpu>) -> Result<Vec<f64>> {
        let plain = self.cipher.decrypt(ciphertext)?;
        Ok(self.encoder.decode(self.context(), &plain)?.into_iter().map(|z| z.re).collect())
    }

    /// Slots from one feature of the image to the next.
    fn step(&self) -> usize {
        self.groups.images_per_polynomial()
    }

    /// The logits of the image: means of the slots in which they repeat.
    fn read(&self, logits: &Ciphertext<Cpu>) -> Result<Vec<f64>> {
        let (slots, period) = (self.decoded(logits)?, self.groups.period(CLASSES));
        let mean = |class: usize| {
            slots.iter().skip(class * self.step()).step_by(period).sum::<f64>() * period as f64
                / slots.len() as f64
        };
        Ok((0..CLASSES).map(mean).collect())
    }

    /// The first image.
    fn encrypt_image(&self) -> Result<()> {
        let mut values = vec![Complex::default(); self.encoder.slots()];
        for (slot, &x) in values.iter_mut().step_by(self.step()).zip(&self.data.features[..FEATURES]) {
            slot.re = x.into();
        }
        let (context, params) = (self.context(), self.context().params());
        let plain =
            self.encoder.encode(context, &values, values.len(), params.scale(), params.max_level())?;
        *self.image.borrow_mut() = Some(self.public.encrypt(context, &plain)?);
        Ok(())
    }

    fn head(&self) -> Result<()> {
        let mut workspace = self.workspace.borrow_mut();
        let apply = |image: &_| Ok(self.rotations.apply(image, &mut workspace)?);
        *self.logits.borrow_mut() = Some(with(&self.image, apply)?);
        Ok(())
    }

    /// Ciphertext j holds feature j of every image.
    fn encrypt_batch(&self) -> Result<()> {
        // Without two of them at a time.
        *self.batch.borrow_mut() = None;
        let image = |i: usize| &self.data.features[i * FEATURES..(i + 1) * FEATURES];
        let values: Vec<Complex> = (0..FEATURES)
            .flat_map(|j| (0..BATCH).map(move |i| Complex::new(image(i)[j].into(), 0.0)))
            .collect();
        let (context, params) = (self.context(), self.context().params());
        let plain = self.encoder.encode(context, &values, BATCH, params.scale(), params.max_level())?;
        *self.batch.borrow_mut() = Some(self.public.encrypt(context, &plain)?);
        Ok(())
    }

    fn batch_head(&self) -> Result<()> {
        *self.batch_logits.borrow_mut() = Some(with(&self.batch, |batch| Ok(self.slots.apply(batch)?))?);
        Ok(())
    }
}

/// The same heads in the layouts and parameters that arras chooses, bytes to bytes.
struct Own<'c> {
    cipher: Cipher<'c, Cpu>,
    server: LinearHead<'c, Cpu>,
    data: &'c Data,
    roads: [Road; 2],
}

/// A layout, and what its three cases leave.
struct Road {
    groups: Groups,
    query: Kept<Vec<u8>>,
    reply: Kept<Vec<u8>>,
    logits: Kept<Vec<f64>>,
}

impl<'c> Own<'c> {
    fn new(context: &'c Context<Cpu>, preset: &'static Preset, data: &'c Data) -> Result<Self> {
        let bounds = preset.bounds_of(&data.features, FEATURES)?;
        let road = |layout, images| -> Result<_> {
            let groups = Groups::new(layout, preset.params.degree(), FEATURES, images)?;
            Ok(Road { groups, query: None.into(), reply: None.into(), logits: None.into() })
        };
        Ok(Self {
            cipher: Cipher::new(context, &SecretKey::generate(&preset.params)?)?,
            server: LinearHead::new(context, &data.head(), bounds)?,
            data,
            roads: [road(Layout::Dot, 1)?, road(Layout::Transposed, BATCH)?],
        })
    }

    fn cases(&self) -> Result<Vec<Case<'_>>> {
        let names = [
            [
                ("dot/encrypt", "layout dot: one image, features to query bytes", 1),
                ("dot/head", "layout dot: one image, query bytes to reply bytes", 1),
                ("dot/decrypt", "layout dot: one image, reply bytes to logits", 1),
            ],
            [
                ("transposed/encrypt", "layout transposed: 4096 images, features to query bytes", BATCH),
                ("transposed/head", "layout transposed: 4096 images, query bytes to reply bytes", BATCH),
                ("transposed/decrypt", "layout transposed: 4096 images, reply bytes to logits", BATCH),
            ],
        ];
        let mut cases = Vec::new();
        for (Road { groups, query, reply, logits }, [encrypt, head, decrypt]) in self.roads.iter().zip(names)
        {
            let features = &self.data.features[..groups.images * FEATURES];
            let send = move || {
                let made = self.cipher.encrypt_features(*groups, features, None)?.to_bytes();
                *query.borrow_mut() = Some(made);
                Ok(())
            };
            let serve = move || {
                let made =
                    with(query, |query| Ok(self.server.classify(&Query::from_bytes(query)?)?.to_bytes()))?;
                *reply.borrow_mut() = Some(made);
                Ok(())
            };
            let open = move |reply: &Vec<u8>| Ok(self.cipher.decrypt_logits(&Reply::from_bytes(reply)?)?);
            let receive = move || {
                *logits.borrow_mut() = Some(with(reply, open)?);
                Ok(())
            };
            cases.push(Case::new(encrypt, send, move || with(query, |query| Ok(vec![query.len() as f64]))));
            cases.push(Case::new(head, serve, move || with(reply, open)));
            cases.push(Case::new(decrypt, receive, move || with(logits, |logits| Ok(logits.clone()))));
        }
        Ok(cases)
    }
}
