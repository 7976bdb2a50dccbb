//! Keys, ciphertexts and results of Microsoft SEAL, taken over number by number: order and roots of the transform, the
//! generator of the slots, the single special prime and a digit for every prime are those of SEAL. `tests/seal/generate.py`
//! makes the files and says what is in them; `docs/seal.md` what is compared and how closely.
#![allow(clippy::unwrap_used, clippy::panic)]

use arras_ckks::encoder::{SlotEncoder, decode_coefficients};
use arras_ckks::evaluator::Evaluator;
use arras_ckks::fft::Complex;
use arras_ckks::keys::RELINEARISATION;
use arras_ckks::noise::{gadget, rounding};
use arras_ckks::{Ciphertext, Context, EvaluationKeys, Noise, Params, Plaintext, Security, Spec, Workspace};
use arras_cpu::Cpu;
use arras_heads::query::KeyId;
use arras_rns::{Backend, Coefficient, Evaluation, Input, LimbSet, ModDownPlan, Poly};
use arras_secret::{Cipher, SecretKey};
use arras_wire::frame::{self, Kind};
use serde_json::Value;

/// Chance that a bound is exceeded although all is well.
const FAILURE: f64 = 1e-9;

/// One file, and its objects on a backend.
struct Foreign {
    file: Value,
    context: Context<Cpu>,
    encoder: SlotEncoder,
}

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

fn row(value: &Value) -> Vec<u64> {
    value.as_str().unwrap().split(' ').map(number).collect()
}

/// All residues below a value, in order.
fn residues(value: &Value) -> Vec<u64> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(residues).collect(),
        _ => row(value),
    }
}

fn slots(value: &Value) -> Vec<Complex> {
    let pairs = value.as_array().unwrap().iter();
    pairs.map(|z| Complex::new(z[0].as_f64().unwrap(), z[1].as_f64().unwrap())).collect()
}

fn worst(found: &[Complex], expected: &[Complex]) -> f64 {
    found.iter().zip(expected).map(|(&a, &b)| (a - b).re.hypot((a - b).im)).fold(0.0, f64::max)
}

fn root_mean_square(values: &[Complex]) -> f64 {
    (values.iter().map(|z| z.re * z.re + z.im * z.im).sum::<f64>() / values.len() as f64).sqrt()
}

impl Foreign {
    fn read(text: &str) -> Self {
        let file: Value = serde_json::from_str(text).unwrap();
        let degree = file["degree"].as_u64().unwrap() as usize;
        let moduli = row(&file["moduli"]);
        let spec = Spec {
            degree,
            digits: moduli.len(),
            moduli,
            special: row(&file["special"]),
            scale_bits: file["scale_bits"].as_u64().unwrap() as u32,
            security: Security::Standard2018,
        };
        // What SEAL took as secure passes under the policy that names its table.
        let params = match file["security"].as_str().unwrap() {
            "tc128" => Params::new(spec),
            _ => Params::insecure(spec),
        };
        let context = Context::new(Cpu::sequential(), params.unwrap()).unwrap();
        Self { file, context, encoder: SlotEncoder::new(degree, 3).unwrap() }
    }

    fn poly(&self, words: &[u64], limbs: LimbSet, batch: usize) -> Poly<Cpu, Evaluation> {
        let mut poly = self.context.allocate(limbs, batch).unwrap();
        self.context.backend().upload(self.context.queue(), &mut poly.view_mut(), words).unwrap();
        poly
    }

    fn words(&self, poly: &Poly<Cpu, Evaluation>) -> Vec<u64> {
        let mut words = vec![0; poly.extent().words()];
        self.context.backend().download(self.context.queue(), &poly.view(), &mut words).unwrap();
        words
    }

    fn ciphertext(&self, components: &Value, scale: f64) -> Ciphertext<Cpu> {
        let part = |value: &Value| {
            let limbs = self.context.params().limbs_at(value.as_array().unwrap().len() - 1);
            self.poly(&residues(value), limbs, 1)
        };
        let components = components.as_array().unwrap().iter().map(part).collect();
        Ciphertext { components, scale, seed: None }
    }

