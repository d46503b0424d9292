//! What happened to a run, in lines for people: `train.log`.

use crate::environment::utc;
use sokd_core::{Error, Result};
use sokd_train::{EpochReport, Observer, PassReport, Progress};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Someone who writes down what happens, with the time.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
    /// What was said of CUDA graphs.
    captured: BTreeSet<String>,
}

impl Log {
    /// Into a file, behind what stands in it.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), captured: BTreeSet::new() }
    }

    /// One line.
    pub fn say(&self, text: &str) -> Result<()> {
        let write = || {
            writeln!(
                File::options().create(true).append(true).open(&self.path)?,
                "{} {text}",
                utc(SystemTime::now())
            )
        };
        write().map_err(Error::io(&self.path))
    }
}

impl Observer for Log {
    fn begin(&mut self, at: &Progress) -> Result<()> {
        match at.steps {
            0 => self.say("begins"),
            steps => self.say(&format!("goes on after step {steps}, in epoch {}", at.epoch)),
        }
    }

    fn unreached(&mut self, phase: &str, weights: &[&str]) -> Result<()> {
        self.say(&unreached(phase, weights))
    }

    fn captured(&mut self, phase: &str, outcome: std::result::Result<(), &Error>) -> Result<()> {
        let said = captured(phase, outcome);
        // Once, and not in every epoch.
        if self.captured.insert(said.clone()) { self.say(&said) } else { Ok(()) }
    }

    fn pass(&mut self, report: &PassReport<'_>) -> Result<()> {
        let PassReport { phase, at, pass, passes, came } = report;
        self.say(&format!(
            "{phase} before epoch {}: pass {} of {passes} over: loss {:.4}, lr {:.2e}; {:.1} s in all",
            at.epoch + 1,
            pass + 1,
            came.loss,
            came.lr,
            at.seconds
        ))
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let mut line =
            format!("epoch {} of {} over after step {}:", report.epoch + 1, report.epochs, report.steps);
        // Writing into a String cannot fail.
        for (name, phase) in &report.phases {
            write!(line, " {name} loss {:.4}, lr {:.2e};", phase.loss, phase.lr).ok();
        }
        for (name, exam) in &report.exams {
            write!(line, " {name}/top1 {:.2} %, {name}/loss {:.4};", exam.top1, exam.loss).ok();
        }
        self.say(&format!("{line} {:.1} s in all", report.seconds))
    }
}

/// How steps of a phase go on.
pub fn captured(phase: &str, outcome: std::result::Result<(), &Error>) -> String {
    let how = match outcome {
        Ok(()) => "as a CUDA graph".to_owned(),
        // Behind the first line, candle may say from where it was called.
        Err(why) => format!("operation by operation: {}", why.to_string().lines().next().unwrap_or_default()),
    };
    format!("steps of {phase} go on {how}")
}

/// What a reader should know of weights that a phase moves and nothing asks for: the parts they belong to, in a line.
pub fn unreached(phase: &str, weights: &[&str]) -> String {
    // `adapter.hint.1-deep3.deeper.0.conv.weight` belongs to `adapter.hint.1-deep3`.
    let part = |name: &str| name.split('.').take(3).collect::<Vec<_>>().join(".");
    let parts: BTreeSet<String> = weights.iter().map(|name| part(name)).collect();
    let parts = parts.into_iter().collect::<Vec<_>>().join(", ");
    format!("{phase}: no term reaches {parts} ({} weights), which stay as they were", weights.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_told_by_the_part_that_they_belong_to() {
        let weights = ["adapter.hint.1-deep3.conv.weight", "adapter.hint.1-deep3.bn.bias", "student.fc.bias"];
        assert_eq!(
            unreached("student", &weights),
            "student: no term reaches adapter.hint.1-deep3, student.fc.bias (3 weights), which stay as they were"
        );
    }
}
