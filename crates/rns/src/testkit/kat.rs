//! Known answers: `kat/*.json`, written by `kat/generate.py` from definitions and big integers. What the fields mean
//! stands there.
//!
//! The files are part of the binary, so that they can be run where there is no source tree.

use serde_json::Value;

use crate::{
    Backend, Coefficient, Domain, Error, Evaluation, LimbSet, ModDownPlan, Packing, Poly, Positions,
    PreparedView, Purpose, Quantise, Result, Ring, SeedLabel, View,
};

use super::data::{Rng, Words};
use super::lab::Lab;
use super::trials::List;
use super::{Failure, Outcome, Trial};

/// Short vectors are padded with zeros to a ring of at least this degree.
const DEGREE: usize = 64;

pub(super) fn list<B: Backend>(list: &mut List<B>) {
    type Body<B> = fn(&Case<'_, B>) -> Outcome;
    let files: [(&str, &'static str, Body<B>); 11] = [
        ("ntt", include_str!("../../kat/ntt.json"), ntt),
        ("pointwise", include_str!("../../kat/pointwise.json"), pointwise),
        ("inner_product", include_str!("../../kat/inner_product.json"), inner_product),
        ("matrix_product", include_str!("../../kat/matrix_product.json"), matrix_product),
        ("base_convert", include_str!("../../kat/base_convert.json"), base_convert),
        ("mod_down", include_str!("../../kat/mod_down.json"), mod_down),
        ("trim", include_str!("../../kat/trim.json"), trim),
        ("automorphism", include_str!("../../kat/automorphism.json"), automorphism),
        ("unpack", include_str!("../../kat/unpack.json"), unpack),
        ("quantise", include_str!("../../kat/quantise.json"), quantise),
        ("seed_expansion", include_str!("../../kat/seed_expansion.json"), seed_expansion),
    ];
    for (operation, text, body) in files {
        let make = list.make.clone();
        let run = move || {
            let file: Value = serde_json::from_str(text)
                .map_err(|error| format!("kat/{operation}.json is not JSON: {error}"))?;
            let cases = file["cases"].as_array().filter(|cases| !cases.is_empty());
            let cases = cases.ok_or_else(|| format!("kat/{operation}.json has no cases"))?;
            for fields in cases {
                let case = Case { make: &*make, fields };
                let name = fields["name"].as_str().unwrap_or("without a name");
                body(&case).map_err(|Failure(message)| format!("kat/{operation}.json, {name}: {message}"))?;
            }
            Ok(())
        };
        list.trials.push(Trial { name: format!("known answers/{operation}"), run: Box::new(run) });
    }
}

/// One case of a file.
struct Case<'c, B> {
    make: &'c dyn Fn() -> Result<B>,
    fields: &'c Value,
}

fn missing(field: &str) -> Failure {
    Failure(format!("field {field} is missing or malformed"))
}

fn parse_vector(text: &str, field: &str) -> Outcome<Vec<u64>> {
    text.split_whitespace().map(|x| x.parse().map_err(|_| missing(field))).collect()
}

impl<B: Backend> Case<'_, B> {
    fn has(&self, field: &str) -> bool {
        !self.fields[field].is_null()
    }

    fn text(&self, field: &str) -> Outcome<&str> {
        self.fields[field].as_str().ok_or_else(|| missing(field))
    }

    /// A JSON number.
    fn small(&self, field: &str) -> Outcome<usize> {
        let number = self.fields[field].as_u64().and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| missing(field))
    }

    /// A 64-bit number in a string.
    fn number(&self, field: &str) -> Outcome<u64> {
        self.text(field)?.parse().map_err(|_| missing(field))
    }

    fn vector(&self, field: &str) -> Outcome<Vec<u64>> {
        parse_vector(self.text(field)?, field)
    }

    fn matrix(&self, field: &str) -> Outcome<Vec<Vec<u64>>> {
        let rows = self.fields[field].as_array().ok_or_else(|| missing(field))?;
        rows.iter().map(|row| parse_vector(row.as_str().ok_or_else(|| missing(field))?, field)).collect()
    }

    fn bytes(&self, field: &str) -> Outcome<Vec<u8>> {
        let text = self.text(field)?.as_bytes();
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        };
        text.chunks(2).map(|pair| byte(pair).ok_or_else(|| missing(field))).collect()
    }

    /// A backend with a ring of these primes, in this order.
    fn lab(&self, degree: usize, primes: &[u64]) -> Outcome<Lab<B>> {
        Ok(Lab::new((self.make)()?, &Ring::new(degree, primes)?, 0)?)
    }

    /// With the one prime of the case.
    fn single(&self, degree: usize) -> Outcome<Lab<B>> {
        self.lab(degree, &[self.number("q")?])
    }

    /// The input: listed, or generated.
    fn input(&self, listed: &str, q: u64, count: usize) -> Outcome<Vec<u64>> {
        if self.has("seed") { Ok(generated(self.number("seed")?, q, count)) } else { self.vector(listed) }
    }

    /// The expected output: listed, or known by its digest.
    fn agrees(&self, listed: &str, digest: &str, samples: &str, found: &[u64]) -> Outcome {
        if self.has(listed) {
            return same(listed, &self.vector(listed)?, found);
        }
        for sample in self.fields[samples].as_array().ok_or_else(|| missing(samples))? {
            let index = sample[0].as_u64().ok_or_else(|| missing(samples))? as usize;
            let value: u64 =
                sample[1].as_str().and_then(|x| x.parse().ok()).ok_or_else(|| missing(samples))?;
            if found.get(index) != Some(&value) {
                return Err(Failure(format!("index {index} is {:?}, expected {value}", found.get(index))));
            }
        }
        let bytes: Vec<u8> = found.iter().flat_map(|x| x.to_le_bytes()).collect();
        let found = blake3::hash(&bytes).to_hex();
        let expected = self.text(digest)?;
        if found.as_str() == expected {
            Ok(())
        } else {
            Err(Failure(format!("{digest} is {found}, expected {expected}")))
        }
    }
}

