//! Which preset and layout to use for how many images, and what it costs.

use std::time::Instant;

use arras_ckks::{Context, Params};
use arras_rns::backend::Packing;
use arras_rns::check::{packed_row, packed_rows};
use arras_rns::{Backend, Coefficient, Evaluation, Input, Poly, Purpose, SeedLabel};
use arras_wire::frame::{CHECK_LEN, HEADER_LEN};

use crate::layout::{Groups, Layout, Piece};
use crate::preset::Preset;
use crate::rotations::{RotationsPlan, Shape, Work};
use crate::{Error, Result};

/// What the server does per nanosecond, and what the link carries.
///
/// See the example of [`Plan`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rates {
    /// Nanoseconds to expand one residue of a mask.
    pub expand: f64,
    /// Nanoseconds for one butterfly.
    pub butterfly: f64,
    /// Nanoseconds for one multiplication of a residue by an integer weight, accumulation included.
    pub multiply: f64,
    /// Nanoseconds for one product of residues, accumulation included.
    pub product: f64,
    /// Nanoseconds to trim and pack, or to unpack, one coefficient.
    pub pack: f64,
    /// Nanoseconds to carry one byte.
    pub byte: f64,
}

impl Default for Rates {
    /// One core of a server with AVX2 and a link of 1 Gbit/s, in round numbers; only their ratios matter here.
    fn default() -> Self {
        Self { expand: 8.0, butterfly: 1.5, multiply: 1.0, product: 2.0, pack: 3.0, byte: 8.0 }
    }
}

impl Rates {
    /// What a backend does, measured for about a tenth of a second at the parameters of preset `mlp`; the link as in
    /// [`Default`].
    ///
    /// # Errors
    /// A device that fails.
    pub fn measure<B: Backend>(backend: B) -> Result<Self> {
        /// Polynomials that are worked on at once.
        const BATCH: usize = 32;
        let context = Context::new(backend, Preset::named("mlp")?.params.clone())?;
        let (params, limbs) = (context.params(), context.params().limbs());
        let (backend, queue, tables) = (context.backend(), context.queue(), context.tables());
        let mut poly: Poly<B, Evaluation> = context.allocate(limbs, BATCH)?;
        let mut out: Poly<B, Evaluation> = context.allocate(limbs, BATCH)?;
        let mut coefficients: Poly<B, Coefficient> = context.allocate(limbs, BATCH)?;
        let label = |object| SeedLabel { seed: [0; 32], purpose: Purpose::Ciphertext, object, polynomial: 0 };
        let labels: Vec<_> = (0..BATCH as u64).map(label).collect();
        let residues = (BATCH * limbs.len() * params.degree()) as f64;
        let expand =
            best(backend, queue, || backend.expand_seed(queue, tables, &mut poly.view_mut(), &labels))?;
        let copy = poly.view();
        let transform = best(backend, queue, || {
            backend.ntt(queue, tables, &mut out.view_mut(), Input::From(copy.clone().retag()))
        })?;
        let product = best(backend, queue, || {
            backend.multiply_accumulate(queue, tables, &mut out.view_mut(), &copy, &copy)
        })?;
        let entries = vec![12_345; BATCH * BATCH];
        let matrix = backend.matrix(queue, tables, BATCH, BATCH, &entries)?;
        let multiply = best(backend, queue, || {
            backend.matrix_product(queue, tables, &mut out.view_mut(), &matrix, &copy)
        })?;
        let packing = Packing::ByPolynomial { coefficients: params.degree() };
        let packed = vec![0; BATCH * packed_rows(params.ring(), limbs, params.degree())];
        let pack = best(backend, queue, || {
            backend.unpack(queue, tables, &mut coefficients.view_mut(), packing, &packed)
        })?;
        Ok(Self {
            expand: expand / residues,
            butterfly: transform / (residues / 2.0 * (params.degree() as f64).log2()),
            multiply: multiply / (residues * BATCH as f64),
            product: product / residues,
            pack: pack / residues,
            ..Self::default()
        })
    }
}

/// Nanoseconds of the fastest of a few rounds.
fn best<B: Backend>(
    backend: &B,
    queue: &B::Queue,
    mut work: impl FnMut() -> arras_rns::Result<()>,
) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..5 {
        let started = Instant::now();
        work()?;
        backend.synchronize(queue)?;
        least = least.min(started.elapsed().as_secs_f64() * 1e9);
    }
    Ok(least)
}

