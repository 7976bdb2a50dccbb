//! Errors of every operation, measured beside what the noise model predicts: for `examples/precision.rs`, which keeps a
//! record, and for `tests/precision.rs`.
#![allow(dead_code, clippy::unwrap_used, reason = "a test and an example, neither of which can go on")]

pub(crate) mod record;
mod road;

use std::collections::BTreeMap;

use arras_ckks::encoder::SlotEncoder;
use arras_ckks::evaluator::{Basis, Evaluator, LinearTransform, Polynomial, inner_sum_rotations};
use arras_ckks::fft::Complex;
use arras_ckks::{Ciphertext, Context, EvaluationKeys, Noise, Params, Plaintext, Security, Spec, Workspace};
use arras_cpu::Cpu;
use arras_heads::layout::Groups;
use arras_heads::{Budget, Head, Layout, LinearHead, Model, ModelCard, Preset};
use arras_rns::Backend;
use arras_rns::prime::ntt_primes;
use arras_secret::{Cipher, SecretKey};
use arras_wire::corpus::SplitMix64;
use road::{Road, compare};
use serde_json::{Value, json};

/// Chance that the largest of all errors of a row exceeds its bound.
pub(crate) const FAILURE: f64 = 1e-9;
/// Terms of inner products, inner sums and matrices.
const TERMS: usize = 16;
/// By how many bits the measured root mean square may differ from the prediction, to either side.
pub(crate) const BAND: [f64; 2] = [-0.5, 0.5];
/// For polynomials, of which the prediction takes all errors for aligned: it is an upper bound.
pub(crate) const BAND_POLYNOMIAL: [f64; 2] = [-0.5, 4.0];

/// A parameter set, under the name of its row.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) params: Params,
}

/// The parameter sets. The paper's; primes for AVX-512; three digits of two primes; depth 11.
pub(crate) fn sets() -> Vec<Set> {
    let set = |name, degree, bits: &[u32], special: &[u32], digits, scale_bits| {
        let mut taken = Vec::new();
        let mut prime = |&bits: &u32| {
            let q = ntt_primes(bits, degree, 1, &taken).unwrap()[0];
            taken.push(q);
            q
        };
        // The special primes first, so that they are the largest of their size.
        let special = special.iter().map(&mut prime).collect();
        let moduli = bits.iter().map(&mut prime).collect();
        let security = Security::Classical128;
        let spec = Spec { degree, moduli, special, digits, scale_bits, security };
        Set { name, params: Params::new(spec).unwrap() }
    };
    vec![
        set("N = 2^13, [60, 40, 40] + [60]", 8192, &[60, 40, 40], &[60], 3, 40),
        set("N = 2^13, [50, 45, 45] + [50]", 8192, &[50, 45, 45], &[50], 3, 45),
        set("N = 2^14, [50, 5 x 40] + [46, 46]", 16384, &[50, 40, 40, 40, 40, 40], &[46, 46], 3, 40),
        set(
            "N = 2^15, [55, 11 x 45] + [4 x 50]",
            32768,
            &[[55].as_slice(), &[45; 11]].concat(),
            &[50; 4],
            3,
            45,
        ),
    ]
}

/// What a row predicts: the root mean square, and what no error exceeds.
#[derive(Clone, Copy)]
struct Prediction {
    deviation: f64,
    bound: f64,
    band: [f64; 2],
}

impl Prediction {
    fn of(noise: Noise, values: usize) -> Self {
        Self { deviation: noise.deviation(), bound: noise.bound(values, FAILURE), band: BAND }
    }

    /// Of a sum whose errors may be aligned.
    fn aligned(parts: impl IntoIterator<Item = (f64, Noise)>, values: usize) -> Self {
        let mut sum = Self { deviation: 0.0, bound: 0.0, band: BAND_POLYNOMIAL };
        for (factor, noise) in parts {
            sum.deviation += factor.abs() * noise.deviation();
            sum.bound += factor.abs() * noise.bound(values, FAILURE);
        }
        sum
    }
}

/// A row while it is measured.
struct Errors {
    set: String,
    operation: String,
    prediction: Prediction,
    errors: Vec<f64>,
}

/// Rows in the order in which they first came.
#[derive(Default)]
struct Table(Vec<Errors>);

