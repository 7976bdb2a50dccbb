//! Synthetic tiles in the manner of H&E stains: pink fibrous stroma, purple nuclei, three classes.
//!
//! The classes differ in texture, that is in how nuclei are shaped and arranged: rings around lumina
//! ("glandular"), crowded nests ("solid"), evenly spread small round cells ("scattered"). They do not differ in
//! colour: the share of area under nuclei has the same distribution in every class, and the last step gives
//! every tile a mean and a standard deviation per colour channel that are drawn without regard to its class.
//! Patients differ in stain, in cell size and in texture contrast, sites in tone, blur and noise.
//!
//! A tile is a function of (seed, class, index) and the parameters of the set. It is computed with additions,
//! multiplications, divisions and square roots alone, which IEEE 754 rounds the same way everywhere: every
//! machine draws the same pixels.
//!
//! These are not images of tissue, and nothing measured on them is evidence about histology.

mod cells;
mod paint;

use crate::Error;
use crate::random::Stream;

/// The names of the classes; index = class.
pub const CLASSES: [&str; 3] = ["glandular", "solid", "scattered"];
/// Side of the tiles that lengths are stated for, in pixels; other sizes show the same field at another
/// magnification.
const REFERENCE_SIZE: f32 = 96.0;
/// Smallest and largest side of a tile, in pixels.
pub const SIZES: std::ops::RangeInclusive<usize> = 32..=1024;
/// Most tiles of one class.
pub const MAX_PER_CLASS: usize = 1_000_000;

/// A reproducible set of tiles.
///
/// ```
/// use arras_fit::tiles::TileSet;
///
/// let tiles = TileSet { seed: 7, per_class: 10, patients: 4, sites: 2, size: 32 };
/// let tile = tiles.tile(1)?;
/// assert_eq!(tile.name, "solid/solid-00000.png");
/// assert_eq!(tile.rgb.len(), 32 * 32 * 3);
/// assert_eq!((tiles.len(), tiles.tile(1)?), (30, tile));
///
/// let error = TileSet { size: 8, ..tiles }.check().unwrap_err();
/// assert_eq!(error.to_string(), "size: 8 is outside 32..=1024");
/// # Ok::<(), arras_fit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileSet {
    /// Everything random depends on it.
    pub seed: u64,
    /// Tiles of each class.
    pub per_class: usize,
    /// Patients, at least 1; tile `index` of every class is of patient `index % patients`.
    pub patients: usize,
    /// Sites (scanners), at least 1; patient `p` is of site `p % sites`.
    pub sites: usize,
    /// Side of the square tiles in pixels, within [`SIZES`].
    pub size: usize,
}

/// One tile. See the example of [`TileSet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Index into [`CLASSES`].
    pub class: usize,
    /// Its name.
    pub class_name: &'static str,
    /// File name with the folder of its class, such as `solid/solid-00012.png`.
    pub name: String,
    /// Patient, below the set's number of patients.
    pub patient: usize,
    /// Site, below the set's number of sites.
    pub site: usize,
    /// `[size][size][3]`, red, green, blue.
    pub rgb: Vec<u8>,
}

impl TileSet {
    /// Checks the stated ranges.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), Error> {
        if !SIZES.contains(&self.size) {
            let reason = format!("{} is outside {}..={}", self.size, SIZES.start(), SIZES.end());
            return Err(Error::invalid("size", reason));
        }
        let counts = [("per_class", self.per_class), ("patients", self.patients), ("sites", self.sites)];
        match counts.into_iter().find(|&(_, count)| !(1..=MAX_PER_CLASS).contains(&count)) {
            Some((field, count)) => {
                Err(Error::invalid(field, format!("{count} is outside 1..={MAX_PER_CLASS}")))
            }
            None => Ok(()),
        }
    }

    /// Number of tiles.
    #[must_use]
    pub fn len(&self) -> usize {
        self.per_class.saturating_mul(CLASSES.len())
    }

    /// Whether there are no tiles.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.per_class == 0
    }

    /// The tile at a position of the whole set, the classes taking turns. Positions past the end continue the
    /// same sequence. Tiles do not depend on each other: any order and any number of threads will do.
    ///
    /// # Errors
    /// As [`TileSet::check`].
    pub fn tile(&self, position: usize) -> Result<Tile, Error> {
        self.check()?;
        let (class, index) = (position % CLASSES.len(), position / CLASSES.len());
        let patient = index % self.patients;
        let site = patient % self.sites;
        let class_name = CLASSES[class];
        Ok(Tile {
            class,
            class_name,
            name: format!("{class_name}/{class_name}-{index:05}.png"),
            patient,
            site,
            rgb: self.pixels(class, index, patient, site),
        })
    }

    /// All tiles in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Tile, Error>> + '_ {
        (0..self.len()).map(|position| self.tile(position))
    }

    fn pixels(&self, class: usize, index: usize, patient: usize, site: usize) -> Vec<u8> {
        let stream = |purpose, numbers: &[usize]| {
            let numbers: Vec<u64> = numbers.iter().map(|&number| number as u64).collect();
            Stream::new(purpose, &[&[self.seed], numbers.as_slice()].concat())
        };
        let patient = Patient::draw(&mut stream("arras/1 tiles patient", &[patient]));
        let site = Site::draw(&mut stream("arras/1 tiles site", &[site]));
        let mut stream = stream("arras/1 tiles tile", &[class, index]);
        let cells = cells::arrange(&mut stream, class, patient.cell_size);
        paint::paint(&mut stream, self.size, &cells, &patient, &site)
    }
}

/// What the tiles of a patient have in common.
struct Patient {
    /// Optical density per channel of one unit of haematoxylin and of eosin.
    haematoxylin: [f32; 3],
    eosin: [f32; 3],
    /// Mean and standard deviation per channel that the patient's tiles scatter around, in \[0, 1\].
    mean: [f32; 3],
    deviation: [f32; 3],
    /// Factor on the size of nuclei.
    cell_size: f32,
}

impl Patient {
    fn draw(stream: &mut Stream) -> Self {
        let mut around = |centre: [f32; 3], spread: f32| centre.map(|value| value + spread * stream.bell());
        Patient {
            // Ruifrok and Johnston (2001), rounded.
            haematoxylin: around([0.65, 0.70, 0.29], 0.04),
            eosin: around([0.07, 0.99, 0.11], 0.04).map(|density| density.max(0.02)),
            mean: around([0.79, 0.61, 0.76], 0.02),
            deviation: around([0.11, 0.11, 0.075], 0.006),
            cell_size: stream.uniform(0.9, 1.1),
        }
    }
}

/// What the tiles of a site's scanner have in common.
struct Site {
    /// Bend of the tone curve `x + bend x (1 - x)`: a gamma below 1 if positive, above 1 if negative.
    bend: f32,
    /// Weight of the 3 by 3 binomial blur, 0 to 1.
    blur: f32,
    /// Standard deviation of the noise of a pixel, in \[0, 1\].
    noise: f32,
    /// Added to the mean of each channel: the white point.
    tint: [f32; 3],
}

impl Site {
    fn draw(stream: &mut Stream) -> Self {
        Site {
            bend: stream.uniform(-0.25, 0.25),
            blur: stream.uniform(0.2, 0.6),
            noise: stream.uniform(0.005, 0.015),
            tint: [0.0; 3].map(|_: f32| 0.015 * stream.bell()),
        }
    }
}

#[cfg(test)]
mod tests;
