//! The shape checks that every backend makes before it queues anything.

use crate::backend::{Conversion, IntegerMatrix, Multiplicands};
use crate::switching::Image;
use crate::{
    Backend, Coefficient, Domain, Error, Evaluation, Input, KeySwitchPlan, LimbSet, Packing, Positions,
    PreparedView, Quantise, Result, Ring, RingTables, SeedLabel, View, ViewMut,
};

/// Batch, limbs and degree: what has to agree between operands.
type Shape = (usize, LimbSet, usize);

fn of<B: Backend, D: Domain>(view: &View<'_, B, D>) -> Shape {
    (view.batch(), view.limbs(), view.degree())
}

fn of_out<B: Backend, D: Domain>(view: &ViewMut<'_, B, D>) -> Shape {
    (view.batch(), view.limbs(), view.degree())
}

fn equal(operation: &'static str, what: &'static str, found: Shape, expected: Shape) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::shape(operation, what, found, expected)) }
}

fn same_ring(operation: &'static str, ring: &Ring, (_, found, degree): Shape) -> Result<()> {
    if degree != ring.degree() {
        return Err(Error::shape(operation, "degree", degree, ring.degree()));
    }
    limbs(operation, ring, found)
}

/// An output that belongs to the ring of the tables.
pub fn output<B: Backend, D: Domain>(
    operation: &'static str,
    tables: &B::Tables,
    out: &ViewMut<'_, B, D>,
) -> Result<()> {
    same_ring(operation, tables.ring(), of_out(out))
}

/// An output and a first operand of the same shape.
pub fn unary<B: Backend, D: Domain, E: Domain>(
    operation: &'static str,
    tables: &B::Tables,
    out: &ViewMut<'_, B, D>,
    a: &Input<'_, B, E>,
) -> Result<()> {
    output(operation, tables, out)?;
    match a {
        Input::InPlace => Ok(()),
        Input::From(view) => equal(operation, "shape of the input", of(view), of_out(out)),
    }
}

/// An output and two operands of the same shape.
pub fn binary<B: Backend, D: Domain>(
    operation: &'static str,
    tables: &B::Tables,
    out: &ViewMut<'_, B, D>,
    a: &Input<'_, B, D>,
    b: &View<'_, B, D>,
) -> Result<()> {
    unary(operation, tables, out, a)?;
    equal(operation, "shape of the second input", of(b), of_out(out))
}

/// An output and an input of the same shape, whatever the ring.
pub fn copy<B: Backend, D: Domain>(out: &ViewMut<'_, B, D>, input: &View<'_, B, D>) -> Result<()> {
    equal("copy", "shape of the input", of(input), of_out(out))
}

/// The operands of [`Backend::scale_add`].
pub fn scale_add<B: Backend, D: Domain>(
    tables: &B::Tables,
    out: &ViewMut<'_, B, D>,
    a: &Input<'_, B, D>,
    scalars: &[u64],
    b: Option<&View<'_, B, D>>,
) -> Result<()> {
    match b {
        Some(b) => binary("scale_add", tables, out, a, b)?,
        None => unary("scale_add", tables, out, a)?,
    }
    if scalars.len() != out.limbs().len() {
        return Err(Error::shape("scale_add", "number of scalars", scalars.len(), out.limbs().len()));
    }
    let ring = tables.ring();
    match out.limbs().iter().zip(scalars).position(|(limb, &scalar)| scalar >= ring.modulus(limb).value()) {
        None => Ok(()),
        Some(index) => {
            let detail = format!("{} is not below the modulus", scalars[index]);
            Err(Error::Value { operation: "scale_add", what: "scalar", index, detail })
        }
    }
}

/// The operands of [`Backend::automorphism`].
pub fn automorphism<B: Backend, D: Domain>(
    tables: &B::Tables,
    out: &ViewMut<'_, B, D>,
    input: &View<'_, B, D>,
    element: usize,
) -> Result<()> {
    output("automorphism", tables, out)?;
    equal("automorphism", "shape of the input", of(input), of_out(out))?;
    galois_element("automorphism", element, out.degree())
}

fn galois_element(operation: &'static str, element: usize, degree: usize) -> Result<()> {
    if element.is_multiple_of(2) || element >= 2 * degree {
        let expected = format!("odd and below {}", 2 * degree);
        return Err(Error::shape(operation, "Galois element", element, expected));
    }
    Ok(())
}

/// The polynomials of [`Backend::prepare`].
pub fn prepare<B: Backend>(tables: &B::Tables, polynomials: &View<'_, B, Evaluation>) -> Result<()> {
    same_ring("prepare", tables.ring(), of(polynomials))
}