impl Table {
    fn add(&mut self, set: &str, operation: &str, prediction: Prediction, errors: impl Iterator<Item = f64>) {
        let known = self.0.iter_mut().find(|row| row.set == set && row.operation == operation);
        match known {
            Some(row) => {
                // Messages differ from run to run, and predictions with them, by little.
                row.prediction.deviation = row.prediction.deviation.max(prediction.deviation);
                row.prediction.bound = row.prediction.bound.max(prediction.bound);
                row.errors.extend(errors);
            }
            None => self.0.push(Errors {
                set: set.into(),
                operation: operation.into(),
                prediction,
                errors: errors.collect(),
            }),
        }
    }

    fn rows(self) -> Vec<Value> {
        self.0.into_iter().map(Errors::finish).collect()
    }
}

/// -log2 of an error, so that more is better, in hundredths.
fn bits(error: f64) -> f64 {
    (-error.log2() * 100.0).round() / 100.0
}

impl Errors {
    fn finish(mut self) -> Value {
        self.errors.sort_by(f64::total_cmp);
        let count = self.errors.len();
        let mean_square = self.errors.iter().map(|e| e * e).sum::<f64>() / count as f64;
        let quantile = |share: f64| bits(self.errors[((count - 1) as f64 * share).round() as usize]);
        json!({
            "set": self.set,
            "operation": self.operation,
            "values": count,
            "predicted": bits(self.prediction.deviation),
            "measured": bits(mean_square.sqrt()),
            "median": quantile(0.5),
            "p99": quantile(0.99),
            "worst": quantile(1.0),
            "bound": bits(self.prediction.bound),
            "band": self.prediction.band,
        })
    }
}

/// Measures every operation of a set in `runs` runs, each with fresh keys and messages.
pub(crate) fn slots(set: &Set, runs: usize) -> Vec<Value> {
    let context = Context::new(Cpu::sequential(), set.params.clone()).unwrap();
    let mut table = Table::default();
    for run in 0..runs {
        let mut lab = Lab::new(&context, set.name, run as u64, runs, &mut table);
        lab.encryptions();
        lab.sums();
        lab.products_with_plaintexts();
        lab.products();
        lab.automorphisms();
        lab.matrices();
        lab.polynomials();
        lab.chain();
    }
    table.rows()
}

/// One run: keys, and two messages with their encryptions.
struct Lab<'a> {
    set: &'static str,
    context: &'a Context<Cpu>,
    evaluator: Evaluator<'a, Cpu>,
    encoder: SlotEncoder,
    cipher: Cipher<'a, Cpu>,
    keys: EvaluationKeys<Cpu>,
    workspace: Workspace<Cpu>,
    x: Vec<Complex>,
    y: Vec<Complex>,
    a: Ciphertext<Cpu>,
    b: Ciphertext<Cpu>,
    /// Errors that a row will have in the end.
    values: usize,
    seed: u64,
    table: &'a mut Table,
}

impl<'a> Lab<'a> {
    fn new(
        context: &'a Context<Cpu>,
        set: &'static str,
        seed: u64,
        runs: usize,
        table: &'a mut Table,
    ) -> Self {
        let params = context.params();
        let (top, scale) = (params.max_level(), params.scale());
        let encoder = SlotEncoder::new(params.degree(), 5).unwrap();
        let cipher = Cipher::new(context, &SecretKey::generate(params).unwrap()).unwrap();
        let rotations =
            [-3, 100].into_iter().chain(inner_sum_rotations(TERMS, 1)).chain(1..4).chain([4, 8, 12]);
        let mut elements = encoder.group().elements(rotations).unwrap();
        elements.push(encoder.group().conjugation());
        let mut keys = cipher.galois_keys(&elements, top).unwrap();
        keys.push(cipher.relinearisation_key(top).unwrap());
        let (x, y) = (message(2 * seed, encoder.slots()), message(2 * seed + 1, encoder.slots()));
        let encrypt = |values: &[Complex]| {
            let plain = encoder.encode(context, values, values.len(), scale, top).unwrap();
            cipher.encrypt(&plain).unwrap()
        };
        Self {
            set,
            context,
            evaluator: Evaluator::new(context),
            keys: EvaluationKeys::from_keys(context, &keys).unwrap(),
            workspace: Workspace::new(context, 0..=top, 1).unwrap(),
            a: encrypt(&x),
            b: encrypt(&y),
            x,
            y,
            values: runs * encoder.slots(),
            cipher,
            encoder,
            seed,
            table,
        }
    }

