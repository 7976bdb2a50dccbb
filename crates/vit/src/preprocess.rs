//! From a decoded image to the pixel values a model takes: resize, centre crop, rescale, normalise.

use std::path::Path;

use image::DynamicImage;
use rayon::prelude::*;

use crate::config::{Architecture, Size};
use crate::images::{self, to_rgb};
use crate::json::{self, Object};
use crate::resize::{self, Filter, Rgb};
use crate::{Error, FieldError, Result};

type Parsed<T> = std::result::Result<T, FieldError>;

/// How the shorter or both sides of an image are brought to size (`size`).
///
/// See the example of [`Steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// To exactly this size, whatever the aspect ratio (`{"height", "width"}`).
    Exact(Size),
    /// The shorter side to this many pixels, keeping the aspect ratio (`{"shortest_edge"}`).
    ShortestEdge(usize),
}

/// Preprocessing as a `preprocessor_config.json` describes it, with every default filled in.
///
/// Pixels equal those of transformers' Pillow-based `ViTImageProcessor` and `BitImageProcessor` bit for bit
/// where the decoded image does: 8-bit resampling, then `(v * rescale_factor - mean) / std` in f32.
///
/// ```
/// use arras_vit::preprocess::{Resize, parse};
/// use arras_vit::{Architecture, Filter, Size};
///
/// let file = br#"{"image_processor_type": "ViTImageProcessor", "size": 64, "resample": 3}"#;
/// let steps = parse(file, &Architecture::tiny())?;
/// assert_eq!(steps.resize, Some((Resize::Exact(Size::square(64)), Filter::Bicubic)));
/// // Absent fields take the processor's defaults.
/// assert_eq!((steps.crop, steps.normalize), (None, Some(([0.5; 3], [0.5; 3]))));
/// # Ok::<(), arras_vit::FieldError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    /// Resize with this filter, unless `do_resize` is false.
    pub resize: Option<(Resize, Filter)>,
    /// Centre crop, with black where the image is smaller, unless `do_center_crop` is false.
    pub crop: Option<Size>,
    /// `rescale_factor`, unless `do_rescale` is false.
    pub rescale: Option<f64>,
    /// `image_mean` and `image_std`, unless `do_normalize` is false.
    pub normalize: Option<([f64; 3], [f64; 3])>,
}

const MAX_SIDE: usize = 1 << 14;
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

impl Steps {
    /// What is assumed where `preprocessor_config.json` is missing.
    ///
    /// ViT: transformers' `ViTImageProcessor` (bilinear, mean and deviation 0.5) at the model's image size.
    /// DINOv2: the transform published with the weights (shorter side 256, bicubic, centre crop 224,
    /// ImageNet statistics).
    pub fn for_family(architecture: &Architecture) -> Self {
        match architecture {
            Architecture::Vit(trunk, _) => {
                let resize = Some((Resize::Exact(trunk.image), Filter::Bilinear));
                Self { resize, ..Processor::Vit.defaults() }
            }
            Architecture::Dinov2(..) => Self {
                resize: Some((Resize::ShortestEdge(256), Filter::Bicubic)),
                normalize: Some((IMAGENET_MEAN, IMAGENET_STD)),
                ..Processor::Bit.defaults()
            },
        }
    }
}

/// The processor classes of transformers whose steps are the ones here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Processor {
    Vit,
    Bit,
}

impl Processor {
    /// The class that a file names; refuses those that compute something else.
    fn of(root: &Object<'_>, architecture: &Architecture) -> Parsed<Self> {
        let keys = ["image_processor_type", "feature_extractor_type"];
        let Some(key) = keys.into_iter().find(|key| root.get(key).is_some()) else {
            return Ok(match architecture {
                Architecture::Vit(..) => Self::Vit,
                Architecture::Dinov2(..) => Self::Bit,
            });
        };
        let name = root.str(key)?.unwrap_or_default();
        match name.trim_end_matches("Fast").trim_end_matches("Pil") {
            "ViTImageProcessor" | "ViTFeatureExtractor" => Ok(Self::Vit),
            "BitImageProcessor" => Ok(Self::Bit),
            _ => {
                let reason = format!("{name:?} is not supported (ViTImageProcessor, BitImageProcessor)");
                Err(root.error(key, reason))
            }
        }
    }

