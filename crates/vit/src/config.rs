//! Which transformer: families, dimensions, limits, and the tensors each one is made of.

use crate::FieldError;
use crate::json::{self, Object};

type Result<T> = std::result::Result<T, FieldError>;

/// Height and width in pixels or patches.
///
/// ```
/// use arras_vit::Size;
///
/// let size = Size { height: 200, width: 160 };
/// assert_eq!((size.area(), size.to_string().as_str()), (32_000, "200x160"));
/// assert_eq!(Size::square(224).width, 224);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Size {
    /// The same height and width.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }

    /// `height * width`.
    pub const fn area(self) -> usize {
        self.height.saturating_mul(self.width)
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

/// The nonlinearity of the feed-forward blocks (`hidden_act`).
///
/// See the example of [`Trunk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `x * Phi(x)` with the exact normal distribution function (`gelu`).
    Gelu,
    /// The tanh approximation of GELU (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// `x * sigmoid(1.702 x)` (`quick_gelu`).
    QuickGelu,
    /// `max(x, 0)` (`relu`).
    Relu,
}

impl Activation {
    const NAMES: [(&str, Self); 5] = [
        ("gelu", Self::Gelu),
        ("gelu_new", Self::GeluTanh),
        ("gelu_pytorch_tanh", Self::GeluTanh),
        ("quick_gelu", Self::QuickGelu),
        ("relu", Self::Relu),
    ];
}

/// The second half of every block.
///
/// See the example of [`Architecture`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForward {
    /// `fc2(activation(fc1(x)))` with this many hidden units.
    Mlp(usize),
    /// `w_out(silu(a) * b)`, `(a, b) = w_in(x)`, with this many hidden units in each of `a` and `b`.
    SwiGlu(usize),
}

/// The dimensions all families share.
///
/// ```
/// use arras_vit::config::{Activation, Architecture, Size, Trunk};
///
/// let trunk = Trunk {
///     image: Size::square(224),
///     patch: Size::square(16),
///     width: 192,
///     depth: 12,
///     heads: 3,
///     activation: Activation::Gelu,
///     layer_norm_eps: 1e-12,
///     qkv_bias: true,
/// };
/// assert_eq!(Architecture::Vit(trunk, 768).tokens(), 14 * 14 + 1);
/// let error = Architecture::Vit(Trunk { heads: 5, ..trunk }, 768).validate().unwrap_err();
/// assert_eq!(error.to_string(), "num_attention_heads: 5 heads do not divide hidden_size 192");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trunk {
    /// Image size the position embeddings belong to (`image_size`).
    pub image: Size,
    /// Patch size (`patch_size`).
    pub patch: Size,
    /// Length D of every token (`hidden_size`).
    pub width: usize,
    /// Number of blocks (`num_hidden_layers`).
    pub depth: usize,
    /// Attention heads, a divisor of `width` (`num_attention_heads`).
    pub heads: usize,
    /// `hidden_act`.
    pub activation: Activation,
    /// `layer_norm_eps`, in `[0, 1)`.
    pub layer_norm_eps: f64,
    /// Whether query, key and value projections have a bias (`qkv_bias`).
    pub qkv_bias: bool,
}

/// A vision transformer by family, named after the model classes of Hugging Face transformers.
///
/// ```
/// use arras_vit::Architecture;
/// use arras_vit::config::{FeedForward, parse};
///
/// let file = br#"{"model_type": "dinov2", "hidden_size": 384, "num_attention_heads": 6, "image_size": 518}"#;
/// let small = parse(file)?;
/// assert!(matches!(small, Architecture::Dinov2(..)));
/// assert_eq!((small.width(), small.tokens()), (384, 37 * 37 + 1));
/// assert_eq!(small.feed_forward(), FeedForward::Mlp(4 * 384));
/// # Ok::<(), arras_vit::FieldError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Architecture {
    /// `ViTModel` (Dosovitskiy et al., 2021): pre-norm blocks, MLP of the given hidden width.
    Vit(Trunk, usize),
    /// `Dinov2Model` (Oquab et al., 2023): adds layer scale, optionally SwiGLU, and inputs of another size
    /// than the one trained on.
    Dinov2(Trunk, FeedForward),
}

