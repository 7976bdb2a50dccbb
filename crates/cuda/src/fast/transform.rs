//! Transforms in one or two kernels.

use arras_rns::{Result, Ring};

use super::{Step, abi::ArrangeArgs, abi::InverseEnd, abi::TransformArgs, abi::TransformTable};
use crate::call::{Call, ids};
use crate::kernels::{Functions, Kernel};
use crate::memory::Buffer;
use crate::tables::factor;
use crate::{DevicePtr, Driver, abi};

/// How kernels compute modulo the primes of a ring (kernels/include/modular.cuh): what the least special one needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Shifted,
    Lazy,
    Harvey,
}

impl Form {
    fn of(ring: &Ring) -> Self {
        let moduli = || ring.moduli().iter();
        if moduli().any(|q| q.bits() > 57) {
            Self::Harvey
        } else if moduli().all(|q| q.bits() > 33 && q.value() & u64::from(u32::MAX) == 1) {
            Self::Shifted
        } else {
            Self::Lazy
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Shifted => "shifted",
            Self::Lazy => "lazy",
            Self::Harvey => "harvey",
        }
    }
}

/// How a transform is cut into kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    log_degree: usize,
    /// Stages of the first of two kernels; 0 if there is one.
    rows: usize,
}

/// log2 of the values in a tile of rows.
const ROW_TILE: usize = 12;

/// Launch shape of a tile of `1 << bits` values, `blocks` to a row: 16 to a thread, one word of padding to 16.
fn tile(bits: usize, blocks: usize) -> [usize; 3] {
    [blocks, 1 << (bits - 4), (8 * 17) << (bits - 4)]
}

impl Cut {
    fn of(ring: &Ring) -> Option<Self> {
        let log_degree = ring.log_degree() as usize;
        let rows = match log_degree {
            11..=13 => 0,
            14 => 7,
            15..=17 => 8,
            _ => return None,
        };
        Some(Self { log_degree, rows })
    }

    /// The kernels of an operation in forward order: `whole`, or `columns` and then `rows`, each an image and the start of a
    /// name.
    pub(crate) fn steps<D: Driver>(
        self,
        driver: &D,
        functions: &Functions<D>,
        form: Form,
        [whole, columns, rows]: [(&str, &str); 3],
    ) -> crate::driver::Result<Option<Vec<Step<D>>>> {
        let Self { log_degree, rows: high } = self;
        let step = |(image, operation): (&str, &str), size: String, shape| {
            Step::new(driver, functions, image, &format!("arras_{operation}_{size}_{}", form.name()), shape)
        };
        let steps = if high == 0 {
            vec![step(whole, log_degree.to_string(), tile(log_degree, 1))?]
        } else {
            let low = log_degree - high;
            vec![
                step(columns, high.to_string(), tile(high + 4, 1 << (low - 4)))?,
                step(rows, format!("{high}_{low}"), tile(ROW_TILE, 1 << (log_degree - ROW_TILE)))?,
            ]
        };
        Ok(steps.into_iter().collect())
    }
}

/// The fast transforms of a ring.
#[derive(Debug)]
pub(crate) struct Transforms<D: Driver> {
    pub(crate) form: Form,
    pub(crate) cut: Cut,
    /// Twiddle factors, and what the addresses below point to.
    pub(crate) buffer: Buffer<D>,
    /// A [`TransformTable`] by limb id.
    pub(crate) table: DevicePtr,
    /// An [`InverseEnd`] by limb id.
    ends: DevicePtr,
    forward: Vec<Step<D>>,
    inverse: Vec<Step<D>>,
}

/// The end of an inverse transform modulo the prime of `limb` that multiplies by `scale` and adds `offset`.
pub(crate) fn inverse_end(ring: &Ring, limb: usize, scale: u64, offset: u64) -> InverseEnd {
    let q = ring.modulus(limb);
    let scale = q.mul(scale, q.inverse(ring.degree() as u64));
    // The twiddle factor of the last stage is the inverse of the root to the power bitrev(1) = N/2.
    let twiddle = q.inverse(q.pow(ring.root(limb), ring.degree() as u64 / 2));
    InverseEnd { scale: factor(q, scale), last: factor(q, q.mul(scale, twiddle)), offset, reserved: 0 }
}