    fn fresh(&self, name: &str) -> Ciphertext<Cpu> {
        self.ciphertext(&self.file[name], self.context.params().scale())
    }

    /// The secret through our inverse transform: ternary, and the same for all primes.
    fn secret(&self) -> SecretKey {
        let params = self.context.params();
        let (backend, queue, limbs) = (self.context.backend(), self.context.queue(), params.ring().limbs());
        let poly = self.poly(&residues(&self.file["secret"]), limbs, 1);
        let mut small: Poly<Cpu, Coefficient> = self.context.allocate(limbs, 1).unwrap();
        let input = poly.view();
        backend.intt(queue, self.context.tables(), &mut small.view_mut(), input.into()).unwrap();
        let mut words = vec![0; small.extent().words()];
        backend.download(queue, &small.view(), &mut words).unwrap();
        let rows: Vec<Vec<i64>> = words
            .chunks(params.degree())
            .zip(limbs.iter())
            .map(|(row, limb)| row.iter().map(|&x| params.ring().modulus(limb).centre(x)).collect())
            .collect();
        assert!(rows.iter().all(|row| row == &rows[0]), "the primes disagree about the secret");
        assert!(rows[0].iter().all(|s| s.abs() <= 1) && rows[0].iter().any(|&s| s != 0));
        self.key(&rows[0])
    }

    /// A secret key file with these coefficients.
    fn key(&self, coefficients: &[i64]) -> SecretKey {
        let mut payload = vec![0; size_of::<KeyId>()];
        for four in coefficients.chunks(4) {
            payload.push(four.iter().rev().fold(0, |byte, s| byte << 2 | (s + 1) as u8));
        }
        let params = self.context.params();
        let file = frame::encode(Kind::SecretKey, &params.fingerprint(), &payload);
        SecretKey::from_bytes(&file, params).unwrap()
    }

    /// Bodies and masks of a switching key.
    fn switching_key(&self, digits: &Value) -> [Poly<Cpu, Evaluation>; 2] {
        let (digits, limbs) = (digits.as_array().unwrap(), self.context.params().ring().limbs());
        [0, 1].map(|component| {
            let words: Vec<u64> = digits.iter().flat_map(|digit| residues(&digit[component])).collect();
            self.poly(&words, limbs, digits.len())
        })
    }

    fn keys(&self) -> EvaluationKeys<Cpu> {
        let (params, mut keys) = (self.context.params(), EvaluationKeys::new(self.context.params()));
        let mut insert = |element, digits: &Value| {
            let [body, masks] = self.switching_key(digits);
            keys.insert_unseeded(&self.context, element, params.max_level(), &body, &masks).unwrap();
        };
        insert(RELINEARISATION, &self.file["relinearisation"]);
        for (element, digits) in self.file["galois"].as_object().unwrap() {
            insert(number(element) as usize, digits);
        }
        keys
    }

    fn decode(&self, plaintext: &Plaintext<Cpu>) -> Vec<Complex> {
        self.encoder.decode(&self.context, plaintext).unwrap()
    }

