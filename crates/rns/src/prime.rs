//! Finding primes that support a negacyclic NTT.

use crate::ring::MAX_DEGREE;
use crate::{Error, Modulus, Result};

/// Whether `n` is prime. Deterministic for every 64-bit integer: Miller-Rabin to the first twelve prime bases
/// (Sorenson and Webster, 2015).
pub fn is_prime(n: u64) -> bool {
    const BASES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
    if n < 2 {
        return false;
    }
    if let Some(&p) = BASES.iter().find(|&&p| n.is_multiple_of(p)) {
        return n == p;
    }
    let (twos, odd) = ((n - 1).trailing_zeros(), (n - 1) >> (n - 1).trailing_zeros());
    BASES.iter().all(|&base| {
        let mut x = power(base, odd, n);
        if x == 1 || x == n - 1 {
            return true;
        }
        for _ in 1..twos {
            x = (u128::from(x) * u128::from(x) % u128::from(n)) as u64;
            if x == n - 1 {
                return true;
            }
        }
        false
    })
}

fn power(mut base: u64, mut exponent: u64, n: u64) -> u64 {
    let mut result = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = (u128::from(result) * u128::from(base) % u128::from(n)) as u64;
        }
        base = (u128::from(base) * u128::from(base) % u128::from(n)) as u64;
        exponent >>= 1;
    }
    result
}

/// Primes `q < 2^bits` with `q = 1 mod step`, largest first, down to `2^(bits-1)`.
fn descending(bits: u32, step: u64) -> impl Iterator<Item = u64> {
    let (top, bottom) = (1u64 << bits, 1u64 << (bits - 1));
    let first = (top - 1) / step * step + 1;
    let first = if first >= top { first - step } else { first };
    std::iter::successors(Some(first), move |q| q.checked_sub(step))
        .take_while(move |&q| q > bottom)
        .filter(|&q| is_prime(q))
}

/// The `count` largest primes of exactly `bits` bits that are 1 modulo `2 * degree`, largest first,
/// leaving out those in `taken`.
///
/// # Errors
/// [`Error::NotEnoughPrimes`] if there are fewer, or if `bits` is not in `2..=60`; [`Error::Degree`] if `degree` is not a
/// power of two up to 2^17.
pub fn ntt_primes(bits: u32, degree: usize, count: usize, taken: &[u64]) -> Result<Vec<u64>> {
    collect(bits, degree, (degree as u64).saturating_mul(2), count, taken)
}

/// Like [`ntt_primes`], but of the form `c * 2^32 + 1`, valid for every degree.
///
/// Multiplying by such a prime costs a shift and an addition, which saves three instructions of a 64-bit butterfly
/// on a GPU. There are thirteen of 40 bits and 7639 of 50 bits.
///
/// # Errors
/// As for [`ntt_primes`], with `bits` in `33..=60`.
pub fn shifted_primes(bits: u32, degree: usize, count: usize, taken: &[u64]) -> Result<Vec<u64>> {
    collect(bits, degree, 1 << 32, count, taken)
}

fn collect(bits: u32, degree: usize, step: u64, count: usize, taken: &[u64]) -> Result<Vec<u64>> {
    if !degree.is_power_of_two() || degree > MAX_DEGREE {
        return Err(Error::Degree { degree });
    }
    if !(2..=Modulus::MAX_BITS).contains(&bits) || step >> (bits - 1) > 1 {
        return Err(Error::NotEnoughPrimes { bits, degree, found: 0, wanted: count });
    }
    let primes: Vec<u64> = descending(bits, step).filter(|q| !taken.contains(q)).take(count).collect();
    if primes.len() < count {
        return Err(Error::NotEnoughPrimes { bits, degree, found: primes.len(), wanted: count });
    }
    Ok(primes)
}

#[cfg(test)]
mod tests {
    use super::{is_prime, ntt_primes, shifted_primes};
    use crate::Error;

    #[test]
    fn small_numbers_match_a_sieve() {
        let sieve: Vec<u64> = (2..2000u64).filter(|n| (2..*n).all(|d| n % d != 0)).collect();
        assert_eq!((0..2000).filter(|&n| is_prime(n)).collect::<Vec<_>>(), sieve);
        // A strong pseudoprime to the bases 2, 3, 5 and 7, and the largest 64-bit prime.
        assert!(!is_prime(3_215_031_751) && is_prime(18_446_744_073_709_551_557));
    }

    #[test]
    fn counts_published_for_the_special_form() {
        assert_eq!(shifted_primes(40, 2048, 13, &[]).unwrap().len(), 13);
        assert!(shifted_primes(40, 2048, 14, &[]).is_err());
    }

    #[test]
    fn primes_have_the_size_and_congruence_asked_for() {
        for bits in [20, 30, 46, 50, 60] {
            let first = ntt_primes(bits, 4096, 2, &[]).unwrap();
            for &q in &first {
                assert!(is_prime(q) && q % 8192 == 1 && 64 - q.leading_zeros() == bits);
            }
            assert_eq!(ntt_primes(bits, 4096, 1, &first[..1]).unwrap()[0], first[1]);
        }
        assert!(ntt_primes(61, 4096, 1, &[]).is_err() && ntt_primes(1, 4096, 1, &[]).is_err());
        assert!(ntt_primes(13, 1 << 17, 1, &[]).is_err());
        for degree in [0, 3, 1 << 63, usize::MAX] {
            assert_eq!(ntt_primes(50, degree, 1, &[]), Err(Error::Degree { degree }));
        }
    }
}
