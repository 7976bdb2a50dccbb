//! (g) The server's head from what its clients get.
//!
//! Component 1 of a reply is `w(X) a(X)` with a mask a that the client chose: untrimmed and unmasked it is one division away from the
//! integer weights. The product trims it to 24 to 34 bits, which makes it a problem of learning with rounding that lattice
//! reduction solves for small heads ([`lattice`]), and hides it altogether on request (`hide-model`: a fresh encryption of zero on
//! top, and a flood). What no encryption hides are the logits: `D + 1` known images in general position give `W x + b` by linear
//! equations, fewer leave as many directions open as are missing (Tramèr et al., USENIX Security 2016).
//!
//! Sees: a client, its own queries and their replies. Succeeds: by `error`, the distance from the head relative to its norm,
//! against a head that the client fits to its own images and labels; by `agreement` of decisions on other images; by
//! `weights`, the share of integer weights that are exact.

pub mod lattice;

use std::time::Instant;

use arras_ckks::encoder::encode_coefficients;
use arras_ckks::evaluator::Evaluator;
use arras_ckks::integers::encode_integers;
use arras_ckks::{Ciphertext, Context};
use arras_cpu::Cpu;
use arras_heads::layout::{Groups, Layout};
use arras_heads::{Budget, Head, LinearHead, Preset};
use arras_rns::Backend;
use arras_secret::{Cipher, SecretKey};
use faer::Mat;

use crate::attacks::key::{divide, trained};
use crate::statistics::{Better, paired};
use crate::{Attack, Error, Finding, Random, Result, Rows, Verdict};

/// Relative error below which the head counts as recovered.
const RECOVERED: f64 = 0.01;

/// The integer weights of a class from the mask of a query and its product with the weights, as it is before trimming: one
/// division in the ring modulo the first prime. Of a masked reply, noise.
///
/// # Errors
/// Other than two components; a mask without inverse; a failing device.
pub fn from_untrimmed<B: Backend>(
    context: &Context<B>,
    query: &Ciphertext<B>,
    reply: &Ciphertext<B>,
    dimension: usize,
) -> Result<Vec<i64>> {
    let (Some(mask), Some(product)) = (query.components.get(1), reply.components.get(1)) else {
        return Err(Error::invalid("reply", "has no second component"));
    };
    let mut weights = divide(context, product, None, mask)?;
    // The weights stand in reverse order, so that the inner product stands in coefficient D - 1.
    weights.truncate(dimension);
    weights.reverse();
    Ok(weights)
}

/// A head, `[C][D]` and `[C]`, from the logits of known images: the solution of `W x + b = logits` of least squares, and of least
/// norm where images are too few.
///
/// # Errors
/// Lengths that do not fit; a decomposition that does not converge.
pub fn from_logits(known: &Rows, logits: &[f64], class_count: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let (images, dimension) = (known.len(), known.dimension);
    if images == 0 || logits.len() != images * class_count {
        let reason = format!("{} for {images} images of {class_count} classes", logits.len());
        return Err(Error::invalid("logits", reason));
    }
    let extended = Mat::from_fn(images, dimension + 1, |row, column| match column {
        column if column < dimension => f64::from(known.values[row * dimension + column]),
        _ => 1.0,
    });
    let logits = Mat::from_fn(images, class_count, |row, class| logits[row * class_count + class]);
    let svd = extended.thin_svd().map_err(|_| arras_fit::Error::Eigendecomposition)?;
    let values: Vec<f64> = svd.S().column_vector().iter().copied().collect();
    let smallest = values.first().copied().unwrap_or(0.0) * f64::EPSILON * (images + dimension) as f64;
    let mut inner = svd.U().transpose() * logits;
    for (k, &value) in values.iter().enumerate() {
        let factor = if value > smallest { 1.0 / value } else { 0.0 };
        (0..class_count).for_each(|class| inner[(k, class)] *= factor);
    }
    let solution = svd.V() * inner;
    let weight = (0..class_count).flat_map(|class| (0..dimension).map(move |j| (j, class)));
    let weight = weight.map(|at| solution[at]).collect();
    Ok((weight, (0..class_count).map(|class| solution[(dimension, class)]).collect()))
}

