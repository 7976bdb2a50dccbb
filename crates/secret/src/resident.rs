//! A client whose features are on a device: they are checked, encoded and encrypted there, and what leaves it is ciphertext.
//!
//! The body of a query is the same, bit for bit, whichever backend made it from the same features and randomness.

use arras_ckks::sampling::{Sampler, float};
use arras_cpu::Cpu;
use arras_heads::layout::Groups;
use arras_heads::{Preset, Query};
use arras_rns::backend::Quantise;
use arras_rns::{Backend, Coefficient, Poly, Storage, ViewMut};
use zeroize::Zeroizing;

use crate::features::EncodedFeatures;
use crate::{Cipher, Error, Result};

/// What encrypting on a device takes beside [`Backend`]. The provided forms do it on the host: the oracle of the others.
///
/// ```
/// use arras_rns::Backend;
/// # use arras_ckks::Context;
/// # use arras_cpu::Cpu;
/// # use arras_heads::Preset;
/// # use arras_heads::layout::{Groups, Layout};
/// # use arras_secret::{Cipher, SecretKey};
///
/// # let preset = Preset::named("linear")?;
/// # let context = Context::new(Cpu::sequential(), preset.params.clone())?;
/// # let key = SecretKey::generate(&preset.params)?;
/// # let cipher = Cipher::new(&context, &key)?;
/// // One image of three features in the memory of the backend, here the CPU's.
/// let groups = Groups::new(Layout::Dot, preset.params.degree(), 3, 1)?;
/// let (backend, queue) = (context.backend(), context.queue());
/// let mut features = backend.allocate(queue, 3)?;
/// backend.write(queue, &mut features, 0, &[0.5, -1.0, 2.0].map(f64::to_bits))?;
/// let encoded = cipher.encode_resident(groups, features)?;
/// let query = cipher.encrypt_resident(&encoded, None)?;
/// // The same bytes, but for their randomness, as from the host.
/// let from_host = cipher.encrypt_features(groups, &[0.5, -1.0, 2.0], None)?;
/// assert_eq!((query.bounds, query.to_bytes().len()), (from_host.bounds, from_host.to_bytes().len()));
/// # Ok::<(), arras_secret::Error>(())
/// ```
pub trait Resident: Backend {
    /// Noise of [`Sampler::noise`] from the stream of `key` in the first `count` coefficients of every polynomial, modulo every limb
    /// of `out`; the others become 0. A key serves one call.
    ///
    /// # Errors
    /// More coefficients than there are, a failing device.
    fn sample_noise(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        count: usize,
        key: &[u8; 32],
    ) -> arras_rns::Result<()> {
        let mut small = Zeroizing::new(vec![0; out.batch() * count]);
        Sampler::from_key(key).noise(&mut small, float);
        let mut buffer = self.allocate(queue, small.len())?;
        self.write(queue, &mut buffer, 0, &small)?;
        let how = Quantise { first: 0, batch_stride: count, coefficient_stride: 1, count, scale_bits: 0 };
        self.quantise(queue, tables, out, &buffer, how)?;
        self.wipe(queue, &mut buffer)
    }

    /// The largest norm of rows of 64-bit floats, or the first row that has an element beyond `x_max`, or that is no number, or a norm
    /// beyond `norm_max`.
    ///
    /// # Errors
    /// A failing device.
    fn feature_bounds(
        &self,
        queue: &Self::Queue,
        values: &Self::Buffer,
        [rows, dimension]: [usize; 2],
        [x_max, norm_max]: [f64; 2],
    ) -> arras_rns::Result<std::result::Result<f64, usize>> {
        let mut words = Zeroizing::new(vec![0; rows * dimension]);
        self.read(queue, values, 0, &mut words)?;
        let mut largest = 0f64;
        for (row, x) in words.chunks_exact(dimension.max(1)).enumerate() {
            let x = || x.iter().map(|&bits| f64::from_bits(bits));
            let norm = x().map(|x| x * x).sum::<f64>().sqrt();
            // Written so that what is not a number is refused, too.
            if !x().all(|x| x.abs() <= x_max) || norm > norm_max {
                return Ok(Err(row));
            }
            largest = largest.max(norm);
        }
        Ok(Ok(largest))
    }
}

impl Resident for Cpu {}

#[cfg(feature = "gpu")]
impl<D: arras_cuda::Driver> Resident for arras_cuda::Cuda<D> {
    fn sample_noise(
        &self,
        queue: &Self::Queue,
        tables: &Self::Tables,
        out: &mut ViewMut<'_, Self, Coefficient>,
        count: usize,
        key: &[u8; 32],
    ) -> arras_rns::Result<()> {
        arras_cuda::Cuda::sample_noise(self, queue, tables, out, count, key)
    }