/// Limbs that all have to be in the ring.
pub fn limbs(operation: &'static str, ring: &Ring, limbs: LimbSet) -> Result<()> {
    let missing = limbs.difference(ring.limbs());
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::MissingLimbs { operation, missing, available: ring.limbs() })
}

/// The limb sets of [`Backend::converter`].
pub fn converter(ring: &Ring, source: LimbSet, target: LimbSet) -> Result<()> {
    limbs("converter", ring, source.union(target))?;
    if source.is_empty() || target.is_empty() || !source.intersection(target).is_empty() {
        return Err(Error::shape(
            "converter",
            "source and target",
            (source, target),
            "non-empty and disjoint",
        ));
    }
    Ok(())
}

/// The operands of [`Backend::base_convert`].
pub fn base_convert<B: Backend>(
    tables: &B::Tables,
    converter: &B::Converter,
    out: &ViewMut<'_, B, Coefficient>,
    input: &View<'_, B, Coefficient>,
) -> Result<()> {
    output("base_convert", tables, out)?;
    let expected = (out.batch(), converter.source(), out.degree());
    equal("base_convert", "shape of the input", of(input), expected)?;
    equal("base_convert", "shape of the output", of_out(out), (out.batch(), converter.target(), out.degree()))
}

/// The operands of [`Backend::inner_product`].
pub fn inner_product<B: Backend>(
    tables: &B::Tables,
    out: &ViewMut<'_, B, Evaluation>,
    left: &[View<'_, B, Evaluation>],
    right: PreparedView<'_, B>,
) -> Result<()> {
    const NAME: &str = "inner_product";
    output(NAME, tables, out)?;
    if left.is_empty() {
        return Err(Error::shape(NAME, "number of terms", 0, "at least 1"));
    }
    for term in left {
        equal(NAME, "shape of a term", of(term), of_out(out))?;
    }
    if right.prepared.degree() != out.degree() {
        let (found, expected) = (right.prepared.degree(), out.degree());
        return Err(Error::shape(NAME, "degree of the prepared operand", found, expected));
    }
    if !out.limbs().is_subset(right.prepared.limbs()) {
        let missing = out.limbs().difference(right.prepared.limbs());
        return Err(Error::MissingLimbs { operation: NAME, missing, available: right.prepared.limbs() });
    }
    let last = (left.len() - 1)
        .checked_mul(right.term_stride)
        .zip(out.batch().saturating_sub(1).checked_mul(right.batch_stride))
        .and_then(|(k, b)| right.first.checked_add(k)?.checked_add(b));
    match last {
        Some(last) if last < right.prepared.entries() => Ok(()),
        _ => Err(Error::shape(NAME, "last prepared entry", last, 0..right.prepared.entries())),
    }
}

/// The outputs of [`Backend::key_switch`]: checked together, so that a refusal leaves both as they are.
pub fn key_switch<B: Backend>(
    plan: &KeySwitchPlan<B>,
    out: &[&mut ViewMut<'_, B, Evaluation>; 2],
    d: &View<'_, B, Evaluation>,
) -> Result<()> {
    let expected = (d.batch(), plan.limbs(), d.degree());
    out.iter().try_for_each(|out| equal("key_switch", "shape of the output", of_out(out), expected))
}

/// The outputs and operands of [`Backend::key_switch_automorphism`], like those of [`key_switch`].
pub fn key_switch_automorphism<B: Backend>(
    plan: &KeySwitchPlan<B>,
    out: &[&mut ViewMut<'_, B, Evaluation>; 2],
    image: &Image<'_, '_, B>,
) -> Result<()> {
    const NAME: &str = "key_switch_automorphism";
    galois_element(NAME, image.element, image.c0.degree())?;
    let batch = image.d.as_ref().map_or(plan.batch(), View::batch);
    let expected = (batch, plan.limbs(), image.c0.degree());
    equal(NAME, "shape of the first component", of(&image.c0), expected)?;
    image.room.iter().try_for_each(|room| equal(NAME, "shape of the room", of_out(room), expected))?;
    out.iter().try_for_each(|out| equal(NAME, "shape of the output", of_out(out), expected))
}

/// The entries of [`Backend::matrix`].
pub fn matrix(rows: usize, columns: usize, entries: &[i64]) -> Result<()> {
    if rows == 0 || columns == 0 || rows.checked_mul(columns) != Some(entries.len()) {
        return Err(Error::shape("matrix", "number of entries", entries.len(), (rows, columns)));
    }
    match entries.iter().position(|entry| entry.unsigned_abs() > 1 << 62) {
        None => Ok(()),
        Some(index) => {
            let detail = format!("{} exceeds 2^62", entries[index]);
            Err(Error::Value { operation: "matrix", what: "entry", index, detail })
        }
    }
}

/// The operands of [`Backend::matrix_product`].
pub fn matrix_product<B: Backend, D: Domain>(
    tables: &B::Tables,
    out: &ViewMut<'_, B, D>,
    matrix: &B::Matrix,
    input: &View<'_, B, D>,
) -> Result<()> {
    output("matrix_product", tables, out)?;
    equal("matrix_product", "shape of the output", of_out(out), (matrix.rows(), out.limbs(), out.degree()))?;
    equal("matrix_product", "shape of the input", of(input), (matrix.columns(), out.limbs(), out.degree()))
}

/// The operands of [`Backend::quantise`], given the number of values.
pub fn quantise<B: Backend>(
    tables: &B::Tables,
    out: &ViewMut<'_, B, Coefficient>,
    values: usize,
    how: Quantise,
) -> Result<()> {
    output("quantise", tables, out)?;
    if how.count > out.degree() {
        return Err(Error::shape("quantise", "coefficients to fill", how.count, 0..out.degree() + 1));
    }
    if !(-1000..=1000).contains(&how.scale_bits) {
        return Err(Error::shape("quantise", "log2 of the scale", how.scale_bits, -1000..1001));
    }
    if how.count == 0 || out.batch() == 0 {
        return Ok(());
    }
    let last = (out.batch() - 1)
        .checked_mul(how.batch_stride)
        .zip((how.count - 1).checked_mul(how.coefficient_stride))
        .and_then(|(b, c)| how.first.checked_add(b)?.checked_add(c));
    match last {
        Some(last) if last < values => Ok(()),
        _ => Err(Error::shape("quantise", "last value", last, 0..values)),
    }
}

/// The operands of [`Backend::expand_seed`].
pub fn expand_seed<B: Backend>(
    tables: &B::Tables,
    out: &ViewMut<'_, B, Evaluation>,
    labels: &[SeedLabel],
) -> Result<()> {
    output("expand_seed", tables, out)?;
    if labels.len() != out.batch() {
        return Err(Error::shape("expand_seed", "number of labels", labels.len(), out.batch()));
    }
    Ok(())
}

/// Bytes of a row of `count` values of `bits` bits.
pub fn packed_row(count: usize, bits: u32) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Bytes of one packed row of `count` residues, all `limbs` of it.
pub fn packed_rows(ring: &Ring, limbs: LimbSet, count: usize) -> usize {
    limbs.iter().map(|limb| packed_row(count, ring.modulus(limb).bits())).sum()
}

/// The operands of [`Backend::unpack`].
pub fn unpack<B: Backend, D: Domain>(
    tables: &B::Tables,
    out: &ViewMut<'_, B, D>,
    packing: Packing,
    packed: &[u8],
) -> Result<()> {
    output("unpack", tables, out)?;
    if packing.coefficients() > out.degree() {
        return Err(Error::shape("unpack", "coefficients", packing.coefficients(), 0..out.degree() + 1));
    }
    let (rows, values) = packing.extent(out.batch());
    let expected = rows * packed_rows(tables.ring(), out.limbs(), values);
    if packed.len() != expected {
        return Err(Error::shape("unpack", "number of bytes", packed.len(), expected));
    }
    Ok(())
}

/// The operands of [`Backend::trim`].
pub fn trim<B: Backend>(
    tables: &B::Tables,
    input: &View<'_, B, Coefficient>,
    bits: u32,
    positions: Positions,
    packed: &[u8],
) -> Result<()> {
    same_ring("trim", tables.ring(), of(input))?;
    if input.limbs().len() != 1 {
        return Err(Error::shape("trim", "limbs", input.limbs(), "a single one"));
    }
    if !(1..=60).contains(&bits) {
        return Err(Error::shape("trim", "bits", bits, 1..61));
    }
    if positions.count > input.degree() {
        return Err(Error::shape("trim", "number of positions", positions.count, 0..input.degree() + 1));
    }
    let last =
        positions.count.checked_sub(1).map(|n| n.checked_mul(positions.step)?.checked_add(positions.first));
    if last.is_some_and(|last| last.is_none_or(|last| last >= input.degree())) {
        return Err(Error::shape("trim", "positions", positions, 0..input.degree()));
    }
    let expected = input.batch() * packed_row(positions.count, bits);
    if packed.len() != expected {
        return Err(Error::shape("trim", "number of bytes", packed.len(), expected));
    }
    Ok(())
}
