//! The rows of an audit and the document they make up.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name and version of the document.
pub const SCHEMA: &str = "arras-audit/1";

/// The attacks, by the letters that `docs/privacy.md` gives them.
///
/// ```
/// use arras_audit::Attack;
///
/// assert_eq!((Attack::ClosedForm.letter(), Attack::ClosedForm.name()), ('a', "closed-form"));
/// let letters: String = Attack::ALL.iter().map(|attack| attack.letter()).collect();
/// assert_eq!(letters, "abcdefghijkl");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// (a) Images from the gradients of patch and position embeddings, by least squares.
    ClosedForm,
    /// (b) Images from all gradients, by descent on their cosine distance.
    Matching,
    /// (c) Images from plain CLS tokens, by a decoder.
    Decoder,
    /// (d) Images from decrypted sums of tokens and from decrypted statistics.
    Aggregate,
    /// (e) Images from bytes of ciphertexts: the control.
    Ciphertext,
    /// (f) Whether an image was trained on.
    Membership,
    /// (g) The server's head from answers.
    Head,
    /// (h) Keys from what is published.
    Key,
    /// (i) One client's sums from the difference of two releases.
    Differencing,
    /// (j) The token of an image that is alone in its class.
    Single,
    /// (k) Images from logits.
    Logits,
    /// (l) Images changed so that the prediction changes.
    Adversarial,
}

impl Attack {
    /// All of them, in the order of their letters.
    pub const ALL: [Self; 12] = [
        Self::ClosedForm,
        Self::Matching,
        Self::Decoder,
        Self::Aggregate,
        Self::Ciphertext,
        Self::Membership,
        Self::Head,
        Self::Key,
        Self::Differencing,
        Self::Single,
        Self::Logits,
        Self::Adversarial,
    ];

    /// `a` to `l`.
    #[must_use]
    pub const fn letter(self) -> char {
        (b'a' + self as u8) as char
    }

    /// The name that options, files and the document use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClosedForm => "closed-form",
            Self::Matching => "matching",
            Self::Decoder => "decoder",
            Self::Aggregate => "aggregate",
            Self::Ciphertext => "ciphertext",
            Self::Membership => "membership",
            Self::Head => "head",
            Self::Key => "key",
            Self::Differencing => "differencing",
            Self::Single => "single",
            Self::Logits => "logits",
            Self::Adversarial => "adversarial",
        }
    }
}

/// A number, what the best guess that ignores the victim reaches, and the difference.
///
/// The advantage is positive when the attacker gains, whichever way the score points: `value - baseline` where more
/// is better for the attacker, `baseline - value` where less is (LPIPS, errors).
///
/// ```
/// use arras_audit::statistics::{Better, paired};
///
/// // PSNR of four reconstructions, and of the mean picture on the same victims.
/// let score = paired(&[14.0, 15.0, 16.0, 15.0], &[12.0, 12.5, 12.5, 13.0], Better::Higher, 1)?;
/// assert_eq!((score.value, score.baseline, score.advantage), (15.0, 12.5, 2.5));
/// assert!(score.gains() && score.interval_95[0] <= 2.5 && 2.5 <= score.interval_95[1]);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean over the victims.
    pub value: f64,
    /// The same of the best guess that ignores the victim; 0.5 for an AUC.
    pub baseline: f64,
    /// How much the attacker gains over the baseline.
    pub advantage: f64,
    /// 95 % interval of the advantage.
    pub interval_95: [f64; 2],
}

impl Score {
    /// Whether the interval of the advantage lies above zero.
    #[must_use]
    pub fn gains(&self) -> bool {
        self.interval_95[0] > 0.0
    }
}

/// What a row says about the victims.
///
/// See the example of [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// What was hidden is known: the reconstruction cannot be told from the original, or the secret is exact.
    Recovered,
    /// The attacker knows more than without the victim.
    Leaks,
    /// No score is better than without the victim, and the attack works where it should.
    NoAdvantage,
    /// The attack did not converge, or nothing shows that it would have worked: says nothing about protection.
    Inconclusive,
}

impl Verdict {
    /// The name in the document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Leaks => "leaks",
            Self::NoAdvantage => "no-advantage",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// One victim, the guess that ignores it, and the reconstruction, as files beside the document.
///
/// See the example of [`Finding`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// What tells it from the others of its row.
    pub label: String,
    /// The victim's image.
    pub original: PathBuf,
    /// The best guess that ignores it.
    pub guess: PathBuf,
    /// What the attack made.
    pub reconstruction: PathBuf,
}