const MAX_SIDE: usize = 1 << 14;
const MAX_WIDTH: usize = 1 << 14;
const MAX_DEPTH: usize = 1 << 9;
const MAX_HIDDEN: usize = 1 << 17;
const MAX_PATCHES: usize = 1 << 14;
/// Largest accepted number of weights: four times DINOv2 giant.
const MAX_WEIGHTS: usize = 1 << 32;

/// Reads a `config.json`. Never panics; every refusal names the field.
///
/// Absent fields take the defaults of transformers' `ViTConfig` and `Dinov2Config`. Fields that do not
/// change the CLS token at inference (dropout, labels, pooler) are not looked at.
///
/// # Errors
/// The field that is missing, of another type, or out of range; another family.
pub fn parse(bytes: &[u8]) -> Result<Architecture> {
    let map = json::document(bytes)?;
    let root = Object::root(&map);
    let architecture = match family(&root)? {
        Family::Vit => {
            let hidden = root.count("intermediate_size")?.unwrap_or(3072);
            Architecture::Vit(trunk(&root, 16, 1e-12)?, hidden)
        }
        Family::Dinov2 => {
            let trunk = trunk(&root, 14, 1e-6)?;
            Architecture::Dinov2(trunk, dinov2_feed_forward(&root, trunk.width)?)
        }
    };
    architecture.validate()?;
    Ok(architecture)
}

enum Family {
    Vit,
    Dinov2,
}

/// The family by `model_type`, or by the class name in `architectures` where that is missing.
fn family(root: &Object<'_>) -> Result<Family> {
    if let Some(name) = root.str("model_type")? {
        return match name {
            "vit" => Ok(Family::Vit),
            "dinov2" => Ok(Family::Dinov2),
            other => Err(root.error("model_type", format!("{other:?} is not supported (vit, dinov2)"))),
        };
    }
    let class = root.get("architectures").and_then(|list| list.get(0)).and_then(|name| name.as_str());
    match class {
        Some("ViTModel" | "ViTForImageClassification") => Ok(Family::Vit),
        Some("Dinov2Model" | "Dinov2ForImageClassification") => Ok(Family::Dinov2),
        Some(other) => Err(root.error("architectures", format!("{other:?} is not supported"))),
        None => Err(root.error("model_type", "missing")),
    }
}

fn trunk(root: &Object<'_>, patch: usize, layer_norm_eps: f64) -> Result<Trunk> {
    let size = |key, default| -> Result<Size> {
        let (height, width) = root.pair(key)?.unwrap_or((default, default));
        Ok(Size { height, width })
    };
    let channels = root.count("num_channels")?.unwrap_or(3);
    if channels != 3 {
        return Err(root.error("num_channels", format!("images have 3 channels, found {channels}")));
    }
    let activation = root.str("hidden_act")?.unwrap_or("gelu");
    let known = Activation::NAMES.iter().find(|(name, _)| *name == activation);
    Ok(Trunk {
        image: size("image_size", 224)?,
        patch: size("patch_size", patch)?,
        width: root.count("hidden_size")?.unwrap_or(768),
        depth: root.count("num_hidden_layers")?.unwrap_or(12),
        heads: root.count("num_attention_heads")?.unwrap_or(12),
        activation: known
            .map(|(_, activation)| *activation)
            .ok_or_else(|| root.error("hidden_act", format!("{activation:?} is not supported")))?,
        layer_norm_eps: root.float("layer_norm_eps")?.unwrap_or(layer_norm_eps),
        qkv_bias: root.bool_or("qkv_bias", true)?,
    })
}

