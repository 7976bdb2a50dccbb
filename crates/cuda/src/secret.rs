//! What the owner of a secret key runs beside the contract: noise that never was on the host, and bounds on features that stay on the
//! device. `arras-secret` calls this; a server has no use for it.

use arras_rns::{Backend, Coefficient, Error, Result, RingTables, Storage, ViewMut};

use crate::Driver;
use crate::backend::Cuda;
use crate::call::Call;
use crate::fast::abi::{FeatureArgs, SampleArgs};
use crate::kernels::Kernel;
use crate::memory::Buffer;
use crate::queue::Queue;
use crate::tables::Tables;

/// Values that 8 threads make.
const CHUNK: usize = 192;

impl<D: Driver> Cuda<D> {
    /// Centred binomial noise in the first `count` coefficients of every polynomial, value after value of the ChaCha20 stream of
    /// `key` as `arras-ckks` maps it. The other coefficients are 0.
    ///
    /// The key is an argument of the launch: the driver may keep a copy of it in memory of this process and of the device until later
    /// launches replace it, so a key serves one call.
    ///
    /// # Errors
    /// A count of 0 or more coefficients than there are, 2^31 coefficients in all, a failing device.
    pub fn sample_noise(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        out: &mut ViewMut<'_, Self, Coefficient>,
        count: usize,
        key: &[u8; 32],
    ) -> Result<()> {
        let (degree, batch) = (out.degree(), out.batch());
        if count == 0 || count > degree || degree != tables.ring().degree() {
            return Err(Error::shape("sample_noise", "coefficients", count, 1..=degree));
        }
        if batch.saturating_mul(degree) >= 1 << 31 {
            return Err(Error::shape("sample_noise", "batch", batch, 0..(1 << 31) / degree));
        }
        let mut words = [0; 8];
        let bytes = key.as_chunks::<4>().0;
        words.iter_mut().zip(bytes).for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
        let mut call = Call::new(self, queue, "sample_noise");
        let shape = call.shape(tables, out.limbs(), batch)?;
        let arguments = SampleArgs {
            shape,
            out: call.view(&out.as_view())?,
            key: words,
            count: count as u32,
            reserved: 0,
        };
        let threads = 8 * (batch * count).div_ceil(CHUNK);
        let kernel = Kernel::SampleNoise;
        call.launch(kernel, [threads.div_ceil(kernel.threads() as usize), 1, 1], 0, &arguments)
    }

    /// The largest Euclidean norm of `rows` rows of `dimension` 64-bit floats, or the first row that has an element beyond `x_max`
    /// in magnitude, or one that is no number, or a norm beyond `norm_max`. Waits for the device; two words leave it.
    ///
    /// # Errors
    /// A buffer of another size; a failing device.
    pub fn feature_bounds(
        &self,
        queue: &Queue<D>,
        values: &Buffer<D>,
        [rows, dimension]: [usize; 2],
        [x_max, norm_max]: [f64; 2],
    ) -> Result<std::result::Result<f64, usize>> {
        if rows.checked_mul(dimension) != Some(values.words()) {
            return Err(Error::shape(
                "feature_bounds",
                "number of features",
                values.words(),
                rows * dimension,
            ));
        }
        let call = Call::new(self, queue, "feature_bounds");
        let found = call.holding(bytemuck::cast_slice(&[u64::MAX, 0]))?;
        let (rows_in_all, dimension) = (rows as u64, dimension as u64);
        let (values, at) = (call.address(values), call.address(&found));
        let arguments = FeatureArgs { values, found: at, rows: rows_in_all, dimension, x_max, norm_max };
        let kernel = Kernel::FeatureBounds;
        call.launch(kernel, [rows.div_ceil(kernel.threads() as usize), 1, 1], 0, &arguments)?;
        let mut words = [0; 2];
        self.read(queue, &found, 0, &mut words)?;
        match words {
            [u64::MAX, norm] => Ok(Ok(f64::from_bits(norm))),
            [row, _] => Ok(Err(row as usize)),
        }
    }
}
