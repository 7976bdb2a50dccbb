//! Public-key encryption of bits from ring learning with errors (Lyubashevsky, Peikert and Regev, EUROCRYPT 2010), on the
//! CPU backend of arras: a scheme that has nothing to do with CKKS, one prime, and all transforms in batches.
//!
//! With a uniform, b = a s + e: the ciphertext of bits m is (u, v) = (a r + e1, b r + e2 + floor(q/2) m), and
//! v - u s = floor(q/2) m + (e r + e2 - e1 s). A bit is decided by the half of the ring its coefficient lies in.

use arras::cpu::Cpu;
use arras::rns::prime::ntt_primes;
use arras::rns::{Backend, Coefficient, Error, Evaluation, Input, Poly, Purpose, Result, Ring, SeedLabel};

const DEGREE: usize = 2048;

type Queue = <Cpu as Backend>::Queue;
type Tables = <Cpu as Backend>::Tables;

/// The ring of the scheme on some backend's queue.
struct Scheme {
    cpu: Cpu,
    queue: Queue,
    tables: Tables,
    ring: Ring,
}

impl Scheme {
    fn new() -> Result<Self> {
        let ring = Ring::new(DEGREE, &ntt_primes(30, DEGREE, 1, &[])?)?;
        let cpu = Cpu::sequential();
        let queue = cpu.queue()?;
        let tables = cpu.tables(&queue, &ring)?;
        Ok(Self { cpu, queue, tables, ring })
    }

    fn allocate(&self, batch: usize) -> Result<Poly<Cpu, Evaluation>> {
        Poly::allocate(&self.cpu, &self.queue, &self.ring, self.ring.limbs(), batch)
    }

    /// Small polynomials with binomial coefficients of deviation sqrt(2), transformed; one for each in the batch.
    fn noise(&self, batch: usize) -> Result<Poly<Cpu, Evaluation>> {
        let mut bytes = vec![0; batch * DEGREE];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::Device { place: "getrandom".into(), message: error.to_string() })?;
        let q = self.ring.modulus(0);
        let small = |byte: &u8| q.sub((byte & 15).count_ones().into(), (byte >> 4).count_ones().into());
        self.transformed(&bytes.iter().map(small).collect::<Vec<_>>())
    }

    /// Uploads coefficients and transforms them in place.
    fn transformed(&self, words: &[u64]) -> Result<Poly<Cpu, Evaluation>> {
        let mut poly: Poly<Cpu, Coefficient> = self.allocate(words.len() / DEGREE)?.retag();
        self.cpu.upload(&self.queue, &mut poly.view_mut(), words)?;
        let mut poly = poly.retag();
        self.cpu.ntt(&self.queue, &self.tables, &mut poly.view_mut(), Input::InPlace)?;
        Ok(poly)
    }

    /// `sum + x * y`, into the sum; y is the same for the whole batch.
    fn accumulate(
        &self,
        sum: &mut Poly<Cpu, Evaluation>,
        x: &Poly<Cpu, Evaluation>,
        y: &Poly<Cpu, Evaluation>,
    ) -> Result<()> {
        let y = y.view().repeat(x.batch());
        self.cpu.multiply_accumulate(&self.queue, &self.tables, &mut sum.view_mut(), &x.view(), &y)
    }

    /// A public pair (a, b) and the secret s.
    fn keys(&self) -> Result<([Poly<Cpu, Evaluation>; 2], Poly<Cpu, Evaluation>)> {
        let mut a = self.allocate(1)?;
        let label = SeedLabel { seed: [7; 32], purpose: Purpose::PublicKey, object: 0, polynomial: 0 };
        self.cpu.expand_seed(&self.queue, &self.tables, &mut a.view_mut(), &[label])?;
        let (s, mut b) = (self.noise(1)?, self.noise(1)?);
        self.accumulate(&mut b, &a, &s)?;
        Ok(([a, b], s))
    }

    /// Encrypts bits, `DEGREE` to a ciphertext; the batch is what they fill.
    fn encrypt(&self, [a, b]: &[Poly<Cpu, Evaluation>; 2], bits: &[bool]) -> Result<[Poly<Cpu, Evaluation>; 2]> {
        let half = self.ring.modulus(0).value() / 2;
        let message: Vec<u64> = bits.iter().map(|&bit| if bit { half } else { 0 }).collect();
        let message = self.transformed(&message)?;
        let batch = message.batch();
        let (r, mut u, mut v) = (self.noise(batch)?, self.noise(batch)?, self.noise(batch)?);
        self.accumulate(&mut u, &r, a)?;
        self.accumulate(&mut v, &r, b)?;
        self.cpu.add(&self.queue, &self.tables, &mut v.view_mut(), Input::InPlace, &message.view())?;
        Ok([u, v])
    }

    /// The bits, and the largest noise as a fraction of q/4, where decisions begin to be wrong.
    fn decrypt(&self, [u, v]: [Poly<Cpu, Evaluation>; 2], s: &Poly<Cpu, Evaluation>) -> Result<(Vec<bool>, f64)> {
        let mut masks = self.allocate(u.batch())?;
        let s = s.view().repeat(u.batch());
        self.cpu.multiply(&self.queue, &self.tables, &mut masks.view_mut(), u.view().into(), &s)?;
        let mut phase = v;
        self.cpu.sub(&self.queue, &self.tables, &mut phase.view_mut(), Input::InPlace, &masks.view())?;
        let mut phase: Poly<Cpu, Coefficient> = phase.retag();
        self.cpu.intt(&self.queue, &self.tables, &mut phase.view_mut(), Input::InPlace)?;
        let mut words = vec![0; phase.batch() * DEGREE];
        self.cpu.download(&self.queue, &phase.view(), &mut words)?;
        let q = self.ring.modulus(0).value();
        let noise = |&x: &u64| [x, x.abs_diff(q / 2), q - x].into_iter().min().unwrap_or(0);
        let worst = words.iter().map(noise).max().unwrap_or(0) as f64 / (q / 4) as f64;
        Ok((words.iter().map(|&x| (q / 4..q - q / 4).contains(&x)).collect(), worst))
    }
}

fn main() -> Result<()> {
    let scheme = Scheme::new()?;
    let bits: Vec<bool> = (0..3 * DEGREE).map(|i| (i * i / 7) % 3 == 1).collect();
    let (public, secret) = scheme.keys()?;
    let ciphertext = scheme.encrypt(&public, &bits)?;
    let (decrypted, noise) = scheme.decrypt(ciphertext, &secret)?;
    println!("{} bits, noise at most {noise:.1e} of what would flip one", bits.len());
    assert_eq!(decrypted, bits);
    assert!(noise < 0.1);

    // Under another key it is noise: between a third and two thirds of the bits come out wrong.
    let (_, other) = scheme.keys()?;
    let (wrong, _) = scheme.decrypt(scheme.encrypt(&public, &bits)?, &other)?;
    let errors = wrong.iter().zip(&bits).filter(|(a, b)| a != b).count();
    assert!((bits.len() / 3..2 * bits.len() / 3).contains(&errors), "{errors} wrong bits");
    Ok(())
}