/// Hidden units as `Dinov2MLP` and `Dinov2SwiGLUFFN` compute them: the latter takes two thirds, rounded up
/// to a multiple of 8.
fn dinov2_feed_forward(root: &Object<'_>, width: usize) -> Result<FeedForward> {
    let ratio = root.float("mlp_ratio")?.unwrap_or(4.0);
    if !(ratio > 0.0 && ratio <= 64.0) {
        return Err(root.error("mlp_ratio", format!("expected a number from 0 to 64, found {ratio}")));
    }
    // A float-to-int cast saturates, and `validate` bounds the result.
    let hidden = (width as f64 * ratio) as usize;
    if !root.bool_or("use_swiglu_ffn", false)? {
        return Ok(FeedForward::Mlp(hidden));
    }
    let two_thirds = (hidden as f64 * 2.0 / 3.0) as usize;
    Ok(FeedForward::SwiGlu(two_thirds.min(MAX_HIDDEN).next_multiple_of(8)))
}

impl Architecture {
    /// The geometry of Al Amin et al. (arXiv 2511.20983): 200x200 images, patches of 25, 65 tokens of 768.
    /// Depth, heads and MLP are those of ViT-B; the paper does not state them.
    pub const fn paper() -> Self {
        Self::small_vit(200, 25, 12, 3072)
    }

    /// The demo's transformer: 64x64 images, patches of 8, 65 tokens of 768, 2 blocks.
    pub const fn tiny() -> Self {
        Self::small_vit(64, 8, 2, 1536)
    }

    const fn small_vit(image: usize, patch: usize, depth: usize, hidden: usize) -> Self {
        let trunk = Trunk {
            image: Size::square(image),
            patch: Size::square(patch),
            width: 768,
            depth,
            heads: 12,
            activation: Activation::Gelu,
            layer_norm_eps: 1e-12,
            qkv_bias: true,
        };
        Self::Vit(trunk, hidden)
    }

    /// The dimensions shared by all families.
    pub const fn trunk(&self) -> &Trunk {
        match self {
            Self::Vit(trunk, _) | Self::Dinov2(trunk, _) => trunk,
        }
    }

    /// The second half of every block.
    pub const fn feed_forward(&self) -> FeedForward {
        match *self {
            Self::Vit(_, hidden) => FeedForward::Mlp(hidden),
            Self::Dinov2(_, feed_forward) => feed_forward,
        }
    }

    /// Length D of the CLS token.
    pub const fn width(&self) -> usize {
        self.trunk().width
    }

    /// Patches along each side of an input image; a remainder that fills no patch is not looked at.
    pub fn grid(&self, input: Size) -> Size {
        let patch = self.trunk().patch;
        let whole = |side: usize, patch| side.checked_div(patch).unwrap_or(0);
        Size { height: whole(input.height, patch.height), width: whole(input.width, patch.width) }
    }

    /// Number of tokens, CLS included, of an image of the configured size.
    pub fn tokens(&self) -> usize {
        self.grid(self.trunk().image).area().saturating_add(1)
    }

    /// Number of weights that the CLS token depends on, of an architecture that [`Self::validate`] accepts.
    pub fn weights(&self) -> usize {
        self.tensors().iter().map(TensorSpec::len).sum()
    }

    /// Checks every dimension against this crate's limits, before anything is allocated.
    ///
    /// # Errors
    /// The first field that is out of range, named as in `config.json`.
    pub fn validate(&self) -> Result<()> {
        let trunk = self.trunk();
        for (field, value, max) in [
            ("image_size", trunk.image.height, MAX_SIDE),
            ("image_size", trunk.image.width, MAX_SIDE),
            ("patch_size", trunk.patch.height, trunk.image.height),
            ("patch_size", trunk.patch.width, trunk.image.width),
            ("hidden_size", trunk.width, MAX_WIDTH),
            ("num_hidden_layers", trunk.depth, MAX_DEPTH),
            ("num_attention_heads", trunk.heads, trunk.width),
            (self.hidden_field(), self.hidden(), MAX_HIDDEN),
        ] {
            if !(1..=max).contains(&value) {
                return Err(FieldError::new(field, format!("expected 1 to {max}, found {value}")));
            }
        }
        if !trunk.width.is_multiple_of(trunk.heads) {
            let reason = format!("{} heads do not divide hidden_size {}", trunk.heads, trunk.width);
            return Err(FieldError::new("num_attention_heads", reason));
        }
        if !(0.0..1.0).contains(&trunk.layer_norm_eps) {
            let reason = format!("expected a number from 0 to 1, found {}", trunk.layer_norm_eps);
            return Err(FieldError::new("layer_norm_eps", reason));
        }
        check_patches("patch_size", self.tokens() - 1)?;
        let weights = self.weights();
        if weights > MAX_WEIGHTS {
            let reason = format!("the model would have {weights} weights, more than {MAX_WEIGHTS}");
            return Err(FieldError::new("num_hidden_layers", reason));
        }
        Ok(())
    }

