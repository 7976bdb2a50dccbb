//! Which layout to use for how many images, and what it costs.

use crate::layout::{Groups, Layout};
use crate::preset::Preset;
use crate::{Error, Result};

/// What one thread of the server does per nanosecond, and what the link carries.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rates {
    /// Nanoseconds to expand one residue of a mask.
    pub expand: f64,
    /// Nanoseconds for one butterfly.
    pub butterfly: f64,
    /// Nanoseconds for one multiplication of a residue by a weight, accumulation included.
    pub multiply: f64,
    /// Nanoseconds to trim and pack, or to unpack, one coefficient.
    pub pack: f64,
    /// Nanoseconds to carry one byte.
    pub byte: f64,
}

impl Default for Rates {
    /// One core of a server with AVX2 and a link of 1 Gbit/s, in round numbers; only their ratios matter here.
    fn default() -> Self {
        Self { expand: 8.0, butterfly: 1.5, multiply: 1.0, pack: 3.0, byte: 8.0 }
    }
}

/// What a layout costs for a number of images and classes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// How the query would be cut.
    pub groups: Groups,
    /// Bytes up, without the fixed header.
    pub upload_bytes: u64,
    /// Bytes down, without the fixed header, at 32 bits per coefficient; the head decides on 24 to 34.
    pub reply_bytes: u64,
    /// Predicted milliseconds on one thread of the server.
    pub server_ms: f64,
    /// Predicted milliseconds on the link.
    pub link_ms: f64,
}

impl Cost {
    /// Server and link together.
    pub fn total_ms(&self) -> f64 {
        self.server_ms + self.link_ms
    }
}

/// A choice among layouts.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The layout chosen.
    pub chosen: Cost,
    /// The other possibilities.
    pub rejected: Vec<Cost>,
    /// One sentence about why.
    pub reason: String,
}

impl Plan {
    /// The cheapest layout for `images` rows of `dimension` features and a head of `classes` classes, or `layout` if one
    /// is demanded.
    ///
    /// # Errors
    /// [`Error::Count`] if no layout is possible, or the one demanded is not.
    pub fn new(
        preset: &Preset,
        dimension: usize,
        images: usize,
        classes: usize,
        layout: Option<Layout>,
        rates: Rates,
    ) -> Result<Self> {
        let layouts = layout.map_or(vec![Layout::Dot, Layout::Transposed], |layout| vec![layout]);
        let mut refusal = None;
        let mut costs = Vec::new();
        for layout in layouts {
            match Groups::new(layout, preset.params.degree(), dimension, images) {
                Ok(groups) => costs.push(cost(preset, groups, classes, rates)),
                Err(error) => refusal = Some(error),
            }
        }
        costs.sort_by(|a, b| a.total_ms().total_cmp(&b.total_ms()));
        let mut costs = costs.into_iter();
        let Some(chosen) = costs.next() else {
            let none =
                Error::Count { what: "the number of layouts", found: 0, expected: "at least 1".into() };
            return Err(refusal.unwrap_or(none));
        };
        let rejected: Vec<Cost> = costs.collect();
        let reason = reason(&chosen, &rejected, layout.is_some());
        Ok(Self { chosen, rejected, reason })
    }
}

/// Counts what the server does (see [`crate::linear`]) and what travels.
fn cost(preset: &Preset, groups: Groups, classes: usize, rates: Rates) -> Cost {
    let (degree, dimension) = (groups.degree as f64, groups.dimension as f64);
    let transform = degree / 2.0 * degree.log2() * rates.butterfly;
    let residue_bits = u64::from(preset.params.ring().modulus(0).bits());
    let (mut upload, mut reply, mut nanoseconds) = (0, 0, 0.0);
    for piece in groups.pieces() {
        let (rows, values) = piece.packing.extent(piece.polynomials);
        upload += rows as u64 * (values as u64 * residue_bits).div_ceil(8);
        let answers = groups.reply_polynomials(&piece, classes) as u64;
        let sent = answers * (groups.degree + groups.reply_positions(&piece).count) as u64;
        reply += 4 * sent;
        let polynomials = piece.polynomials as f64;
        let answers = answers as f64;
        nanoseconds += polynomials * degree * rates.expand;
        nanoseconds += ((rows * values) as f64 + sent as f64) * rates.pack;
        nanoseconds += match groups.layout {
            // One transform in, and for each answer a product and a transform out, of both components.
            Layout::Dot => polynomials * transform + answers * 2.0 * (transform + degree * rates.multiply),
            Layout::Transposed => answers * (transform + 2.0 * dimension * degree * rates.multiply),
        };
    }
    let link_ms = (upload + reply) as f64 * rates.byte / 1e6;
    Cost { groups, upload_bytes: upload, reply_bytes: reply, server_ms: nanoseconds / 1e6, link_ms }
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
    use super::{Plan, Rates};
    use crate::{Layout, Preset};

    fn chosen(images: usize) -> Plan {
        Plan::new(Preset::named("linear").unwrap(), 768, images, 5, None, Rates::default()).unwrap()
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
    fn upload_is_a_row_of_residues_per_image() {
        for images in [1, 2, 3, 100, 2048, 5000] {
            assert_eq!(chosen(images).chosen.upload_bytes, images as u64 * 768 * 49 / 8);
        }
    }

    #[test]
    fn many_features_leave_one_layout() {
        let preset = Preset::named("linear").unwrap();
        let plan = Plan::new(preset, 4096, 3, 2, None, Rates::default()).unwrap();
        assert_eq!(plan.chosen.groups.layout, Layout::Transposed);
        assert!(plan.reason.contains("only layout"), "{}", plan.reason);
        assert!(Plan::new(preset, 4096, 3, 2, Some(Layout::Dot), Rates::default()).is_err());
    }
}
