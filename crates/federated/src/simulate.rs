//! All parties and the coordinator in one process.

use arras_fit::Features;
use arras_heads::Head;
use arras_rns::Backend;
use arras_rounds::journal::MemoryJournal;
use arras_rounds::{Agreement, Coordinator};

use crate::local::to_integers;
use crate::session::{InProcess, Plan, Progress, Session};
use crate::{Error, Local, Party, Result};

/// Steps without progress after which a simulation is stuck.
const MAX_ROUNDS: usize = 64;

/// What came out.
///
/// ```
/// use arras_cpu::Cpu;
/// use arras_federated::session::Plan;
/// use arras_federated::{local, simulate};
/// use arras_fit::{Features, split::Deal};
///
/// # let agreement = arras_rounds::Agreement { name: "one feature".into(), epoch: 1, backbone: "x".into(), dimension: 1,
/// #     classes: vec!["high".into(), "low".into()], row_bound: 2.0, rows: 1000, parties: 3, threshold: 2, quorum: 3,
/// #     receiver: "party-001".into(), projection: None, privacy: None };
/// # let values: Vec<f32> = (0..60).map(|row| row as f32 / 60.0).collect();
/// # let label = |x: &f32| if *x > 0.5 { "high" } else { "low" }.to_owned();
/// # let features = Features { dimension: 1, labels: Some(values.iter().map(label).collect()), values,
/// #     names: (0..60).map(|row| row.to_string()).collect(), fingerprint: Some("x".into()), groups: None };
/// // 60 rows of one feature at three parties; no one's rows or sums are seen by another.
/// let parts = local::deal(&features, None, 3, Deal::Even, 1)?;
/// let plan = Plan { penalties: vec![1e-3], ..Plan::default() };
/// let found = simulate::run(&agreement, &parts, &plan, Cpu::sequential)?;
/// assert_eq!((found.sums_are_exact, found.parties.len()), (Some(true), 3));
/// let logits = found.head.logits(&[0.1, 0.9]);
/// assert!(logits[0] < logits[1] && logits[2] > logits[3]);
/// arras_rounds::Ledger::verify(&found.ledger)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Simulated {
    /// The published head.
    pub head: Head,
    /// Whether the decrypted sums are the sums of the parties' integers; `None` where noise was added.
    pub sums_are_exact: Option<bool>,
    /// Eigenvalues that noise made negative.
    pub negative_eigenvalues: usize,
    /// Bytes of one party's upload of statistics.
    pub upload_bytes: usize,
    /// log2 of the flooding of each share.
    pub flooding_bits: u32,
    /// Rows of each party: training, held out, cut to the norm.
    pub parties: Vec<(usize, usize, usize)>,
    /// The receiver's ledger.
    pub ledger: String,
}

/// Runs a federation over the features of each party, in the order of the parties' names `party-001`, `party-002`, ...; the first is the
/// receiver, whatever the agreement says.
///
/// # Errors
/// Data that do not fit the agreement, and everything that a party or the coordinator refuses.
pub fn run<B: Backend>(
    agreement: &Agreement,
    parts: &[Features],
    plan: &Plan,
    backend: impl Fn() -> B,
) -> Result<Simulated> {
    let agreement = Agreement { receiver: name(0), parties: parts.len() as u32, ..agreement.clone() };
    agreement.check()?;
    let locals = parts.iter().map(|features| Local::new(&agreement, features)).collect::<Result<Vec<_>>>()?;
    let mut parties = Vec::with_capacity(parts.len());
    for index in 0..parts.len() {
        parties.push(Party::new(&name(index), agreement.clone(), backend(), MemoryJournal::default())?);
    }
    let pinned: Vec<_> =
        parties.iter().map(|party| (party.name().to_owned(), party.verifying_key())).collect();
    let sessions = parties.into_iter().zip(&locals);
    let mut sessions: Vec<_> = sessions
        .map(|(party, local)| Session::new(party, local.clone(), pinned.clone(), plan.clone()))
        .collect();
    let mut coordinator = Coordinator::new(agreement.clone(), backend(), MemoryJournal::default())?;
    let head = drive(&mut sessions, &mut coordinator)?;
    let pooled = sessions[0].pooled()?;
    let format = agreement.format()?;
    Ok(Simulated {
        head: Head::from_bytes("head", &head)?,
        sums_are_exact: match agreement.privacy {
            Some(_) => None,
            None => Some(is_exact(&locals, format.unit, pooled.statistics())?),
        },
        negative_eigenvalues: pooled.negative_eigenvalues(),
        upload_bytes: format.upload_bytes(format.entries),
        flooding_bits: format.flooding_bits(),
        parties: locals.iter().map(|local| (local.sizes().0, local.sizes().1, local.clipped())).collect(),
        ledger: sessions[0].ledger_text()?,
    })
}

fn name(index: usize) -> String {
    format!("party-{:03}", index + 1)
}

/// Lets all parties act in turn until they have the head.
fn drive<B: Backend>(
    sessions: &mut [Session<B, MemoryJournal>],
    coordinator: &mut Coordinator<B, MemoryJournal>,
) -> Result<Vec<u8>> {
    for now in 0..MAX_ROUNDS as u64 {
        let mut head = None;
        let mut done = 0;
        for session in sessions.iter_mut() {
            match session.step(&mut InProcess { coordinator, now }, now)? {
                Progress::Done(found) => {
                    head = Some(found);
                    done += 1;
                }
                Progress::Failed(reason) => return Err(Error::Data(reason)),
                Progress::Acted | Progress::Waiting(_) => {}
            }
        }
        if let Some(head) = head.filter(|_| done == sessions.len()) {
            return Ok(head);
        }
    }
    Err(Error::Data(format!("no head after {MAX_ROUNDS} turns: {:?}", coordinator.phase())))
}

/// Whether decrypted statistics are, integer by integer, the sums over the parties.
fn is_exact(locals: &[Local], unit: f64, decrypted: &arras_fit::statistics::Statistics) -> Result<bool> {
    let mut sums: Vec<i64> = Vec::new();
    for local in locals {
        let integers = to_integers(&local.statistics()?, unit);
        sums.resize(integers.len(), 0);
        sums.iter_mut().zip(integers).for_each(|(sum, integer)| *sum += integer);
    }
    Ok(to_integers(decrypted, unit) == sums)
}
