//! `keygen`, `encrypt`, `decrypt`: what needs the secret key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use arras_ckks::{Context, bytes};
use arras_fit::Features;
use arras_heads::head::tensors;
use arras_heads::{Layout, Plan, Preset, Rates, Reply, RotationsPlan, Shape, reply};
use arras_secret::{Cipher, SecretKey};
use arras_wire::file::{Access, create_private_dir, read_bounded, write_atomically};
use arras_wire::frame::Header;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::classify::key_file;
use super::{Common, Text, in_file, refuse_replacing, table};

/// Largest file of a key.
const MAX_KEY_BYTES: u64 = 1 << 20;

/// What a folder of keys holds.
const KEY_FILES: [&str; 2] = ["secret", "public"];

/// Arguments of `keygen`.
#[derive(Args, Debug)]
pub struct Keygen {
    /// Parameters; `arras plan` compares them, `arras doctor` lists them
    #[arg(long, default_value = Preset::DEFAULT)]
    preset: String,
    /// Parameters under which the server can hide its head in the replies: preset linear-hidden
    #[arg(long, conflicts_with = "preset")]
    hide_model: bool,
    /// Folder to make; holds `secret` (readable by you alone) and `public`
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(Serialize)]
struct KeygenReport {
    preset: &'static str,
    purpose: &'static str,
    degree: usize,
    log_modulus: f64,
    x_max: f32,
    norm_max: f32,
    fingerprint: String,
    secret: PathBuf,
    public: PathBuf,
}

impl Text for KeygenReport {
    fn text(&self) -> String {
        table(&[
            ("preset", format!("{}: {}", self.preset, self.purpose)),
            (
                "parameters",
                format!("N = {}, log2 Q = {:.2}, {}", self.degree, self.log_modulus, self.fingerprint),
            ),
            ("features", format!("|x| <= {}, norm <= {}", self.x_max, self.norm_max)),
            ("secret key", format!("{} (keep it)", self.secret.display())),
            ("public key", self.public.display().to_string()),
        ])
    }
}

