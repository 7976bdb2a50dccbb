//! Where features and logits stand in polynomials.
//!
//! Both layouts encode into coefficients and use no rotation and no key (Cheetah's coefficient encoding, Huang et al.
//! 2022; the matrix product as a product of plain matrices, Bae et al., ePrint 2024/1284):
//!
//! - **dot**: a polynomial holds the features of one or more images one after the other, x(X) = sum x_j X^j. With
//!   w(X) = sum_j W_j X^(D-1-j), coefficient iD + D-1 of x(X) w(X) is the logit of image i: it depends on coefficients
//!   iD .. iD + D-1 of x and on no others. (Packing several classes into one w(X) would save replies, but its products
//!   reach coefficients of the b-part that are not sent.)
//! - **transposed**: polynomial j holds feature j of up to N images, one per coefficient. The logits of class c are
//!   sum_j W_cj ct_j: a product of an integer matrix with a matrix of residues.
//!
//! On the wire both are the same rows: one image after the other, its D residues packed. Only these travel; the other
//! coefficients of the b-part are never looked at.
//!
//! Two more encode into slots, so that products act on features one by one; they serve heads with a hidden layer:
//!
//! - **slots**: polynomial j holds feature j of up to N/2 images, one per slot. Layers are products of integer matrices as
//!   in transposed, and the square is that of every slot. No rotation, no key.
//! - **rotations**: a polynomial holds I images of W = 2^k >= D features, feature j of image i in slot `j I + i`, so that a
//!   rotation by a multiple of I turns the features of all its images at once. Takes Galois keys (see
//!   [`rotations`](crate::rotations)).
//!
//! Their polynomials travel whole, in coefficients.

use arras_rns::{Packing, Positions};
use arras_wire::{Reader, Writer};

use crate::{Error, Preset, Result};

/// How images are laid out in polynomials.
///
/// See the example of [`Groups`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Layout {
    /// Images after one another in the coefficients of a polynomial.
    Dot = 0,
    /// One polynomial per feature, one coefficient per image.
    Transposed = 1,
    /// One polynomial per feature, one slot per image.
    Slots = 2,
    /// Images interleaved in the slots of a polynomial.
    Rotations = 3,
}

impl Layout {
    /// Every layout, in the order of its numbers.
    pub const ALL: [Layout; 4] = [Layout::Dot, Layout::Transposed, Layout::Slots, Layout::Rotations];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Dot => "dot",
            Layout::Transposed => "transposed",
            Layout::Slots => "slots",
            Layout::Rotations => "rotations",
        }
    }

    /// Whether numbers stand in slots and not in coefficients.
    pub fn in_slots(self) -> bool {
        matches!(self, Layout::Slots | Layout::Rotations)
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Largest number of images in one query.
pub const MAX_IMAGES: usize = 1 << 20;
/// Polynomials of a piece in layout dot. It bounds the memory in use, and it is part of the format: a reply is cut into
/// the same pieces.
pub(crate) const DOT_PIECE: usize = 256;
/// Polynomials of a piece in layout rotations: what one call of the evaluator works on. It holds two polynomials over all
/// primes for every baby step and ciphertext, which outgrows caches soon.
pub(crate) const ROTATIONS_PIECE: usize = 4;

/// How a query of some images is cut into polynomials. [`Groups::new`] makes it.
///
/// ```
/// use arras_heads::layout::{Groups, Layout};
///
/// // Five images of 768 features: two to a polynomial, one after the other, or one polynomial per feature.
/// let dot = Groups::new(Layout::Dot, 2048, 768, 5)?;
/// let transposed = Groups::new(Layout::Transposed, 2048, 768, 5)?;
/// let polynomials = |groups: Groups| groups.pieces().iter().map(|piece| piece.polynomials).sum::<usize>();
/// assert_eq!((dot.images_per_polynomial(), polynomials(dot)), (2, 3));
/// assert_eq!((transposed.images_per_polynomial(), polynomials(transposed)), (2048, 768));
///
/// let refused = Groups::new(Layout::Dot, 2048, 4096, 5).unwrap_err();
/// assert_eq!(refused.to_string(), "the number of features is 4096, expected 1 to 2048");
/// # Ok::<(), arras_heads::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Groups {
    /// The layout.
    pub layout: Layout,
    /// Ring degree N.
    pub degree: usize,
    /// Features per image D.
    pub dimension: usize,
    /// Number of images.
    pub images: usize,
}

