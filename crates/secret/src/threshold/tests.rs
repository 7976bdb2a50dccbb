use arras_ckks::integers::{decode_integers, encode_integers};
use arras_ckks::{Context, Params, Security, Spec, threshold};
use arras_cpu::Cpu;
use arras_rns::prime::shifted_primes;

use arras_ckks::threshold::{flooding_bits, noise_bound};

use super::{KeyShare, Request, decryption_share, reduce};
use crate::{Cipher, SecretKey};
use arras_ckks::sampling::{Sampler, float, small_polynomials};

const SCALE_BITS: u32 = 52;

fn params() -> Params {
    let moduli = shifted_primes(49, 4096, 2, &[]).unwrap();
    let spec = Spec {
        degree: 4096,
        moduli,
        special: vec![],
        digits: 1,
        scale_bits: 20,
        security: Security::Classical128,
    };
    Params::new(spec).unwrap()
}

fn context() -> Context<Cpu> {
    Context::new(Cpu::sequential(), params()).unwrap()
}

/// Parties 1..=parties with a key each, and for each party the shares of everybody's key.
fn deal(context: &Context<Cpu>, needed: u32, parties: u32) -> (Vec<SecretKey>, Vec<Vec<KeyShare>>) {
    let keys: Vec<SecretKey> = (0..parties).map(|_| SecretKey::generate(context.params()).unwrap()).collect();
    let mut held: Vec<Vec<KeyShare>> = (0..parties).map(|_| Vec::new()).collect();
    for key in &keys {
        for share in key.share(needed, parties).unwrap() {
            let bytes = share.to_bytes().unwrap();
            let point = share.point();
            held[point as usize - 1].push(KeyShare::from_bytes(&bytes, context.params()).unwrap());
        }
    }
    (keys, held)
}

fn sum_of(shares: &[KeyShare], accepted: &[u32]) -> KeyShare {
    let mut sum: Option<KeyShare> = None;
    for &member in accepted {
        let share = &shares[member as usize - 1];
        match &mut sum {
            Some(sum) => sum.add(share).unwrap(),
            None => sum = Some(KeyShare::from_bytes(&share.to_bytes().unwrap(), &share.params).unwrap()),
        }
    }
    sum.unwrap()
}

/// Integers of party i: as large as the format allows, both signs.
fn integers(party: u32, count: usize) -> Vec<i64> {
    (0..count as i64)
        .map(|i| (i * 7_919 + i64::from(party) * 104_729) % (1 << 36) * if i % 2 == 0 { 1 } else { -1 })
        .collect()
}

fn run(needed: u32, parties: u32, accepted: &[u32], decryptors: &[u32]) {
    let context = context();
    let (keys, held) = deal(&context, needed, parties);
    let receiver_key = SecretKey::generate(context.params()).unwrap();
    let receiver = Cipher::new(&context, &receiver_key).unwrap();
    let public = receiver.public_key().unwrap();
    let (seed, count) = ([7; 32], 5000);
    let mut sum = None;
    let mut expected = vec![0; count];
    for &party in accepted {
        let values = integers(party, count);
        expected.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
        let message = encode_integers(&context, &values, SCALE_BITS).unwrap();
        let cipher = Cipher::new(&context, &keys[party as usize - 1]).unwrap();
        let upload = cipher.upload(seed, &message).unwrap();
        match &mut sum {
            None => sum = Some(upload),
            Some(sum) => threshold::accumulate(&context, sum, &upload).unwrap(),
        }
    }
    let request = Request { seed, polynomials: 2, points: decryptors, uploads: accepted.len() as u32 };
    let shares = decryptors.iter().map(|&party| {
        let share = sum_of(&held[party as usize - 1], accepted);
        decryption_share(&context, &share, &request, &public).unwrap()
    });
    let total = threshold::combine(&context, &sum.unwrap(), shares.collect(), 1.0).unwrap();
    let noise = noise_bound(4096, accepted.len() as u32, decryptors.len() as u32);
    let decrypted = receiver.decrypt(&total).unwrap();
    assert_eq!(decode_integers(&context, &decrypted, count, SCALE_BITS, noise).unwrap(), expected);

    // Any other key, and fewer shares, leave residues that no noise explains.
    let other = SecretKey::generate(context.params()).unwrap();
    let wrong = Cipher::new(&context, &other).unwrap().decrypt(&total).unwrap();
    assert!(decode_integers(&context, &wrong, count, SCALE_BITS, noise).is_err());
}

#[test]
fn any_threshold_of_parties_decrypts_exactly_the_sum() {
    run(3, 5, &[1, 2, 3, 4, 5], &[1, 3, 5]);
    run(3, 5, &[2, 3, 5], &[5, 4, 1]);
    run(3, 3, &[1, 2, 3], &[1, 2, 3]);
    run(1, 2, &[1, 2], &[2]);
}