/// One row: an attack on what one party sees.
///
/// ```
/// use arras_audit::statistics::auc;
/// use arras_audit::{Attack, Finding, Verdict};
///
/// let row = |members: &[f64], others: &[f64]| -> arras_audit::Result<Finding> {
///     let row = Finding::new(Attack::Membership, "a head", "server", "none", 1);
///     Ok(row.score("auc", auc(members, others, 1)?).parameter("shadows", 64).judged(true, "told apart"))
/// };
/// let told = row(&[0.8, 0.9, 0.7, 0.95], &[0.1, 0.2, 0.3, 0.15])?;
/// assert_eq!((told.letter, told.scores["auc"].value, told.verdict), ('f', 1.0, Verdict::Leaks));
/// assert_eq!(row(&[0.4, 0.6], &[0.4, 0.6])?.verdict, Verdict::NoAdvantage);
/// # Ok::<(), arras_audit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The attack.
    pub attack: Attack,
    /// Its letter.
    pub letter: char,
    /// What is seen: "gradients, batch of 1", "sum of 8 tokens", ...
    pub seen: String,
    /// By whom: "server", "coordinator", "another client", "anyone", ...
    pub party: String,
    /// What protects it: "none", "CKKS", "DP, epsilon 1", ...
    pub protection: String,
    /// Number of victims that the scores are over.
    pub victims: usize,
    /// `psnr`, `ssim`, `lpips`, `nmi`, `auc`, and others that an attack names.
    pub scores: BTreeMap<String, Score>,
    /// Whether the attack reached what it looks for by its own measure; a row that did not is never a protection.
    pub converged: bool,
    /// The judgement.
    pub verdict: Verdict,
    /// The judgement in a sentence.
    pub text: String,
    /// Wall time.
    pub seconds: f64,
    /// What everything random depended on.
    pub seed: u64,
    /// Sizes and settings of the attack.
    pub parameters: BTreeMap<String, Value>,
    /// Examples, as files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<Picture>,
}

impl Finding {
    /// A row without scores, pictures and parameters, inconclusive until something is said.
    #[must_use]
    pub fn new(attack: Attack, seen: &str, party: &str, protection: &str, seed: u64) -> Self {
        Self {
            attack,
            letter: attack.letter(),
            seen: seen.to_owned(),
            party: party.to_owned(),
            protection: protection.to_owned(),
            victims: 0,
            scores: BTreeMap::new(),
            converged: false,
            verdict: Verdict::Inconclusive,
            text: String::new(),
            seconds: 0.0,
            seed,
            parameters: BTreeMap::new(),
            pictures: Vec::new(),
        }
    }

    /// Adds a score.
    #[must_use]
    pub fn score(mut self, name: &str, score: Score) -> Self {
        self.scores.insert(name.to_owned(), score);
        self
    }

    /// Adds a setting.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.to_owned(), value.into());
        self
    }

    /// Sets the verdict that the scores alone support: a gain in any of them leaks; none of an attack that converged
    /// is no advantage; an attack that did not converge shows nothing unless it gains.
    #[must_use]
    pub fn judged(mut self, converged: bool, text: &str) -> Self {
        self.converged = converged;
        self.verdict = match (self.scores.values().any(Score::gains), converged) {
            (true, _) => Verdict::Leaks,
            (false, true) => Verdict::NoAdvantage,
            (false, false) => Verdict::Inconclusive,
        };
        self.text = text.to_owned();
        self
    }
}

/// The document: what was audited, how, and the rows.
///
/// ```
/// use arras_audit::{Attack, Audit, Finding, SCHEMA};
///
/// let audit = Audit {
///     schema: SCHEMA.into(),
///     version: "0.1.0".into(),
///     seed: 7,
///     images: "generated tiles".into(),
///     model: "random".into(),
///     notes: vec![],
///     findings: vec![Finding::new(Attack::Key, "answers", "anyone", "CKKS", 7)],
/// };
/// let text = serde_json::to_string(&audit)?;
/// assert_eq!(serde_json::from_str::<Audit>(&text)?, audit);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the program that wrote it.
    pub version: String,
    /// Seed of the run.
    pub seed: u64,
    /// Where images came from.
    pub images: String,
    /// Which model was attacked.
    pub model: String,
    /// What must be known to read the numbers.
    pub notes: Vec<String>,
    /// The rows, in the order of the attacks' letters.
    pub findings: Vec<Finding>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_names_are_those_of_the_document() {
        let letters: String = Attack::ALL.iter().map(|attack| attack.letter()).collect();
        assert_eq!(letters, "abcdefghijkl");
        for attack in Attack::ALL {
            assert_eq!(serde_json::to_value(attack).unwrap(), attack.name());
        }
    }

    #[test]
    fn a_run_that_did_not_converge_is_never_protected() {
        let nothing = Score { value: 1.0, baseline: 1.0, advantage: 0.0, interval_95: [-0.1, 0.1] };
        let row = || Finding::new(Attack::Matching, "gradients", "server", "none", 1).score("psnr", nothing);
        assert_eq!(row().judged(false, "").verdict, Verdict::Inconclusive);
        assert_eq!(row().judged(true, "").verdict, Verdict::NoAdvantage);
        let gain = Score { advantage: 1.0, interval_95: [0.5, 1.5], ..nothing };
        assert_eq!(row().score("ssim", gain).judged(false, "").verdict, Verdict::Leaks);
    }
}