    /// Whether `found` has SEAL's numbers.
    fn same_bits(&self, name: &str, found: &Ciphertext<Cpu>) {
        let expected = &self.file["results"][name];
        let words: Vec<u64> = found.components.iter().flat_map(|part| self.words(part)).collect();
        match expected["digest"].as_str() {
            Some(digest) => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                assert_eq!(blake3::hash(&bytes).to_hex().as_str(), digest, "{name}");
            }
            None => assert!(words == residues(&expected["components"]), "{name}: other numbers than SEAL's"),
        }
        let scale = expected["scale"].as_f64().unwrap();
        assert!((found.scale / scale - 1.0).abs() < 1e-14, "{name}: {} {scale}", found.scale);
    }

    /// The switch of SEAL (evaluator.cpp, switch_key_inplace): digits in [0, q), not centred; otherwise ours.
    fn switched_like_seal(
        &self,
        c: [&Poly<Cpu, Evaluation>; 2],
        target: &Poly<Cpu, Evaluation>,
        key: &Value,
    ) -> Ciphertext<Cpu> {
        let (params, backend) = (self.context.params(), self.context.backend());
        let (queue, tables) = (self.context.queue(), self.context.tables());
        let (limbs, all) = (target.limbs(), params.key_limbs(target.limbs().len() - 1));
        let mut low: Poly<Cpu, Coefficient> = self.context.allocate(limbs, 1).unwrap();
        backend.intt(queue, tables, &mut low.view_mut(), target.view().into()).unwrap();
        let mut words = vec![0; low.extent().words()];
        backend.download(queue, &low.view(), &mut words).unwrap();
        let entries = self.switching_key(key);
        let mut sums = [(); 2].map(|()| self.poly(&vec![0; all.len() * params.degree()], all, 1));
        for (i, digit) in words.chunks(params.degree()).enumerate() {
            let reduced = all.iter().flat_map(|limb| {
                let q = params.ring().modulus(limb).value();
                digit.iter().map(move |x| x % q)
            });
            let reduced: Vec<u64> = reduced.collect();
            let mut raised: Poly<Cpu, Coefficient> = self.context.allocate(all, 1).unwrap();
            backend.upload(queue, &mut raised.view_mut(), &reduced).unwrap();
            let mut raised = raised.retag();
            backend.ntt(queue, tables, &mut raised.view_mut(), Input::InPlace).unwrap();
            for (sum, entry) in sums.iter_mut().zip(&entries) {
                let factor = entry.view().range(i..i + 1).unwrap();
                backend
                    .multiply_accumulate(queue, tables, &mut sum.view_mut(), &raised.view(), &factor)
                    .unwrap();
            }
        }
        let mut plan = ModDownPlan::new(backend, queue, tables, limbs, params.special_limbs(), 1).unwrap();
        let components = sums.iter().zip(c).map(|(sum, rest)| {
            let mut out = self.context.allocate(limbs, 1).unwrap();
            backend.mod_down(queue, tables, &mut plan, &mut out.view_mut(), &sum.view()).unwrap();
            backend.add(queue, tables, &mut out.view_mut(), Input::InPlace, &rest.view()).unwrap();
            out
        });
        Ciphertext { components: components.collect(), scale: 1.0, seed: None }
    }

    fn rotations(&self) -> Vec<(String, usize)> {
        let pairs = self.file["rotations"].as_object().unwrap().iter();
        pairs.map(|(name, element)| (name.clone(), element.as_u64().unwrap() as usize)).collect()
    }

    /// What a rotation by `name` does to values.
    fn moved(&self, name: &str, values: &[Complex]) -> Vec<Complex> {
        if name == "conjugation" {
            return values.iter().map(|z| z.conjugate()).collect();
        }
        let mut values = values.to_vec();
        values.rotate_left(name.parse().unwrap());
        values
    }
}

fn files() -> [Foreign; 2] {
    [include_str!("seal/n64.json"), include_str!("seal/n2048.json")].map(Foreign::read)
}

#[test]
fn encodings_agree() {
    let [seal, _] = files();
    let (context, params) = (&seal.context, seal.context.params());
    let x = slots(&seal.file["x"]);
    let theirs = Plaintext {
        poly: seal.poly(&residues(&seal.file["plain_x"]), params.limbs(), 1),
        scale: params.scale(),
    };
    assert!(worst(&seal.decode(&theirs), &x) < 1e-10);
    let ours = seal.encoder.encode(context, &x, x.len(), params.scale(), params.max_level()).unwrap();
    // In integers: both round the same real numbers, computed by other transforms.
    let [ours, theirs] = [&ours, &theirs].map(|plain| {
        let integers = decode_coefficients(context, plain, params.degree()).unwrap();
        integers.iter().map(|x| x * params.scale()).collect::<Vec<_>>()
    });
    let differ = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
    assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() <= 1.0) && differ <= 2, "{differ} differ");
}