    /// The values of absent fields.
    const fn defaults(self) -> Steps {
        let rescale = Some(1.0 / 255.0);
        match self {
            Self::Vit => Steps {
                resize: Some((Resize::Exact(Size::square(224)), Filter::Bilinear)),
                crop: None,
                rescale,
                normalize: Some(([0.5; 3], [0.5; 3])),
            },
            Self::Bit => Steps {
                resize: Some((Resize::ShortestEdge(224), Filter::Bicubic)),
                crop: Some(Size::square(224)),
                rescale,
                normalize: Some((CLIP_MEAN, CLIP_STD)),
            },
        }
    }

    /// What a bare number in `size` means.
    const fn resize(self, side: usize) -> Resize {
        match self {
            Self::Vit => Resize::Exact(Size::square(side)),
            Self::Bit => Resize::ShortestEdge(side),
        }
    }
}

/// Reads a `preprocessor_config.json`. Never panics; every refusal names the field.
///
/// Absent fields take the defaults of the processor class that the file names (`ViTImageProcessor`,
/// `BitImageProcessor`), or of the one usual for the family. A bare number in `size` means a square for the
/// former and the shortest edge for the latter.
///
/// # Errors
/// The field that is missing, of another type, or out of range; a processor that computes something else.
pub fn parse(bytes: &[u8], architecture: &Architecture) -> Parsed<Steps> {
    let map = json::document(bytes)?;
    let root = Object::root(&map);
    let processor = Processor::of(&root, architecture)?;
    let default = processor.defaults();
    Ok(Steps {
        resize: parse_resize(&root, processor)?,
        crop: parse_crop(&root, default.crop)?,
        rescale: parse_rescale(&root)?,
        normalize: parse_normalize(&root, default.normalize)?,
    })
}

fn side(object: &Object<'_>, key: &str) -> Parsed<usize> {
    match object.count(key)? {
        Some(side) if (1..=MAX_SIDE).contains(&side) => Ok(side),
        Some(side) => Err(object.error(key, format!("expected 1 to {MAX_SIDE}, found {side}"))),
        None => Err(object.error(key, "missing")),
    }
}

/// The keys of a size object in order, to tell its kinds apart.
fn sorted_keys<'a>(object: &Object<'a>) -> Vec<&'a str> {
    let mut keys: Vec<_> = object.keys().collect();
    keys.sort_unstable();
    keys
}

fn parse_resize(root: &Object<'_>, processor: Processor) -> Parsed<Option<(Resize, Filter)>> {
    let (default_size, default_filter) = processor.defaults().resize.unzip();
    let filter = match root.count("resample")? {
        Some(code) => Filter::CODES
            .get(code)
            .copied()
            .ok_or_else(|| root.error("resample", format!("filter {code} is not supported (0 to 3)")))?,
        None => default_filter.unwrap_or(Filter::Bilinear),
    };
    let size = match root.get("size") {
        None => default_size,
        Some(value) if value.is_number() => Some(processor.resize(side(root, "size")?)),
        Some(_) => root.object("size")?.map(|size| parse_size(root, &size)).transpose()?,
    };
    Ok(if root.bool_or("do_resize", true)? { size.map(|size| (size, filter)) } else { None })
}

fn parse_size(root: &Object<'_>, size: &Object<'_>) -> Parsed<Resize> {
    match sorted_keys(size).as_slice() {
        ["height", "width"] => {
            Ok(Resize::Exact(Size { height: side(size, "height")?, width: side(size, "width")? }))
        }
        ["shortest_edge"] => Ok(Resize::ShortestEdge(side(size, "shortest_edge")?)),
        keys => {
            Err(root.error("size", format!("expected height and width or shortest_edge, found {keys:?}")))
        }
    }
}

fn parse_crop(root: &Object<'_>, default: Option<Size>) -> Parsed<Option<Size>> {
    let crop = match root.get("crop_size") {
        None => default,
        Some(value) if value.is_number() => Some(Size::square(side(root, "crop_size")?)),
        Some(_) => match root.object("crop_size")? {
            Some(size) => Some(Size { height: side(&size, "height")?, width: side(&size, "width")? }),
            None => default,
        },
    };
    if !root.bool_or("do_center_crop", default.is_some())? {
        return Ok(None);
    }
    crop.map(Some).ok_or_else(|| root.error("crop_size", "missing although do_center_crop is true"))
}

fn parse_rescale(root: &Object<'_>) -> Parsed<Option<f64>> {
    let factor = root.float("rescale_factor")?.unwrap_or(1.0 / 255.0);
    if !(factor > 0.0 && factor <= 1.0) {
        return Err(root.error("rescale_factor", format!("expected a number from 0 to 1, found {factor}")));
    }
    Ok(root.bool_or("do_rescale", true)?.then_some(factor))
}

type Statistics = ([f64; 3], [f64; 3]);