/// A part of a query that is encrypted, computed on and answered as one batch.
///
/// ```
/// use arras_heads::layout::{Groups, Layout};
///
/// // Two full polynomials, and one with the fifth image alone.
/// let groups = Groups::new(Layout::Dot, 2048, 768, 5)?;
/// let pieces = groups.pieces();
/// let shapes: Vec<_> =
///     pieces.iter().map(|piece| (piece.first_image, piece.images, piece.polynomials)).collect();
/// assert_eq!(shapes, [(0, 4, 2), (4, 1, 1)]);
/// // The logit of image 1 and class 0: reply polynomial 0, the second of the coefficients that are sent.
/// assert_eq!(groups.locate(&pieces[0], 1, 0), (0, 1));
/// assert_eq!(groups.reply_positions(&pieces[0], 2).iter().collect::<Vec<_>>(), [767, 1535]);
/// # Ok::<(), arras_heads::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The first image.
    pub first_image: usize,
    /// Number of images.
    pub images: usize,
    /// Object id of the first polynomial's mask.
    pub first_object: u64,
    /// Number of polynomials.
    pub polynomials: usize,
    /// How the b-parts are packed.
    pub packing: Packing,
}

impl Groups {
    /// Checks that the layout is possible.
    ///
    /// # Errors
    /// [`Error::Count`] without images or features, with more than [`MAX_IMAGES`], or with more features than `dot`
    /// has coefficients or `rotations` slots.
    pub fn new(layout: Layout, degree: usize, dimension: usize, images: usize) -> Result<Self> {
        let limit = match layout {
            Layout::Dot => degree,
            Layout::Rotations => degree / 2,
            Layout::Transposed | Layout::Slots => crate::head::MAX_DIMENSION,
        };
        let refuse =
            |what, found, limit| Err(Error::Count { what, found, expected: format!("1 to {limit}") });
        if dimension == 0 || dimension > limit {
            return refuse("the number of features", dimension, limit);
        }
        if images == 0 || images > MAX_IMAGES {
            return refuse("the number of images", images, MAX_IMAGES);
        }
        Ok(Self { layout, degree, dimension, images })
    }

    /// That these are groups [`new`](Self::new) makes for the degree of a preset: a field may have been written since.
    ///
    /// # Errors
    /// [`Error::Count`]; [`Error::Layout`] if the preset is not made for the layout.
    pub fn check(&self, preset: &Preset) -> Result<()> {
        preset.require(self.layout)?;
        let (found, degree) = (self.degree, preset.params.degree());
        if found != degree {
            return Err(Error::Count { what: "the ring degree", found, expected: degree.to_string() });
        }
        Self::new(self.layout, degree, self.dimension, self.images).map(drop)
    }

