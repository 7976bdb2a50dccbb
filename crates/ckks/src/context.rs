//! A backend with the tables of one parameter set.

use arras_rns::backend::Backend;
use arras_rns::{Domain, LimbSet, Poly};

use crate::{Params, Result};

/// A backend, a queue on it, and tables for one parameter set: what every operation needs.
///
/// ```
/// use arras_ckks::{Context, Params};
/// use arras_cpu::Cpu;
/// use arras_rns::{Coefficient, Poly};
/// # use arras_ckks::{Security, Spec};
///
/// # let moduli = arras_rns::prime::ntt_primes(45, 64, 3, &[])?;
/// # let spec =
/// #     Spec { degree: 64, moduli, special: vec![], digits: 1, scale_bits: 40, security: Security::Unchecked };
/// # let params = Params::insecure(spec)?;
/// let context = Context::new(Cpu::sequential(), params)?;
/// // Room for three polynomials with the limbs of level 1.
/// let limbs = context.params().limbs_at(1);
/// let poly: Poly<Cpu, Coefficient> = context.allocate(limbs, 3)?;
/// assert_eq!(poly.extent().words(), 3 * 2 * 64);
/// # Ok::<(), arras_ckks::Error>(())
/// ```
#[derive(Debug)]
pub struct Context<B: Backend> {
    params: Params,
    backend: B,
    queue: B::Queue,
    tables: B::Tables,
}

impl<B: Backend> Context<B> {
    /// Makes a queue and the tables.
    ///
    /// # Errors
    /// [`Error::Ring`](crate::Error::Ring) if the device refuses.
    pub fn new(backend: B, params: Params) -> Result<Self> {
        let queue = backend.queue()?;
        let tables = backend.tables(&queue, params.ring())?;
        Ok(Self { params, backend, queue, tables })
    }

    /// The parameter set.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The queue that operations go to.
    pub fn queue(&self) -> &B::Queue {
        &self.queue
    }

    /// The tables of the parameter set.
    pub fn tables(&self) -> &B::Tables {
        &self.tables
    }

    /// Memory for `batch` polynomials with the given limbs.
    ///
    /// # Errors
    /// As [`Poly::allocate`].
    pub fn allocate<D: Domain>(&self, limbs: LimbSet, batch: usize) -> Result<Poly<B, D>> {
        Ok(Poly::allocate(&self.backend, &self.queue, self.params.ring(), limbs, batch)?)
    }
}
