//! The coordinator as a process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use arras_rounds::Coordinator;
use arras_rounds::message::MAX_BODY_BYTES;
use arras_serve::{Store, federation};
use clap::Args;

use super::super::Common;
use super::{journal, read_agreement, read_tokens};

/// Arguments of `coordinate`.
#[derive(Args, Debug)]
pub struct Coordinate {
    /// What all parties agreed on (docs/federated.md)
    #[arg(long, value_name = "FILE")]
    agreement: PathBuf,
    /// Folder of the journal; a restart goes on where it ends
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Tokens that requests have to bear, one per line
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:7700", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Take nothing more from this party; may be given several times, and is remembered
    #[arg(long, value_name = "NAME")]
    revoke: Vec<String>,
}

impl Coordinate {
    /// Runs the command.
    ///
    /// # Errors
    /// A file that cannot be read, a journal of another agreement, an address that is taken.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let agreement = read_agreement(&self.agreement)?;
        let tokens = read_tokens(&self.tokens)?;
        arras_wire::file::create_private_dir(&self.state)?;
        let store = Store::open(&journal(&self.state, agreement.epoch))?;
        let mut coordinator = Coordinator::new(agreement.clone(), common.backend()?, store)?;
        for name in &self.revoke {
            coordinator.revoke(federation::now(), name).with_context(|| format!("--revoke {name}"))?;
        }
        let format = agreement.format()?;
        // An upload of statistics or a share, whose two components are twice as long; and what stands around them.
        let max_body = 2 * format.upload_bytes(format.entries) + (16 << 20);
        ensure!(max_body as u64 <= MAX_BODY_BYTES, "uploads of {max_body} bytes are beyond the format");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(self.listen)
                .await
                .with_context(|| format!("--listen {}", self.listen))?;
            // One line on standard output, so that a script that asked for port 0 learns which it got.
            println!("listening on http://{}", listener.local_addr()?);
            let stop = async {
                // Without a handler the process ends all the same, and nothing is lost.
                let _ = tokio::signal::ctrl_c().await;
            };
            federation::serve(coordinator, listener, &tokens, max_body, stop).await?;
            Ok(ExitCode::SUCCESS)
        })
    }
}
