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

use arras_rns::{Packing, Positions};
use arras_wire::{Reader, Writer};

use crate::{Error, Preset, Result};

/// How images are laid out in polynomials.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Layout {
    /// Images after one another in the coefficients of a polynomial.
    Dot = 0,
    /// One polynomial per feature, one coefficient per image.
    Transposed = 1,
}

impl Layout {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Dot => "dot",
            Layout::Transposed => "transposed",
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Layout::Dot, Layout::Transposed].get(usize::from(number)).copied()
    }
}

/// Largest number of images in one query.
pub const MAX_IMAGES: usize = 1 << 20;
/// Polynomials of a piece in layout dot. It bounds the memory in use, and it is part of the format: a reply is cut into
/// the same pieces.
pub(crate) const DOT_PIECE: usize = 256;

/// How a query of some images is cut into polynomials. [`Groups::new`] makes it.
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
    /// has coefficients.
    pub fn new(layout: Layout, degree: usize, dimension: usize, images: usize) -> Result<Self> {
        let limit = if layout == Layout::Dot { degree } else { crate::head::MAX_DIMENSION };
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
    /// [`Error::Count`].
    pub fn check(&self, preset: &Preset) -> Result<()> {
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
    pub(crate) fn read(r: &mut Reader<'_>, degree: usize) -> Result<Self> {
        let number = r.u8("layout")?;
        let layout = Layout::from_number(number)
            .ok_or_else(|| arras_wire::Error::invalid("layout", format!("{number} is unknown")))?;
        let dimension = r.u32_in("features", 1..=crate::head::MAX_DIMENSION as u32)? as usize;
        let images = r.u32_in("images", 1..=MAX_IMAGES as u32)? as usize;
        Self::new(layout, degree, dimension, images)
    }

    /// Images that share a polynomial in layout dot.
    pub fn images_per_polynomial(&self) -> usize {
        (self.degree / self.dimension).min(self.images).max(1)
    }

    /// The parts of the query.
    pub fn pieces(&self) -> Vec<Piece> {
        match self.layout {
            Layout::Dot => self.dot_pieces(),
            Layout::Transposed => {
                let starts = (0..self.images).step_by(self.degree).enumerate();
                starts.map(|(index, first_image)| self.transposed_piece(index, first_image)).collect()
            }
        }
    }

    fn transposed_piece(&self, index: usize, first_image: usize) -> Piece {
        let images = self.degree.min(self.images - first_image);
        Piece {
            first_image,
            images,
            first_object: (index * self.dimension) as u64,
            polynomials: self.dimension,
            packing: Packing::ByCoefficient { coefficients: images },
        }
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
            Layout::Transposed => classes,
        }
    }

    /// Which coefficients of a reply polynomial hold logits.
    pub fn reply_positions(&self, piece: &Piece) -> Positions {
        match self.layout {
            Layout::Dot => {
                let count = piece.images / piece.polynomials;
                Positions { first: self.dimension - 1, step: self.dimension, count }
            }
            Layout::Transposed => Positions::first(piece.images),
        }
    }

    /// Where the logit of (image of the piece, class) stands: reply polynomial and position among
    /// [`reply_positions`](Self::reply_positions).
    pub fn locate(&self, piece: &Piece, image: usize, class: usize) -> (usize, usize) {
        match self.layout {
            Layout::Dot => {
                let per_polynomial = piece.images / piece.polynomials;
                (class * piece.polynomials + image / per_polynomial, image % per_polynomial)
            }
            Layout::Transposed => (class, image),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Groups, Layout, MAX_IMAGES};

    #[test]
    fn pieces_cover_every_image_once_and_objects_never_repeat() {
        for layout in [Layout::Dot, Layout::Transposed] {
            for (degree, dimension) in [(16, 3), (16, 16), (16, 5), (2048, 768)] {
                for images in [1, 2, 3, 5, 16, 17, 33, 700, 4097] {
                    let groups = Groups::new(layout, degree, dimension, images).unwrap();
                    let (mut next, mut objects) = (0, HashSet::new());
                    for piece in groups.pieces() {
                        assert_eq!(piece.first_image, next);
                        next += piece.images;
                        let ids = piece.first_object..piece.first_object + piece.polynomials as u64;
                        assert!(ids.into_iter().all(|id| objects.insert(id)));
                        let (rows, values) = piece.packing.extent(piece.polynomials);
                        assert_eq!(rows * values, piece.images * dimension);
                        assert!(piece.packing.coefficients() <= degree);
                    }
                    assert_eq!(next, images);
                }
            }
        }
    }

    #[test]
    fn logits_have_distinct_places() {
        for layout in [Layout::Dot, Layout::Transposed] {
            for images in [1, 2, 5, 40] {
                for classes in [1, 2, 3, 7] {
                    let groups = Groups::new(layout, 16, 5, images).unwrap();
                    for piece in groups.pieces() {
                        let mut places = HashSet::new();
                        let positions = groups.reply_positions(&piece);
                        for image in 0..piece.images {
                            for class in 0..classes {
                                let (polynomial, position) = groups.locate(&piece, image, class);
                                assert!(polynomial < groups.reply_polynomials(&piece, classes));
                                assert!(position < positions.count);
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
        assert!(Groups::new(Layout::Dot, 16, 0, 1).is_err());
        assert!(Groups::new(Layout::Dot, 16, 1, 0).is_err());
        assert!(Groups::new(Layout::Dot, 16, 1, MAX_IMAGES + 1).is_err());
    }
}
