//! Finding image files and decoding them.

use std::collections::HashSet;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::config::Size;
use crate::resize::Rgb;
use crate::{Error, Result};

/// An image below a folder.
///
/// ```
/// use arras_vit::{decode, images_in};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// std::fs::create_dir(folder.join("tumour"))?;
/// image::DynamicImage::new_rgb8(4, 3).save(folder.join("tumour/a.png"))?;
/// let files = images_in(folder)?;
/// assert_eq!((files.len(), files[0].relative_name.as_str()), (1, "tumour/a.png"));
/// assert_eq!(files[0].label.as_deref(), Some("tumour"));
/// assert_eq!(decode(&files[0].path)?.width(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Where it is.
    pub path: PathBuf,
    /// Path relative to the folder searched, with `/` between the parts on every system.
    pub relative_name: String,
    /// Name of the first-level folder it is in, which is the class in the usual layout of data sets; `None`
    /// for a file directly in the folder searched.
    pub label: Option<String>,
}

const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "tif", "tiff"];

/// All PNG, JPEG and TIFF files (by extension, in any case) in `dir` and below, sorted by relative name.
///
/// Symbolic links are followed and every folder is visited once, so loops end. Names that begin with a dot
/// are passed over.
///
/// # Errors
/// [`Error::Io`]: a folder that cannot be read.
pub fn images_in(dir: &Path) -> Result<Vec<ImageFile>> {
    let mut files = Vec::new();
    walk(dir, "", &mut HashSet::new(), &mut files)?;
    files.sort_by(|a, b| a.relative_name.cmp(&b.relative_name));
    Ok(files)
}

fn walk(dir: &Path, prefix: &str, seen: &mut HashSet<PathBuf>, files: &mut Vec<ImageFile>) -> Result<()> {
    if !seen.insert(dir.canonicalize().map_err(Error::io(dir))?) {
        return Ok(());
    }
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(dir).map_err(Error::io(dir))?.collect();
    let mut paths: Vec<PathBuf> =
        entries.map_err(Error::io(dir))?.iter().map(std::fs::DirEntry::path).collect();
    // The order decides under which name a folder with several is visited.
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let relative_name = format!("{prefix}{name}");
        if path.is_dir() {
            walk(&path, &format!("{relative_name}/"), seen, files)?;
        } else if is_image(&path) {
            let label = relative_name.split_once('/').map(|(folder, _)| folder.to_owned());
            files.push(ImageFile { path, relative_name, label });
        }
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

const MAX_SIDE: u32 = 1 << 15;
const MAX_PIXELS: u64 = 1 << 26;
const MAX_BYTES: u64 = 1 << 30;

/// Decodes a PNG, JPEG or TIFF file, recognised by content. An EXIF orientation is not applied, as Pillow's
/// `Image.open` does not.
///
/// Refuses what is not a regular file (a pipe would be waited for), files of more than 2^30 bytes, more than 2^15
/// pixels a side or 2^26 in all before memory for them is allocated, and JPEG data that ends early.
pub fn decode(path: &Path) -> Result<DynamicImage> {
    let failed = |reason: String| Error::Image { file: path.to_path_buf(), reason };
    let unreadable = |error: image::ImageError| failed(one_line(&error));
    let found = std::fs::metadata(path).map_err(Error::io(path))?;
    if !found.is_file() {
        return Err(failed("not a regular file".to_owned()));
    }
    if found.len() > MAX_BYTES {
        return Err(failed(format!("{} bytes: expected at most {MAX_BYTES}", found.len())));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let mut reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(Error::io(path))?;
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_is_whole(&bytes) {
        return Err(failed("truncated: the JPEG data has no end marker".to_owned()));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(failed(format!("{width}x{height} pixels: expected 1 to {MAX_PIXELS} in all")));
    }
    DynamicImage::from_decoder(decoder).map_err(unreadable)
}

/// Whether the end marker follows the last scan. The decoder fills what is missing with grey, which must not
/// pass for a picture; inside a scan the two bytes of the marker cannot occur.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let last = |code| bytes.windows(2).rposition(|pair| pair == [0xff, code]);
    last(0xd9) > last(0xda)
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// 8-bit RGB as Pillow's `convert("RGB")` gives it: grey is repeated, alpha is dropped, 16-bit samples keep
/// their high byte (Pillow does so too, except for grey, which it clips to 255 and so turns white).
pub(crate) fn to_rgb(image: &DynamicImage) -> std::result::Result<Rgb, String> {
    use DynamicImage::{
        ImageLuma8, ImageLuma16, ImageLumaA8, ImageLumaA16, ImageRgb8, ImageRgb16, ImageRgba8, ImageRgba16,
    };
    let size = Size { height: image.height() as usize, width: image.width() as usize };
    if size.area() == 0 {
        return Err(format!("an image of {size} pixels"));
    }
    let data = match image {
        ImageRgb8(pixels) => pixels.as_raw().clone(),
        ImageRgba8(pixels) => colour::<4, _>(pixels.as_raw(), |v| v),
        ImageLuma8(pixels) => grey::<1, _>(pixels.as_raw(), |v| v),
        ImageLumaA8(pixels) => grey::<2, _>(pixels.as_raw(), |v| v),
        ImageRgb16(pixels) => colour::<3, _>(pixels.as_raw(), high_byte),
        ImageRgba16(pixels) => colour::<4, _>(pixels.as_raw(), high_byte),
        ImageLuma16(pixels) => grey::<1, _>(pixels.as_raw(), high_byte),
        ImageLumaA16(pixels) => grey::<2, _>(pixels.as_raw(), high_byte),
        other => return Err(format!("{:?} pixels are not supported (8 or 16 bits)", other.color())),
    };
    Ok(Rgb { size, data })
}

fn high_byte(sample: u16) -> u8 {
    (sample >> 8) as u8
}

fn colour<const SAMPLES: usize, T: Copy>(samples: &[T], byte: impl Fn(T) -> u8) -> Vec<u8> {
    samples.chunks_exact(SAMPLES).flat_map(|pixel| [byte(pixel[0]), byte(pixel[1]), byte(pixel[2])]).collect()
}

fn grey<const SAMPLES: usize, T: Copy>(samples: &[T], byte: impl Fn(T) -> u8) -> Vec<u8> {
    samples.chunks_exact(SAMPLES).flat_map(|pixel| [byte(pixel[0]); 3]).collect()
}