fn parse_normalize(root: &Object<'_>, default: Option<Statistics>) -> Parsed<Option<Statistics>> {
    let (mean, std) = default.unwrap_or(([0.5; 3], [0.5; 3]));
    let mean = root.triple("image_mean")?.unwrap_or(mean);
    let std = root.triple("image_std")?.unwrap_or(std);
    const RANGE: std::ops::RangeInclusive<f64> = -1e6..=1e6;
    if !mean.iter().all(|m| RANGE.contains(m)) {
        return Err(root.error("image_mean", format!("expected numbers within 1e6, found {mean:?}")));
    }
    if !std.iter().all(|s| RANGE.contains(s) && *s >= 1e-6) {
        return Err(root.error("image_std", format!("expected numbers from 1e-6 to 1e6, found {std:?}")));
    }
    Ok(root.bool_or("do_normalize", true)?.then_some((mean, std)))
}

/// Preprocessing bound to a model's input size.
///
/// ```
/// use arras_vit::preprocess::Steps;
/// use arras_vit::{Architecture, Preprocessor};
/// use image::DynamicImage;
///
/// let vit = Architecture::tiny();
/// let preprocessor = Preprocessor::new(Steps::for_family(&vit), &vit)?;
/// let pixels = preprocessor.pixels(&DynamicImage::new_rgb8(100, 80))?;
/// assert_eq!((pixels.len(), preprocessor.output().height), (3 * 64 * 64, 64));
/// // Black, normalised with mean and deviation 0.5.
/// assert!(pixels.iter().all(|&value| value == -1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Preprocessor {
    steps: Steps,
    output: Size,
    /// The model's value of every byte, per channel.
    values: [[f32; 256]; 3],
}

impl Preprocessor {
    /// Binds steps to a model. Fails, naming the size, if their output is not what the model takes.
    pub fn new(steps: Steps, architecture: &Architecture) -> Parsed<Self> {
        let image = architecture.trunk().image;
        let (field, output) = match (steps.crop, steps.resize) {
            (Some(crop), _) => ("crop_size", crop),
            (None, Some((Resize::Exact(size), _))) => ("size", size),
            // The size varies with the image; only the model's own can be taken.
            (None, Some((Resize::ShortestEdge(_), _)) | None) => ("size", image),
        };
        architecture.accepts(output).map_err(|reason| FieldError::new(field, reason))?;
        Ok(Self { steps, output, values: values(&steps) })
    }

    /// Reads `preprocessor_config.json` of a Hugging Face directory, or takes [`Steps::for_family`] if there
    /// is none.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Field`], naming the file; as [`parse`] and [`Self::new`].
    pub fn from_dir(dir: &Path, architecture: &Architecture) -> Result<Self> {
        let file = dir.join("preprocessor_config.json");
        let steps = match crate::load::read_json(&file) {
            Ok(bytes) => parse(&bytes, architecture).map_err(|error| error.at(&file))?,
            Err(Error::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                Steps::for_family(architecture)
            }
            Err(error) => return Err(error),
        };
        Self::new(steps, architecture).map_err(|error| error.at(&file))
    }

    /// The steps, with every default filled in.
    pub const fn steps(&self) -> &Steps {
        &self.steps
    }

    /// Height and width of every output.
    pub const fn output(&self) -> Size {
        self.output
    }

    /// Values per image: `3 * height * width`.
    pub const fn len(&self) -> usize {
        3 * self.output.area()
    }

    /// Never true: an output has at least one patch.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pixel values `[3][height][width]` of one image.
    ///
    /// Fails with [`Error::Input`] if the steps do not lead to [`Self::output`], which can happen only
    /// without an exact resize or crop.
    pub fn pixels(&self, image: &DynamicImage) -> Result<Vec<f32>> {
        let mut rgb = to_rgb(image).map_err(Error::Input)?;
        if let Some((resize, filter)) = self.steps.resize {
            let to = resize.target(rgb.size)?;
            rgb = resize::resize(&rgb, to, filter);
        }
        if let Some(crop) = self.steps.crop {
            rgb = center_crop(&rgb, crop);
        }
        if rgb.size != self.output {
            let (found, wanted) = (rgb.size, self.output);
            return Err(Error::Input(format!(
                "image is {found} after preprocessing, the model takes {wanted}"
            )));
        }
        Ok(self.planar(&rgb))
    }

