//! Pictures as a model takes them, and back.

use arras_fit::tiles::TileSet;
use arras_vit::Preprocessor;
use image::{DynamicImage, RgbImage};

use crate::{Error, Image, Result};

/// One labelled picture in both forms.
///
/// See the example of [`Scale`].
#[derive(Clone, Debug)]
pub struct Sample {
    /// What the model sees, on a scale from 0 to 1.
    pub image: Image,
    /// The same as the model takes it, `[3][H][W]`, normalised.
    pub pixels: Vec<f32>,
    /// Class, where it is known.
    pub class: usize,
}

/// The way between pictures and normalised pixels.
///
/// ```
/// use arras_audit::picture::{Scale, tiles};
/// use arras_vit::{Architecture, Preprocessor, preprocess::Steps};
///
/// let vit = Architecture::tiny();
/// let preprocessor = Preprocessor::new(Steps::for_family(&vit), &vit)?;
/// let scale = Scale::of(&preprocessor);
/// // Mean and deviation 0.5: from -1 to 1.
/// assert_eq!(scale.range(), (-1.0, 1.0));
/// let sample = &tiles(&preprocessor, 7, 1)?[0];
/// assert_eq!(scale.image(&sample.pixels)?.to_bytes(), sample.image.to_bytes());
/// assert_eq!(scale.pixels(&sample.image)?.len(), sample.pixels.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scale {
    height: usize,
    width: usize,
    mean: [f64; 3],
    deviation: [f64; 3],
    /// Pixel value of white before normalisation.
    white: f64,
}

impl Scale {
    /// That of a model's preprocessing.
    #[must_use]
    pub fn of(preprocessor: &Preprocessor) -> Self {
        let steps = preprocessor.steps();
        let (mean, deviation) = steps.normalize.unwrap_or(([0.0; 3], [1.0; 3]));
        let size = preprocessor.output();
        let white = 255.0 * steps.rescale.unwrap_or(1.0);
        Self { height: size.height, width: size.width, mean, deviation, white }
    }

    /// The picture of normalised pixels; values beyond black and white are moved to these.
    ///
    /// # Errors
    /// Another number of pixels, or one that is not finite.
    pub fn image(&self, pixels: &[f32]) -> Result<Image> {
        let area = self.height * self.width;
        let value = |(at, &pixel): (usize, &f32)| {
            let channel = (at / area).min(2);
            ((f64::from(pixel) * self.deviation[channel] + self.mean[channel]) / self.white) as f32
        };
        Image::new(3, self.height, self.width, pixels.iter().enumerate().map(value).collect())
    }

    /// The smallest and largest normalised value that any channel takes.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        let ends = |white: f64| {
            self.mean
                .iter()
                .zip(self.deviation)
                .map(move |(mean, deviation)| ((white - mean) / deviation) as f32)
        };
        (ends(0.0).fold(f32::INFINITY, f32::min), ends(self.white).fold(f32::NEG_INFINITY, f32::max))
    }

    /// Normalised pixels of a picture.
    ///
    /// # Errors
    /// A picture of another shape.
    pub fn pixels(&self, image: &Image) -> Result<Vec<f32>> {
        if image.shape() != [3, self.height, self.width] {
            let reason = format!("{:?} is not 3 x {} x {}", image.shape(), self.height, self.width);
            return Err(Error::invalid("image", reason));
        }
        let area = self.height * self.width;
        let value = |(at, &value): (usize, &f32)| {
            let channel = at / area;
            ((f64::from(value) * self.white - self.mean[channel]) / self.deviation[channel]) as f32
        };
        Ok(image.values().iter().enumerate().map(value).collect())
    }
}

/// A decoded picture as a model sees it.
///
/// # Errors
/// A picture that the preprocessing does not bring to the model's size.
pub fn sample(preprocessor: &Preprocessor, picture: &DynamicImage, class: usize) -> Result<Sample> {
    let pixels = preprocessor.pixels(picture)?;
    Ok(Sample { image: Scale::of(preprocessor).image(&pixels)?, pixels, class })
}

/// `count` generated tiles of one seed, class after class in turn, at the size that the model takes.
///
/// # Errors
/// A size that the generator does not paint.
pub fn tiles(preprocessor: &Preprocessor, seed: u64, count: usize) -> Result<Vec<Sample>> {
    let size = preprocessor.output();
    let side = size.height.max(size.width);
    let set =
        TileSet { seed, per_class: count.div_ceil(3), patients: count.div_ceil(24), sites: 3, size: side };
    (0..count)
        .map(|index| {
            let tile = set.tile(index)?;
            let picture = RgbImage::from_raw(side as u32, side as u32, tile.rgb)
                .ok_or_else(|| Error::invalid("tile", "its bytes are not its size"))?;
            sample(preprocessor, &picture.into(), tile.class)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use arras_vit::{Architecture, Tensors};

    use super::*;

    #[test]
    fn pictures_survive_normalisation() -> Result<()> {
        let model = Tensors::random(&Architecture::tiny(), 1)?;
        let tiles = tiles(&model.preprocessor, 5, 6)?;
        let classes: Vec<usize> = tiles.iter().map(|tile| tile.class).collect();
        assert_eq!(classes, [0, 1, 2, 0, 1, 2]);
        let scale = Scale::of(&model.preprocessor);
        for tile in &tiles {
            let again = scale.pixels(&tile.image)?;
            let largest = again.iter().zip(&tile.pixels).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest < 1e-6, "{largest}");
        }
        assert!(scale.image(&[0.0]).is_err());
        Ok(())
    }
}
