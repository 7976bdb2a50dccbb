//! Base conversion fused with the transforms around it: raising digits, dividing by dropped primes.

use arras_rns::switching::{DigitParts, KeySwitchParts, ModDownParts};
use arras_rns::{Backend, Error, Evaluation, Input, LimbSet, Result, Ring, View, ViewMut, check};
use arras_rns::{PreparedView, poly::Extent};
use bytemuck::Zeroable;

use super::abi::{ExtendArgs, GadgetArgs};
use super::transform::{Form, inverse_end};
use super::{Step, Transforms, part};
use crate::call::{Call, ranks};
use crate::kernels::{Functions, Kernel};
use crate::memory::Buffer;
use crate::queue::Queue;
use crate::tables::{Prepared, Tables, factor};
use crate::{Cuda, DevicePtr, Driver, abi};

/// Most products of canonical residues that the gadget product adds up before its one reduction.
const TERMS: usize = 64;

/// Constants and kernels of a base conversion for the fused kernels.
#[derive(Debug)]
pub(crate) struct Extension<D: Driver> {
    buffer: Buffer<D>,
    /// What ends the inverse transform of the source limbs, by limb id.
    ends: DevicePtr,
    weights: DevicePtr,
    start: DevicePtr,
    scale: DevicePtr,
    sources: usize,
    extend: Vec<Step<D>>,
    divide: Vec<Step<D>>,
}

impl<D: Driver> Extension<D> {
    /// `None` where the fused kernels cannot serve.
    pub(crate) fn new(
        call: &Call<'_, D>,
        functions: &Functions<D>,
        transforms: &Transforms<D>,
        ring: &Ring,
        (source, target): (LimbSet, LimbSet),
    ) -> Result<Option<Self>> {
        if transforms.form == Form::Harvey {
            return Ok(None);
        }
        let steps = |names: [&str; 3]| {
            let names = names.map(|name| ("keyswitch/extend", name));
            let steps = transforms.cut.steps(call.driver(), functions, transforms.form, names);
            steps.map_err(|error| error.during("converter"))
        };
        // The second kernel of an extension is that of the plain transform.
        let extend = steps(["extend_whole", "extend_columns", "divide_rows"])?;
        let divide = steps(["divide_whole", "extend_columns", "divide_rows"])?;
        let (Some(mut extend), Some(divide)) = (extend, divide) else { return Ok(None) };
        extend.truncate(1);

        let constants = Constants::new(ring, source, target);
        let buffer = call.allocate(constants.words())?;
        let mut bytes = Vec::new();
        let base = buffer.ptr();
        let ends = part(base, &mut bytes, bytemuck::cast_slice(&constants.ends));
        let weights = part(base, &mut bytes, bytemuck::cast_slice(&constants.weights));
        let scale = part(base, &mut bytes, bytemuck::cast_slice(&constants.scale));
        let start = part(base, &mut bytes, bytemuck::cast_slice(&constants.start));
        call.upload(&buffer, base, &bytes)?;
        Ok(Some(Self { buffer, ends, weights, start, scale, sources: source.len(), extend, divide }))
    }

    /// Arguments for moved digits at `digits`.
    fn arguments(
        &self,
        transforms: &Transforms<D>,
        shape: abi::Shape,
        out: abi::View,
        digits: abi::View,
    ) -> ExtendArgs {
        ExtendArgs {
            shape,
            out,
            digits,
            table: transforms.table,
            weights: self.weights,
            start: self.start,
            scale: self.scale,
            sources: self.sources as u32,
            ..Zeroable::zeroed()
        }
    }
}

/// What the kernels need of a conversion (docs/arithmetic.md, Base conversion).
struct Constants {
    ends: Vec<super::abi::InverseEnd>,
    weights: Vec<abi::Factor>,
    scale: Vec<abi::Factor>,
    start: Vec<u64>,
}

impl Constants {
    fn new(ring: &Ring, source: LimbSet, target: LimbSet) -> Self {
        let others = |limb| source.difference(LimbSet::single(limb));
        let end = |limb| {
            let q = ring.modulus(limb);
            if !source.contains(limb) {
                return Zeroable::zeroed();
            }
            // The digit [x (Q/q_i)^-1] mod q_i, moved by (q_i - 1)/2 so that centred ones are not negative.
            inverse_end(ring, limb, q.inverse(ring.product_mod(others(limb), limb)), q.value() / 2)
        };
        let weight = |to, from| ring.product_mod(others(from), to);
        let start = |to| {
            let p = ring.modulus(to);
            let half = |from| p.reduce(u128::from(ring.modulus(from).value() / 2));
            p.negate(source.iter().fold(0, |sum, from| p.add(sum, p.mul(half(from), weight(to, from)))))
        };
        let weights = target.iter().flat_map(|to| {
            let p = ring.modulus(to);
            source.iter().map(move |from| factor(p, weight(to, from)))
        });
        let scale = target.iter().map(|to| {
            let p = ring.modulus(to);
            factor(p, p.inverse(ring.product_mod(source, to)))
        });
        Self {
            ends: (0..ring.moduli().len()).map(end).collect(),
            weights: weights.collect(),
            scale: scale.collect(),
            start: target.iter().map(start).collect(),
        }
    }

    fn words(&self) -> usize {
        6 * self.ends.len() + 2 * (self.weights.len() + self.scale.len()) + self.start.len()
    }
}