    fn params(&self) -> &'a Params {
        self.context.params()
    }

    fn top(&self) -> usize {
        self.params().max_level()
    }

    fn prime(&self, level: usize) -> f64 {
        self.params().ring().modulus(level).value() as f64
    }

    fn fresh(&self) -> Noise {
        Noise::encrypted(self.params().degree(), self.params().scale())
    }

    fn encoded(&self, scale: f64) -> Noise {
        Noise::encoded(self.params().degree(), scale)
    }

    fn encode(&self, values: &[Complex], scale: f64) -> Plaintext<Cpu> {
        self.encoder.encode(self.context, values, values.len(), scale, self.top()).unwrap()
    }

    fn decode(&self, plain: &Plaintext<Cpu>) -> Vec<Complex> {
        self.encoder.decode(self.context, plain).unwrap()
    }

    fn note(&mut self, operation: &str, found: &Ciphertext<Cpu>, expected: &[Complex], noise: Noise) {
        assert!(
            (found.scale / noise.scale() - 1.0).abs() < 1e-9,
            "{operation}: another scale than predicted"
        );
        self.note_as(operation, found, expected, Prediction::of(noise, self.values));
    }

    fn note_as(
        &mut self,
        operation: &str,
        found: &Ciphertext<Cpu>,
        expected: &[Complex],
        prediction: Prediction,
    ) {
        let found = self.decode(&self.cipher.decrypt(found).unwrap());
        self.table.add(self.set, operation, prediction, distances(&found, expected));
    }

    fn encryptions(&mut self) {
        let (degree, scale) = (self.params().degree(), self.params().scale());
        let plain = self.encode(&self.x, scale);
        let found = self.decode(&plain);
        let prediction = Prediction::of(Noise::encoded(degree, scale), self.values);
        self.table.add(self.set, "encode", prediction, distances(&found, &self.x));
        let (a, x) = (self.evaluator.drop_to_level(&self.a, self.top()).unwrap(), self.x.clone());
        self.note("encrypt, secret key", &a, &x, self.fresh());
        let public = self.cipher.public_key().unwrap().encrypt(self.context, &plain).unwrap();
        self.note("encrypt, public key", &public, &x, Noise::encrypted_publicly(degree, scale));
        let low = self.evaluator.drop_to_level(&self.a, 0).unwrap();
        self.note("drop to level 0", &low, &x, self.fresh());
    }

    fn sums(&mut self) {
        let fresh = self.fresh();
        let sum = self.evaluator.add(&self.a, &self.b).unwrap();
        self.note("add", &sum, &zip(&self.x, &self.y, |x, y| x + y), fresh.plus(fresh));
        let difference = self.evaluator.sub(&self.a, &self.b).unwrap();
        self.note("subtract", &difference, &zip(&self.x, &self.y, |x, y| x - y), fresh.plus(fresh));
        let negated = self.evaluator.negate(&self.a).unwrap();
        self.note("negate", &negated, &map(&self.x, |x| x.scale(-1.0)), fresh);
        let plain = self.encode(&self.y, self.params().scale());
        let sum = self.evaluator.add_plain(&self.a, &plain).unwrap();
        let predicted = fresh.plus(self.encoded(plain.scale));
        self.note("add plaintext", &sum, &zip(&self.x, &self.y, |x, y| x + y), predicted);
        let sum = self.evaluator.add_scalar(&self.a, 0.3).unwrap();
        self.note("add scalar", &sum, &map(&self.x, |x| x + Complex::new(0.3, 0.0)), fresh);
    }

    fn products_with_plaintexts(&mut self) {
        let (fresh, top) = (self.fresh(), self.top());
        let prime = self.prime(top);
        let scaled = self.evaluator.multiply_scalar(&self.a, 0.7, prime).unwrap();
        let predicted = fresh.times_scalar(0.7, prime);
        let expected = map(&self.x, |x| x.scale(0.7));
        self.note("multiply by a scalar", &scaled, &expected, predicted);
        let rescaled = self.evaluator.rescale(&scaled).unwrap();
        self.note("multiply by a scalar, rescale", &rescaled, &expected, predicted.rescaled(prime));

        let plain = self.encode(&self.y, prime);
        let product = self.evaluator.multiply_plain(&self.a, &plain).unwrap();
        let predicted = fresh.times(size(&self.x), self.encoded(prime), size(&self.y));
        let expected = zip(&self.x, &self.y, |x, y| x * y);
        self.note("multiply by a plaintext", &product, &expected, predicted);
        let rescaled = self.evaluator.rescale_with(&product, &mut self.workspace).unwrap();
        self.note("multiply by a plaintext, rescale", &rescaled, &expected, predicted.rescaled(prime));

        // Every other ciphertext is the same.
        let factors: Vec<Vec<Complex>> =
            (0..TERMS as u64).map(|i| message(1000 + i + self.seed * 100, self.x.len())).collect();
        let rows = self.encoder.encode(self.context, &factors.concat(), self.x.len(), prime, top).unwrap();
        let (backend, queue, tables) = (self.context.backend(), self.context.queue(), self.context.tables());
        let prepared = backend.prepare(queue, tables, &rows.poly.view()).unwrap();
        let operands: Vec<_> = (0..TERMS).map(|i| if i % 2 == 0 { &self.a } else { &self.b }).collect();
        let sum = self.evaluator.inner_product(&operands, &prepared, prime).unwrap();
        let mut expected = vec![Complex::default(); self.x.len()];
        let mut factor = [expected.clone(), expected.clone()];
        for (i, y) in factors.iter().enumerate() {
            let operand = if i % 2 == 0 { &self.x } else { &self.y };
            expected = zip(&expected, &zip(operand, y, |x, y| x * y), |sum, z| sum + z);
            factor[i % 2] = zip(&factor[i % 2], y, |sum, y| sum + y);
        }
        // The two operands are multiplied by sums of factors; the factors are rounded one by one.
        let part = |operand: &[Complex], factor: f64| {
            let exact = fresh.times_scalar(factor, prime);
            let once = fresh.times(size(operand), self.encoded(prime), 0.0);
            (0..TERMS / 2).fold(exact, |sum, _| sum.plus(once))
        };
        let noise =
            |of: fn(&[Complex]) -> f64| part(&self.x, of(&factor[0])).plus(part(&self.y, of(&factor[1])));
        // Sums of factors differ from slot to slot by much more than factors do: the bound is that of the largest.
        let bound = noise(largest).bound(self.values, FAILURE);
        let prediction = Prediction { deviation: noise(size).deviation(), bound, band: BAND };
        self.note_as("inner product of 16 with plaintexts", &sum, &expected, prediction);
    }

    fn products(&mut self) {
        let (fresh, top, params) = (self.fresh(), self.top(), self.params());
        let expected = zip(&self.x, &self.y, |x, y| x * y);
        let three = self.evaluator.multiply(&self.a, &self.b).unwrap();
        let predicted = fresh.times(size(&self.x), fresh, size(&self.y));
        self.note("multiply", &three, &expected, predicted);
        let two = self.evaluator.relinearise(&three, &self.keys, &mut self.workspace).unwrap();
        let predicted = predicted.switched(params, top);
        self.note("multiply, relinearise", &two, &expected, predicted);
        let rescaled = self.evaluator.rescale_with(&two, &mut self.workspace).unwrap();
        let predicted = predicted.rescaled(self.prime(top));
        self.note("multiply, relinearise, rescale", &rescaled, &expected, predicted);
        let square = self.evaluator.square(&self.a).unwrap();
        self.note("square", &square, &map(&self.x, |x| x * x), fresh.squared(size(&self.x)));
    }

    fn automorphisms(&mut self) {
        let (top, params) = (self.top(), self.params());
        let predicted = self.fresh().switched(params, top);
        let (keys, workspace) = (&self.keys, &mut self.workspace);
        let rotated = self.evaluator.rotate(&self.a, 100, keys, workspace).unwrap();
        let hoisted = self.evaluator.rotate_hoisted(&self.a, &[-3, 1], keys, workspace).unwrap();
        let conjugated = self.evaluator.conjugate(&self.a, keys, workspace).unwrap();
        let sum = self.evaluator.inner_sum(&self.a, TERMS, 1, keys, workspace).unwrap();
        self.note("rotate", &rotated, &turned(&self.x, 100), predicted);
        self.note("rotate, hoisted", &hoisted[0], &turned(&self.x, -3), predicted);
        self.note("conjugate", &conjugated, &map(&self.x, |x| x.conjugate()), predicted);
        let terms = (0..TERMS as i64).map(|i| turned(&self.x, i));
        let expected = terms.reduce(|sum, row| zip(&sum, &row, |a, b| a + b)).unwrap();
        // Every round doubles what is there and adds a switch.
        let rounds = 0..TERMS.ilog2();
        let predicted = rounds.fold(self.fresh(), |sum, _| sum.plus(sum).switched(params, top));
        self.note("inner sum of 16", &sum, &expected, predicted);
    }

    fn matrices(&mut self) {
        let (top, params, fresh) = (self.top(), self.params(), self.fresh());
        let scale = self.prime(top);
        let diagonals: BTreeMap<i64, Vec<Complex>> =
            (0..TERMS as i64).map(|d| (d, message(500 + d as u64, self.x.len()))).collect();
        let matrix =
            LinearTransform::new(self.context, &self.encoder, &diagonals, scale, top, Some(4)).unwrap();
        let found = self.evaluator.transform(&self.a, &matrix, &self.keys, &mut self.workspace).unwrap();
        let mut expected = vec![Complex::default(); self.x.len()];
        let special = params.special_limbs().len();
        let mut predicted = self.encoded(1.0).times_scalar(0.0, fresh.scale() * scale).rounded(special);
        for (&d, diagonal) in &diagonals {
            let term = zip(diagonal, &turned(&self.x, d), |m, x| m * x);
            expected = zip(&expected, &term, |sum, z| sum + z);
            let baby = if d % 4 == 0 { fresh } else { fresh.keyed(params, top) };
            predicted = predicted.plus(baby.times(size(&self.x), self.encoded(scale), size(diagonal)));
            // A giant step other than 0 divides once before it switches.
            if d > 0 && d % 4 == 0 {
                predicted = predicted.rounded(special).keyed(params, top);
            }
        }
        self.note("matrix of 16 diagonals, 4 x 4 steps", &found, &expected, predicted);
        let rescaled = self.evaluator.rescale_with(&found, &mut self.workspace).unwrap();
        self.note("matrix of 16 diagonals, rescale", &rescaled, &expected, predicted.rescaled(scale));
    }

    fn polynomials(&mut self) {
        let cases = [
            ("polynomial of degree 3", Basis::Power, vec![0.1, 0.5, -0.4, 0.3]),
            ("polynomial of degree 7", Basis::Power, vec![0.1, 0.5, -0.4, 0.3, 0.2, -0.1, 0.2, 0.1]),
            (
                "Chebyshev series of degree 7",
                Basis::Chebyshev { from: -1.0, to: 1.0 },
                vec![0.1, 0.5, -0.4, 0.3, 0.2, -0.1, 0.2, 0.1],
            ),
        ];
        // Chebyshev polynomials stay below 1 on the real line only.
        let real: Vec<Complex> = self.x.iter().map(|x| Complex::new(x.re, 0.0)).collect();
        let plain = self.encode(&real, self.params().scale());
        let a = self.cipher.encrypt(&plain).unwrap();
        for (name, basis, coefficients) in cases {
            let polynomial = Polynomial::new(basis, coefficients).unwrap();
            if polynomial.levels_needed() > self.top() {
                continue;
            }
            let found = self.evaluator.evaluate(&a, &polynomial, &self.keys, &mut self.workspace).unwrap();
            let expected = map(&real, |x| Complex::new(polynomial.value(x.re), 0.0));
            let prediction = self.series(&polynomial, &real);
            self.note_as(name, &found, &expected, prediction);
        }
    }

    /// Powers, or Chebyshev polynomials, made from those of half the index, times their coefficients; then one rescaling.
    fn series(&self, polynomial: &Polynomial, x: &[Complex]) -> Prediction {
        let chebyshev = polynomial.basis() != Basis::Power;
        let value = |k: usize| {
            map(x, |x| {
                let power = if chebyshev { (k as f64 * x.re.acos()).cos() } else { x.re.powi(k as i32) };
                Complex::new(power, 0.0)
            })
        };
        let mut powers = vec![(self.fresh(), self.top())];
        for k in 2..=polynomial.degree() {
            let (small, large) = (k / 2, k - k / 2);
            let ((s, _), (l, level)) = (powers[small - 1], powers[large - 1]);
            let mut product = if small == large {
                l.squared(size(&value(large)))
            } else {
                s.times(size(&value(small)), l, size(&value(large)))
            };
            if chebyshev {
                product = product.repeated(2.0);
                if small != large {
                    let first = powers[0].0;
                    product = product.plus(first.times_scalar(1.0, product.scale() / first.scale()));
                }
            }
            powers.push((product.switched(self.params(), level).rescaled(self.prime(level)), level - 1));
        }
        let terms = polynomial.coefficients()[1..].iter().zip(&powers).map(|(&c, &(noise, _))| (c, noise));
        let rounded = self.encoded(self.params().scale()).rounded(1);
        Prediction::aligned(terms.chain([(1.0, rounded)]), self.values)
    }

    /// Products with a fresh ciphertext of numbers of magnitude 1, until no level is left.
    fn chain(&mut self) {
        let (params, scale) = (self.params(), self.params().scale());
        let plain = self.encode(&self.x, scale);
        let mut a = self.cipher.encrypt(&plain).unwrap();
        let (mut expected, mut noise) = (self.x.clone(), self.fresh());
        for depth in 1..=self.top() {
            let level = self.top() + 1 - depth;
            let factor = map(&message(77 * depth as u64 + self.seed, self.x.len()), |z| {
                z.scale(1.0 / z.re.hypot(z.im))
            });
            let b = self.cipher.encrypt(&self.encode(&factor, scale)).unwrap();
            let b = self.evaluator.drop_to_level(&b, level).unwrap();
            let product = self.evaluator.multiply(&a, &b).unwrap();
            let product = self.evaluator.relinearise(&product, &self.keys, &mut self.workspace).unwrap();
            a = self.evaluator.rescale_with(&product, &mut self.workspace).unwrap();
            noise = noise.times(size(&expected), self.fresh(), 1.0).switched(params, level);
            noise = noise.rescaled(self.prime(level));
            expected = zip(&expected, &factor, |x, y| x * y);
            self.note(&format!("chain of {depth} products"), &a, &expected, noise);
        }
    }
}

