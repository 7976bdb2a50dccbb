//! What releases cost: concentrated differential privacy of integer noise, and the epsilon it amounts to.
//!
//! Neighbouring data sets differ by one unit (a patient, or another group of rows) added or removed. Adding discrete Gaussian
//! noise of parameter sigma to integers of L2 sensitivity s is rho-zCDP with `rho = s^2 / (2 sigma^2)` (Canonne, Kamath and
//! Steinke, NeurIPS 2020, theorem 4); rho adds up over releases. Noise that several parties draw in shares is, at the sigmas used
//! here, within 2^-50 of a discrete Gaussian of the summed variance (Kairouz, Liu and Steinke, ICML 2021), which
//! [`MIN_SHARE_SIGMA`] ensures.

use crate::Error;

/// Smallest sigma of one party's share of the noise: below it the sum of shares is no longer close enough to a discrete
/// Gaussian.
pub const MIN_SHARE_SIGMA: f64 = 2.0;

/// The smallest epsilon such that rho-zCDP implies (epsilon, delta)-differential privacy by Renyi orders: the minimum over a > 1
/// of `a rho + ln(1 - 1/a) - ln(a delta) / (a - 1)` (Canonne, Kamath and Steinke 2020, proposition 12), at least 0.
///
/// # Errors
/// A rho below 0 or not finite, a delta outside 0..1.
pub fn epsilon(rho: f64, delta: f64) -> Result<f64, Error> {
    if !(rho.is_finite() && rho >= 0.0) {
        return Err(Error::invalid("rho", format!("{rho} is not a number of at least 0")));
    }
    check_delta(delta)?;
    // With `x = ln(a - 1)` the bound has one minimum; golden section finds it.
    let bound = |x: f64| {
        let a = 1.0 + x.exp();
        a * rho + (-1.0 / a).ln_1p() - (a * delta).ln() / (a - 1.0)
    };
    let (mut low, mut high) = (-12.0_f64, 24.0_f64);
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    for _ in 0..120 {
        let (first, second) = (high - golden * (high - low), low + golden * (high - low));
        if bound(first) < bound(second) {
            high = second;
        } else {
            low = first;
        }
    }
    Ok(bound(f64::midpoint(low, high)).max(0.0))
}