/// Replies as they are before trimming, which the product does to every one: built with the evaluator from the same integer
/// weights, without a mask and with the encryption of zero that `hide-model` adds.
///
/// # Errors
/// A head that does not fit the preset; a failing device.
pub fn of_untrimmed_replies(rows: &Rows, seed: u64) -> Result<Vec<Finding>> {
    let preset = Preset::named(Preset::DEFAULT)?;
    let context = Context::new(Cpu::sequential(), preset.params.clone())?;
    let cipher = Cipher::new(&context, &SecretKey::generate(&preset.params)?)?;
    let (dimension, scale_bits) = (rows.dimension, preset.params.spec().scale_bits);
    let budget = Budget::new(&trained(rows)?, &preset.params, preset.bounds_of(&rows.values, dimension)?)?;
    let image: Vec<f64> = rows.row(0).iter().map(|&x| x.into()).collect();
    let query = cipher.encrypt(&encode_coefficients(&context, &image, dimension, scale_bits, 0)?)?;
    let (evaluator, public) = (Evaluator::new(&context), cipher.public_key()?);
    let started = Instant::now();
    let (mut bare, mut masked) = (Vec::new(), Vec::new());
    for weights in budget.weights.chunks_exact(dimension) {
        let reversed: Vec<i64> = weights.iter().rev().copied().collect();
        let reply = evaluator.multiply_plain(&query, &encode_integers(&context, &reversed, 0)?)?;
        let zero = public.zeros(&context, reply.limbs(), 1)?;
        let hidden = evaluator.add(&reply, &Ciphertext { scale: reply.scale, ..zero })?;
        bare.extend(from_untrimmed(&context, &query, &reply, dimension)?);
        masked.extend(from_untrimmed(&context, &query, &hidden, dimension)?);
    }
    let row = |found: &[i64], protection: &str, text: &str| -> Result<Finding> {
        let row = exact_weights(&budget.weights, Some(found), "one untrimmed reply", protection, text, seed)?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(Finding { seconds, ..row }.parameter("dimension", dimension))
    };
    Ok(vec![
        row(&bare, "none", "the product with the mask is divided by the mask")?,
        row(&masked, "encryption of zero", "the quotient is uniform")?,
    ])
}

/// The share of exact integer weights; where nothing was found zeros are guessed.
fn exact_weights(
    truth: &[i64],
    found: Option<&[i64]>,
    seen: &str,
    protection: &str,
    text: &str,
    seed: u64,
) -> Result<Finding> {
    let right = |guess: i64, truth: i64| f64::from(u8::from(guess == truth));
    let plain: Vec<f64> = truth.iter().map(|&truth| right(0, truth)).collect();
    let values = match found {
        Some(found) => found.iter().zip(truth).map(|(&found, &truth)| right(found, truth)).collect(),
        None => plain.clone(),
    };
    let score = paired(&values, &plain, Better::Higher, seed)?;
    let row = Finding::new(Attack::Head, seen, "client", protection, seed);
    let mut row = Finding { victims: 1, ..row }.score("weights", score).judged(true, text);
    if score.value == 1.0 {
        row.verdict = Verdict::Recovered;
    }
    Ok(row)
}

/// The default reply as it is sent, trimmed, to the one question of a client, by lattice reduction: of heads of several
/// dimensions, and of a head behind `hide-model`.
///
/// # Errors
/// A head that does not fit the preset; a failing device.
pub fn of_trimmed_replies(dimensions: &[usize], seed: u64) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for &dimension in dimensions {
        findings.push(of_trimmed_reply(Preset::DEFAULT, dimension, seed)?);
    }
    if let Some(&smallest) = dimensions.iter().min() {
        findings.push(of_trimmed_reply(Preset::HIDING, smallest, seed)?);
    }
    Ok(findings)
}

fn of_trimmed_reply(preset: &str, dimension: usize, seed: u64) -> Result<Finding> {
    let preset = Preset::named(preset)?;
    let context = Context::new(Cpu::sequential(), preset.params.clone())?;
    let cipher = Cipher::new(&context, &SecretKey::generate(&preset.params)?)?;
    let rows = Rows::synthetic(seed, 20 * dimension.max(3), dimension, 3);
    let head = trained(&rows)?;
    let bounds = preset.bounds_of(&rows.values, dimension)?;
    let server = LinearHead::new(&context, &head, bounds)?;
    let groups = Groups::new(Layout::Dot, preset.params.degree(), dimension, 1)?;
    let query = cipher.encrypt_features(groups, rows.row(0), None)?;
    let reply = server.classify(&query)?;
    let started = Instant::now();
    let found = lattice::weights(&context, &query, &reply)?;
    let seconds = started.elapsed().as_secs_f64();
    let (protection, text) = match (preset.hides, &found) {
        (true, _) => {
            ("hide-model", "no weights fit: the mask of the encryption of zero is in every equation")
        }
        (false, Some(_)) => ("trimming", "lattice reduction removes what trimming rounds off"),
        (false, None) => ("trimming", "this reduction is too weak, which says nothing about stronger ones"),
    };
    let seen = format!("one reply as sent, {dimension} features");
    let mut row = exact_weights(&server.budget().weights, found.as_deref(), &seen, protection, text, seed)?;
    if !preset.hides && found.is_none() {
        row.converged = false;
        row.verdict = Verdict::Inconclusive;
    }
    let factor = |of| lattice::root_hermite_factor(of, reply.bits, preset.params.log_modulus(0));
    Ok(Finding { seconds, ..row }
        .parameter("dimension", dimension)
        .parameter("bits", reply.bits)
        .parameter("root_hermite_factor", factor(dimension))
        .parameter("root_hermite_factor_768", factor(768)))
}