fn generated(seed: u64, q: u64, count: usize) -> Vec<u64> {
    let mut rng = Rng(seed);
    (0..count).map(|_| rng.word() % q).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &[T], found: &[T]) -> Outcome {
    match expected.iter().zip(found).position(|(x, y)| x != y) {
        Some(at) => {
            Err(Failure(format!("{what}: index {at} is {:?}, expected {:?}", found[at], expected[at])))
        }
        None if expected.len() != found.len() => {
            Err(Failure(format!("{what}: {} values, expected {}", found.len(), expected.len())))
        }
        None => Ok(()),
    }
}

/// One polynomial for each list of rows, one row for each limb, padded with zeros.
fn polynomials<'r>(lab_degree: usize, rows: impl IntoIterator<Item = &'r [Vec<u64>]>) -> Words {
    let polynomials: Vec<_> = rows.into_iter().collect();
    let limbs = LimbSet::range(0..polynomials.first().map_or(0, |rows| rows.len()));
    Words::from_rows(polynomials.len(), limbs, lab_degree, |b, limb| {
        let mut row = polynomials[b][limb].clone();
        row.resize(lab_degree, 0);
        row
    })
}

impl<B: Backend> Lab<B> {
    /// One polynomial with the given residues, from limb `first` on.
    fn rows<D: Domain>(&self, first: usize, rows: &[Vec<u64>]) -> Outcome<Poly<B, D>> {
        let words = polynomials(self.degree(), [rows]);
        let limbs = LimbSet::range(first..first + rows.len());
        Ok(self.upload(&Words { limbs, ..words })?)
    }

    /// A row for every limb of the first polynomial, the first `count` values of each.
    fn first_rows<D: Domain>(&self, view: &View<'_, B, D>, count: usize) -> Outcome<Vec<Vec<u64>>> {
        let words = self.download(view)?;
        Ok(words.words.chunks(self.degree()).map(|row| row[..count].to_vec()).collect())
    }

    /// The values of the first row.
    fn first_row<D: Domain>(&self, poly: &Poly<B, D>, count: usize) -> Outcome<Vec<u64>> {
        Ok(self.first_rows(&poly.view(), count)?.swap_remove(0))
    }
}

