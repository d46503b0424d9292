//! What a finished run came to: `summary.json`, the one file that tables and reports read.

use crate::environment::Environment;
use crate::{Recipe, Resolved};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sokd_core::Error;
use sokd_train::{Evaluation, Progress, metrics};
use std::path::Path;

/// What a finished run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// The digest of the resolved recipe.
    pub recipe: String,
    /// The root of its randomness.
    pub seed: u64,
    /// How the recipe calls the data.
    pub data: String,
    /// The digest of its images and labels, or of its files' names where they are too many to hold; none in summaries of
    /// before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_blake3: Option<String>,
    /// Who learned.
    pub student: Network,
    /// Who was learned from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Taught>,
    /// Steps made.
    pub steps: u64,
    /// Images that the student saw, repetitions counted.
    pub images: u64,
    /// Training and evaluation together, by the wall clock, interruptions not counted.
    pub seconds: f64,
    /// The same in seconds that processors gave to the process, all its threads together: what other work beside it does not
    /// stretch. None where the system does not tell, and in summaries of before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor_seconds: Option<f64>,
    /// The student after the last epoch.
    pub last: Scores,
    /// The student after the epoch that was best on the test images: a choice that looked at them.
    #[serde(rename = "best (test)")]
    pub best: Best,
    /// The moving average of the student after the last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<Scores>,
    /// Of each class's test images, the part that the student recognised after the last epoch, in per cent, by label.
    pub recall: Vec<f64>,
    /// Epoch by epoch.
    pub epochs: Vec<Epoch>,
    /// Where and when it ran.
    pub environment: Environment,
}

/// A network and its cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Network {
    /// How the recipe calls it.
    pub model: String,
    /// Numbers that are learned.
    pub parameters: usize,
    /// Multiplications with addition for one image.
    pub macs: u64,
}

/// A teacher as it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Taught {
    /// Which network.
    #[serde(flatten)]
    pub network: Network,
    /// Where its weights came from.
    pub weights: String,
    /// Their digest; none for drawn ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Top-1 on the test images, in per cent.
    pub top1: f64,
}

/// How good a network was on the test images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scores {
    /// Images it recognised.
    pub correct: usize,
    /// Images it saw.
    pub total: usize,
    /// In per cent.
    pub top1: f64,
    /// In per cent.
    pub top5: f64,
    /// Cross-entropy, in nats.
    pub loss: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// Images on which it and the teacher agree, in per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

/// The best epoch, as the test images tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Best {
    /// Which epoch, from 0.
    pub epoch: usize,
    /// How good it was.
    #[serde(flatten)]
    pub scores: Scores,
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Epoch {
    /// From 0.
    pub epoch: usize,
    /// The whole objective, averaged over the epoch's images.
    pub train_loss: f64,
    /// By the wall clock, evaluation included.
    pub seconds: f64,
    /// How good the student was, in epochs that looked at the test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Scores>,
}

impl Summary {
    /// What a run came to, from where it ended and the metrics that it left.
    ///
    /// # Errors
    /// A metrics file that cannot be read.
    pub fn of(
        resolved: &Resolved,
        progress: &Progress,
        metrics: &Path,
        (student, teacher): (Network, Option<Taught>),
        environment: Environment,
    ) -> sokd_core::Result<Self> {
        let recipe = &resolved.recipe;
        let unjudged = || Error::setting("epochs", "a run of no steps has nothing to show");
        let last = progress.latest.get("test").ok_or_else(unjudged)?;
        let best = progress.best.get("test").ok_or_else(unjudged)?;
        Ok(Self {
            recipe: resolved.id.clone(),
            seed: recipe.seed,
            data: recipe.data.name(),
            data_blake3: None,
            student,
            teacher,
            steps: progress.steps,
            images: progress.images,
            seconds: progress.seconds,
            processor_seconds: progress.processor_seconds,
            last: last.into(),
            best: Best { epoch: best.epoch, scores: (&best.evaluation).into() },
            ema: progress.latest.get("ema-test").map(Scores::from),
            recall: last.recall.clone(),
            epochs: epochs(recipe, &metrics::read(metrics)?),
            environment,
        })
    }

    /// The summary in a run directory, if the run is finished.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn read(dir: &Path) -> sokd_core::Result<Option<Self>> {
        let path = dir.join("summary.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(sokd_core::Error::io(&path)(error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let remedy = "run again with --force, or delete the file";
            sokd_core::Error::file(&path, None, format!("no summary of a run: {error}"), remedy)
        })
    }
}

impl From<&Evaluation> for Scores {
    fn from(of: &Evaluation) -> Self {
        let Evaluation { correct, total, top1, top5, loss, ece, agreement, recall: _ } = *of;
        Self { correct, total, top1, top5, loss, ece, agreement }
    }
}

/// The epochs that a metrics file tells of. The loss is that of the phase that trains the student.
fn epochs(recipe: &Recipe, lines: &[Map<String, Value>]) -> Vec<Epoch> {
    let loss = format!("train/{}/loss", recipe.learner());
    let number = |line: &Map<String, Value>, name: &str| line.get(name).and_then(Value::as_f64);
    let scores = |line: &Map<String, Value>| {
        let under = |name: &str| number(line, &format!("test/{name}"));
        Some(Scores {
            correct: under("correct")? as usize,
            total: under("total")? as usize,
            top1: under("top1")?,
            top5: under("top5")?,
            loss: under("loss")?,
            ece: under("ece")?,
            agreement: under("agreement"),
        })
    };
    let mut before = 0.0;
    let epoch = |line: &Map<String, Value>| {
        let now = number(line, "seconds")?;
        let seconds = now - std::mem::replace(&mut before, now);
        let train_loss = number(line, &loss).unwrap_or(f64::NAN);
        Some(Epoch { epoch: number(line, "epoch")? as usize, train_loss, seconds, test: scores(line) })
    };
    lines
        .iter()
        .filter(|line| line.get("event").is_some_and(|event| event == "epoch"))
        .filter_map(epoch)
        .collect()
}