    /// Checks that the model takes images of this size, which the preprocessing produces.
    ///
    /// A `ViTModel` takes only its own; a `Dinov2Model` interpolates its position embeddings.
    pub(crate) fn accepts(&self, input: Size) -> std::result::Result<(), String> {
        let image = self.trunk().image;
        if input == image {
            return Ok(());
        }
        match self {
            Self::Vit(..) => Err(format!("the model takes {image} pixels, the preprocessing gives {input}")),
            Self::Dinov2(..) => {
                let (from, to) = (self.grid(image), self.grid(input));
                if from != to && from.height != from.width {
                    return Err(format!("position embeddings of a {from} grid cannot be interpolated"));
                }
                if to.area() == 0 {
                    return Err(format!("an image of {input} pixels has no whole patch"));
                }
                check_patches("size", to.area()).map_err(|error| error.reason)
            }
        }
    }

    const fn hidden(&self) -> usize {
        match self.feed_forward() {
            FeedForward::Mlp(hidden) | FeedForward::SwiGlu(hidden) => hidden,
        }
    }

    const fn hidden_field(&self) -> &'static str {
        match self {
            Self::Vit(..) => "intermediate_size",
            Self::Dinov2(..) => "mlp_ratio",
        }
    }

    /// Every tensor the CLS token depends on, in the order that the fingerprint and the seeded
    /// initialisation use, under the names of the Hugging Face classes.
    pub(crate) fn tensors(&self) -> Vec<TensorSpec> {
        let trunk = self.trunk();
        let d = trunk.width;
        let mut list = vec![
            TensorSpec::new("embeddings.cls_token", &[1, 1, d], Init::Normal),
            TensorSpec::new("embeddings.position_embeddings", &[1, self.tokens(), d], Init::Normal),
        ];
        let patch = [d, 3, trunk.patch.height, trunk.patch.width];
        linear(&mut list, "embeddings.patch_embeddings.projection", &patch, true);
        for block in 0..trunk.depth {
            self.block_tensors(&mut list, &format!("encoder.layer.{block}"));
        }
        norm(&mut list, "layernorm", d);
        list
    }

    fn block_tensors(&self, list: &mut Vec<TensorSpec>, block: &str) {
        let Trunk { width: d, qkv_bias, .. } = *self.trunk();
        let names = self.block_names();
        let (rows, hidden) = match self.feed_forward() {
            FeedForward::Mlp(hidden) => (hidden, hidden),
            FeedForward::SwiGlu(hidden) => (2 * hidden, hidden),
        };
        let scale = |list: &mut Vec<_>, name: Option<&str>| {
            list.extend(name.map(|name| TensorSpec::new(format!("{block}.{name}"), &[d], Init::One)));
        };
        norm(list, &format!("{block}.{}", names.norm1), d);
        for part in QKV {
            linear(list, &format!("{block}.{part}"), &[d, d], qkv_bias);
        }
        linear(list, &format!("{block}.{PROJECTION}"), &[d, d], true);
        scale(list, names.scale1);
        norm(list, &format!("{block}.{}", names.norm2), d);
        linear(list, &format!("{block}.{}", names.up), &[rows, d], true);
        linear(list, &format!("{block}.{}", names.down), &[d, hidden], true);
        scale(list, names.scale2);
    }

    /// Names inside a block where the families differ.
    pub(crate) const fn block_names(&self) -> BlockNames {
        let (up, down) = match self.feed_forward() {
            FeedForward::Mlp(_) => ("mlp.fc1", "mlp.fc2"),
            FeedForward::SwiGlu(_) => ("mlp.weights_in", "mlp.weights_out"),
        };
        match self {
            Self::Vit(..) => BlockNames {
                norm1: "layernorm_before",
                norm2: "layernorm_after",
                up: "intermediate.dense",
                down: "output.dense",
                scale1: None,
                scale2: None,
            },
            Self::Dinov2(..) => BlockNames {
                norm1: "norm1",
                norm2: "norm2",
                up,
                down,
                scale1: Some("layer_scale1.lambda1"),
                scale2: Some("layer_scale2.lambda1"),
            },
        }
    }
}