#[test]
fn ciphertexts_decrypt_to_what_was_encrypted_and_to_what_seal_decrypts() {
    for seal in files() {
        let (context, params) = (&seal.context, seal.context.params());
        let secret = seal.secret();
        let cipher = Cipher::new(context, &secret).unwrap();
        let noise = match seal.file["security"].as_str().unwrap() {
            "none" => Noise::encrypted_publicly(params.degree(), params.scale()),
            _ => Noise::encrypted(params.degree(), params.scale()),
        };
        for name in ["x", "y"] {
            let found = cipher.decrypt(&seal.fresh(&format!("cipher_{name}"))).unwrap();
            let (found, expected) = (seal.decode(&found), slots(&seal.file[name]));
            let (error, bound) = (worst(&found, &expected), noise.bound(found.len(), FAILURE));
            assert!(error > 0.0 && error < bound, "{name}: {error:e} {bound:e}");
        }
        for (name, result) in seal.file["results"].as_object().unwrap() {
            // The larger file has no results but their digests.
            if let Some(components) = result.get("components") {
                let ciphertext = seal.ciphertext(components, result["scale"].as_f64().unwrap());
                let found = seal.decode(&cipher.decrypt(&ciphertext).unwrap());
                let error = worst(&found, &slots(&result["decoded"]));
                assert!(error < 1e-12, "{name}: {error:e}");
            }
        }
    }
}

#[test]
fn sums_products_and_rescaling_have_the_bits_of_seal() {
    for seal in files() {
        let evaluator = Evaluator::with_slots(&seal.context, seal.encoder.group()).unwrap();
        let [x, y] = ["cipher_x", "cipher_y"].map(|name| seal.fresh(name));
        seal.same_bits("sum", &evaluator.add(&x, &y).unwrap());
        seal.same_bits("product", &evaluator.multiply(&x, &y).unwrap());
        let relinearised = &seal.file["results"]["relinearised"];
        if let Some(components) = relinearised.get("components") {
            let input = seal.ciphertext(components, relinearised["scale"].as_f64().unwrap());
            seal.same_bits("rescaled", &evaluator.rescale(&input).unwrap());
        }
    }
}

#[test]
fn the_key_switch_of_seal_has_its_bits_with_its_keys() {
    for seal in files() {
        let evaluator = Evaluator::with_slots(&seal.context, seal.encoder.group()).unwrap();
        let product = evaluator.multiply(&seal.fresh("cipher_x"), &seal.fresh("cipher_y")).unwrap();
        let [c0, c1, c2] = &product.components[..] else { panic!("not three components") };
        let switched = seal.switched_like_seal([c0, c1], c2, &seal.file["relinearisation"]);
        let relinearised = Ciphertext { scale: product.scale, ..switched };
        seal.same_bits("relinearised", &relinearised);
        for (name, element) in seal.rotations() {
            assert_eq!(
                element,
                match &name[..] {
                    "conjugation" => evaluator.slots().conjugation(),
                    steps => evaluator.slots().element(steps.parse().unwrap()).unwrap(),
                }
            );
            let images = [0, 1].map(|i| {
                let (backend, input) = (seal.context.backend(), &relinearised.components[i]);
                let mut out = seal.context.allocate(input.limbs(), 1).unwrap();
                let (queue, tables) = (seal.context.queue(), seal.context.tables());
                backend.automorphism(queue, tables, &mut out.view_mut(), &input.view(), element).unwrap();
                out
            });
            let zero = seal.poly(&vec![0; images[0].extent().words()], images[0].limbs(), 1);
            let key = &seal.file["galois"][element.to_string()];
            let rotated = seal.switched_like_seal([&images[0], &zero], &images[1], key);
            seal.same_bits(&format!("rotated {name}"), &Ciphertext { scale: product.scale, ..rotated });
        }
    }
}