impl<D: Driver> Transforms<D> {
    /// `None` if the simple kernels have to do. `constants` is the array of [`abi::Limb`] of the ring.
    pub(crate) fn new(
        call: &Call<'_, D>,
        functions: &Functions<D>,
        ring: &Ring,
        constants: DevicePtr,
    ) -> Result<Option<Self>> {
        let Some(cut) = Cut::of(ring) else { return Ok(None) };
        let form = Form::of(ring);
        let steps = |names: [&str; 3]| {
            let steps = cut.steps(call.driver(), functions, form, names.map(|name| ("ntt/fast", name)));
            steps.map_err(|error| error.during("tables"))
        };
        let forward = steps(["ntt_whole", "ntt_columns", "ntt_rows"])?;
        let inverse = steps(["intt_whole", "intt_columns", "intt_rows"])?;
        let (Some(forward), Some(mut inverse)) = (forward, inverse) else { return Ok(None) };
        inverse.reverse();

        let count = ring.moduli().len();
        let row = ring.degree() * size_of::<abi::Factor>();
        let small = count * (size_of::<TransformTable>() + size_of::<InverseEnd>());
        let buffer = call.allocate((2 * count * row + small) / 8)?;
        let (from, to) = (buffer.ptr(), buffer.ptr().offset(count * row));
        let tables: Vec<_> = (0..count)
            .map(|limb| TransformTable { forward: from.offset(limb * row), inverse: to.offset(limb * row) })
            .collect();
        let ends: Vec<_> = (0..count).map(|limb| inverse_end(ring, limb, 1, 0)).collect();
        let table = to.offset(count * row);
        let mut bytes = Vec::with_capacity(small);
        bytes.extend_from_slice(bytemuck::cast_slice(&tables));
        bytes.extend_from_slice(bytemuck::cast_slice(&ends));
        call.upload(&buffer, table, &bytes)?;

        let mut shape = call.bare_shape(ring.degree(), ring.limbs(), 1)?;
        shape.limb = constants;
        shape.id = ids(0..count);
        let arguments = ArrangeArgs { shape, forward: from, inverse: to, rows: cut.rows as u32, reserved: 0 };
        call.rows(Kernel::ArrangeTwiddles, ring.degree(), &shape, &arguments)?;
        let ends = table.offset(count * size_of::<TransformTable>());
        Ok(Some(Self { form, cut, buffer, table, ends, forward, inverse }))
    }

    /// A forward transform from `a` to `out`.
    pub(crate) fn forward(
        &self,
        call: &Call<'_, D>,
        shape: &abi::Shape,
        out: abi::View,
        a: abi::View,
    ) -> Result<()> {
        call.address(&self.buffer);
        self.run(call, &self.forward, shape, out, a, DevicePtr::NULL)
    }

    /// The last kernel of a forward transform, where there are two, in place.
    pub(crate) fn forward_rest(&self, call: &Call<'_, D>, shape: &abi::Shape, out: abi::View) -> Result<()> {
        self.run(call, &self.forward[1..], shape, out, out, DevicePtr::NULL)
    }

    /// An inverse transform from `a` to `out`; `ends` by limb id instead of the usual ones.
    pub(crate) fn inverse(
        &self,
        call: &Call<'_, D>,
        shape: &abi::Shape,
        out: abi::View,
        a: abi::View,
        ends: Option<DevicePtr>,
    ) -> Result<()> {
        call.address(&self.buffer);
        self.run(call, &self.inverse, shape, out, a, ends.unwrap_or(self.ends))
    }

    fn run(
        &self,
        call: &Call<'_, D>,
        steps: &[Step<D>],
        shape: &abi::Shape,
        out: abi::View,
        a: abi::View,
        end: DevicePtr,
    ) -> Result<()> {
        let mut arguments = TransformArgs { shape: *shape, out, a, table: self.table, end };
        for step in steps {
            step.launch(call, shape.limbs as usize, shape.batch as usize, &arguments)?;
            arguments.a = out;
        }
        Ok(())
    }
}