/// What a preset and layout cost for a number of images.
///
/// See the example of [`Plan`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// The preset.
    pub preset: &'static Preset,
    /// How the query would be cut.
    pub groups: Groups,
    /// Bytes up, without the fixed header; with the public key if the preset takes one.
    pub upload_bytes: u64,
    /// Bytes down, without the fixed header, at 32 bits per coefficient (36 in slots); the head decides.
    pub reply_bytes: u64,
    /// Number of evaluation keys.
    pub keys: usize,
    /// Bytes of the evaluation keys, which are sent once and serve every query.
    pub key_bytes: u64,
    /// Predicted milliseconds of the server.
    pub server_ms: f64,
    /// Predicted milliseconds on the link, evaluation keys excluded.
    pub link_ms: f64,
}

impl Cost {
    /// Server and link together.
    pub fn total_ms(&self) -> f64 {
        self.server_ms + self.link_ms
    }
}

/// A choice among presets and layouts.
///
/// ```
/// use arras_heads::{Layout, Plan, Preset, Rates, Shape};
///
/// let (preset, shape) = (Preset::named("linear")?, Shape { dimension: 768, hidden: None, classes: 5 });
/// let few = Plan::new([preset], shape, 1, None, Rates::default())?;
/// let many = Plan::new([preset], shape, 2048, None, Rates::default())?;
/// assert_eq!(few.chosen.groups.layout, Layout::Dot);
/// assert_eq!(many.chosen.groups.layout, Layout::Transposed);
/// // 768 residues of 49 bits for each image, and the layout that would have taken longer.
/// assert_eq!(many.chosen.upload_bytes, 2048 * 768 * 49 / 8);
/// assert!(many.rejected[0].total_ms() > many.chosen.total_ms());
/// # Ok::<(), arras_heads::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// What was chosen.
    pub chosen: Cost,
    /// The other possibilities, the next best first.
    pub rejected: Vec<Cost>,
    /// One sentence about why.
    pub reason: String,
}

/// The presets to choose from for heads with or without a hidden layer, and for heads that replies have to hide. Variants
/// for larger features, or faster and coarser, have to be asked for.
pub fn candidates(hidden: bool, hide_model: bool) -> Vec<&'static Preset> {
    let names: &[&str] = match (hidden, hide_model) {
        (_, true) => &["linear-hidden"],
        (false, false) => &["linear", "paper"],
        (true, false) => &["mlp", "mlp-precise", "mlp-rotations"],
    };
    Preset::all().iter().filter(|preset| names.contains(&preset.name)).collect()
}

impl Plan {
    /// The cheapest of some presets and their layouts for `images` rows and a head of a shape; only `layout` is looked at if
    /// one is demanded.
    ///
    /// # Errors
    /// What makes the last of them impossible, if all are: [`Error::Layout`], [`Error::HiddenLayer`] or [`Error::Count`].
    pub fn new(
        presets: impl IntoIterator<Item = &'static Preset>,
        shape: Shape,
        images: usize,
        layout: Option<Layout>,
        rates: Rates,
    ) -> Result<Self> {
        let mut refusal =
            Error::Count { what: "the number of layouts", found: 0, expected: "at least 1".into() };
        let mut costs = Vec::new();
        for preset in presets {
            let layouts = layout.map_or(preset.layouts.to_vec(), |layout| vec![layout]);
            for layout in layouts {
                match cost(preset, layout, shape, images, rates) {
                    Ok(cost) => costs.push(cost),
                    Err(error) => refusal = error,
                }
            }
        }
        costs.sort_by(|a, b| a.total_ms().total_cmp(&b.total_ms()));
        let mut costs = costs.into_iter();
        let Some(chosen) = costs.next() else { return Err(refusal) };
        let rejected: Vec<Cost> = costs.collect();
        let reason = reason(&chosen, &rejected, layout.is_some());
        Ok(Self { chosen, rejected, reason })
    }
}