    fn feature_bounds(
        &self,
        queue: &Self::Queue,
        values: &Self::Buffer,
        shape: [usize; 2],
        limits: [f64; 2],
    ) -> arras_rns::Result<std::result::Result<f64, usize>> {
        arras_cuda::Cuda::feature_bounds(self, queue, values, shape, limits)
    }
}

impl<'c, B: Resident> Cipher<'c, B> {
    /// [`encode_features`](Self::encode_features) of features that are on the backend: row after row as 64-bit floats, one to a word, of
    /// values that are 32-bit floats. They are overwritten, in queue order.
    ///
    /// Layouts in slots are encoded by a transform on the host, and refused here.
    ///
    /// # Errors
    /// [`Error::OnHost`] for those layouts; [`arras_heads::Error::Bound`] and [`arras_heads::Error::Count`] as on the host. The row that
    /// exceeds a bound is read for its error, and nothing else is.
    pub fn encode_resident(&self, groups: Groups, mut features: B::Buffer) -> Result<EncodedFeatures<'c, B>> {
        let encoded = self.encode_words(groups, &features);
        self.context().backend().wipe(self.context().queue(), &mut features)?;
        encoded
    }

    fn encode_words(&self, groups: Groups, features: &B::Buffer) -> Result<EncodedFeatures<'c, B>> {
        let context = self.context();
        let preset = Preset::of(context.params().fingerprint())?;
        groups.check(preset)?;
        if groups.layout.in_slots() {
            return Err(Error::OnHost { layout: groups.layout.name() });
        }
        let (rows, dimension) = (groups.images, groups.dimension);
        if rows.checked_mul(dimension) != Some(features.words()) {
            let (found, expected) = (features.words(), (rows * dimension).to_string());
            return Err(arras_heads::Error::Count { what: "the number of features", found, expected }.into());
        }
        let limits = [preset.bounds.x_max.into(), preset.bounds.norm_max.into()];
        let (backend, queue) = (context.backend(), context.queue());
        let largest = match backend.feature_bounds(queue, features, [rows, dimension], limits)? {
            Ok(largest) => largest,
            Err(row) => return Err(self.refuse(preset, features, row, dimension)),
        };
        let messages = groups.pieces().into_iter().map(|piece| {
            let first = piece.first_image * dimension;
            Ok((piece, self.quantise_words(&groups, &piece, features, first)?))
        });
        let messages = messages.collect::<Result<_>>()?;
        Ok(EncodedFeatures { context, groups, bounds: preset.bounds_for(largest), messages })
    }

    /// What is wrong with a row.
    fn refuse(&self, preset: &Preset, features: &B::Buffer, row: usize, dimension: usize) -> Error {
        let mut words = Zeroizing::new(vec![0; dimension]);
        let (backend, queue) = (self.context().backend(), self.context().queue());
        if let Err(error) = backend.read(queue, features, row * dimension, &mut words) {
            return error.into();
        }
        let values: Vec<f32> = words.iter().map(|&bits| f64::from_bits(bits) as f32).collect();
        let values = Zeroizing::new(values);
        match preset.bounds_of(&values, dimension) {
            Err(arras_heads::Error::Bound { row: _, what, found, limit, preset }) => {
                arras_heads::Error::Bound { row, what, found, limit, preset }.into()
            }
            Err(other) => other.into(),
            Ok(_) => arras_heads::Error::Bound {
                row,
                what: "the row".into(),
                found: f32::NAN,
                limit: preset.bounds.norm_max,
                preset: preset.name,
            }
            .into(),
        }
    }

    /// [`encrypt_encoded`](Self::encrypt_encoded) with noise that the backend makes: of the randomness, the keys of its streams and
    /// the public seed are drawn on the host.
    ///
    /// # Errors
    /// As there.
    pub fn encrypt_resident(
        &self,
        encoded: &EncodedFeatures<'_, B>,
        backbone: Option<[u8; 32]>,
    ) -> Result<Query> {
        self.encrypt_resident_with(encoded, backbone, &mut Sampler::from_os()?)
    }

    fn encrypt_resident_with(
        &self,
        encoded: &EncodedFeatures<'_, B>,
        backbone: Option<[u8; 32]>,
        rng: &mut Sampler,
    ) -> Result<Query> {
        let context = self.context();
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        self.encrypt_pieces(encoded, backbone, rng, |rng, polynomials, count| {
            let key = Zeroizing::new(rng.bytes());
            let mut noise: Poly<B, Coefficient> = context.allocate(context.params().limbs(), polynomials)?;
            backend.sample_noise(queue, tables, &mut noise.view_mut(), count, &key)?;
            Ok(noise)
        })
    }
}