/// Query, key and value projections inside a block.
pub(crate) const QKV: [&str; 3] =
    ["attention.attention.query", "attention.attention.key", "attention.attention.value"];
/// Output projection of the attention inside a block.
pub(crate) const PROJECTION: &str = "attention.output.dense";

/// Names of a block's tensors, without the block's prefix.
pub(crate) struct BlockNames {
    pub(crate) norm1: &'static str,
    pub(crate) norm2: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) scale1: Option<&'static str>,
    pub(crate) scale2: Option<&'static str>,
}

fn check_patches(field: &str, patches: usize) -> Result<()> {
    if patches > MAX_PATCHES {
        return Err(FieldError::new(field, format!("{patches} patches, more than {MAX_PATCHES}")));
    }
    Ok(())
}

/// How a tensor starts when the weights are random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    Normal,
    Zero,
    One,
}

/// Name and shape of one tensor.
#[derive(Clone, Debug)]
pub(crate) struct TensorSpec {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) init: Init,
}

impl TensorSpec {
    fn new(name: impl Into<String>, shape: &[usize], init: Init) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), init }
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

fn linear(list: &mut Vec<TensorSpec>, name: &str, shape: &[usize], bias: bool) {
    list.push(TensorSpec::new(format!("{name}.weight"), shape, Init::Normal));
    if bias {
        list.push(TensorSpec::new(format!("{name}.bias"), &shape[..1], Init::Zero));
    }
}