/// Counts what the server does and what travels.
fn cost(preset: &'static Preset, layout: Layout, shape: Shape, images: usize, rates: Rates) -> Result<Cost> {
    preset.require(layout)?;
    if let (false, Some(hidden)) = (layout.in_slots(), shape.hidden) {
        return Err(Error::HiddenLayer { layout: layout.name(), hidden });
    }
    let params = &preset.params;
    let groups = Groups::new(layout, params.degree(), shape.dimension, images)?;
    let plan = match layout {
        Layout::Rotations => Some(RotationsPlan::new(params, shape)?),
        _ => None,
    };
    let degree = groups.degree as f64;
    let transform = degree / 2.0 * degree.log2() * rates.butterfly;
    let limbs = params.limbs().len() as f64;
    let mut upload = if preset.hides { public_key_bytes(params) } else { 0 };
    let (mut reply, mut nanoseconds) = (0, 0.0);
    for piece in groups.pieces() {
        let (rows, values) = piece.packing.extent(piece.polynomials);
        upload += (rows * packed_rows(params.ring(), params.limbs(), values)) as u64;
        let (sent, bytes) = reply_size(&groups, &piece, shape);
        reply += bytes;
        let polynomials = piece.polynomials as f64;
        nanoseconds += polynomials * degree * limbs * rates.expand;
        nanoseconds += ((rows * values) as f64 * limbs + sent as f64) * rates.pack;
        nanoseconds += match &plan {
            Some(plan) => {
                let Work { transforms, products } = plan.work();
                let transforms = transforms as f64 + 2.0 * limbs;
                polynomials * (transforms * transform + products as f64 * degree * rates.product)
            }
            None => keyless(&groups, &piece, shape, limbs, transform, rates),
        };
    }
    let (keys, key_bytes) = match &plan {
        Some(plan) => key_size(params, plan)?,
        None => (0, 0),
    };
    let (server_ms, link_ms) = (nanoseconds / 1e6, (upload + reply) as f64 * rates.byte / 1e6);
    Ok(Cost { preset, groups, upload_bytes: upload, reply_bytes: reply, keys, key_bytes, server_ms, link_ms })
}

/// Nanoseconds of transforms and products of a piece in the layouts without keys (see [`crate::linear`] and
/// [`crate::slots`]).
fn keyless(groups: &Groups, piece: &Piece, shape: Shape, limbs: f64, transform: f64, rates: Rates) -> f64 {
    let (degree, dimension) = (groups.degree as f64, groups.dimension as f64);
    let (polynomials, classes) = (piece.polynomials as f64, shape.classes as f64);
    match groups.layout {
        // One transform in, and for each answer a product and a transform out, of both components.
        Layout::Dot => {
            let answers = polynomials * classes;
            limbs * (polynomials * transform + answers * 2.0 * (transform + degree * rates.product))
        }
        Layout::Transposed => limbs * classes * (transform + 2.0 * dimension * degree * rates.multiply),
        _ => {
            let rows = shape.hidden.map_or(classes, |hidden| hidden as f64);
            let first = rows * (transform + 2.0 * dimension * degree * rates.multiply);
            let second = match shape.hidden {
                Some(_) => rows * degree * (4.0 * rates.product + 3.0 * classes * rates.multiply),
                None => 0.0,
            };
            let components = if shape.hidden.is_some() { 3.0 } else { 2.0 };
            limbs * (first + second) + classes * components * transform * (2.0 * limbs - 1.0)
        }
    }
}

/// Coefficients of the reply to a piece, and their bytes.
fn reply_size(groups: &Groups, piece: &Piece, shape: Shape) -> (usize, u64) {
    let polynomials = groups.reply_polynomials(piece, shape.classes);
    let count = groups.reply_positions(piece, shape.classes).count;
    let masks = if groups.layout == Layout::Slots && shape.hidden.is_some() { 2 } else { 1 };
    let bits = if groups.layout.in_slots() { 36 } else { 32 };
    let bytes = polynomials * (packed_row(count, bits) + masks * packed_row(groups.degree, bits));
    (polynomials * (count + masks * groups.degree), bytes as u64)
}

/// A public key in a query: its frame.
fn public_key_bytes(params: &Params) -> u64 {
    const FIELDS: usize = 8 + 4 + 4 + 8 + 1 + 1 + 32 + 8 + 4;
    let rows = packed_rows(params.ring(), params.limbs(), params.degree());
    (HEADER_LEN + FIELDS + rows + CHECK_LEN) as u64
}