#[cfg(test)]
mod tests {
    use arras_ckks::Context;
    use arras_cuda::Cuda;
    use arras_cuda_host::{HostDriver, HostOptions, Lanes, Schedule};
    use arras_heads::Layout;

    use super::*;
    use crate::SecretKey;

    /// The kernels on the host, or nothing where there is no C++ compiler.
    fn cuda(lanes: Lanes, schedule: Schedule) -> Option<Cuda<HostDriver>> {
        match arras_cuda_host::images() {
            Ok(images) => {
                let options = HostOptions { lanes, schedule, ..HostOptions::default() };
                Some(Cuda::new(HostDriver::new(options), &images).unwrap())
            }
            Err(reason) if std::env::var_os("ARRAS_REQUIRE_HOST_KERNELS").is_none() => {
                eprintln!("no kernels on the host: {reason}");
                None
            }
            Err(reason) => panic!("no kernels on the host: {reason}"),
        }
    }

    fn features(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
    }

    /// A query of features that were put on the backend, with the randomness of `seed`.
    fn query<B: Resident>(backend: B, preset: &Preset, groups: Groups, features: &[f32]) -> Result<Vec<u8>> {
        let context = Context::new(backend, preset.params.clone())?;
        let key = SecretKey::sample(&preset.params, &mut Sampler::for_tests(1));
        let cipher = Cipher::new(&context, &key)?;
        let words: Vec<u64> = features.iter().map(|&x| f64::from(x).to_bits()).collect();
        let mut buffer = context.backend().allocate(context.queue(), words.len())?;
        context.backend().write(context.queue(), &mut buffer, 0, &words)?;
        let encoded = cipher.encode_resident(groups, buffer)?;
        Ok(cipher.encrypt_resident_with(&encoded, None, &mut Sampler::for_tests(2))?.to_bytes())
    }

    /// Bit for bit, for polynomials that are filled to the end and in part, and for several of them.
    #[test]
    fn devices_encrypt_as_the_cpu_does() {
        let preset = Preset::named("linear").unwrap();
        for (layout, images, dimension) in
            [(Layout::Dot, 7, 768), (Layout::Dot, 1, 5), (Layout::Transposed, 300, 9)]
        {
            let groups = Groups::new(layout, preset.params.degree(), dimension, images).unwrap();
            let features = features(images * dimension);
            let expected = query(Cpu::sequential(), preset, groups, &features).unwrap();
            for (lanes, schedule) in
                [(Lanes::Reverse, Schedule::Latest), (Lanes::Random(4), Schedule::Random(5))]
            {
                let Some(cuda) = cuda(lanes, schedule) else { return };
                let found = query(cuda, preset, groups, &features).unwrap();
                assert!(found == expected, "{layout:?}, {images} images of {dimension}");
            }
        }
    }

    /// What the host path sends decrypts to the same features: the bounds in the header are equal, too.
    #[test]
    fn bounds_are_those_of_the_host() {
        let preset = Preset::named("linear").unwrap();
        let Some(cuda) = cuda(Lanes::Forward, Schedule::Latest) else { return };
        let groups = Groups::new(Layout::Dot, preset.params.degree(), 6, 4).unwrap();
        let good = features(24);
        let context = Context::new(cuda.clone(), preset.params.clone()).unwrap();
        let key = SecretKey::sample(&preset.params, &mut Sampler::for_tests(1));
        let cipher = Cipher::new(&context, &key).unwrap();
        let on_host = cipher.encode_features(groups, &good).unwrap().bounds;
        let put = |values: &[f32]| {
            let words: Vec<u64> = values.iter().map(|&x| f64::from(x).to_bits()).collect();
            let mut buffer = cuda.allocate(context.queue(), words.len()).unwrap();
            cuda.write(context.queue(), &mut buffer, 0, &words).unwrap();
            buffer
        };
        assert_eq!(cipher.encode_resident(groups, put(&good)).unwrap().bounds, on_host);
        for bad in [f32::NAN, f32::INFINITY, 1e9] {
            let mut values = good.clone();
            values[13] = bad;
            let expected = cipher.encode_features(groups, &values).unwrap_err().to_string();
            let found = cipher.encode_resident(groups, put(&values)).unwrap_err().to_string();
            assert_eq!(found, expected);
        }
        let long = vec![15.9; 24];
        let expected = cipher.encode_features(groups, &long).map(|_| ()).map_err(|e| e.to_string());
        let found = cipher.encode_resident(groups, put(&long)).map(|_| ()).map_err(|e| e.to_string());
        assert_eq!(found, expected);
        assert!(cipher.encode_resident(groups, put(&good[..12])).is_err());
    }
}