/// Logits of known images from the product with `hide-model`, and what they teach: the error of the head against their number,
/// beside that of a head which the client fits to the labels of the same images.
///
/// # Errors
/// Too few rows; a head that does not fit the preset; a failing device.
pub fn of_hidden_replies(rows: &Rows, counts: &[usize], seed: u64) -> Result<Vec<Finding>> {
    let most = counts.iter().copied().max().unwrap_or(0);
    // A third trains the head, a third is known to the client, a third judges.
    if rows.len() < 3 * most {
        return Err(Error::invalid("rows", format!("{} are not three times {most}", rows.len())));
    }
    let order = Random::new("arras/1 audit head extraction", &[seed]).permutation(rows.len());
    let (training, rest) = order.split_at(rows.len() / 3);
    let (known, judging) = rest.split_at(rows.len() / 3);
    let head = trained(&rows.select(training))?;
    let known = rows.select(known);
    let logits = hidden_logits(&head, &known)?;
    let judging = rows.select(judging);
    counts.iter().map(|&count| of_count(&head, &known, &logits, &judging, count, seed)).collect()
}

/// Logits through encryption, hidden classification and decryption.
fn hidden_logits(head: &Head, images: &Rows) -> Result<Vec<f64>> {
    let preset = Preset::named(Preset::HIDING)?;
    let context = Context::new(Cpu::sequential(), preset.params.clone())?;
    let cipher = Cipher::new(&context, &SecretKey::generate(&preset.params)?)?;
    let bounds = preset.bounds_of(&images.values, images.dimension)?;
    let server = LinearHead::new(&context, head, bounds)?;
    let degree = preset.params.degree();
    let groups = Groups::new(Layout::Transposed, degree, images.dimension, images.len())?;
    let query = cipher.encrypt_features(groups, &images.values, None)?;
    Ok(cipher.decrypt_logits(&server.classify(&query)?)?)
}

/// Draws of known images behind each number.
const DRAWS: u64 = 5;

fn of_count(
    head: &Head,
    known: &Rows,
    logits: &[f64],
    judging: &Rows,
    count: usize,
    seed: u64,
) -> Result<Finding> {
    let started = Instant::now();
    let classes = head.class_count();
    let (mut errors, mut own_errors) = (Vec::new(), Vec::new());
    let (mut hits, mut own_hits) = (vec![0.0; judging.len()], vec![0.0; judging.len()]);
    for draw in 0..DRAWS {
        let mut random = Random::new("arras/1 audit head extraction", &[seed, count as u64, draw]);
        let chosen = &random.permutation(known.len())[..count];
        let images = known.select(chosen);
        let seen: Vec<f64> =
            chosen.iter().flat_map(|&row| &logits[row * classes..][..classes]).copied().collect();
        let (weight, bias) = from_logits(&images, &seen, classes)?;
        let own = trained(&images)?;
        let own_weight: Vec<f64> = own.weight.iter().map(|&w| w.into()).collect();
        let own_bias: Vec<f64> = own.bias.iter().map(|&b| b.into()).collect();
        errors.extend(class_errors(head, &weight, &bias));
        own_errors.extend(class_errors(head, &own_weight, &own_bias));
        add_agreement(&mut hits, head, judging, &weight, &bias);
        add_agreement(&mut own_hits, head, judging, &own_weight, &own_bias);
    }
    let error = paired(&errors, &own_errors, Better::Lower, seed)?;
    let agreement = paired(&hits, &own_hits, Better::Higher, seed)?;
    let enough = head.dimension() + 1;
    let text = match count >= enough {
        true => "as many linear equations as unknowns: encryption cannot help",
        false => "the directions that no known image has stay open",
    };
    let row = Finding::new(Attack::Head, &format!("{count} logits"), "client", "hide-model", seed);
    let mut row = Finding { victims: 1, ..row }
        .score("error", error)
        .score("agreement", agreement)
        .parameter("dimension", head.dimension())
        .parameter("logits", count)
        .judged(true, text);
    if error.value < RECOVERED {
        row.verdict = Verdict::Recovered;
    }
    Ok(Finding { seconds: started.elapsed().as_secs_f64(), ..row })
}