/// The presets of linear heads whose replies are not masked: what masks a reply is no error of the model's.
pub(crate) fn presets() -> impl Iterator<Item = &'static Preset> {
    Preset::all().iter().filter(|preset| preset.layouts.contains(&Layout::Dot) && !preset.hides)
}

/// Measures the linear heads of a preset: 5 classes of 768 features.
pub(crate) fn heads(preset: &'static Preset, runs: usize) -> Vec<Value> {
    const CLASSES: usize = 5;
    const FEATURES: usize = 768;
    let context = Context::new(Cpu::sequential(), preset.params.clone()).unwrap();
    let mut table = Table::default();
    for run in 0..runs as u64 {
        let key = SecretKey::generate(&preset.params).unwrap();
        let cipher = Cipher::new(&context, &key).unwrap();
        let weight: Vec<f32> = numbers(run, CLASSES * FEATURES).iter().map(|w| (w * 0.1) as f32).collect();
        let head = Head {
            weight,
            bias: numbers(run + 1000, CLASSES).iter().map(|&b| b as f32).collect(),
            classes: (0..CLASSES).map(|class| class.to_string()).collect(),
            card: ModelCard::default(),
        };
        for (name, layout, images) in
            [("head, layout dot", Layout::Dot, 10), ("head, layout transposed", Layout::Transposed, 300)]
        {
            let groups = Groups::new(layout, preset.params.degree(), FEATURES, images).unwrap();
            let features: Vec<f32> =
                numbers(run + 2000, images * FEATURES).iter().map(|&x| (x * 1.7) as f32).collect();
            let query = cipher.encrypt_features(groups, &features, None).unwrap();
            let server = LinearHead::new(&context, &head, query.bounds).unwrap();
            let logits = cipher.decrypt_logits(&server.classify(&query).unwrap()).unwrap();
            let (expected, deviation) = clear(&head, server.budget(), preset, &features);
            let bound = server.budget().logit_bound;
            let prediction = Prediction { deviation, bound, band: BAND };
            let errors = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            table.add(&format!("preset {}", preset.name), name, prediction, errors);
        }
    }
    table.rows()
}