fn ntt<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let (n, q) = (case.small("n")?, case.number("q")?);
    let lab = case.single(n)?;
    same("root", &[case.number("psi")?], &[lab.ring().root(0)])?;
    let input = case.input("input", q, n)?;
    let x: Poly<B, Coefficient> = lab.rows(0, std::slice::from_ref(&input))?;
    let mut values: Poly<B, Evaluation> = lab.fresh(x.limbs(), 1)?;
    lab.backend.ntt(&lab.queue, &lab.tables, &mut values.view_mut(), x.view().into())?;
    case.agrees("output", "digest", "samples", &lab.first_row(&values, n)?)?;
    let mut back: Poly<B, Coefficient> = lab.fresh(x.limbs(), 1)?;
    lab.backend.intt(&lab.queue, &lab.tables, &mut back.view_mut(), values.view().into())?;
    same("inverse", &input, &lab.first_row(&back, n)?)
}

fn automorphism<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let (n, q, g) = (case.small("n")?, case.number("q")?, case.small("g")?);
    let lab = case.single(n)?;
    let coefficients: Poly<B, Coefficient> = lab.rows(0, &[case.input("coefficients", q, n)?])?;
    let values: Poly<B, Evaluation> = lab.rows(0, &[case.input("evaluations", q, n)?])?;
    let (backend, queue, tables) = (&lab.backend, &lab.queue, &lab.tables);
    let mut image: Poly<B, Coefficient> = lab.fresh(coefficients.limbs(), 1)?;
    backend.automorphism(queue, tables, &mut image.view_mut(), &coefficients.view(), g)?;
    let found = lab.first_row(&image, n)?;
    case.agrees("coefficients_image", "coefficients_digest", "coefficients_samples", &found)?;
    let mut image: Poly<B, Evaluation> = lab.fresh(values.limbs(), 1)?;
    backend.automorphism(queue, tables, &mut image.view_mut(), &values.view(), g)?;
    let found = lab.first_row(&image, n)?;
    case.agrees("evaluations_image", "evaluations_digest", "evaluations_samples", &found)
}

fn pointwise<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let lab = case.single(DEGREE)?;
    let (a, b, c) = (case.vector("a")?, case.vector("b")?, case.vector("c")?);
    let (count, scalar) = (a.len(), [case.number("scalar")?]);
    let poly = |row: Vec<u64>| lab.rows::<Evaluation>(0, &[row]);
    let (a, b, c) = (poly(a)?, poly(b)?, poly(c)?);
    let (x, y, z) = (a.view(), b.view(), c.view());
    let (backend, queue, tables) = (&lab.backend, &lab.queue, &lab.tables);
    let mut out: Poly<B, Evaluation> = lab.fresh(a.limbs(), 1)?;
    let expect =
        |field, out: &Poly<B, Evaluation>| same(field, &case.vector(field)?, &lab.first_row(out, count)?);
    backend.add(queue, tables, &mut out.view_mut(), x.clone().into(), &y)?;
    expect("add", &out)?;
    backend.sub(queue, tables, &mut out.view_mut(), x.clone().into(), &y)?;
    expect("sub", &out)?;
    backend.negate(queue, tables, &mut out.view_mut(), x.clone().into())?;
    expect("negate", &out)?;
    backend.multiply(queue, tables, &mut out.view_mut(), x.clone().into(), &y)?;
    expect("multiply", &out)?;
    backend.scale_add(queue, tables, &mut out.view_mut(), x.clone().into(), &scalar, Some(&z))?;
    expect("scalar_multiply_add", &out)?;
    backend.copy(queue, &mut out.view_mut(), &z)?;
    backend.multiply_accumulate(queue, tables, &mut out.view_mut(), &x, &y)?;
    expect("multiply_accumulate", &out)
}