    fn planar(&self, rgb: &Rgb) -> Vec<f32> {
        let plane = |(channel, values): (usize, &[f32; 256])| {
            let pixels = rgb.data.iter().skip(channel).step_by(3);
            pixels.map(|&byte| values[usize::from(byte)]).collect::<Vec<_>>()
        };
        self.values.iter().enumerate().flat_map(plane).collect()
    }

    /// Decodes and preprocesses one file; an error names it.
    ///
    /// # Errors
    /// Those of [`decode`](crate::decode); [`Error::Image`] where [`Self::pixels`] refuses.
    pub fn load(&self, path: &Path) -> Result<Vec<f32>> {
        let image = images::decode(path)?;
        self.pixels(&image).map_err(|error| match error {
            Error::Input(reason) => Error::Image { file: path.to_path_buf(), reason },
            other => other,
        })
    }

    /// [`Self::load`] of every file in parallel, in order. One bad file does not disturb the others.
    pub fn load_all<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Vec<Result<Vec<f32>>> {
        paths.par_iter().map(|path| self.load(path.as_ref())).collect()
    }
}

/// Rescaling in f64 rounded to f32, then normalisation in f32: the order and widths of transformers.
fn values(steps: &Steps) -> [[f32; 256]; 3] {
    let value = |channel: usize, byte: usize| {
        let rescaled = (byte as f64 * steps.rescale.unwrap_or(1.0)) as f32;
        match steps.normalize {
            Some((mean, std)) => (rescaled - mean[channel] as f32) / std[channel] as f32,
            None => rescaled,
        }
    };
    std::array::from_fn(|channel| std::array::from_fn(|byte| value(channel, byte)))
}

impl Resize {
    /// Size after resizing. Bounded, so that a 1 x 30,000 strip does not become gigabytes.
    fn target(self, from: Size) -> Result<Size> {
        let short = match self {
            Self::Exact(size) => return Ok(size),
            Self::ShortestEdge(short) => short,
        };
        let long = |long: usize, from_short: usize| short * long / from_short;
        let to = if from.width <= from.height {
            Size { height: long(from.height, from.width), width: short }
        } else {
            Size { height: short, width: long(from.width, from.height) }
        };
        if to.height.max(to.width) > 4 * MAX_SIDE {
            return Err(Error::Input(format!("a {from} image is too elongated to be resized to {to}")));
        }
        Ok(to)
    }
}

/// The central `to` pixels; black where the image is smaller.
fn center_crop(image: &Rgb, to: Size) -> Rgb {
    let mut data = vec![0; 3 * to.area()];
    let (rows_from, rows_to, rows) = overlap(image.size.height, to.height);
    let (columns_from, columns_to, columns) = overlap(image.size.width, to.width);
    for row in 0..rows {
        let from = 3 * ((rows_from + row) * image.size.width + columns_from);
        let into = 3 * ((rows_to + row) * to.width + columns_to);
        data[into..into + 3 * columns].copy_from_slice(&image.data[from..from + 3 * columns]);
    }
    Rgb { size: to, data }
}