/// Every preset and layout, with a hidden layer where it takes one: how logits of `images` images of 768 features, in 5 classes,
/// keep the bound that the reply states, and how often the class is another than the clear model's.
pub(crate) fn agreements(images: usize) -> Vec<Value> {
    const CLASSES: usize = 5;
    const FEATURES: usize = 768;
    let mut rng = SplitMix64::new(7);
    let hidden = road::mlp(&mut rng, FEATURES, 64, CLASSES);
    let linear: Model = road::linear(&mut rng, FEATURES, CLASSES).into();
    let features = road::bells(&mut rng, images * FEATURES, 1.0);
    let mut rows = Vec::new();
    for preset in Preset::all() {
        for &layout in preset.layouts {
            let model = if preset.name.starts_with("mlp") { &hidden } else { &linear };
            let found = Road::new(preset.name, model.clone()).walk(layout, &features, &[images]);
            let clear = model.scores(&features);
            let agreement = compare(&clear, &found.logits, CLASSES, found.bound);
            let mut errors: Vec<f64> = clear.iter().zip(&found.logits).map(|(a, b)| (a - b).abs()).collect();
            errors.sort_by(f64::total_cmp);
            let quantile = |share: f64| bits(errors[((errors.len() - 1) as f64 * share).round() as usize]);
            rows.push(json!({
                "preset": preset.name,
                "layout": layout.name(),
                "hidden": model.hidden(),
                "images": images,
                "median": quantile(0.5),
                "p99": quantile(0.99),
                "worst": bits(agreement.largest),
                "bound": bits(found.bound),
                "ties": agreement.ties,
                "disagreements": agreement.disagreements,
            }));
        }
    }
    rows
}