impl<D: Driver> Cuda<D> {
    /// [`Backend::mod_down_parts`] in two to four kernels; `false` if they cannot serve.
    pub(crate) fn divide(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        parts: &mut ModDownParts<'_, Self>,
        out: &mut ViewMut<'_, Self, Evaluation>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<bool> {
        let (Some(transforms), Some(extension)) = (&tables.transforms, &parts.converter.extension) else {
            return Ok(false);
        };
        let kept = input.clone().with_limbs(parts.converted.limbs())?;
        check::unary("mod_down", tables, out, &Input::from(kept.clone()))?;
        let dropped = input.clone().with_limbs(parts.dropped.limbs())?;
        check::unary("mod_down", tables, &parts.dropped, &Input::from(dropped.clone()))?;
        let mut call = Call::new(self, queue, "mod_down");
        call.address(&extension.buffer);
        let shape = call.shape(tables, parts.dropped.limbs(), input.batch())?;
        let digits = call.view(&parts.dropped.as_view())?;
        let from = call.view(&dropped)?;
        transforms.inverse(&call, &shape, digits, from, Some(extension.ends))?;
        let shape = call.shape(tables, out.limbs(), out.batch())?;
        let mut arguments = extension.arguments(transforms, shape, call.view(&out.as_view())?, digits);
        arguments.kept = call.view(&kept)?;
        for step in &extension.divide {
            step.launch(&call, out.limbs().len(), out.batch(), &arguments)?;
        }
        Ok(true)
    }

    /// [`Backend::mod_up_parts`], digit by digit; `false` if the fused kernels cannot serve.
    pub(crate) fn extend(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        parts: &mut KeySwitchParts<'_, Self>,
        input: &View<'_, Self, Evaluation>,
    ) -> Result<bool> {
        let KeySwitchParts { digits, coefficients, .. } = parts;
        let Some(transforms) = &tables.transforms else { return Ok(false) };
        if digits.iter().any(|digit| digit.converter.extension.is_none()) {
            return Ok(false);
        }
        let input = input.clone().with_limbs(coefficients.limbs())?;
        check::unary("mod_up", tables, coefficients, &Input::from(input.clone()))?;
        for DigitParts { limbs, converter, extended } in digits {
            let Some(extension) = &converter.extension else { continue };
            let mut call = Call::new(self, queue, "mod_up");
            call.address(&extension.buffer);
            let own = input.clone().with_limbs(*limbs)?;
            let shape = call.shape(tables, *limbs, input.batch())?;
            let moved = call.view(&coefficients.as_view().with_limbs(*limbs)?)?;
            let from = call.view(&own)?;
            transforms.inverse(&call, &shape, moved, from, Some(extension.ends))?;
            let rest = extended.limbs().difference(*limbs);
            let shape = call.shape(tables, rest, input.batch())?;
            let out = call.view(&extended.as_view().with_limbs(rest)?)?;
            let arguments = extension.arguments(transforms, shape, out, moved);
            for step in &extension.extend {
                step.launch(&call, rest.len(), input.batch(), &arguments)?;
            }
            transforms.forward_rest(&call, &shape, out)?;
            self.copy(queue, &mut extended.reborrow().with_limbs(*limbs)?, &own)?;
        }
        Ok(true)
    }

    /// [`Backend::gadget_product_parts`], both components at once; `false` if the kernel cannot serve.
    pub(crate) fn both_products(
        &self,
        queue: &Queue<D>,
        tables: &Tables<D>,
        parts: &mut KeySwitchParts<'_, Self>,
        key: &Prepared<D>,
    ) -> Result<bool> {
        let (digits, sums) = parts.gadget_operands();
        let kernel = match tables.transforms.as_ref().map(|transforms| transforms.form) {
            Some(Form::Shifted) => Kernel::GadgetProductShifted,
            Some(Form::Lazy) => Kernel::GadgetProductLazy,
            _ => return Ok(false),
        };
        if digits.len() > TERMS {
            return Ok(false);
        }
        for (component, sum) in sums.iter().enumerate() {
            let right = PreparedView { prepared: key, first: component, term_stride: 2, batch_stride: 0 };
            check::inner_product(tables, sum, &digits, right)?;
        }
        let Extent { limbs: stored, degree, .. } = key.extent;
        let [first, second] = &sums;
        if degree != first.degree() {
            let what = "degree of the prepared operand";
            return Err(Error::shape("gadget_product", what, degree, first.degree()));
        }
        let mut call = Call::new(self, queue, "gadget_product");
        let shape = call.shape(tables, first.limbs(), first.batch())?;
        let views = digits.iter().map(|digit| call.view(digit)).collect::<Result<Vec<_>>>()?;
        let arguments = GadgetArgs {
            shape,
            out: [call.view(&first.as_view())?, call.view(&second.as_view())?],
            left: call.stage(bytemuck::cast_slice(&views), 0)?,
            terms: digits.len() as u64,
            right: abi::Prepared {
                base: call.address(&key.buffer),
                entry_stride: (stored.len() * degree) as u64,
                first: 0,
                term_stride: 2,
                batch_stride: 0,
                row: ranks(first.limbs(), stored),
            },
        };
        /// Polynomials that a thread takes at a time.
        const BATCH: usize = 4;
        let blocks = degree.div_ceil(kernel.threads() as usize);
        let grid = [blocks, first.limbs().len(), first.batch().div_ceil(BATCH)];
        call.launch(kernel, grid, 0, &arguments)?;
        Ok(true)
    }
}
