//! A party as a process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use arras_federated::party::Memory;
use arras_federated::session::{Plan, Progress};
use arras_federated::{Board as _, Error, Local, Party, Session};
use arras_fit::Features;
use arras_rounds::ledger::hex;
use arras_serve::Store;
use arras_serve::federation::now;
use clap::Args;
use serde::Serialize;

use super::super::{Common, Text, table};
use super::board::Remote;
use super::{journal, journals, read_agreement, read_text, read_tokens};

/// Between looks at the coordinator.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `federated init`.
#[derive(Args, Debug)]
pub struct Init {
    /// Name of this party, as the others know it
    #[arg(long)]
    name: String,
    /// What all parties agreed on (docs/federated.md)
    #[arg(long, value_name = "FILE")]
    agreement: PathBuf,
    /// Folder of this party's keys and journals, one and the same for all epochs: readable by its owner only, never to be copied
    /// back from a backup
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
}

#[derive(Serialize)]
struct Pin {
    name: String,
    verifying_key: String,
}

impl Text for Pin {
    fn text(&self) -> String {
        format!("{} {}\n", self.name, self.verifying_key)
    }
}

impl Init {
    /// Runs the command.
    ///
    /// # Errors
    /// A state folder of another party, files that cannot be read or written.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let agreement = read_agreement(&self.agreement)?;
        ensure!(!self.name.contains(char::is_whitespace), "--name {:?}: holds white space", self.name);
        arras_wire::file::create_private_dir(&self.state)?;
        let store = Store::open(&journal(&self.state, agreement.epoch))?;
        let party = Party::new(&self.name, agreement, common.backend()?, store)?;
        common.print(&Pin { name: self.name.clone(), verifying_key: hex(&party.verifying_key()) })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `federated join`.
#[derive(Args, Debug)]
pub struct Join {
    /// The coordinator, such as http://127.0.0.1:7700
    url: String,
    /// Name of this party
    #[arg(long)]
    name: String,
    /// What all parties agreed on
    #[arg(long, value_name = "FILE")]
    agreement: PathBuf,
    /// Folder of this party's keys and journal, from `federated init`
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Names and verifying keys of all parties, one line each as `federated init` prints them, exchanged on another way
    #[arg(long, value_name = "FILE")]
    parties: PathBuf,
    /// File with this party's token
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
    /// Labelled features of this party
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
    /// Where to write the head
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// As the receiver: penalties to try, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "L2")]
    l2: Vec<f64>,
    /// As the receiver: seconds for uploads
    #[arg(long, default_value_t = 600)]
    upload_seconds: u32,
    /// As the receiver: seconds for shares
    #[arg(long, default_value_t = 300)]
    share_seconds: u32,
    /// As the receiver: attempts at a round
    #[arg(long, default_value_t = 3)]
    attempts: u32,
    /// As the receiver: parties counted on to add their noise
    #[arg(long, default_value_t = 1)]
    honest: u32,
    /// Give up after so many seconds without the coordinator
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

#[derive(Serialize)]
struct Joined {
    name: String,
    rows: usize,
    held_out: usize,
    clipped: usize,
    ledger_entries: usize,
    ledger: String,
    output: PathBuf,
}

impl Text for Joined {
    fn text(&self) -> String {
        table(&[
            ("rows", format!("{} for training, {} held out", self.rows, self.held_out)),
            ("clipped", self.clipped.to_string()),
            ("ledger", format!("{} entries, last {}", self.ledger_entries, self.ledger)),
            ("written to", self.output.display().to_string()),
        ])
    }
}

impl Join {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever is refused, by the rule or by the coordinator; a coordinator that is away for too long.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let agreement = read_agreement(&self.agreement)?;
        let parties = self.read_parties()?;
        let token = read_tokens(&self.token)?;
        super::super::refuse_replacing(&self.output, [self.features.as_path(), self.agreement.as_path()])?;
        arras_wire::file::check_writable(&self.output)?;
        let epoch = agreement.epoch;
        let state = journal(&self.state, epoch);
        ensure!(state.is_file(), "{}: make it with `arras federated init`", state.display());
        let features = Features::read(&self.features)?;
        let local = Local::new(&agreement, &features).with_context(|| self.features.display().to_string())?;
        let (training, held_out) = local.sizes();
        let clipped = local.clipped();
        let party = Party::new(&self.name, agreement, common.backend()?, Store::open(&state)?)?
            .remembering(self.memory(epoch)?);
        let plan = Plan {
            penalties: self.l2.clone(),
            seconds: (self.upload_seconds, self.share_seconds),
            attempts: self.attempts,
            honest: self.honest,
            ..Plan::default()
        };
        let mut session = Session::new(party, local, parties, plan);
        let mut remote = Remote::new(&self.url, token.first().map_or("", String::as_str));
        let head = self.take_part(&mut session, &mut remote)?;
        arras_wire::file::write_atomically(&self.output, &head, arras_wire::file::Access::Shared)?;
        let ledger = session.ledger()?;
        common.print(&Joined {
            name: self.name.clone(),
            rows: training,
            held_out,
            clipped,
            ledger_entries: ledger.entries().len(),
            ledger: ledger.last(),
            output: self.output.clone(),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    /// What this party remembers of other epochs.
    fn memory(&self, epoch: u32) -> Result<Memory> {
        let mut memory = Memory::default();
        for (_, path) in journals(&self.state)?.into_iter().filter(|(other, _)| *other != epoch) {
            memory.add(&Store::open(&path)?).with_context(|| path.display().to_string())?;
        }
        Ok(memory)
    }

    /// Acts until the head is there.
    fn take_part<B: arras_rns::Backend>(
        &self,
        session: &mut Session<B, Store>,
        remote: &mut Remote,
    ) -> Result<Vec<u8>> {
        let mut seen = Instant::now();
        let mut phase = None;
        loop {
            match session.step(remote, now()) {
                Ok(Progress::Done(head)) => return Ok(head),
                Ok(Progress::Failed(reason)) => bail!("the federation failed: {reason}"),
                Ok(Progress::Acted) => {
                    seen = Instant::now();
                    continue;
                }
                Ok(Progress::Waiting(now)) => {
                    seen = Instant::now();
                    if phase.as_ref() != Some(&now) {
                        tracing::info!("waiting: {}", serde_json::to_string(&now)?);
                        phase = Some(now);
                    }
                }
                Err(Error::Board(reason)) if seen.elapsed().as_secs() < self.patience => {
                    tracing::debug!("{reason}");
                }
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(POLL);
        }
    }

    fn read_parties(&self) -> Result<Vec<(String, [u8; 32])>> {
        let text = read_text(&self.parties)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(number, line)| {
                let party = line
                    .split_once(char::is_whitespace)
                    .and_then(|(name, key)| Some((name.to_owned(), key_from_hex(key.trim())?)));
                let place = || format!("{}: line {} is not NAME KEY", self.parties.display(), number + 1);
                party.with_context(place)
            })
            .collect()
    }
}

fn key_from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut key = [0; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(key)
}

/// Arguments of `federated status`.
#[derive(Args, Debug)]
pub struct Status {
    /// The coordinator
    url: String,
    /// File with a token
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Seen(arras_rounds::coordinator::Phase);

impl Text for Seen {
    fn text(&self) -> String {
        use arras_rounds::coordinator::Phase;
        let names = |missing: &[String]| missing.join(", ");
        match &self.0 {
            Phase::Joining { missing } => format!("waiting for {missing} parties to join\n"),
            Phase::Dealing { missing } => format!("waiting for key shares of {}\n", names(missing)),
            Phase::Ready => "ready for the receiver to open a round\n".to_owned(),
            Phase::Uploading { round, attempt, missing } => {
                format!("round {round}, attempt {attempt}: waiting for uploads of {}\n", names(missing))
            }
            Phase::Sharing { round, attempt, missing } => {
                format!("round {round}, attempt {attempt}: waiting for shares of {}\n", names(missing))
            }
            Phase::Summed { round, attempt } => {
                format!("round {round}, attempt {attempt}: the sum is ready for the receiver\n")
            }
            Phase::Failed { round, attempt, reason } => {
                format!("round {round}, attempt {attempt} failed: {reason}\n")
            }
            Phase::Finished => "finished: the head is published\n".to_owned(),
        }
    }
}

impl Status {
    /// Runs the command.
    ///
    /// # Errors
    /// A coordinator that cannot be reached, or a wrong token.
    pub fn run(&self, common: &Common) -> Result<ExitCode> {
        let token = read_tokens(&self.token)?;
        let mut remote = Remote::new(&self.url, token.first().map_or("", String::as_str));
        common.print(&Seen(remote.phase()?))?;
        Ok(ExitCode::SUCCESS)
    }
}