/// Logits in the clear, and the root mean square of their errors: rounded weights, features, noise, and the trimmed reply,
/// whose second part is seen through the secret.
fn clear(head: &Head, budget: &Budget, preset: &Preset, features: &[f32]) -> (Vec<f64>, f64) {
    let dimension = head.weight.len() / head.bias.len();
    let (unit, scale) = (f64::from(budget.weight_scale), preset.params.scale());
    let (mut logits, mut squares) = (Vec::new(), 0.0);
    let step = (preset.params.log_modulus(0) - f64::from(budget.reply_bits)).exp2();
    let trimmed = step * step / 12.0 * (1.0 + 2.0 / 3.0 * preset.params.degree() as f64);
    for row in features.chunks_exact(dimension) {
        let classes = head.weight.chunks_exact(dimension).zip(budget.weights.chunks_exact(dimension));
        for ((weights, integers), &bias) in classes.zip(&head.bias) {
            let (mut logit, mut rounded, mut norm) = (f64::from(bias), 0.0, 0.0);
            for ((&w, &integer), &x) in weights.iter().zip(integers).zip(row) {
                logit += f64::from(w) * f64::from(x);
                rounded += (integer as f64 / unit - f64::from(w)) * f64::from(x);
                norm += (integer as f64).powi(2);
            }
            let noise = (10.5 + 1.0 / 12.0) * norm + trimmed + 1.0 / 12.0;
            squares += rounded * rounded + noise / (scale * unit).powi(2);
            logits.push(logit);
        }
    }
    let deviation = (squares / logits.len() as f64).sqrt();
    (logits, deviation)
}

