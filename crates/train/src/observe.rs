use crate::{Best, Evaluation, Progress};
use sokd_core::{Error, Result, Step, Terms};
use sokd_nn::Moment;
use std::collections::BTreeMap;

/// What happened in one phase of one step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport<'a> {
    /// Which phase.
    pub phase: &'a str,
    /// Where training stands.
    pub at: &'a Step,
    /// Where the passes stand, where this one belongs to an interlude: its epochs are passes.
    pub interlude: Option<Moment>,
    /// The terms before the step, their means, `()`, on the device that computed them until the phase's next step: who wants a number
    /// waits for it.
    pub terms: &'a Terms,
    /// The learning rate.
    pub lr: f64,
    /// Images that the phase saw.
    pub images: usize,
}

/// What happened in one pass of an interlude.
#[derive(Clone, Debug)]
pub struct PassReport<'a> {
    /// Which phase passed over its images.
    pub phase: &'a str,
    /// How far the run has come, this pass counted.
    pub at: &'a Progress,
    /// Which pass of the interlude, from 0.
    pub pass: usize,
    /// Passes in the interlude.
    pub passes: usize,
    /// What it came to.
    pub came: PhaseReport,
}

/// What happened in one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochReport {
    /// Which, from 0.
    pub epoch: usize,
    /// Epochs in the run.
    pub epochs: usize,
    /// Steps finished in the run.
    pub steps: u64,
    /// Images shown to the networks in the run, repetitions counted: all that a phase may have learned from.
    pub images: u64,
    /// Training and evaluation in the run, by the wall clock, interruptions not counted.
    pub seconds: f64,
    /// What each phase that acted came to.
    pub phases: BTreeMap<String, PhaseReport>,
    /// How the student did, by examination.
    pub exams: BTreeMap<String, Evaluation>,
    /// The best epoch so far, by examination. What is best on test images is for reports alone.
    pub best: BTreeMap<String, Best>,
}

/// What one phase came to in an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseReport {
    /// The learning rate at the end.
    pub lr: f64,
    /// The objective, weighted, averaged over images.
    pub loss: f64,
    /// Each term, *not* weighted, averaged over images.
    pub terms: BTreeMap<String, f64>,
}

/// Someone who watches: a metrics file, a progress line, a plot.
pub trait Observer: Send {
    /// Training begins, or goes on from `at`.
    fn begin(&mut self, at: &Progress) -> Result<()> {
        let _ = at;
        Ok(())
    }

    /// A phase that has acted for the first time moves weights that nothing asks for: they stay as they were.
    fn unreached(&mut self, phase: &str, weights: &[&str]) -> Result<()> {
        let _ = (phase, weights);
        Ok(())
    }

    /// Steps of a phase go on as a CUDA graph in this epoch; or operation by operation from here on, and why.
    fn captured(&mut self, phase: &str, outcome: std::result::Result<(), &Error>) -> Result<()> {
        let _ = (phase, outcome);
        Ok(())
    }

    /// A phase has acted.
    fn step(&mut self, report: &StepReport<'_>) -> Result<()> {
        let _ = report;
        Ok(())
    }

    /// A pass of an interlude is over, and will be saved next.
    fn pass(&mut self, report: &PassReport<'_>) -> Result<()> {
        let _ = report;
        Ok(())
    }

    /// An epoch is over and judged, and will be saved next.
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let _ = report;
        Ok(())
    }
}
