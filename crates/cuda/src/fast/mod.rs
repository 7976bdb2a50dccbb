//! Which fast kernels serve a ring, and launching them.
//!
//! Where they cannot serve (a degree below 2^11, too little shared memory, primes above 57 bits for the fused ones, weights too
//! large), the simple kernels do, with the same results.

pub mod abi;
mod matrix;
mod switching;
mod transform;

pub(crate) use matrix::FastMatrix;
pub(crate) use switching::Extension;
pub(crate) use transform::Transforms;

use crate::call::Call;
use crate::driver::Result;
use crate::kernels::Functions;
use crate::{DevicePtr, Driver};

/// An entry point with its launch shape.
#[derive(Clone, Debug)]
pub(crate) struct Step<D: Driver> {
    function: D::Function,
    threads: u32,
    shared: usize,
    /// Blocks in x.
    blocks: usize,
}

impl<D: Driver> Step<D> {
    /// `None` if the device has not enough shared memory.
    fn new(
        driver: &D,
        functions: &Functions<D>,
        image: &str,
        entry: &str,
        [blocks, threads, shared]: [usize; 3],
    ) -> Result<Option<Self>> {
        /// What a block has without asking.
        const DEFAULT_SHARED: usize = 48 << 10;
        if shared > driver.device().shared_bytes.max(DEFAULT_SHARED) {
            return Ok(None);
        }
        let function = functions.find(driver, image, entry)?;
        if shared > DEFAULT_SHARED {
            driver.allow_shared(&function, shared)?;
        }
        Ok(Some(Self { function, threads: threads as u32, shared, blocks }))
    }

    /// Launches for so many limbs and polynomials. Blocks keep what belongs to a limb while they go through polynomials, so
    /// there are no more of them than fill the device a few times.
    fn launch<A: bytemuck::Pod>(
        &self,
        call: &Call<'_, D>,
        limbs: usize,
        batch: usize,
        arguments: &A,
    ) -> arras_rns::Result<()> {
        const WAVES: usize = 8;
        let fill = WAVES * call.driver().device().multiprocessors as usize;
        let share = batch.min(fill.div_ceil((self.blocks * limbs).max(1)));
        call.launch_function(
            &self.function,
            self.threads,
            [self.blocks, limbs, share],
            self.shared,
            arguments,
        )
    }
}

/// An address inside a buffer of parts that lie one after the other.
fn part(base: DevicePtr, bytes: &mut Vec<u8>, what: &[u8]) -> DevicePtr {
    let at = base.offset(bytes.len());
    bytes.extend_from_slice(what);
    at
}