#[test]
fn fewer_shares_than_the_threshold_decrypt_nothing() {
    let context = context();
    let (keys, held) = deal(&context, 3, 4);
    let receiver = Cipher::new(&context, &keys[3]).unwrap();
    let public = receiver.public_key().unwrap();
    let message = encode_integers(&context, &[1, 2, 3], SCALE_BITS).unwrap();
    let upload = Cipher::new(&context, &keys[0]).unwrap().upload([1; 32], &message).unwrap();
    let points = [1, 2];
    let request = Request { seed: [1; 32], polynomials: 1, points: &points, uploads: 1 };
    let shares = points.map(|point| {
        decryption_share(&context, &sum_of(&held[point as usize - 1], &[1]), &request, &public).unwrap()
    });
    let total = threshold::combine(&context, &upload, shares.into(), 1.0).unwrap();
    let decrypted = receiver.decrypt(&total).unwrap();
    assert!(decode_integers(&context, &decrypted, 3, SCALE_BITS, noise_bound(4096, 1, 2)).is_err());
}

#[test]
fn a_collective_public_key_encrypts_for_the_sum_of_the_keys() {
    let context = context();
    let (keys, held) = deal(&context, 2, 3);
    let seed = [3; 32];
    let mut sum = Cipher::new(&context, &keys[0]).unwrap().public_key_share(seed).unwrap();
    for key in &keys[1..] {
        let share = Cipher::new(&context, key).unwrap().public_key_share(seed).unwrap();
        threshold::accumulate(&context, &mut sum, &share).unwrap();
    }
    let collective = threshold::collective_key(&context, seed, sum).unwrap();
    let message = encode_integers(&context, &[-5, 1 << 40], SCALE_BITS).unwrap();
    let ciphertext = collective.encrypt(&context, &message).unwrap();
    // Nobody can do this but all of them together: the sum of the keys, from two shares of it.
    let mut key = vec![0; context.params().limbs().len() * 4096];
    for point in [1, 3] {
        let share = sum_of(&held[point as usize - 1], &[1, 2, 3]);
        let factors =
            threshold::lagrange(context.params().ring(), context.params().limbs(), &[1, 3], point).unwrap();
        super::for_each_residue(context.params(), &mut key, |q, i, value| {
            q.add(value, q.mul(share.residues[i], factors[i / 4096]))
        });
    }
    let coefficients: Vec<i8> =
        (0..4096).map(|i| context.params().ring().modulus(0).centre(key[i]) as i8).collect();
    assert!(coefficients.iter().all(|x| x.abs() <= 3));
    let expected: Vec<i8> = (0..4096).map(|i| keys.iter().map(|key| key.coefficients()[i]).sum()).collect();
    assert_eq!(coefficients, expected);
    let floats: Vec<u64> = coefficients.iter().map(|&x| float(x)).collect();
    let secret = small_polynomials(&context, context.params().limbs(), 4096, &floats).unwrap();
    let cipher = Cipher::for_tests(&context, secret);
    let decrypted = cipher.decrypt(&ciphertext).unwrap();
    let bound = 2.0 * 4096.0 * 3.0 * 21.0 * 2.0;
    assert_eq!(decode_integers(&context, &decrypted, 2, SCALE_BITS, bound).unwrap(), [-5, 1 << 40]);
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let context = context();
    let key = SecretKey::generate(context.params()).unwrap();
    assert!(key.share(0, 3).is_err() && key.share(4, 3).is_err() && key.share(1, 5000).is_err());
    let shares = key.share(2, 3).unwrap();
    let mut first = KeyShare::from_bytes(&shares[0].to_bytes().unwrap(), context.params()).unwrap();
    assert!(first.add(&shares[1]).is_err());
    let public = Cipher::new(&context, &key).unwrap().public_key().unwrap();
    for points in [&[][..], &[1, 1], &[2, 3], &[0, 1], &[1, 2000]] {
        let request = Request { seed: [0; 32], polynomials: 1, points, uploads: 3 };
        assert!(decryption_share(&context, &first, &request, &public).is_err(), "{points:?}");
    }
    let bytes = first.to_bytes().unwrap();
    assert!(KeyShare::from_bytes(&bytes[..bytes.len() - 1], context.params()).is_err());
    let mut flipped = bytes.to_vec();
    flipped[4..12].fill(0xff);
    assert!(KeyShare::from_bytes(&flipped, context.params()).is_err());
}

#[test]
fn flooding_exceeds_the_noise_by_its_margin() {
    for uploads in [1, 3, 50, 1000] {
        let noise = 21.0 * f64::from(uploads);
        let flooding = f64::from(flooding_bits(uploads)).exp2();
        assert!(flooding >= 2f64.powi(40) * noise && flooding < 2f64.powi(41) * noise);
    }
}

#[test]
fn the_branchless_reduction_is_the_remainder() {
    let mut rng = Sampler::for_tests(5);
    for q in [3, 97, (1 << 30) - 35, 1_125_899_902_124_033, (1 << 60) - 93] {
        let modulus = arras_rns::Modulus::new(q).unwrap();
        for x in (0..1000).map(|_| u64::from_le_bytes(rng.bytes())).chain([0, 1, q - 1, q, u64::MAX]) {
            assert_eq!(reduce(modulus, x), x % q);
        }
    }
}
