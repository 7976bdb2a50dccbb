//! The encrypted linear head, 5 classes of 768 features, on one thread: what the server does, what the client does, and
//! the parts that either is made of. Everything is compared with the clear head and with plain integer arithmetic before
//! it is timed.
//!
//! `cargo bench --bench linear_head` takes about a minute and leaves `target/criterion/linear_head.record.json`, which
//! `examples/records.rs` keeps. Words after `--` select benchmarks by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use arras::ckks::Context;
use arras::cpu::Cpu;
use arras::heads::layout::Groups;
use arras::heads::reply::PackedPiece;
use arras::heads::{Budget, Head, Layout, LinearHead, ModelCard, Preset, Query, Reply};
use arras::record::{Benchmark, Record, Summary, criterion_samples};
use arras::rns::check::packed_row;
use arras::rns::{
    Backend, Coefficient, Evaluation, LimbSet, Modulus, Packing, Poly, Positions, Purpose, SeedLabel,
};
use arras::secret::{Cipher, SecretKey};
use arras_wire::bits;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

const CLASSES: usize = 5;
const FEATURES: usize = 768;
const GROUP: &str = "linear_head";

fn main() -> Result<()> {
    let began = SystemTime::now();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion");
    let mut record = Record::start(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    let mut criterion = Criterion::default()
        .output_directory(&folder)
        .sample_size(40)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(2500))
        .configure_from_args();
    let setup = Setup::new()?;
    let mut suite = Suite::new(&setup, criterion.benchmark_group(GROUP));
    setup.roads(&mut suite)?;
    setup.parts(&mut suite)?;
    record.benchmarks = suite.finish(&folder, began)?;
    criterion.final_summary();
    // Without `--bench`, under `cargo test`, everything runs once and nothing is measured.
    if !record.benchmarks.is_empty() {
        let path: PathBuf = folder.join(GROUP).with_extension("record.json");
        record.write(&path)?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// Criterion's group, and what a record says beside the samples.
struct Suite<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    backend: String,
    parameters: BTreeMap<String, serde_json::Value>,
    cases: Vec<Benchmark>,
}

impl<'a> Suite<'a> {
    fn new(setup: &Setup, group: BenchmarkGroup<'a, WallTime>) -> Self {
        let ring = setup.preset.params.ring();
        let parameters = [
            ("preset", setup.preset.name.into()),
            ("degree", ring.degree().into()),
            ("modulus", ring.modulus(0).value().into()),
            ("classes", CLASSES.into()),
            ("features", FEATURES.into()),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value)).into();
        Self { group, backend: setup.context.backend().name(), parameters, cases: Vec::new() }
    }

    /// Times `work`, which must have been checked and divides into `items`.
    fn time<T>(
        &mut self,
        id: &str,
        what: String,
        (items, item): (usize, &str),
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<()> {
        work()?;
        self.group.throughput(Throughput::Elements(items as u64));
        self.group.bench_function(id, |bencher| bencher.iter(&mut work));
        self.cases.push(Benchmark {
            id: format!("{GROUP}/{id}"),
            what,
            backend: self.backend.clone(),
            threads: 1,
            parameters: self.parameters.clone(),
            unit: "ns".into(),
            items: items as u64,
            item: item.into(),
            samples: Vec::new(),
            summary: Summary::of(&[]),
        });
        Ok(())
    }

    /// The cases that were measured since `began`, with their samples.
    fn finish(self, folder: &Path, began: SystemTime) -> Result<Vec<Benchmark>> {
        self.group.finish();
        let mut measured = Vec::new();
        for case in self.cases {
            if !folder.exists() {
                break;
            }
            if let Some(samples) = criterion_samples(folder, &case.id, began)? {
                measured.push(Benchmark { summary: Summary::of(&samples), samples, ..case });
            }
        }
        Ok(measured)
    }
}

/// One context for client and server: both run on one thread.
struct Setup {
    preset: &'static Preset,
    context: Context<Cpu>,
    head: Head,
    /// Rows for a full polynomial of layout transposed.
    features: Vec<f32>,
}

impl Setup {
    fn new() -> Result<Self> {
        let preset = Preset::named(Preset::DEFAULT)?;
        let context = Context::new(Cpu::sequential(), preset.params.clone())?;
        let head = Head {
            weight: numbers(CLASSES * FEATURES, 1).into_iter().map(|w| w * 0.05).collect(),
            bias: numbers(CLASSES, 2),
            classes: (0..CLASSES).map(|class| class.to_string()).collect(),
            card: ModelCard::default(),
        };
        let features = numbers(preset.params.degree() * FEATURES, 3);
        Ok(Self { preset, context, head, features })
    }

    /// From features to logits, cut where bytes travel.
    fn roads(&self, suite: &mut Suite<'_>) -> Result<()> {
        let key = SecretKey::generate(&self.preset.params)?;
        let cipher = Cipher::new(&self.context, &key)?;
        let server = LinearHead::new(&self.context, &self.head, self.preset.bounds)?;
        for (layout, images) in [(Layout::Dot, 1), (Layout::Transposed, self.preset.params.degree())] {
            let groups = Groups::new(layout, self.preset.params.degree(), FEATURES, images)?;
            let features = &self.features[..images * FEATURES];
            let query = cipher.encrypt_features(groups, features, None)?.to_bytes();
            let reply = server.classify(&Query::from_bytes(&query)?)?.to_bytes();
            self.check_bound(features, &Reply::from_bytes(&reply)?, &cipher)?;
            self.check_integers(server.budget(), &Query::from_bytes(&query)?, &Reply::from_bytes(&reply)?)?;

            let (layout, items) = (layout.name(), (images, "image"));
            let count = if images == 1 { "1 image".into() } else { format!("{images} images") };
            suite.time(
                &format!("server/{layout}/{images}"),
                format!("server, layout {layout}, {count}: query bytes to reply bytes"),
                items,
                || Ok(server.classify(&Query::from_bytes(&query)?)?.to_bytes()),
            )?;
            suite.time(
                &format!("encrypt/{layout}/{images}"),
                format!("client, layout {layout}, {count}: features to query bytes"),
                items,
                || Ok(cipher.encrypt_features(groups, features, None)?.to_bytes()),
            )?;
            suite.time(
                &format!("decrypt/{layout}/{images}"),
                format!("client, layout {layout}, {count}: reply bytes to logits"),
                items,
                || Ok(cipher.decrypt_logits(&Reply::from_bytes(&reply)?)?),
            )?;
        }
        Ok(())
    }

    /// Decrypted logits against the clear head in double precision.
    fn check_bound(&self, features: &[f32], reply: &Reply, cipher: &Cipher<'_, Cpu>) -> Result<()> {
        let logits = cipher.decrypt_logits(reply)?;
        for (x, logits) in features.chunks_exact(FEATURES).zip(logits.chunks_exact(CLASSES)) {
            let rows = self.head.weight.chunks_exact(FEATURES).zip(&self.head.bias);
            for ((w, &bias), &logit) in rows.zip(logits) {
                let product: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                let error = (product + f64::from(bias) - logit).abs();
                ensure!(error <= reply.logit_bound, "an error of {error:e} exceeds {:e}", reply.logit_bound);
            }
        }
        Ok(())
    }

    /// What the server made of component 0, against sums of 128-bit integers. In both layouts the residues of an image
    /// travel one after the other, and its encrypted logit is their inner product with the weights, plus the bias.
    fn check_integers(&self, budget: &Budget, query: &Query, reply: &Reply) -> Result<()> {
        let q = self.preset.params.ring().modulus(0);
        for ((piece, residues), (_, PackedPiece { logits, .. })) in query.pieces().zip(reply.pieces()) {
            let (rows, values) = piece.packing.extent(piece.polynomials);
            let residues = unpack(residues, rows, values, q.bits())?;
            let positions = reply.groups.reply_positions(&piece, reply.classes).count;
            let polynomials = reply.groups.reply_polynomials(&piece, CLASSES);
            let logits = unpack(logits, polynomials, positions, reply.bits)?;
            for (image, x) in residues.chunks_exact(FEATURES).enumerate() {
                for (class, w) in budget.weights.chunks_exact(FEATURES).enumerate() {
                    let sum: i128 = w.iter().zip(x).map(|(&w, &x)| i128::from(w) * i128::from(x)).sum();
                    let logit = q.reduce_signed(sum + budget.bias[class]);
                    let (polynomial, position) = reply.groups.locate(&piece, image, class);
                    let found = logits[polynomial * positions + position];
                    ensure!(found == trimmed(logit, reply.bits, q), "image {image}, class {class}: {found}");
                }
            }
        }
        Ok(())
    }

    /// What the roads are made of, at the sizes of a full batch in layout transposed.
    fn parts(&self, suite: &mut Suite<'_>) -> Result<()> {
        self.time_seeds(suite)?;
        self.time_matrix(suite)?;
        self.time_transforms(suite)?;
        self.time_packing(suite)
    }

    fn time_seeds(&self, suite: &mut Suite<'_>) -> Result<()> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let (degree, q) = (self.preset.params.degree(), self.preset.params.ring().modulus(0));
        let labels: Vec<SeedLabel> = (0..FEATURES as u64).map(label).collect();
        let mut masks: Poly<Cpu, Evaluation> = self.context.allocate(LimbSet::single(0), FEATURES)?;
        backend.expand_seed(queue, tables, &mut masks.view_mut(), &labels)?;
        let mut expected = vec![0; degree];
        for (found, label) in self.words(&masks)?.chunks_exact(degree).zip(&labels) {
            label.expand(q, &mut expected);
            ensure!(found == expected, "object {}: expanded otherwise", label.object);
        }
        let what = format!("part: {FEATURES} polynomials of degree {degree} from seeds");
        suite.time("part/expand_seed", what, (FEATURES, "polynomial"), || {
            Ok(backend.expand_seed(queue, tables, &mut masks.view_mut(), &labels)?)
        })
    }

    fn time_matrix(&self, suite: &mut Suite<'_>) -> Result<()> {
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let (degree, q) = (self.preset.params.degree(), self.preset.params.ring().modulus(0));
        let budget = Budget::new(&self.head, &self.preset.params, self.preset.bounds)?;
        let matrix = backend.matrix(queue, tables, CLASSES, FEATURES, &budget.weights)?;
        let input: Poly<Cpu, Coefficient> = self.uniform(FEATURES)?;
        let mut out: Poly<Cpu, Coefficient> = self.context.allocate(LimbSet::single(0), CLASSES)?;
        backend.matrix_product(queue, tables, &mut out.view_mut(), &matrix, &input.view())?;
        let (input_words, out_words) = (self.words(&input)?, self.words(&out)?);
        for (row, weights) in out_words.chunks_exact(degree).zip(budget.weights.chunks_exact(FEATURES)) {
            for (i, &found) in row.iter().enumerate().step_by(61) {
                let column = input_words[i..].iter().step_by(degree);
                let sum: i128 =
                    weights.iter().zip(column).map(|(&w, &x)| i128::from(w) * i128::from(x)).sum();
                ensure!(found == q.reduce_signed(sum), "coefficient {i} of a matrix product: {found}");
            }
        }
        let what = format!("part: integer matrix {CLASSES} x {FEATURES} times {FEATURES} polynomials");
        suite.time("part/matrix_product", what, (FEATURES, "polynomial"), || {
            Ok(backend.matrix_product(queue, tables, &mut out.view_mut(), &matrix, &input.view())?)
        })
    }

    fn time_transforms(&self, suite: &mut Suite<'_>) -> Result<()> {
        const BATCH: usize = 64;
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let (degree, ring) = (self.preset.params.degree(), self.preset.params.ring());
        let input: Poly<Cpu, Coefficient> = self.uniform(BATCH)?;
        let mut values: Poly<Cpu, Evaluation> = self.context.allocate(LimbSet::single(0), BATCH)?;
        let mut back: Poly<Cpu, Coefficient> = self.context.allocate(LimbSet::single(0), BATCH)?;
        backend.ntt(queue, tables, &mut values.view_mut(), input.view().into())?;
        backend.intt(queue, tables, &mut back.view_mut(), values.view().into())?;
        let (coefficients, transformed) = (self.words(&input)?, self.words(&values)?);
        ensure!(self.words(&back)? == coefficients, "the inverse transform does not lead back");
        // Value i is that at the root to the power 2 bitrev(i) + 1.
        let q = ring.modulus(0);
        for i in (0..degree).step_by(61) {
            let exponent = 2 * (i.reverse_bits() >> (usize::BITS - ring.log_degree())) as u64 + 1;
            let point = q.pow(ring.root(0), exponent);
            let horner = coefficients[..degree].iter().rev().fold(0, |sum, &c| q.add(q.mul(sum, point), c));
            ensure!(transformed[i] == horner, "value {i} of a transform: {}", transformed[i]);
        }
        let what = |name| format!("part: {BATCH} {name} transforms of degree {degree}");
        suite.time("part/ntt", what("forward"), (BATCH, "transform"), || {
            Ok(backend.ntt(queue, tables, &mut values.view_mut(), input.view().into())?)
        })?;
        suite.time("part/intt", what("inverse"), (BATCH, "transform"), || {
            Ok(backend.intt(queue, tables, &mut back.view_mut(), values.view().into())?)
        })
    }

    fn time_packing(&self, suite: &mut Suite<'_>) -> Result<()> {
        const BITS: u32 = 30;
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let (degree, q) = (self.preset.params.degree(), self.preset.params.ring().modulus(0));
        let mut body: Poly<Cpu, Coefficient> = self.uniform(FEATURES)?;
        let words = self.words(&body)?;
        let mut packed = Vec::new();
        for i in 0..degree {
            let row: Vec<u64> = words[i..].iter().step_by(degree).copied().collect();
            bits::pack(&row, q.bits(), &mut packed).context("packing")?;
        }
        let packing = Packing::ByCoefficient { coefficients: degree };
        backend.unpack(queue, tables, &mut body.view_mut(), packing, &packed)?;
        ensure!(self.words(&body)? == words, "unpacking does not undo packing");
        let what = format!("part: unpacking {degree} rows of {FEATURES} residues");
        suite.time("part/unpack", what, (degree, "row"), || {
            Ok(backend.unpack(queue, tables, &mut body.view_mut(), packing, &packed)?)
        })?;

        let answers: Poly<Cpu, Coefficient> = self.uniform(CLASSES)?;
        let mut bytes = vec![0; CLASSES * packed_row(degree, BITS)];
        let positions = Positions::first(degree);
        backend.trim(queue, tables, &answers.view(), BITS, positions, &mut bytes)?;
        let expected = self.words(&answers)?.into_iter().map(|x| trimmed(x, BITS, q));
        ensure!(unpack(&bytes, CLASSES, degree, BITS)?.into_iter().eq(expected), "trimmed otherwise");
        let what = format!("part: trimming {CLASSES} polynomials to {BITS} bits");
        suite.time("part/trim", what, (CLASSES, "polynomial"), || {
            Ok(backend.trim(queue, tables, &answers.view(), BITS, positions, &mut bytes)?)
        })
    }

    /// Uniform polynomials: what masks, and encrypted features, look like.
    fn uniform(&self, batch: usize) -> Result<Poly<Cpu, Coefficient>> {
        let (degree, q) = (self.preset.params.degree(), self.preset.params.ring().modulus(0));
        let mut words = vec![0; batch * degree];
        words.chunks_exact_mut(degree).zip(1000..).for_each(|(row, object)| label(object).expand(q, row));
        let mut poly = self.context.allocate(LimbSet::single(0), batch)?;
        self.context.backend().upload(self.context.queue(), &mut poly.view_mut(), &words)?;
        Ok(poly)
    }

    fn words<D: arras::rns::Domain>(&self, poly: &Poly<Cpu, D>) -> Result<Vec<u64>> {
        let mut words = vec![0; poly.extent().words()];
        self.context.backend().download(self.context.queue(), &poly.view(), &mut words)?;
        Ok(words)
    }
}

fn label(object: u64) -> SeedLabel {
    SeedLabel { seed: [7; 32], purpose: Purpose::Ciphertext, object, polynomial: 0 }
}

/// floor((2 x 2^bits + q) / 2q) mod 2^bits, as docs/arithmetic.md defines it.
fn trimmed(x: u64, bits: u32, q: Modulus) -> u64 {
    let q = u128::from(q.value());
    ((((u128::from(x) << (bits + 1)) + q) / (2 * q)) & ((1 << bits) - 1)) as u64
}

/// `rows` rows of `count` values of `width` bits.
fn unpack(packed: &[u8], rows: usize, count: usize, width: u32) -> Result<Vec<u64>> {
    let mut values = vec![0; rows * count];
    for (row, bytes) in values.chunks_exact_mut(count).zip(packed.chunks_exact(packed_row(count, width))) {
        bits::unpack(bytes, width, row).context("unpacking")?;
    }
    Ok(values)
}

/// Numbers in [-1, 1) that look random and are the same everywhere.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