fn norm(list: &mut Vec<TensorSpec>, name: &str, width: usize) {
    list.push(TensorSpec::new(format!("{name}.weight"), &[width], Init::One));
    list.push(TensorSpec::new(format!("{name}.bias"), &[width], Init::Zero));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str, field: &str) {
        let error = parse(json.as_bytes()).unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert!(!error.to_string().contains('\n'));
    }

    fn vit(fields: &str) -> String {
        format!(r#"{{"model_type": "vit", {fields}}}"#)
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let vit = parse(br#"{"model_type": "vit"}"#).unwrap();
        let Architecture::Vit(trunk, 3072) = vit else { panic!("{vit:?}") };
        assert_eq!((trunk.image, trunk.patch), (Size::square(224), Size::square(16)));
        assert_eq!((trunk.width, trunk.depth, trunk.heads, trunk.layer_norm_eps), (768, 12, 12, 1e-12));
        // ViT-B/16 without pooler and classifier.
        assert_eq!(vit.weights(), 85_798_656);

        let dinov2 = parse(br#"{"architectures": ["Dinov2Model"], "image_size": 518}"#).unwrap();
        let Architecture::Dinov2(trunk, FeedForward::Mlp(3072)) = dinov2 else { panic!("{dinov2:?}") };
        assert_eq!((trunk.patch, trunk.layer_norm_eps), (Size::square(14), 1e-6));
        assert_eq!(dinov2.tokens(), 37 * 37 + 1);
    }

    #[test]
    fn swiglu_width_is_rounded_up_to_eight() {
        // facebook/dinov2-giant: 1536 wide, ratio 4, 4096 hidden units.
        let json = br#"{"model_type": "dinov2", "hidden_size": 1536, "num_attention_heads": 24,
                       "use_swiglu_ffn": true}"#;
        assert_eq!(parse(json).unwrap().feed_forward(), FeedForward::SwiGlu(4096));
    }

    #[test]
    fn the_paper_has_65_tokens() {
        let paper = Architecture::paper();
        paper.validate().unwrap();
        assert_eq!((paper.tokens(), paper.width()), (65, 768));
        Architecture::tiny().validate().unwrap();
        assert_eq!(Architecture::tiny().width(), 768);
    }

    #[test]
    fn broken_documents_are_refused() {
        for json in ["", "{", "[]", "null", "{\"model_type\": \"vit\"", "\u{feff}{}"] {
            refused(json, "document");
        }
        let deep = format!("{{\"a\": {}", "[".repeat(100_000));
        refused(&deep, "document");
        assert!(parse(&[0xff, 0xfe, 0x00]).is_err());
    }

    #[test]
    fn unknown_families_are_refused_by_name() {
        refused("{}", "model_type");
        refused(r#"{"model_type": 7}"#, "model_type");
        refused(r#"{"model_type": "dinov2_with_registers"}"#, "model_type");
        refused(r#"{"architectures": ["SwinModel"]}"#, "architectures");
        let error = parse(vit(r#""hidden_act": "swish""#).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "hidden_act: \"swish\" is not supported");
    }

    #[test]
    fn wrong_types_and_absurd_values_are_refused() {
        for (field, values) in [
            ("patch_size", &["0", "-1", "1.5", "\"16\"", "[16]", "[16, 16, 16]", "225", "[16, 0]", "{}"][..]),
            ("image_size", &["0", "1e99", "99999", "[224, \"x\"]", "true"]),
            ("hidden_size", &["0", "16385", "18446744073709551615", "[]"]),
            ("num_attention_heads", &["0", "7", "769", "false"]),
            ("num_hidden_layers", &["0", "513", "1e9", "\"12\""]),
            ("intermediate_size", &["0", "131073", "-3072"]),
            ("num_channels", &["1", "4", "\"rgb\""]),
            ("layer_norm_eps", &["-1e-12", "1", "1e400", "\"1e-6\""]),
            ("qkv_bias", &["1", "\"true\""]),
            ("hidden_act", &["3", "{}"]),
        ] {
            for value in values {
                // Numbers beyond f64 are refused by the JSON parser already.
                let named = if *value == "1e400" { "document" } else { field };
                refused(&vit(&format!("\"{field}\": {value}")), named);
            }
        }
        let small = vit(r#""image_size": 8"#);
        refused(&small, "patch_size");
        refused(r#"{"model_type": "dinov2", "mlp_ratio": 0}"#, "mlp_ratio");
        refused(r#"{"model_type": "dinov2", "mlp_ratio": 1e300}"#, "mlp_ratio");
        refused(r#"{"model_type": "dinov2", "use_swiglu_ffn": 1}"#, "use_swiglu_ffn");
    }

    #[test]
    fn sizes_are_bounded_before_anything_is_allocated() {
        let large = r#""hidden_size": 16384, "num_hidden_layers": 512, "num_attention_heads": 1,"#;
        refused(&vit(&format!(r#"{large} "intermediate_size": 131072"#)), "num_hidden_layers");
        refused(&vit(r#""image_size": 16384, "patch_size": 1"#), "patch_size");
    }

    /// Every single-byte change and every prefix of a configuration parses or is refused, without panic.
    #[test]
    fn damaged_documents_never_panic() {
        let whole =
            vit(r#""hidden_size": 24, "patch_size": [4, 4], "num_attention_heads": 3, "qkv_bias": true"#);
        for at in 0..whole.len() {
            let _ = parse(&whole.as_bytes()[..at]);
            for byte in [0, b'"', b'{', b'[', b'0', b'9', b'-', b'e', 0xff] {
                let mut damaged = whole.clone().into_bytes();
                damaged[at] = byte;
                let _ = parse(&damaged);
            }
        }
    }
}