/// The largest rho whose [`epsilon`] is at most the one given.
///
/// # Errors
/// An epsilon that is not above 0 or not finite, a delta outside 0..1.
pub fn rho(epsilon_limit: f64, delta: f64) -> Result<f64, Error> {
    if !(epsilon_limit.is_finite() && epsilon_limit > 0.0) {
        return Err(Error::invalid("epsilon", format!("{epsilon_limit} is not a number above 0")));
    }
    check_delta(delta)?;
    // rho <= epsilon always: pure zCDP is weaker than any finite order.
    let (mut low, mut high) = (0.0, epsilon_limit);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if epsilon(middle, delta)? <= epsilon_limit {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn check_delta(delta: f64) -> Result<(), Error> {
    if delta > 0.0 && delta < 1.0 {
        return Ok(());
    }
    Err(Error::invalid("delta", format!("{delta} is not between 0 and 1")))
}

/// L2 sensitivity of the statistics `(X'^T X', X'^T Y)` of rows clipped to norm `row_bound`, extended by a one, with one-hot
/// targets, when a unit of at most `rows_per_unit` rows comes or goes: `m sqrt(R^4 + R^2)`, `R^2 = B^2 + 1`. The triangle of the
/// symmetric matrix counts its off-diagonal entries sqrt(2)-fold, as its square would.
pub fn sensitivity(row_bound: f64, rows_per_unit: u32) -> f64 {
    let squared = row_bound * row_bound + 1.0;
    f64::from(rows_per_unit) * (squared * squared + squared).sqrt()
}

/// Noise that a round asks for.
///
/// ```
/// use arras_rounds::privacy::{Noise, epsilon};
///
/// // Five honest parties give the noise of the whole sum together.
/// let noise = Noise { rho: 0.02, honest: 5 };
/// let sigma = noise.share_sigma(1e6)?;
/// assert!((5.0 * sigma * sigma - 1e12 / (2.0 * 0.02)).abs() < 1.0);
/// assert!(epsilon(noise.rho, 1e-6)? < 1.1);
/// // With a sensitivity this small the noise would not be close to a discrete Gaussian.
/// assert!(noise.share_sigma(0.5).is_err());
/// # Ok::<(), arras_rounds::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// zCDP of the release, above 0.
    pub rho: f64,
    /// Uploads that are counted on to carry their share of the noise, at least 1: the smallest quorum, less those that might collude.
    pub honest: u32,
}

impl Noise {
    /// Sigma of one party's share for integers of the given sensitivity: `honest` of them together give `rho`.
    ///
    /// # Errors
    /// A rho that is not above 0, nobody honest, or a sigma below [`MIN_SHARE_SIGMA`] (the fixed point is too coarse).
    pub fn share_sigma(&self, integer_sensitivity: f64) -> Result<f64, Error> {
        if !(self.rho.is_finite() && self.rho > 0.0) || self.honest == 0 {
            let reason = format!("rho {} from {} honest parties", self.rho, self.honest);
            return Err(Error::invalid("noise", reason));
        }
        let sigma = integer_sensitivity / (2.0 * self.rho * f64::from(self.honest)).sqrt();
        if !(sigma.is_finite() && sigma >= MIN_SHARE_SIGMA) {
            return Err(Error::invalid(
                "noise",
                format!("a share of sigma {sigma}, at least {MIN_SHARE_SIGMA}"),
            ));
        }
        Ok(sigma)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn epsilons_are_those_of_dp_accounting() {
        let fixtures: Value = serde_json::from_str(include_str!("../kat/privacy.json")).unwrap();
        let cases = fixtures["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 24);
        for case in cases {
            let number = |value: &Value| value.as_f64().unwrap();
            let rho: f64 =
                case["noise_multipliers"].as_array().unwrap().iter().map(|m| 0.5 / number(m).powi(2)).sum();
            let ours = epsilon(rho, number(&case["delta"])).unwrap();
            let theirs = number(&case["epsilon"]);
            assert!((ours - theirs).abs() < 1e-3, "{case}: {ours}");
            // The best of all orders is no worse than the best of a list.
            assert!(ours <= theirs + 1e-9, "{case}: {ours}");
        }
    }

    #[test]
    fn rho_and_epsilon_are_inverse() {
        for limit in [0.5, 1.0, 2.0, 4.0, 8.0] {
            for delta in [1e-5, 1e-9] {
                let rho = rho(limit, delta).unwrap();
                let found = epsilon(rho, delta).unwrap();
                assert!(found <= limit && found > limit * (1.0 - 1e-9), "{limit} {delta} {found}");
            }
        }
    }

    #[test]
    fn shares_add_up_to_the_noise_that_was_asked_for() {
        let noise = Noise { rho: 0.02, honest: 5 };
        let sigma = noise.share_sigma(1e6).unwrap();
        assert!((1e12 / (2.0 * 5.0 * sigma * sigma) - 0.02).abs() < 1e-12);
        assert!(noise.share_sigma(0.5).is_err() && noise.share_sigma(f64::NAN).is_err());
        assert!(Noise { rho: 0.0, honest: 5 }.share_sigma(1e6).is_err());
        assert!(Noise { rho: 1.0, honest: 0 }.share_sigma(1e6).is_err());
    }

    #[test]
    fn numbers_without_meaning_are_refused() {
        for (rho, delta) in [(-1.0, 1e-5), (f64::NAN, 1e-5), (1.0, 0.0), (1.0, 1.0), (1.0, f64::NAN)] {
            assert!(epsilon(rho, delta).is_err());
        }
        assert!(rho(0.0, 1e-5).is_err() && rho(f64::INFINITY, 1e-5).is_err());
    }
}
