//! The ground floor of arras: primes, residue number systems, number-theoretic-transform tables, and
//! [`Backend`], the contract that the CPU and the CUDA implementation fulfil **bit for bit**.
//!
//! A *ring* is Z\[X\]/(X^N + 1) together with a chain of NTT primes. A polynomial is held as its residues modulo
//! a subset of those primes (its *limbs*), batched as `[batch][limb][N]` words of 64 bits. Everything that crosses
//! the boundary of this crate is canonical: a residue lies in `[0, q)`.
//!
//! | module | what |
//! |---|---|
//! | [`modulus`], [`prime`] | arithmetic modulo one prime; finding primes |
//! | [`limbs`], [`ring`] | sets of limbs; the degree, the chain and its roots of unity |
//! | [`poly`] | owned polynomials, and the views that operations take |
//! | [`backend`] | the contract |
//! | [`switching`] | division by dropped primes and hybrid key switching, written once for every backend |
//! | [`seed`] | public expansion of seeds into uniform polynomials |
//! | `testkit` | the trials every backend has to pass (feature `testkit`) |

pub mod backend;
pub mod check;
pub mod error;
pub mod limbs;
pub mod modulus;
pub mod poly;
pub mod prime;
pub mod ring;
pub mod seed;
pub mod switching;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use backend::{Backend, Input, Packing, Positions, PreparedView, Quantise, RingTables, Storage};
pub use error::{Error, Result};
pub use limbs::LimbSet;
pub use modulus::Modulus;
pub use poly::{Coefficient, Domain, Evaluation, Poly, View, ViewMut};
pub use ring::Ring;
pub use seed::{Purpose, Seed, SeedLabel};
pub use switching::{KeySwitchPlan, ModDownPlan};