    /// Writes what [`read`](Self::read) reads.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.u8(self.layout as u8);
        w.u32(self.dimension as u32);
        w.u32(self.images as u32);
    }

    /// Reads the layout and the counts with which queries and replies begin.
    pub(crate) fn read(r: &mut Reader<'_>, preset: &Preset) -> Result<Self> {
        let number = r.u8("layout")?;
        let layout = Layout::from_number(number)
            .ok_or_else(|| arras_wire::Error::invalid("layout", format!("{number} is unknown")))?;
        preset.require(layout)?;
        let dimension = r.u32_in("features", 1..=crate::head::MAX_DIMENSION as u32)? as usize;
        let images = r.u32_in("images", 1..=MAX_IMAGES as u32)? as usize;
        Self::new(layout, preset.params.degree(), dimension, images)
    }

    /// Images that share a polynomial: in layout dot as many as its coefficients hold, in layout slots one per slot, in
    /// layout rotations the number I by which they are interleaved.
    pub fn images_per_polynomial(&self) -> usize {
        match self.layout {
            Layout::Dot => (self.degree / self.dimension).min(self.images).max(1),
            Layout::Transposed => self.degree,
            Layout::Slots => self.degree / 2,
            Layout::Rotations => self.degree / 2 / self.width(),
        }
    }

    /// The power of two W of features that an image takes in layout rotations.
    pub fn width(&self) -> usize {
        self.dimension.next_power_of_two()
    }

    /// The parts of the query.
    pub fn pieces(&self) -> Vec<Piece> {
        match self.layout {
            Layout::Dot => self.dot_pieces(),
            Layout::Transposed | Layout::Slots => {
                let starts = (0..self.images).step_by(self.images_per_polynomial()).enumerate();
                starts.map(|(index, first_image)| self.feature_piece(index, first_image)).collect()
            }
            Layout::Rotations => self.rotations_pieces(),
        }
    }

    /// One polynomial per feature.
    fn feature_piece(&self, index: usize, first_image: usize) -> Piece {
        let images = self.images_per_polynomial().min(self.images - first_image);
        let packing = match self.layout {
            Layout::Slots => Packing::ByPolynomial { coefficients: self.degree },
            _ => Packing::ByCoefficient { coefficients: images },
        };
        Piece {
            first_image,
            images,
            first_object: (index * self.dimension) as u64,
            polynomials: self.dimension,
            packing,
        }
    }

    fn rotations_pieces(&self) -> Vec<Piece> {
        let per_polynomial = self.images_per_polynomial();
        let polynomials = self.images.div_ceil(per_polynomial);
        let piece = |first: usize| {
            let polynomials = ROTATIONS_PIECE.min(polynomials - first);
            let first_image = first * per_polynomial;
            Piece {
                first_image,
                images: (polynomials * per_polynomial).min(self.images - first_image),
                first_object: first as u64,
                polynomials,
                packing: Packing::ByPolynomial { coefficients: self.degree },
            }
        };
        (0..polynomials).step_by(ROTATIONS_PIECE).map(piece).collect()
    }

    /// Full polynomials, in batches, and then the one that is not full.
    fn dot_pieces(&self) -> Vec<Piece> {
        let per_polynomial = self.images_per_polynomial();
        let piece = |first: usize, polynomials: usize, images: usize| Piece {
            first_image: first * per_polynomial,
            images,
            first_object: first as u64,
            polynomials,
            packing: Packing::ByPolynomial { coefficients: images / polynomials * self.dimension },
        };
        let (full, rest) = (self.images / per_polynomial, self.images % per_polynomial);
        let batches = (0..full).step_by(DOT_PIECE).map(|first| {
            let polynomials = DOT_PIECE.min(full - first);
            piece(first, polynomials, polynomials * per_polynomial)
        });
        batches.chain((rest > 0).then(|| piece(full, 1, rest))).collect()
    }

    /// Reply polynomials of a piece.
    pub fn reply_polynomials(&self, piece: &Piece, classes: usize) -> usize {
        match self.layout {
            Layout::Dot => piece.polynomials * classes,
            Layout::Transposed | Layout::Slots => classes,
            Layout::Rotations => piece.polynomials,
        }
    }

    /// Which coefficients of component 0 of a reply polynomial are sent: those of logits, or those that determine the slots
    /// of logits. In layout rotations the slots repeat after [`period`](Self::period), so that the message is a polynomial
    /// in a power of X.
    pub fn reply_positions(&self, piece: &Piece, classes: usize) -> Positions {
        match self.layout {
            Layout::Dot => {
                let count = piece.images / piece.polynomials;
                Positions { first: self.dimension - 1, step: self.dimension, count }
            }
            Layout::Transposed => Positions::first(piece.images),
            Layout::Slots => Positions::first(self.degree),
            Layout::Rotations => {
                let count = 2 * self.period(classes);
                Positions { first: 0, step: self.degree / count, count }
            }
        }
    }

    /// Slots after which the logits repeat in layout rotations: classes rounded up to a power of two, times I.
    pub fn period(&self, classes: usize) -> usize {
        (classes.next_power_of_two() * self.images_per_polynomial()).min(self.degree / 2)
    }

    /// Where the logit of (image of the piece, class) stands: reply polynomial, and position among
    /// [`reply_positions`](Self::reply_positions), or slot in the layouts that have them.
    pub fn locate(&self, piece: &Piece, image: usize, class: usize) -> (usize, usize) {
        let per_polynomial = self.images_per_polynomial();
        match self.layout {
            Layout::Dot => {
                let per_polynomial = piece.images / piece.polynomials;
                (class * piece.polynomials + image / per_polynomial, image % per_polynomial)
            }
            Layout::Transposed | Layout::Slots => (class, image),
            Layout::Rotations => (image / per_polynomial, class * per_polynomial + image % per_polynomial),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Groups, Layout, MAX_IMAGES};

    #[test]
    fn pieces_cover_every_image_once_and_objects_never_repeat() {
        for layout in Layout::ALL {
            for (degree, dimension) in [(16, 3), (16, 8), (16, 5), (2048, 768)] {
                for images in [1, 2, 3, 5, 16, 17, 33, 700, 4097] {
                    let groups = Groups::new(layout, degree, dimension, images).unwrap();
                    let (mut next, mut objects) = (0, HashSet::new());
                    for piece in groups.pieces() {
                        assert_eq!(piece.first_image, next);
                        next += piece.images;
                        let ids = piece.first_object..piece.first_object + piece.polynomials as u64;
                        assert!(ids.into_iter().all(|id| objects.insert(id)));
                        let (rows, values) = piece.packing.extent(piece.polynomials);
                        let sent = if layout.in_slots() {
                            degree * piece.polynomials
                        } else {
                            piece.images * dimension
                        };
                        assert_eq!(rows * values, sent);
                        assert!(piece.packing.coefficients() <= degree);
                    }
                    assert_eq!(next, images);
                }
            }
        }
    }

    #[test]
    fn logits_have_distinct_places() {
        for layout in Layout::ALL {
            for images in [1, 2, 5, 40] {
                for classes in [1, 2, 3, 7] {
                    let groups = Groups::new(layout, 16, 5, images).unwrap();
                    for piece in groups.pieces() {
                        let mut places = HashSet::new();
                        let positions = groups.reply_positions(&piece, classes);
                        let places_there_are =
                            if layout.in_slots() { positions.count / 2 } else { positions.count };
                        for image in 0..piece.images {
                            for class in 0..classes {
                                let (polynomial, position) = groups.locate(&piece, image, class);
                                assert!(polynomial < groups.reply_polynomials(&piece, classes));
                                assert!(position < places_there_are);
                                assert!(places.insert((polynomial, position)));
                            }
                        }
                        assert!(positions.iter().all(|coefficient| coefficient < 16));
                    }
                }
            }
        }
    }

    #[test]
    fn impossible_queries_are_refused() {
        assert!(Groups::new(Layout::Dot, 16, 17, 1).is_err());
        assert!(Groups::new(Layout::Transposed, 16, 17, 1).is_ok());
        assert!(
            Groups::new(Layout::Rotations, 16, 8, 1).is_ok()
                && Groups::new(Layout::Rotations, 16, 9, 1).is_err()
        );
        assert!(Groups::new(Layout::Dot, 16, 0, 1).is_err());
        assert!(Groups::new(Layout::Dot, 16, 1, 0).is_err());
        assert!(Groups::new(Layout::Dot, 16, 1, MAX_IMAGES + 1).is_err());
    }
}
