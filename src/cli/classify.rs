//! `classify`: encrypted features to encrypted logits. Needs no key.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use arras_ckks::Context;
use arras_heads::{Head, LinearHead, Query, query};
use arras_wire::file::{Access, read_bounded, write_atomically};
use clap::Args;
use serde::Serialize;

use super::{Common, Text, in_file, refuse_replacing, refuse_secrets_beside, table};

/// Arguments of `classify`.
#[derive(Args, Debug)]
pub struct Classify {
    /// The head: a safetensors file with `weight` and `bias`
    #[arg(long, value_name = "FILE")]
    pub head: PathBuf,
    /// Encrypted features, from `arras encrypt`
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
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
        let head = Head::read(&self.head)?;
        let bytes = read_bounded(&self.input, query::MAX_BYTES)?;
        let query = in_file(&self.input, Query::from_bytes(&bytes))?;
        let started = Instant::now();
        let backend = common.backend()?;
        let context = Context::new(backend, query.preset().params.clone())?;
        let server = in_file(&self.head, LinearHead::new(&context, &head, query.bounds))?;
        let prepared = Instant::now();
        let reply = in_file(&self.input, server.classify(&query))?;
        let done = Instant::now();
        let reply_bytes = reply.to_bytes();
        write_atomically(&self.output, &reply_bytes, Access::Shared)?;
        common.print(&Report {
            images: query.groups.images,
            classes: head.class_count(),
            layout: query.groups.layout.name(),
            preset: query.preset().name,
            backend: arras_rns::Backend::name(context.backend()),
            logit_bound: reply.logit_bound,
            query_bytes: bytes.len(),
            reply_bytes: reply_bytes.len(),
            prepare_ms: (prepared - started).as_secs_f64() * 1e3,
            classify_ms: (done - prepared).as_secs_f64() * 1e3,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
