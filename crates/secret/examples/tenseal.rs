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
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::evaluator::{Evaluator, LinearTransform};
use arras_ckks::fft::Complex;
use arras_ckks::{Ciphertext, Context, EvaluationKeys, Params, Plaintext, Security, Spec, Workspace};
use arras_cpu::Cpu;
use arras_heads::layout::Groups;
use arras_heads::{Head, Layout, LinearHead, ModelCard, Preset, Query, Reply};
use arras_rns::prime::ntt_primes;
use arras_rns::{Backend, LimbSet};
use arras_secret::{Cipher, PublicKey, SecretKey};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CLASSES: usize = 5;
const FEATURES: usize = 768;
const BATCH: usize = 4096;
/// Ring degree, sizes of the primes, scale: the paper's.
const DEGREE: usize = 8192;
const BITS: [u32; 3] = [60, 40, 40];
const SPECIAL_BITS: u32 = 60;
const SCALE_BITS: u32 = 40;
/// Of the integer weights of a batch: rounding them costs 1e-8.
const WEIGHT_SCALE: f64 = (1u64 << 30) as f64;

fn main() -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let load = lines.next().ok_or("no command")??;
    let file = load.strip_prefix("load ").ok_or("the first command has to be: load FILE")?;
    let data = Data::read(Path::new(file))?;
    let paper = Context::new(Cpu::sequential(), paper_params()?)?;
    let preset = Preset::named(Preset::DEFAULT)?;
    let own = Context::new(Cpu::sequential(), preset.params.clone())?;
    let paper = Paper::new(&paper, &data)?;
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

fn paper_params() -> Result<Params> {
    // The special prime first, so that it is the largest of its size.
    let special = ntt_primes(SPECIAL_BITS, DEGREE, 1, &[])?;
    let mut moduli: Vec<u64> = Vec::new();
    for bits in BITS {
        let taken = [special.clone(), moduli.clone()].concat();
        moduli.extend(ntt_primes(bits, DEGREE, 1, &taken)?);
    }
    let (digits, security) = (moduli.len(), Security::Classical128);
    Ok(Params::new(Spec { degree: DEGREE, moduli, special, digits, scale_bits: SCALE_BITS, security })?)
}

/// Heads at the parameters of the paper. Ciphertexts arrive at the top, as TenSEAL's do; the server drops the primes that
/// one product does not need.
struct Paper<'c> {
    cipher: Cipher<'c, Cpu>,
    public: PublicKey<Cpu>,
    encoder: SlotEncoder,
    keys: EvaluationKeys<Cpu>,
    workspace: RefCell<Workspace<Cpu>>,
    /// The weights of all classes one after the other, and the folds of 768 slots into 1.
    weights: Plaintext<Cpu>,
    folds: Vec<LinearTransform<Cpu>>,
    /// Integer weights for a batch.
    matrix: <Cpu as Backend>::Matrix,
    data: &'c Data,
    image: Kept<Ciphertext<Cpu>>,
    logits: Kept<Ciphertext<Cpu>>,
    batch: Kept<Ciphertext<Cpu>>,
    batch_logits: Kept<Ciphertext<Cpu>>,
    clear: Kept<Vec<f64>>,
    batch_clear: Kept<Vec<f64>>,
}

/// 768 = 3 * 4 * 8 * 8: every factor is one round of hoisted rotations.
const FOLDS: [usize; 4] = [3, 4, 8, 8];

impl<'c> Paper<'c> {
    fn new(context: &'c Context<Cpu>, data: &'c Data) -> Result<Self> {
        let params = context.params();
        let cipher = Cipher::new(context, &SecretKey::generate(params)?)?;
        let encoder = SlotEncoder::new(DEGREE, 5)?;
        let level = 1;
        let values: Vec<Complex> = data.weights.iter().map(|&w| Complex::new(w.into(), 0.0)).collect();
        let weights = encoder.encode(context, &values, values.len(), params.scale(), level)?;
        let mut folds = Vec::new();
        let mut width = FEATURES;
        for fold in FOLDS {
            width /= fold;
            // At scale 1 a row of ones is the polynomial 1: nothing is rounded, and nothing has to be rescaled.
            let ones = vec![Complex::new(1.0, 0.0); encoder.slots()];
            let diagonals: BTreeMap<i64, Vec<Complex>> =
                (0..fold).map(|i| ((i * width) as i64, ones.clone())).collect();
            let babies = Some(encoder.slots());
            folds.push(LinearTransform::new(context, &encoder, &diagonals, 1.0, level - 1, babies)?);
        }
        let rotations = folds.iter().flat_map(|fold| fold.plan().rotations());
        let elements = encoder.group().elements(rotations)?;
        let keys = EvaluationKeys::from_keys(context, &cipher.galois_keys(&elements, level - 1)?)?;
        let entries: Vec<i64> =
            data.weights.iter().map(|&w| (f64::from(w) * WEIGHT_SCALE).round() as i64).collect();
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        Ok(Self {
            public: cipher.public_key()?,
            workspace: Workspace::new(context, 0..=level, 1)?.into(),
            matrix: backend.matrix(queue, tables, CLASSES, FEATURES, &entries)?,
            cipher,
            encoder,
            keys,
            weights,
            folds,
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
                || with(&self.image, |image| self.real(image, FEATURES, 1)),
            ),
            Case::new(
                ("image/head", "paper's parameters: head 768 x 5 of one image by rotations", 1),
                || self.head(),
                || with(&self.logits, |logits| self.real(logits, CLASSES, FEATURES)),
            ),
            Case::new(
                ("image/decrypt", "paper's parameters: logits of one image decrypted and decoded", 1),
                || self.decrypt(&self.logits, &self.clear),
                || {
                    with(&self.clear, |slots| {
                        Ok(slots.iter().step_by(FEATURES).take(CLASSES).copied().collect())
                    })
                },
            ),
            Case::new(
                ("batch/encrypt", "paper's parameters: 4096 images in slots encoded and encrypted", BATCH),
                || self.encrypt_batch(),
                || {
                    with(&self.batch, |batch| {
                        // One row of features of the last image.
                        let all = self.slots(batch)?;
                        Ok(all.chunks_exact(BATCH).map(|row| row[BATCH - 1]).collect())
                    })
                },
            ),
            Case::new(
                ("batch/head", "paper's parameters: head 768 x 5 of 4096 images in slots", BATCH),
                || self.batch_head(),
                || with(&self.batch_logits, |logits| self.slots(logits)),
            ),
            Case::new(
                ("batch/decrypt", "paper's parameters: logits of 4096 images decrypted and decoded", BATCH),
                || self.decrypt(&self.batch_logits, &self.batch_clear),
                || with(&self.batch_clear, |slots| Ok(slots.clone())),
            ),
        ]
    }