#[test]
fn our_key_switch_with_the_keys_of_seal_is_as_precise_as_predicted() {
    for seal in files() {
        let (context, params) = (&seal.context, seal.context.params());
        let evaluator = Evaluator::with_slots(context, seal.encoder.group()).unwrap();
        let secret = seal.secret();
        let (cipher, keys) = (Cipher::new(context, &secret).unwrap(), seal.keys());
        let top = params.max_level();
        let mut workspace = Workspace::new(context, 0..=top, 1).unwrap();
        let [x, y] = ["x", "y"].map(|name| slots(&seal.file[name]));
        let [a, b] = ["cipher_x", "cipher_y"].map(|name| seal.fresh(name));
        let expected: Vec<_> = x.iter().zip(&y).map(|(&x, &y)| x * y).collect();

        let fresh = Noise::encrypted_publicly(params.degree(), params.scale());
        let product = fresh.times(root_mean_square(&x), fresh, root_mean_square(&y));
        let predicted = product.switched(params, top);
        // Ours and SEAL's differ by the noise of two switches. Digits in [0, q) have four times the mean square, and the mean
        // q/2: the polynomial 1 + X + .. is 2 / (1 - zeta) in a slot, 2 N / pi at most.
        let (degree, gadget) = (params.degree() as f64, gadget(params, top));
        let variance = 5.0 * gadget + 2.0 * rounding(params.degree(), 1);
        let mean = degree / std::f64::consts::PI * (12.0 * gadget).sqrt();
        let apart =
            |count: f64, scale: f64| count.sqrt() * (22.0 * (degree * variance).sqrt() + 6.0 * mean) / scale;
        let check = |name: &str, found: &Ciphertext<Cpu>, expected: &[Complex], noise: Noise, switches| {
            let found_slots = seal.decode(&cipher.decrypt(found).unwrap());
            let (error, bound) = (worst(&found_slots, expected), noise.bound(found_slots.len(), FAILURE));
            assert!(error < bound, "{name}: {error:e} {bound:e}");
            // The difference is decrypted, where there is one, because its coefficients are small.
            let result = &seal.file["results"][name];
            let theirs = slots(&result["decoded"]);
            let error = match result.get("components") {
                Some(components) => {
                    let difference = evaluator.sub(found, &seal.ciphertext(components, found.scale)).unwrap();
                    let difference = seal.decode(&cipher.decrypt(&difference).unwrap());
                    worst(&difference, &vec![Complex::default(); difference.len()])
                }
                None => worst(&found_slots, &theirs),
            };
            let bound = apart(switches, found.scale);
            assert!(error > 0.0 && error < bound, "{name} beside SEAL's: {error:e} {bound:e}");
        };
        let two = evaluator.multiply(&a, &b).unwrap();
        let two = evaluator.relinearise(&two, &keys, &mut workspace).unwrap();
        check("relinearised", &two, &expected, predicted, 1.0);
        if top > 0 {
            let rescaled = evaluator.rescale_with(&two, &mut workspace).unwrap();
            let prime = params.ring().modulus(top).value() as f64;
            check("rescaled", &rescaled, &expected, predicted.rescaled(prime), 1.0);
        }
        for (name, element) in seal.rotations() {
            let rotated = evaluator.automorphism(&two, element, &keys, &mut workspace).unwrap();
            let expected = seal.moved(&name, &expected);
            check(&format!("rotated {name}"), &rotated, &expected, predicted.switched(params, top), 2.0);
        }
    }
}

#[test]
fn parts_of_another_shape_are_refused() {
    let [seal, _] = files();
    let (context, params) = (&seal.context, seal.context.params());
    let mut keys = EvaluationKeys::new(params);
    let [body, masks] = seal.switching_key(&seal.file["relinearisation"]);
    let short = context.allocate(params.ring().limbs(), 2).unwrap();
    let low = context.allocate(params.limbs(), 3).unwrap();
    let mut refuse = |element, level, body: &_, masks: &_| {
        keys.insert_unseeded(context, element, level, body, masks).unwrap_err().to_string()
    };
    assert!(refuse(2, 2, &body, &masks).contains("the Galois element"));
    assert!(refuse(0, 3, &body, &masks).contains("level"));
    assert!(refuse(0, 2, &short, &masks).contains("digits is 2"));
    assert!(refuse(0, 2, &body, &low).contains("limbs"));
    assert_eq!(keys.elements().count(), 0);
}