/// Numbers between -1 and 1.
fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut rng = SplitMix64::new(seed);
    (0..count).map(|_| (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0).collect()
}

/// Numbers of the square of side 2 around 0, scaled into the unit disc.
fn message(seed: u64, count: usize) -> Vec<Complex> {
    numbers(seed, 2 * count).chunks(2).map(|z| Complex::new(z[0], z[1]).scale(0.7)).collect()
}

/// Root mean square.
fn size(values: &[Complex]) -> f64 {
    (values.iter().map(|z| z.re * z.re + z.im * z.im).sum::<f64>() / values.len() as f64).sqrt()
}

/// Largest magnitude.
fn largest(values: &[Complex]) -> f64 {
    values.iter().map(|z| z.re.hypot(z.im)).fold(0.0, f64::max)
}

fn map(values: &[Complex], f: impl Fn(Complex) -> Complex) -> Vec<Complex> {
    values.iter().map(|&z| f(z)).collect()
}

fn zip(a: &[Complex], b: &[Complex], f: impl Fn(Complex, Complex) -> Complex) -> Vec<Complex> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}

fn turned(values: &[Complex], steps: i64) -> Vec<Complex> {
    let steps = steps.rem_euclid(values.len() as i64) as usize;
    [&values[steps..], &values[..steps]].concat()
}

fn distances(found: &[Complex], expected: &[Complex]) -> impl Iterator<Item = f64> {
    zip(found, expected, |a, b| a - b).into_iter().map(|z| z.re.hypot(z.im))
}