/// The terms are the constant coefficients of as many polynomials.
fn inner_product<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let (q, terms) = (case.number("q")?, case.small("terms")?);
    let lab = case.single(crate::ring::MIN_DEGREE)?;
    let side = |field: &str| -> Outcome<Poly<B, Evaluation>> {
        let values =
            if case.has(field) { generated(case.number(field)?, q, terms) } else { vec![q - 1; terms] };
        let rows: Vec<_> = values.into_iter().map(|x| [vec![x]]).collect();
        Ok(lab.upload(&polynomials(lab.degree(), rows.iter().map(|rows| &rows[..])))?)
    };
    let (left, right) = (side("seed_a")?, side("seed_b")?);
    let prepared = lab.backend.prepare(&lab.queue, &lab.tables, &right.view())?;
    let right = PreparedView { prepared: &prepared, first: 0, term_stride: 1, batch_stride: 0 };
    let views = (0..terms).map(|k| left.view().range(k..k + 1)).collect::<Result<Vec<_>>>()?;
    let mut out: Poly<B, Evaluation> = lab.fresh(left.limbs(), 1)?;
    lab.backend.inner_product(&lab.queue, &lab.tables, &mut out.view_mut(), &views, right)?;
    same("result", &[case.number("result")?], &lab.first_row(&out, 1)?)
}

fn matrix_product<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let (q, rows, terms, n) =
        (case.number("q")?, case.small("rows")?, case.small("terms")?, case.small("n")?);
    let bound = i64::try_from(case.number("bound")?).map_err(|_| missing("bound"))?;
    let weights: Vec<i64> = if case.has("seed_weights") {
        let shifted = generated(case.number("seed_weights")?, 2 * bound as u64 + 1, rows * terms);
        shifted.into_iter().map(|w| (w as i128 - i128::from(bound)) as i64).collect()
    } else {
        (0..rows * terms).map(|i| if i / terms % 2 == 0 { bound } else { -bound }).collect()
    };
    let residues = if case.has("seed_input") {
        generated(case.number("seed_input")?, q, terms * n)
    } else {
        vec![q - 1; terms * n]
    };
    let lab = case.single(crate::ring::MIN_DEGREE)?;
    let input: Vec<_> = residues.chunks(n).map(|row| [row.to_vec()]).collect();
    let input: Poly<B, Coefficient> =
        lab.upload(&polynomials(lab.degree(), input.iter().map(|rows| &rows[..])))?;
    let matrix = lab.backend.matrix(&lab.queue, &lab.tables, rows, terms, &weights)?;
    let mut out: Poly<B, Coefficient> = lab.fresh(input.limbs(), rows)?;
    lab.backend.matrix_product(&lab.queue, &lab.tables, &mut out.view_mut(), &matrix, &input.view())?;
    same("output", &case.matrix("output")?, &lab.first_rows(&out.view(), n)?)
}

fn base_convert<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let (from, to, input) = (case.vector("from")?, case.vector("to")?, case.matrix("input")?);
    let count = input.first().map_or(0, Vec::len);
    let lab = case.lab(DEGREE, &[from.clone(), to.clone()].concat())?;
    let (source, target) = (LimbSet::range(0..from.len()), LimbSet::range(from.len()..from.len() + to.len()));
    let converter = lab.backend.converter(&lab.queue, &lab.tables, source, target)?;
    let input: Poly<B, Coefficient> = lab.rows(0, &input)?;
    let mut out: Poly<B, Coefficient> = lab.fresh(target, 1)?;
    lab.backend.base_convert(&lab.queue, &lab.tables, &converter, &mut out.view_mut(), &input.view())?;
    same("output", &case.matrix("output")?, &lab.first_rows(&out.view(), count)?)
}

/// The answers are coefficients; the operation works on values.
fn mod_down<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let (kept, dropped) = (case.vector("kept")?, case.vector("dropped")?);
    let rows = [case.matrix("input_kept")?, case.matrix("input_dropped")?].concat();
    let count = rows.first().map_or(0, Vec::len);
    let lab = case.lab(DEGREE, &[kept.clone(), dropped].concat())?;
    let (backend, queue, tables) = (&lab.backend, &lab.queue, &lab.tables);
    let (keep, all) = (LimbSet::range(0..kept.len()), lab.ring().limbs());
    let mut plan = ModDownPlan::new(backend, queue, tables, keep, all.difference(keep), 1)?;
    let input: Poly<B, Coefficient> = lab.rows(0, &rows)?;
    let mut values: Poly<B, Evaluation> = lab.fresh(all, 1)?;
    backend.ntt(queue, tables, &mut values.view_mut(), input.view().into())?;
    let mut out: Poly<B, Evaluation> = lab.fresh(keep, 1)?;
    backend.mod_down(queue, tables, &mut plan, &mut out.view_mut(), &values.view())?;
    let mut coefficients: Poly<B, Coefficient> = lab.fresh(keep, 1)?;
    backend.intt(queue, tables, &mut coefficients.view_mut(), out.view().into())?;
    same("output", &case.matrix("output")?, &lab.first_rows(&coefficients.view(), count)?)
}

