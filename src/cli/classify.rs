//! `classify`: encrypted features to encrypted logits. Needs no key.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use arras_ckks::keys::RELINEARISATION;
use arras_ckks::{Context, EvaluationKeys, bytes};
use arras_heads::{Classifier, Layout, Model, Query, RotationsPlan, Shape, query};
use arras_rns::Backend;
use arras_wire::file::{Access, read_bounded, write_atomically};
use clap::Args;
use serde::Serialize;

use super::{Common, Text, in_file, refuse_replacing, refuse_secrets_beside, table};

/// Arguments of `classify`.
#[derive(Args, Debug)]
pub struct Classify {
    /// The head: a safetensors file with `weight` and `bias`, and `hidden.weight` and `hidden.bias` if it has a hidden layer
    #[arg(long, value_name = "FILE")]
    pub head: PathBuf,
    /// Encrypted features, from `arras encrypt`
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Folder of the client's evaluation keys, from `arras keys`; layout rotations takes them
    #[arg(long, value_name = "DIR")]
    pub evaluation: Option<PathBuf>,
    /// Refuse queries whose preset does not let the server hide its head
    #[arg(long)]
    pub hide_model: bool,
    /// Where to write the encrypted logits
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

#[derive(Serialize)]
struct Report {
    images: usize,
    classes: usize,
    layout: &'static str,
    preset: &'static str,
    hidden_model: bool,
    backend: String,
    logit_bound: f64,
    query_bytes: usize,
    reply_bytes: usize,
    prepare_ms: f64,
    classify_ms: f64,
}

impl Text for Report {
    fn text(&self) -> String {
        table(&[
            ("images", self.images.to_string()),
            ("classes", self.classes.to_string()),
            ("layout", format!("{} (preset {})", self.layout, self.preset)),
            (
                "head",
                if self.hidden_model { "hidden in the reply" } else { "not hidden in the reply" }.into(),
            ),
            ("backend", self.backend.clone()),
            ("logit bound", format!("{:.1e}", self.logit_bound)),
            ("query", format!("{} bytes", self.query_bytes)),
            ("reply", format!("{} bytes", self.reply_bytes)),
            ("time", format!("{:.2} ms, after {:.2} ms to prepare", self.classify_ms, self.prepare_ms)),
        ])
    }
}

impl Classify {
    /// Runs the command.
    ///
    /// # Errors
    /// Files that cannot be read or do not belong together, each named.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        refuse_secrets_beside(&self.input)?;
        refuse_secrets_beside(&self.output)?;
        refuse_replacing(&self.output, [self.head.as_path(), &self.input])?;
        let model = Model::read(&self.head)?;
        let bytes = read_bounded(&self.input, query::MAX_BYTES)?;
        let query = in_file(&self.input, Query::from_bytes(&bytes))?;
        let preset = query.preset();
        if self.hide_model && !preset.hides {
            let (file, name) = (self.input.display(), preset.name);
            bail!("{file}: preset '{name}' has no room to hide the head (use `arras keygen --hide-model`)");
        }
        let started = Instant::now();
        let backend = common.backend()?;
        let context = Context::new(backend, preset.params.clone())?;
        let layout = query.groups.layout;
        let keys = match (&self.evaluation, layout) {
            (Some(folder), Layout::Rotations) => Some(read_keys(folder, &context, &model)?),
            _ => None,
        };
        let server = Classifier::new(&context, &model, layout, query.bounds, keys);
        let server = in_file(&self.head, server)?;
        let prepared = Instant::now();
        let reply = in_file(&self.input, server.classify(&query))?;
        let done = Instant::now();
        let reply_bytes = reply.to_bytes();
        write_atomically(&self.output, &reply_bytes, Access::Shared)?;
        common.print(&Report {
            images: query.groups.images,
            classes: model.class_count(),
            layout: layout.name(),
            preset: preset.name,
            hidden_model: preset.hides,
            backend: context.backend().name(),
            logit_bound: reply.logit_bound,
            query_bytes: bytes.len(),
            reply_bytes: reply_bytes.len(),
            prepare_ms: (prepared - started).as_secs_f64() * 1e3,
            classify_ms: (done - prepared).as_secs_f64() * 1e3,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The file of an evaluation key.
pub fn key_file(element: usize) -> String {
    match element {
        RELINEARISATION => "relinearisation".into(),
        element => format!("galois-{element}"),
    }
}

/// The keys that a head takes, one by one; others in the folder are left unread.
fn read_keys<B: Backend>(folder: &Path, context: &Context<B>, model: &Model) -> Result<EvaluationKeys<B>> {
    refuse_secrets_beside(&folder.join("key"))?;
    let params = context.params();
    let mut keys = EvaluationKeys::new(params);
    for &element in RotationsPlan::new(params, Shape::of(model))?.keys()?.keys() {
        let path = folder.join(key_file(element));
        if !path.exists() {
            let name = if element == RELINEARISATION {
                "relinearisation".into()
            } else {
                format!("the Galois element {element}")
            };
            bail!("{}: is missing: the key for {name}, which this head takes", path.display());
        }
        let key = bytes::decode_switching_key(context, &read_bounded(&path, bytes::MAX_CIPHERTEXT_BYTES)?);
        let key = in_file(&path, key)?;
        if key.element() != element {
            bail!("{}: holds the key of element {}, expected {element}", path.display(), key.element());
        }
        keys.insert(context, &key).with_context(|| path.display().to_string())?;
    }
    Ok(keys)
}