/// Number and bytes of the evaluation keys of a plan.
///
/// # Errors
/// None in practice.
pub fn key_size(params: &Params, plan: &RotationsPlan) -> Result<(usize, u64)> {
    /// Element, level and seed.
    const FIELDS: usize = 4 + 4 + 32;
    let keys = plan.keys()?;
    let bytes = keys.values().map(|&level| {
        let row = packed_rows(params.ring(), params.key_limbs(level), params.degree());
        HEADER_LEN + FIELDS + params.digits_at(level).len() * row + CHECK_LEN
    });
    Ok((keys.len(), bytes.sum::<usize>() as u64))
}

fn reason(chosen: &Cost, rejected: &[Cost], demanded: bool) -> String {
    let name = chosen.groups.layout.name();
    if demanded {
        return format!("{name}: asked for");
    }
    let images = chosen.groups.images;
    match rejected.first() {
        None => format!("{name}: the only layout that holds {} features", chosen.groups.dimension),
        Some(other) => format!(
            "{name}: predicted for {images} image{}: {:.2} ms of server and {:.2} ms of link, {}: {:.2} and {:.2} ms",
            if images == 1 { "" } else { "s" },
            chosen.server_ms,
            chosen.link_ms,
            other.groups.layout.name(),
            other.server_ms,
            other.link_ms,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, Rates, candidates};
    use crate::{Layout, Preset, Shape};

    const PROBE: Shape = Shape { dimension: 768, hidden: None, classes: 5 };
    const MLP: Shape = Shape { hidden: Some(64), ..PROBE };

    fn chosen(images: usize) -> Plan {
        Plan::new([Preset::named("linear").unwrap()], PROBE, images, None, Rates::default()).unwrap()
    }

    #[test]
    fn few_images_take_dot_and_many_take_transposed() {
        assert_eq!(chosen(1).chosen.groups.layout, Layout::Dot);
        assert_eq!(chosen(10).chosen.groups.layout, Layout::Dot);
        assert_eq!(chosen(2048).chosen.groups.layout, Layout::Transposed);
        let crossover =
            (1..4096).find(|&images| chosen(images).chosen.groups.layout == Layout::Transposed).unwrap();
        assert!((11..2048).contains(&crossover), "{crossover}");
        assert!((crossover..crossover + 500).all(|n| chosen(n).chosen.groups.layout == Layout::Transposed));
    }

    #[test]
    fn hidden_layers_take_rotations_for_few_images_and_slots_for_many() {
        let plan = |images| Plan::new(candidates(true, false), MLP, images, None, Rates::default()).unwrap();
        for (images, preset, layout) in [
            (1, "mlp-rotations", Layout::Rotations),
            (64, "mlp-rotations", Layout::Rotations),
            (2048, "mlp", Layout::Slots),
        ] {
            let plan = plan(images);
            assert_eq!((plan.chosen.preset.name, plan.chosen.groups.layout), (preset, layout), "{images}");
            assert_eq!(plan.rejected.len(), 2);
        }
        let [slots, rotations] = [Layout::Slots, Layout::Rotations].map(|layout| {
            let plan = Plan::new(candidates(true, false), MLP, 1, Some(layout), Rates::default()).unwrap();
            plan.chosen
        });
        assert!(
            slots.keys == 0 && slots.key_bytes == 0 && rotations.keys > 10 && rotations.key_bytes > 5_000_000
        );
    }

    #[test]
    fn upload_is_a_row_of_residues_per_image() {
        for images in [1, 2, 3, 100, 2048, 5000] {
            assert_eq!(chosen(images).chosen.upload_bytes, images as u64 * 768 * 49 / 8);
        }
        let hidden = Plan::new(candidates(false, true), PROBE, 512, None, Rates::default()).unwrap();
        assert!(hidden.chosen.upload_bytes / 512 <= 9_800, "{}", hidden.chosen.upload_bytes);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let linear = Preset::named("linear").unwrap();
        let wide = Shape { dimension: 4096, ..PROBE };
        let plan = Plan::new([linear], wide, 3, None, Rates::default()).unwrap();
        assert_eq!(plan.chosen.groups.layout, Layout::Transposed);
        assert!(plan.reason.contains("only layout"), "{}", plan.reason);
        let refused =
            |shape, layout| Plan::new([linear], shape, 3, layout, Rates::default()).unwrap_err().to_string();
        assert!(refused(wide, Some(Layout::Dot)).contains("4096"));
        assert_eq!(
            refused(PROBE, Some(Layout::Slots)),
            "layout slots is not among those of preset 'linear': dot and transposed"
        );
        assert!(refused(MLP, None).contains("hidden layer of 64 units"));
    }
}
