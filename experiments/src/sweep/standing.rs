use super::{Job, Sweep};
use crate::progress::clock;
use crate::report::duration;
use crate::rundir::{State, Status, busy};
use crate::{Result, Summary};
use serde::Serialize;
use sokd_train::metrics;
use std::path::{Path, PathBuf};

/// How a cell stands, as its run directory tells; nobody is asked.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    /// The cell's number; none for a teacher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<usize>,
    /// How progress and reports call it.
    pub label: String,
    /// How it stands.
    pub state: Stands,
    /// Epochs done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Of how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// How long it has worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How long it will work, at its own pace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<f64>,
    /// Top-1 on the test images after the last epoch, in per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
    /// What ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The run's directory.
    pub run: PathBuf,
}

/// How a cell can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stands {
    /// It is done.
    Finished,
    /// A process works on it.
    Running,
    /// It was asked to stop, or was killed, and goes on from its last checkpoint when it is run again.
    Stopped,
    /// Something went wrong; it is tried again when it is run again.
    Failed,
    /// Nobody has begun.
    Waiting,
}

/// How a sweep stands.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Overview {
    /// The table or recipe.
    pub name: String,
    /// How many cells there are.
    pub cells: usize,
    /// How many of them are done.
    pub finished: usize,
    /// On how many a process works.
    pub running: usize,
    /// How many were stopped or killed.
    pub stopped: usize,
    /// How many failed.
    pub failed: usize,
    /// How many nobody has begun.
    pub waiting: usize,
    /// What a cell took, on average over those that are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_a_cell: Option<f64>,
    /// What the rest will take, with as many at a time as run now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<f64>,
    /// What cells need first.
    pub teachers: Vec<Standing>,
    /// Cell by cell.
    pub standing: Vec<Standing>,
}

impl Stands {
    /// In the order in which they are counted.
    pub const ALL: [Self; 5] = [Self::Finished, Self::Running, Self::Stopped, Self::Failed, Self::Waiting];

    /// As listings have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
        }
    }
}

impl Overview {
    /// How all cells of a sweep stand now.
    ///
    /// # Errors
    /// A plan that is not whole.
    pub fn of(sweep: &Sweep) -> Result<Self> {
        let teachers = sweep.teachers();
        let teachers = teachers.iter().map(|prior| Standing::of(None, &prior.label, &prior.job, &sweep.dir));
        let cells =
            sweep.tasks.iter().map(|task| Standing::of(Some(task.cell), &task.label, &task.job, &sweep.dir));
        let (teachers, standing): (Vec<_>, Vec<_>) = (teachers.collect(), cells.collect());
        let count = |state| standing.iter().filter(|cell| cell.state == state).count();
        let mut overview = Self {
            name: sweep.asked.name(),
            cells: standing.len(),
            finished: count(Stands::Finished),
            running: count(Stands::Running),
            stopped: count(Stands::Stopped),
            failed: count(Stands::Failed),
            waiting: count(Stands::Waiting),
            seconds_a_cell: None,
            left: None,
            teachers,
            standing,
        };
        overview.seconds_a_cell = overview.pace();
        overview.left = overview.rest();
        Ok(overview)
    }

    fn pace(&self) -> Option<f64> {
        let done = self.standing.iter().filter(|cell| cell.state == Stands::Finished);
        let took: Vec<f64> = done.filter_map(|cell| cell.seconds).collect();
        (!took.is_empty()).then(|| took.iter().sum::<f64>() / took.len() as f64)
    }

    /// Nothing, where nobody works or no cell has told how long one takes.
    fn rest(&self) -> Option<f64> {
        let pace = self.seconds_a_cell?;
        if self.running == 0 {
            return None;
        }
        let of = |cell: &Standing| match cell.state {
            Stands::Finished | Stands::Failed => 0.0,
            Stands::Running | Stands::Stopped => cell.left.unwrap_or(pace),
            Stands::Waiting => pace,
        };
        Some(self.standing.iter().map(of).sum::<f64>() / self.running as f64)
    }
}

impl Standing {
    /// How a run stands. What cannot be read is a failure that says so.
    pub fn of(cell: Option<usize>, label: &str, job: &Job, sweep: &Path) -> Self {
        let mut standing = Self {
            cell,
            label: label.to_owned(),
            state: Stands::Waiting,
            epoch: None,
            epochs: None,
            seconds: None,
            left: None,
            top1: None,
            problem: None,
            run: job.run.clone(),
        };
        if let Err(error) = standing.look(job, sweep) {
            standing.state = Stands::Failed;
            standing.problem = Some(error.to_string());
        }
        standing
    }

    /// How far it is and how fast, in a few words.
    pub fn pace(&self) -> String {
        let epochs = self.epoch.zip(self.epochs).map(|(done, of)| format!("epoch {done} of {of}"));
        let each = self.seconds.zip(self.epoch).filter(|(_, done)| self.epochs.is_some() && *done > 0);
        let each = each.map(|(seconds, done)| format!("{} an epoch", duration(seconds / done as f64)));
        let left = self.left.filter(|_| self.state == Stands::Running);
        let left = left.map(|seconds| format!("{} left", clock(seconds)));
        [epochs, each, left].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn look(&mut self, job: &Job, sweep: &Path) -> Result<()> {
        if let Some(summary) = Summary::read(&job.run)?.filter(|summary| summary.recipe == job.digest) {
            self.state = Stands::Finished;
            self.seconds = Some(summary.seconds);
            self.top1 = Some(summary.last.top1);
            return Ok(());
        }
        let status = Status::read(&job.run)?;
        self.problem = status.as_ref().and_then(|status| status.problem.clone());
        self.state = match status.map(|status| status.state) {
            // A lock that is held tells more than what was written: by one that was killed, or before one began.
            _ if busy(&job.run) => Stands::Running,
            None => Stands::Waiting,
            Some(State::Failed) => Stands::Failed,
            Some(State::Running) => {
                self.problem = Some("it was killed".into());
                Stands::Stopped
            }
            Some(State::Stopped | State::Finished) => Stands::Stopped,
        };
        if self.state != Stands::Waiting {
            self.measure(job, sweep)?;
        }
        Ok(())
    }

    /// How far it is, as its metrics tell.
    fn measure(&mut self, job: &Job, sweep: &Path) -> Result<()> {
        let lines = metrics::read(&job.run.join("metrics.jsonl"))?;
        let last = lines.iter().rev().find(|line| line.get("event").is_some_and(|event| event == "epoch"));
        let number = |name: &str| last.and_then(|line| line.get(name)?.as_f64());
        let epochs = job.resolved(sweep)?.recipe.epochs as u64;
        let done = number("epoch").map_or(0, |epoch| epoch as u64 + 1);
        (self.epoch, self.epochs, self.seconds) = (Some(done), Some(epochs), number("seconds"));
        self.top1 = lines.iter().rev().find_map(|line| line.get("test/top1")?.as_f64());
        self.left = self
            .seconds
            .filter(|_| done > 0)
            .map(|seconds| seconds / done as f64 * epochs.saturating_sub(done) as f64);
        Ok(())
    }
}