    fn context(&self) -> &'c Context<Cpu> {
        self.cipher.context()
    }

    /// All slots, real parts.
    fn slots(&self, ciphertext: &Ciphertext<Cpu>) -> Result<Vec<f64>> {
        let plain = self.cipher.decrypt(ciphertext)?;
        Ok(self.encoder.decode(self.context(), &plain)?.into_iter().map(|z| z.re).collect())
    }

    fn real(&self, ciphertext: &Ciphertext<Cpu>, count: usize, step: usize) -> Result<Vec<f64>> {
        Ok(self.slots(ciphertext)?.into_iter().step_by(step).take(count).collect())
    }

    /// The first image, once for each class.
    fn encrypt_image(&self) -> Result<()> {
        let image = &self.data.features[..FEATURES];
        let values: Vec<Complex> =
            std::iter::repeat_n(image, CLASSES).flatten().map(|&x| Complex::new(x.into(), 0.0)).collect();
        let (context, params) = (self.context(), self.context().params());
        let plain =
            self.encoder.encode(context, &values, values.len(), params.scale(), params.max_level())?;
        *self.image.borrow_mut() = Some(self.public.encrypt(context, &plain)?);
        Ok(())
    }

    /// Products in slots, then the sum of every 768 of them.
    fn head(&self) -> Result<()> {
        let evaluator = Evaluator::new(self.context());
        let mut workspace = self.workspace.borrow_mut();
        let mut sum = with(&self.image, |image| {
            let low = evaluator.drop_to_level(image, 1)?;
            let product = evaluator.multiply_plain(&low, &self.weights)?;
            Ok(evaluator.rescale_with(&product, &mut workspace)?)
        })?;
        for fold in &self.folds {
            sum = evaluator.transform(&sum, fold, &self.keys, &mut workspace)?;
        }
        *self.logits.borrow_mut() = Some(sum);
        Ok(())
    }

    fn decrypt(&self, ciphertext: &Kept<Ciphertext<Cpu>>, clear: &Kept<Vec<f64>>) -> Result<()> {
        *clear.borrow_mut() = Some(with(ciphertext, |ciphertext| self.slots(ciphertext))?);
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

    /// An integer matrix times the ciphertexts, modulo the two 40-bit primes: they hold the logits without any division, and
    /// are cheaper than the 60-bit one.
    fn batch_head(&self) -> Result<()> {
        let context = self.context();
        let (limbs, backend) = (LimbSet::range(1..BITS.len()), context.backend());
        let product = with(&self.batch, |batch| {
            let components = batch.components.iter().map(|component| {
                let mut out = context.allocate(limbs, CLASSES)?;
                let input = component.view().with_limbs(limbs)?;
                let (queue, tables) = (context.queue(), context.tables());
                backend.matrix_product(queue, tables, &mut out.view_mut(), &self.matrix, &input)?;
                Ok(out)
            });
            let components = components.collect::<Result<_>>()?;
            Ok(Ciphertext { components, scale: batch.scale * WEIGHT_SCALE, seed: None })
        })?;
        *self.batch_logits.borrow_mut() = Some(product);
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
        let head = Head {
            weight: data.weights.clone(),
            bias: vec![0.0; CLASSES],
            classes: (0..CLASSES).map(|class| class.to_string()).collect(),
            card: ModelCard::default(),
        };
        let bounds = preset.bounds_of(&data.features, FEATURES)?;
        let road = |layout, images| -> Result<_> {
            let groups = Groups::new(layout, preset.params.degree(), FEATURES, images)?;
            Ok(Road { groups, query: None.into(), reply: None.into(), logits: None.into() })
        };
        Ok(Self {
            cipher: Cipher::new(context, &SecretKey::generate(&preset.params)?)?,
            server: LinearHead::new(context, &head, bounds)?,
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
