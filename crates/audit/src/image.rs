use std::path::Path;

use crate::{Error, Result};

/// Most pixels of an image that is loaded.
const MAX_PIXELS: u64 = 1 << 26;

/// A picture: channels of rows, values from 0 to 1.
///
/// ```
/// use arras_audit::Image;
///
/// let image = Image::new(1, 2, 2, vec![0.0, 0.25, 0.5, 3.0])?;
/// assert_eq!((image.shape(), image.to_bytes()), ([1, 2, 2], vec![0, 64, 128, 255]));
/// let mean = Image::mean([&image, &Image::new(1, 2, 2, vec![0.0; 4])?])?;
/// assert_eq!(mean.values(), [0.0, 0.125, 0.25, 0.5]);
/// assert_eq!(image.shrunk(1)?.values(), [0.4375]);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    channels: usize,
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Image {
    /// A picture from `[channels][height][width]` values; those outside 0 to 1 are moved to the nearest of both.
    ///
    /// # Errors
    /// No pixel, another number of values, or one that is not finite.
    pub fn new(channels: usize, height: usize, width: usize, mut values: Vec<f32>) -> Result<Self> {
        let area = channels.checked_mul(height).and_then(|rows| rows.checked_mul(width));
        if area != Some(values.len()) || values.is_empty() {
            let reason = format!("{channels} x {height} x {width} with {} values", values.len());
            return Err(Error::invalid("image", reason));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::invalid("image", "a value that is not finite"));
        }
        values.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
        Ok(Self { channels, height, width, values })
    }

    /// An RGB picture from `[height][width][3]` bytes.
    ///
    /// # Errors
    /// No pixel, or another number of bytes.
    pub fn from_rgb8(height: usize, width: usize, bytes: &[u8]) -> Result<Self> {
        let area = bytes.len() / 3;
        let channel = |c| bytes.iter().skip(c).step_by(3).take(area).map(|&byte| f32::from(byte) / 255.0);
        Self::new(3, height, width, (0..3).flat_map(channel).collect())
    }

    /// Reads a PNG, JPEG or TIFF as RGB.
    ///
    /// # Errors
    /// A file that is none, or too large.
    pub fn load(file: &Path) -> Result<Self> {
        let (width, height) = image::image_dimensions(file).map_err(|error| Error::file(file, error))?;
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(Error::file(file, format!("{width} x {height} pixels are more than {MAX_PIXELS}")));
        }
        let rgb = image::open(file).map_err(|error| Error::file(file, error))?.into_rgb8();
        Self::from_rgb8(height as usize, width as usize, &rgb)
    }

    /// Number of channels.
    #[must_use]
    pub const fn channels(&self) -> usize {
        self.channels
    }

    /// Rows.
    #[must_use]
    pub const fn height(&self) -> usize {
        self.height
    }

    /// Columns.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// `[channels][height][width]` values in \[0, 1\].
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// `[channels, height, width]`.
    #[must_use]
    pub const fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// The values as bytes, `[height][width][channels]`: `round(255 v)`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let area = self.height * self.width;
        let byte = |position: usize| {
            let (pixel, channel) = (position / self.channels, position % self.channels);
            (255.0 * self.values[channel * area + pixel]).round() as u8
        };
        (0..self.values.len()).map(byte).collect()
    }

    /// Writes an RGB picture as PNG, rounded to bytes.
    ///
    /// # Errors
    /// Other than three channels, or a file that cannot be written.
    pub fn save(&self, file: &Path) -> Result<()> {
        let buffer = image::RgbImage::from_raw(self.width as u32, self.height as u32, self.to_bytes())
            .filter(|_| self.channels == 3)
            .ok_or_else(|| Error::invalid("image", format!("{} channels are not RGB", self.channels)))?;
        buffer.save_with_format(file, image::ImageFormat::Png).map_err(|error| Error::file(file, error))
    }

    /// The mean of pictures of one shape.
    ///
    /// # Errors
    /// None, or shapes that differ.
    pub fn mean<'a>(images: impl IntoIterator<Item = &'a Self>) -> Result<Self> {
        let mut images = images.into_iter();
        let first = images.next().ok_or_else(|| Error::invalid("images", "none to average"))?;
        let mut sums: Vec<f64> = first.values.iter().map(|&value| value.into()).collect();
        let mut count = 1.0;
        for image in images {
            first.same_shape(image)?;
            sums.iter_mut().zip(&image.values).for_each(|(sum, &value)| *sum += f64::from(value));
            count += 1.0;
        }
        let values = sums.into_iter().map(|sum| (sum / count) as f32).collect();
        Ok(Self { values, ..first.clone() })
    }

    /// The picture with blocks of equal size averaged, so that no side is longer than `side`; rows and columns that
    /// fill no block are left out.
    ///
    /// # Errors
    /// A side of zero.
    pub fn shrunk(&self, side: usize) -> Result<Self> {
        let block = self.height.max(self.width).div_ceil(side.max(1));
        let (height, width) = (self.height / block, self.width / block);
        let mean = |(c, y, x): (usize, usize, usize)| {
            let row = |dy: usize| ((c * self.height + y * block + dy) * self.width + x * block, block);
            let rows = (0..block).map(row);
            let sum: f32 =
                rows.map(|(start, length)| self.values[start..][..length].iter().sum::<f32>()).sum();
            sum / (block * block) as f32
        };
        let places = (0..self.channels)
            .flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))));
        Self::new(self.channels, height, width, places.map(mean).collect())
    }

    /// Refuses a picture of another shape.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn same_shape(&self, other: &Self) -> Result<()> {
        if self.shape() == other.shape() {
            return Ok(());
        }
        let reason = format!("shapes {:?} and {:?} differ", self.shape(), other.shape());
        Err(Error::invalid("images", reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_files_round_trip() -> Result<()> {
        let bytes: Vec<u8> = (0..4 * 5 * 3).map(|i| (i * 4) as u8).collect();
        let image = Image::from_rgb8(4, 5, &bytes)?;
        assert_eq!(image.shape(), [3, 4, 5]);
        assert_eq!(image.to_bytes(), bytes);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        image.save(&file)?;
        assert_eq!(Image::load(&file)?, image);
        Ok(())
    }

    #[test]
    fn shrinking_averages_blocks() -> Result<()> {
        let image = Image::new(1, 2, 5, vec![0.0, 0.2, 0.4, 0.6, 1.0, 0.2, 0.4, 0.6, 0.8, 1.0])?;
        let shrunk = image.shrunk(3)?;
        assert_eq!(shrunk.shape(), [1, 1, 2]);
        assert!((shrunk.values()[0] - 0.2).abs() < 1e-6 && (shrunk.values()[1] - 0.6).abs() < 1e-6);
        assert_eq!(image.shrunk(5)?, image);
        Ok(())
    }

    #[test]
    fn bad_pictures_are_refused() {
        assert!(Image::new(3, 2, 2, vec![0.0; 11]).is_err());
        assert!(Image::new(0, 0, 0, Vec::new()).is_err());
        assert!(Image::new(1, 1, 1, vec![f32::NAN]).is_err());
        assert!(Image::from_rgb8(1, 1, &[1, 2]).is_err());
        assert!(Image::mean([]).is_err());
    }
}
