//! Which automorphism moves which slot.

use arras_rns::ring::{MAX_DEGREE, MIN_DEGREE};

use crate::{Error, Params, Result};

/// The group of the slots of a ring: slot j is the value at `zeta^(generator^j)`, so that the automorphism
/// `X -> X^(generator^r)` brings slot j + r to slot j.
///
/// ```
/// use arras_ckks::Slots;
///
/// let slots = Slots::new(64, Slots::GENERATOR)?;
/// assert_eq!(slots.count(), 32);
/// // Rotations by 1 and -1 are X -> X^5 and X -> X^77: 5 * 77 is 1 modulo 128.
/// assert_eq!((slots.element(1)?, slots.element(-1)?), (5, 77));
/// assert_eq!((slots.rotation(25), slots.rotation(slots.conjugation())), (Some(2), None));
/// # Ok::<(), arras_ckks::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots {
    degree: usize,
    generator: usize,
}

impl Slots {
    /// The generator that most of the literature uses.
    pub const GENERATOR: usize = 5;

    /// The slots of ring degree `degree`. Generator 5 is the usual one; 3 is Microsoft SEAL's.
    ///
    /// # Errors
    /// [`Error::Ring`] if no ring has that degree; [`Error::Count`] if the powers of the generator and their negatives do
    /// not make up all odd numbers, which they do exactly when it is 3 or 5 modulo 8.
    pub fn new(degree: usize, generator: usize) -> Result<Self> {
        if !degree.is_power_of_two() || !(MIN_DEGREE..=MAX_DEGREE).contains(&degree) {
            return Err(arras_rns::Error::Degree { degree }.into());
        }
        if !matches!(generator % 8, 3 | 5) {
            let expected = "3 or 5 modulo 8".into();
            return Err(Error::Count {
                operation: "slots",
                what: "the generator",
                found: generator,
                expected,
            });
        }
        Ok(Self { degree, generator: generator % (2 * degree) })
    }

    /// Those of validated parameters, with the usual generator.
    pub(crate) fn standard(params: &Params) -> Self {
        Self { degree: params.degree(), generator: Self::GENERATOR % (2 * params.degree()) }
    }

    /// Number of slots, N/2.
    pub fn count(self) -> usize {
        self.degree / 2
    }

    /// The generator, below 2N.
    pub fn generator(self) -> usize {
        self.generator
    }

    /// The Galois element that rotates by `steps`: slot j of the result is slot `j + steps` modulo N/2 of the operand.
    ///
    /// # Errors
    /// [`Error::Rotation`] if `steps` is not between `-N/2` and `N/2`, exclusive.
    pub fn element(self, steps: i64) -> Result<usize> {
        let slots = self.count() as i64;
        if steps <= -slots || steps >= slots {
            return Err(Error::Rotation { steps, slots: self.count() });
        }
        let mask = 2 * self.degree as u64 - 1;
        let (mut power, mut base) = (1u64, self.generator as u64);
        let mut exponent = steps.rem_euclid(slots);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = (power * base) & mask;
            }
            base = (base * base) & mask;
            exponent >>= 1;
        }
        Ok(power as usize)
    }

    /// The Galois elements of several rotations, each once, without that of rotation 0, which needs no key.
    ///
    /// # Errors
    /// As [`element`](Self::element).
    pub fn elements(self, rotations: impl IntoIterator<Item = i64>) -> Result<Vec<usize>> {
        let mut elements = rotations.into_iter().map(|r| self.element(r)).collect::<Result<Vec<_>>>()?;
        elements.sort_unstable();
        elements.dedup();
        elements.retain(|&element| element != 1);
        Ok(elements)
    }

    /// The Galois element that conjugates every slot, -1 modulo 2N.
    pub fn conjugation(self) -> usize {
        2 * self.degree - 1
    }

    /// The rotation whose element is `element`, between 0 and N/2, if it is one: found by trial.
    pub fn rotation(self, element: usize) -> Option<i64> {
        let mut power = 1;
        (0..self.count() as i64).find(|_| {
            let found = power == element;
            power = power * self.generator % (2 * self.degree);
            found
        })
    }
}

/// The inverse of an odd `element` modulo 2N.
pub(crate) fn inverse_element(element: usize, degree: usize) -> usize {
    // Newton's iteration doubles the number of correct low bits, of which x = g has three.
    let g = element as u64;
    let inverse = (0..5).fold(g, |x, _| x.wrapping_mul(2u64.wrapping_sub(g.wrapping_mul(x))));
    (inverse & (2 * degree as u64 - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::{Slots, inverse_element};

    #[test]
    fn elements_are_powers_and_have_inverses() {
        for generator in [3, 5, 13] {
            let slots = Slots::new(64, generator).unwrap();
            let mut power = 1;
            for r in 0..32 {
                assert_eq!(slots.element(r).unwrap(), power);
                assert_eq!(slots.rotation(power), Some(r));
                let back = slots.element(-r).unwrap();
                assert_eq!(back * power % 128, 1);
                assert_eq!(back, inverse_element(power, 64));
                power = power * generator % 128;
            }
            assert_eq!(slots.rotation(127), None);
        }
        let slots = Slots::new(64, 5).unwrap();
        for steps in [32, -32, i64::MAX, i64::MIN] {
            let error = slots.element(steps).unwrap_err().to_string();
            assert_eq!(error, format!("rotation by {steps} is beyond the 32 slots"));
        }
        assert_eq!(slots.elements([0, 1, 1, -31]).unwrap(), [5]);
        assert!(Slots::new(64, 7).is_err() && Slots::new(65, 5).is_err());
    }
}