impl Keygen {
    /// Runs the command.
    ///
    /// # Errors
    /// An unknown preset, keys that are there already, a folder that cannot be written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let backend = common.backend()?;
        let preset = Preset::named(if self.hide_model { Preset::HIDING } else { &self.preset })?;
        let [secret, public] = KEY_FILES.map(|name| self.output.join(name));
        if let Some(there) = [&secret, &public].into_iter().find(|path| path.exists()) {
            bail!("{}: exists already; a key is never overwritten", there.display());
        }
        create_private_dir(&self.output)?;
        let context = Context::new(backend, preset.params.clone())?;
        let key = SecretKey::generate(&preset.params)?;
        let public_key = Cipher::new(&context, &key)?.public_key()?.to_bytes(&context)?;
        write_atomically(&secret, &key.to_bytes(), Access::Owner)?;
        write_atomically(&public, &public_key, Access::Shared)?;
        common.print(&KeygenReport {
            preset: preset.name,
            purpose: preset.purpose,
            degree: preset.params.degree(),
            log_modulus: preset.params.log_modulus(preset.params.max_level()),
            x_max: preset.bounds.x_max,
            norm_max: preset.bounds.norm_max,
            fingerprint: preset.params.fingerprint().to_string(),
            secret,
            public,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The secret key of a folder and the preset it belongs to.
fn read_key(folder: &Path) -> Result<(SecretKey, &'static Preset)> {
    let path = folder.join("secret");
    let bytes = read_bounded(&path, MAX_KEY_BYTES)?;
    let read = || -> Result<_> {
        let preset = Preset::of(Header::parse(&bytes)?.fingerprint)?;
        Ok((SecretKey::from_bytes(&bytes, &preset.params)?, preset))
    };
    in_file(&path, read())
}

/// Arguments of `keys`.
#[derive(Args, Debug)]
pub struct Keys {
    /// Folder of keys, from `arras keygen`
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Number of features
    #[arg(long, default_value_t = 768, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    dimension: u32,
    #[command(flatten)]
    head: HeadShape,
    /// Folder to make; holds a file for every key, for the server
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(Serialize)]
struct KeyEntry {
    element: usize,
    level: usize,
    bytes: usize,
    file: PathBuf,
}

#[derive(Serialize)]
struct KeysReport {
    preset: &'static str,
    keys: Vec<KeyEntry>,
    bytes: usize,
    output: PathBuf,
}

impl Text for KeysReport {
    fn text(&self) -> String {
        table(&[
            ("preset", self.preset.into()),
            ("keys", format!("{} (element 0 is the relinearisation key)", self.keys.len())),
            ("bytes", self.bytes.to_string()),
            ("elements", self.keys.iter().map(|key| key.element.to_string()).collect::<Vec<_>>().join(" ")),
            ("written to", self.output.display().to_string()),
        ])
    }
}

impl Keys {
    /// Runs the command.
    ///
    /// # Errors
    /// A preset that takes no evaluation keys, a head that does not fit its slots, a folder that is there already.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let (key, preset) = read_key(&self.keys)?;
        in_file(&self.keys, preset.require(Layout::Rotations))?;
        let plan = RotationsPlan::new(&preset.params, self.head.shape(self.dimension as usize))?;
        let context = Context::new(common.backend()?, preset.params.clone())?;
        let cipher = Cipher::new(&context, &key)?;
        if self.output.exists() {
            bail!("{}: exists already; keys are never overwritten", self.output.display());
        }
        std::fs::create_dir_all(&self.output).with_context(|| self.output.display().to_string())?;
        let mut keys = Vec::new();
        for (element, level) in plan.keys()? {
            let bytes = bytes::encode_switching_key(&context, &cipher.evaluation_key(element, level)?)?;
            let file = self.output.join(key_file(element));
            write_atomically(&file, &bytes, Access::Shared)?;
            keys.push(KeyEntry { element, level, bytes: bytes.len(), file });
        }
        let bytes = keys.iter().map(|key| key.bytes).sum();
        common.print(&KeysReport { preset: preset.name, keys, bytes, output: self.output.clone() })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A layout on the command line.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum LayoutName {
    /// Features of an image after one another
    Dot,
    /// One polynomial per feature, a coefficient per image
    Transposed,
    /// One polynomial per feature, a slot per image
    Slots,
    /// Images interleaved in slots; the server takes evaluation keys
    Rotations,
}

impl From<LayoutName> for Layout {
    fn from(name: LayoutName) -> Self {
        match name {
            LayoutName::Dot => Layout::Dot,
            LayoutName::Transposed => Layout::Transposed,
            LayoutName::Slots => Layout::Slots,
            LayoutName::Rotations => Layout::Rotations,
        }
    }
}

/// Arguments of `encrypt`.
#[derive(Args, Debug)]
pub struct Encrypt {
    /// Folder of keys, from `arras keygen`
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Features, from `arras embed` or `arras import`
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
    /// Where to write the encrypted features
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Demand a layout instead of the cheapest
    #[arg(long, value_enum)]
    layout: Option<LayoutName>,
    #[command(flatten)]
    head: HeadShape,
}

/// What to expect of the head.
#[derive(Args, Clone, Copy, Debug)]
pub struct HeadShape {
    /// Number of classes to expect of the head
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    classes: u16,
    /// Number of hidden units to expect of the head; without it a linear head
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u16).range(1..))]
    hidden: Option<u16>,
}

impl HeadShape {
    /// With a number of features.
    pub fn shape(self, dimension: usize) -> Shape {
        Shape { dimension, hidden: self.hidden.map(usize::from), classes: self.classes.into() }
    }
}

#[derive(Serialize)]
struct EncryptReport {
    images: usize,
    features: usize,
    preset: &'static str,
    layout: &'static str,
    reason: String,
    bytes: usize,
    bytes_per_image: f64,
}

impl Text for EncryptReport {
    fn text(&self) -> String {
        table(&[
            ("images", format!("{} of {} features", self.images, self.features)),
            ("preset", self.preset.into()),
            ("layout", self.reason.clone()),
            ("bytes", format!("{}, {:.0} per image", self.bytes, self.bytes_per_image)),
        ])
    }
}

impl Encrypt {
    /// Runs the command.
    ///
    /// # Errors
    /// Files that cannot be read, features beyond the bounds of the preset.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let keys = KEY_FILES.map(|name| self.keys.join(name));
        let inputs = keys.iter().chain([&self.features]).map(PathBuf::as_path);
        refuse_replacing(&self.output, inputs)?;
        let (key, preset) = read_key(&self.keys)?;
        let features = Features::read(&self.features)?;
        let (dimension, images) = (features.dimension, features.rows());
        let layout = self.layout.map(Layout::from);
        let shape = self.head.shape(dimension);
        let plan = Plan::new([preset], shape, images, layout, Rates::default());
        let plan = in_file(&self.features, plan)?;
        let backbone = features.fingerprint.as_deref().map(parse_fingerprint).transpose();
        let backbone = in_file(&self.features, backbone)?;
        let context = Context::new(common.backend()?, preset.params.clone())?;
        let cipher = Cipher::new(&context, &key)?;
        let encoded = cipher.encode_features(plan.chosen.groups, &features.values);
        let query = encoded.and_then(|encoded| cipher.encrypt_resident(&encoded, backbone));
        let bytes = in_file(&self.features, query)?.to_bytes();
        write_atomically(&self.output, &bytes, Access::Shared)?;
        common.print(&EncryptReport {
            images,
            features: dimension,
            preset: preset.name,
            layout: plan.chosen.groups.layout.name(),
            reason: plan.reason,
            bytes: bytes.len(),
            bytes_per_image: bytes.len() as f64 / images as f64,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A backbone fingerprint from its 64 hexadecimal digits.
///
/// # Errors
/// Anything else.
pub fn parse_fingerprint(text: &str) -> Result<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        bail!("fingerprint: '{text}' is not 64 hexadecimal digits");
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        let pair = std::str::from_utf8(pair)?;
        *byte = u8::from_str_radix(pair, 16)
            .with_context(|| format!("fingerprint: '{text}' is not 64 hexadecimal digits"))?;
    }
    Ok(bytes)
}

/// Arguments of `decrypt`.
#[derive(Args, Debug)]
pub struct Decrypt {
    /// Folder of keys, from `arras keygen`
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// The server's reply
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where to write the logits (tensor `logits`, f32 [n, C])
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
struct DecryptReport {
    images: usize,
    classes: usize,
    logit_bound: f64,
}

impl Text for DecryptReport {
    fn text(&self) -> String {
        table(&[
            ("images", self.images.to_string()),
            ("classes", self.classes.to_string()),
            ("logit bound", format!("{:.1e}", self.logit_bound)),
        ])
    }
}

impl Decrypt {
    /// Runs the command.
    ///
    /// # Errors
    /// Files that cannot be read or belong to other parameters.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let keys = KEY_FILES.map(|name| self.keys.join(name));
        let inputs = keys.iter().chain([&self.input]).map(PathBuf::as_path);
        refuse_replacing(&self.output, inputs)?;
        let (key, preset) = read_key(&self.keys)?;
        let bytes = read_bounded(&self.input, reply::MAX_BYTES)?;
        let reply = in_file(&self.input, Reply::from_bytes(&bytes))?;
        let context = Context::new(common.backend()?, preset.params.clone())?;
        let logits = in_file(&self.input, Cipher::new(&context, &key)?.decrypt_logits(&reply))?;
        let logits: Vec<f32> = logits.into_iter().map(|x| x as f32).collect();
        let shape = [reply.groups.images, reply.classes];
        let file = self.output.display().to_string();
        let bytes = tensors::encode(&file, &[("logits", &shape, &logits)], &BTreeMap::new())?;
        write_atomically(&self.output, &bytes, Access::Owner)?;
        common.print(&DecryptReport {
            images: reply.groups.images,
            classes: reply.classes,
            logit_bound: reply.logit_bound,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