fn trim<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let (bits, input) = (case.small("r")? as u32, case.vector("input")?);
    let lab = case.single(DEGREE)?;
    let poly: Poly<B, Coefficient> = lab.rows(0, std::slice::from_ref(&input))?;
    let expected = super::oracle::pack(&case.vector("output")?, bits);
    let mut packed = vec![0xff; expected.len()];
    let positions = Positions::first(input.len());
    lab.backend.trim(&lab.queue, &lab.tables, &poly.view(), bits, positions, &mut packed)?;
    same("output", &expected, &packed)
}

fn unpack<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let expected = case.vector("output")?;
    let lab = case.single(DEGREE)?;
    same("bits", &[case.small("bits")?], &[lab.ring().modulus(0).bits() as usize])?;
    let mut out: Poly<B, Coefficient> = lab.fresh(lab.ring().limbs(), 1)?;
    let packing = Packing::ByPolynomial { coefficients: expected.len() };
    lab.backend.unpack(&lab.queue, &lab.tables, &mut out.view_mut(), packing, &case.bytes("bytes")?)?;
    same("output", &expected, &lab.first_row(&out, expected.len())?)
}

fn quantise<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let (values, scale_bits) = (case.vector("x_bits")?, case.small("k")? as i32);
    let refused = case.has("refused");
    let lab = if refused {
        case.lab(DEGREE, &[1_073_479_681])?
    } else {
        case.lab(DEGREE, &case.vector("primes")?)?
    };
    let mut buffer = lab.backend.allocate(&lab.queue, values.len())?;
    lab.backend.write(&lab.queue, &mut buffer, 0, &values)?;
    let mut out: Poly<B, Coefficient> = lab.fresh(lab.ring().limbs(), 1)?;
    let mut attempt = |first, count| {
        let how = Quantise { first, batch_stride: 0, coefficient_stride: 1, count, scale_bits };
        lab.backend.quantise(&lab.queue, &lab.tables, &mut out.view_mut(), &buffer, how)?;
        lab.backend.synchronize(&lab.queue)
    };
    if refused {
        return (0..values.len()).try_for_each(|i| match attempt(i, 1) {
            Err(Error::Value { .. }) => Ok(()),
            other => Err(Failure(format!("value {i}: {other:?}"))),
        });
    }
    attempt(0, values.len())?;
    same("output", &case.matrix("output")?, &lab.first_rows(&out.view(), values.len())?)
}

fn seed_expansion<B: Backend>(case: &Case<'_, B>) -> Outcome {
    let n = case.small("n")?;
    let purpose = match case.small("purpose")? {
        0 => Purpose::Ciphertext,
        1 => Purpose::PublicKey,
        2 => Purpose::EvaluationKey,
        3 => Purpose::CommonRandomString,
        // Reserved: there is no way to ask for it.
        _ => return Ok(()),
    };
    let label = SeedLabel {
        seed: case.bytes("seed")?.try_into().map_err(|_| missing("seed"))?,
        purpose,
        object: case.number("object")?,
        polynomial: u32::try_from(case.small("polynomial")?).map_err(|_| missing("polynomial"))?,
    };
    let lab = case.single(n)?;
    same("message", &case.bytes("message")?, &label.message(lab.ring().modulus(0)))?;
    let mut out: Poly<B, Evaluation> = lab.fresh(lab.ring().limbs(), 1)?;
    lab.backend.expand_seed(&lab.queue, &lab.tables, &mut out.view_mut(), &[label])?;
    case.agrees("output", "digest", "samples", &lab.first_row(&out, n)?)
}