/// For each class the distance of weights and bias from the head's, relative to their norm.
fn class_errors(head: &Head, weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let dimension = head.dimension();
    let of_class = |class: usize| {
        let truth = head.weight[class * dimension..][..dimension].iter().chain([&head.bias[class]]);
        let found = weight[class * dimension..][..dimension].iter().chain([&bias[class]]);
        let (error, norm) = truth.zip(found).fold((0.0, 0.0), |(error, norm), (&w, &found)| {
            let w = f64::from(w);
            (error + (found - w).powi(2), norm + w * w)
        });
        (error / norm.max(f64::MIN_POSITIVE)).sqrt()
    };
    (0..head.class_count()).map(of_class).collect()
}

/// Adds, for each image, the share of draws in which the decision is the head's.
fn add_agreement(hits: &mut [f64], head: &Head, images: &Rows, weight: &[f64], bias: &[f64]) {
    let classes = head.class_count();
    let truth = head.logits(&images.values);
    for (image, hit) in hits.iter_mut().enumerate() {
        let row = images.row(image);
        let score = |class: usize| -> f64 {
            let weights = &weight[class * row.len()..][..row.len()];
            weights.iter().zip(row).map(|(w, &x)| w * f64::from(x)).sum::<f64>() + bias[class]
        };
        let guess = argmax((0..classes).map(score));
        let decision = argmax(truth[image * classes..][..classes].iter().map(|&x| f64::from(x)));
        *hit += f64::from(u8::from(guess == decision)) / DRAWS as f64;
    }
}

/// The position of the largest; the first of equals.
pub(crate) fn argmax(scores: impl Iterator<Item = f64>) -> usize {
    let best = scores.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(0, |(position, _)| position)
}

/// The rows of the report.
///
/// # Errors
/// Fewer than sixteen rows; what the product refuses.
pub fn findings(rows: &Rows, seed: u64) -> Result<Vec<Finding>> {
    // Three times twice as many as there are unknowns.
    let rows = rows.at_most(DIMENSIONS.min((rows.len() / 6).saturating_sub(1)), seed);
    let enough = rows.dimension + 1;
    let counts = [enough.div_ceil(4), enough.div_ceil(2), 3 * enough / 4, enough - 1, enough, 2 * enough];
    let mut findings = of_untrimmed_replies(&rows, seed)?;
    findings.extend(of_trimmed_replies(&[4, 8, 16], seed)?);
    findings.extend(of_hidden_replies(&rows, &counts, seed)?);
    Ok(findings)
}

/// Features are projected to so many dimensions for [`findings`].
pub const DIMENSIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unmasked_reply_is_the_head_and_a_masked_one_is_not() -> Result<()> {
        let rows = of_untrimmed_replies(&Rows::synthetic(11, 300, 64, 3), 1)?;
        assert_eq!(rows[0].scores["weights"].value, 1.0);
        assert_eq!(rows[0].verdict, Verdict::Recovered);
        assert!(rows[1].scores["weights"].value < 0.05 && !rows[1].scores["weights"].gains());
        Ok(())
    }

    #[test]
    fn logits_teach_a_hidden_head_only_when_there_are_enough() -> Result<()> {
        let rows = Rows::synthetic(12, 600, 48, 3);
        let found = of_hidden_replies(&rows, &[12, 24, 40, 98], 1)?;
        let error = |k: usize| found[k].scores["error"].value;
        assert!(
            error(0) > error(1) && error(1) > error(2) && error(2) > 0.1,
            "{} {} {}",
            error(0),
            error(1),
            error(2)
        );
        assert!(error(3) < RECOVERED, "{}", error(3));
        assert_eq!(found[3].verdict, Verdict::Recovered);
        assert!(found[3].scores["agreement"].value > 0.99);
        assert_ne!(found[2].verdict, Verdict::Recovered);
        Ok(())
    }

    #[test]
    fn trimming_does_not_hide_a_small_head_and_hide_model_does() -> Result<()> {
        let found = of_trimmed_replies(&[8], 1)?;
        assert_eq!(found[0].verdict, Verdict::Recovered, "{:?}", found[0].scores);
        assert_eq!(found[1].protection, "hide-model");
        assert_eq!(found[1].verdict, Verdict::NoAdvantage, "{:?}", found[1].scores);
        Ok(())
    }

    #[test]
    fn logits_of_another_number_are_refused() {
        let rows = Rows::synthetic(1, 5, 4, 2);
        assert!(from_logits(&rows, &[0.0; 9], 2).is_err());
        assert!(of_hidden_replies(&rows, &[2], 1).is_err());
    }
}