/// First source index, first target index and length of a centred copy, rounded as in transformers.
fn overlap(from: usize, to: usize) -> (usize, usize, usize) {
    if from >= to { ((from - to) / 2, 0, to) } else { (0, (to - from).div_ceil(2), from) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dinov2() -> Architecture {
        crate::config::parse(br#"{"model_type": "dinov2"}"#).unwrap()
    }

    fn vit() -> Architecture {
        crate::config::parse(br#"{"model_type": "vit"}"#).unwrap()
    }

    #[test]
    fn absent_fields_take_the_defaults_of_the_class() {
        assert_eq!(parse(b"{}", &vit()).unwrap(), Processor::Vit.defaults());
        assert_eq!(parse(b"{}", &dinov2()).unwrap(), Processor::Bit.defaults());
        let json = br#"{"image_processor_type": "ViTImageProcessorFast"}"#;
        assert_eq!(parse(json, &dinov2()).unwrap(), Processor::Vit.defaults());
    }

    #[test]
    fn the_forms_of_size() {
        for (json, square, edge) in [
            (r#"{"size": 96}"#, Resize::Exact(Size::square(96)), Resize::ShortestEdge(96)),
            (r#"{"size": {"shortest_edge": 9}}"#, Resize::ShortestEdge(9), Resize::ShortestEdge(9)),
        ] {
            let resize = |architecture| parse(json.as_bytes(), architecture).unwrap().resize.unwrap().0;
            assert_eq!((resize(&vit()), resize(&dinov2())), (square, edge));
        }
        let oblong = parse(br#"{"size": {"height": 3, "width": 4}, "resample": 1}"#, &dinov2()).unwrap();
        assert_eq!(oblong.resize, Some((Resize::Exact(Size { height: 3, width: 4 }), Filter::Lanczos)));
    }

    #[test]
    fn steps_can_be_switched_off() {
        let json =
            br#"{"do_resize": false, "do_center_crop": false, "do_rescale": false, "do_normalize": false}"#;
        let none = Steps { resize: None, crop: None, rescale: None, normalize: None };
        assert_eq!(parse(json, &dinov2()).unwrap(), none);
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (json, field) in [
            ("[1]", "document"),
            (r#"{"size": 0}"#, "size"),
            (r#"{"size": "224"}"#, "size"),
            (r#"{"size": {"longest_edge": 5}}"#, "size"),
            (r#"{"size": {"height": 5}}"#, "size"),
            (r#"{"size": {"height": 5, "width": 99999}}"#, "size.width"),
            (r#"{"size": {"shortest_edge": -5}}"#, "size.shortest_edge"),
            (r#"{"resample": 4}"#, "resample"),
            (r#"{"resample": "bicubic"}"#, "resample"),
            (r#"{"crop_size": {"height": 5}}"#, "crop_size.width"),
            (r#"{"crop_size": []}"#, "crop_size"),
            (r#"{"do_resize": 1}"#, "do_resize"),
            (r#"{"do_center_crop": "no"}"#, "do_center_crop"),
            (r#"{"rescale_factor": 0}"#, "rescale_factor"),
            (r#"{"rescale_factor": -1}"#, "rescale_factor"),
            (r#"{"image_mean": [0.5, 0.5]}"#, "image_mean"),
            (r#"{"image_mean": 0.5}"#, "image_mean"),
            (r#"{"image_std": [0.5, 0, 0.5]}"#, "image_std"),
            (r#"{"image_std": [0.5, 1e300, 0.5]}"#, "image_std"),
            (r#"{"image_processor_type": "ConvNextImageProcessor"}"#, "image_processor_type"),
            (r#"{"feature_extractor_type": 3}"#, "feature_extractor_type"),
        ] {
            let error = parse(json.as_bytes(), &dinov2()).unwrap_err();
            assert_eq!(error.field, field, "{json}: {error}");
        }
        let json = br#"{"image_processor_type": "ViTImageProcessor", "do_center_crop": true}"#;
        assert_eq!(parse(json, &vit()).unwrap_err().field, "crop_size");
    }

    #[test]
    fn damaged_documents_never_panic() {
        let whole =
            br#"{"size": {"shortest_edge": 256}, "crop_size": 224, "resample": 3, "image_std": [1, 1, 1]}"#;
        for at in 0..whole.len() {
            let _ = parse(&whole[..at], &dinov2());
            for byte in [0, b'"', b'{', b'[', b'0', b'9', b'-', b'e', 0xff] {
                let mut damaged = whole.to_vec();
                damaged[at] = byte;
                let _ = parse(&damaged, &dinov2());
            }
        }
    }

    #[test]
    fn an_output_the_model_cannot_take_is_refused() {
        fn bind(json: &[u8], architecture: &Architecture) -> Parsed<Size> {
            Preprocessor::new(parse(json, architecture)?, architecture).map(|bound| bound.output())
        }
        assert_eq!(bind(br#"{"size": 96}"#, &vit()).unwrap_err().field, "size");
        assert_eq!(bind(br#"{"crop_size": 13}"#, &dinov2()).unwrap_err().field, "crop_size");
        assert_eq!(bind(br#"{"crop_size": 9000}"#, &dinov2()).unwrap_err().field, "crop_size");
        assert_eq!(bind(br#"{"crop_size": 100}"#, &dinov2()).unwrap(), Size::square(100));
    }

    #[test]
    fn images_that_do_not_end_at_the_output_size_are_refused() {
        let json = br#"{"do_resize": false}"#;
        let preprocessor = Preprocessor::new(parse(json, &vit()).unwrap(), &vit()).unwrap();
        assert!(preprocessor.pixels(&DynamicImage::new_rgb8(224, 224)).is_ok());
        let error = preprocessor.pixels(&DynamicImage::new_rgb8(224, 100)).unwrap_err().to_string();
        assert_eq!(error, "image is 100x224 after preprocessing, the model takes 224x224");
        assert!(preprocessor.pixels(&DynamicImage::new_rgb8(0, 0)).is_err());

        let edge = Preprocessor::new(parse(b"{}", &dinov2()).unwrap(), &dinov2()).unwrap();
        assert!(edge.pixels(&DynamicImage::new_rgb8(1, 20_000)).is_err());
    }
}
