//! How far a run is: a bar where someone looks on, a line now and then where not.

use crate::log::unreached;
use crate::stopwatch::Stopwatch;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sokd_core::{self as core, Result};
use sokd_nn::Moment;
use sokd_train::{EpochReport, Observer, Progress, StepReport};
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Without a terminal, a line at most so often.
const SELDOM: Duration = Duration::from_secs(30);
/// On a terminal, new numbers at most so often: each asks the device for a loss.
const OFTEN: Duration = Duration::from_millis(250);

/// Where progress is shown: bars of several runs and tables stand in one place, below each other.
#[derive(Clone, Debug)]
pub struct Stage {
    /// For whoever has a bar of their own to add.
    pub bars: MultiProgress,
    terminal: bool,
    quiet: bool,
    share: Option<Share>,
}

/// What a run is of something larger: its steps move the larger bar too.
#[derive(Clone, Debug)]
struct Share {
    whole: ProgressBar,
    from: u64,
    work: u64,
}

impl Stage {
    /// On the standard error: bars if it is a terminal, lines if not, nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let shown = terminal && !quiet;
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), terminal, quiet, share: None }
    }

    /// Whether someone looks on.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A line above the bars, if anything is shown at all.
    pub fn say(&self, line: &str) {
        if self.terminal && !self.quiet {
            self.bars.println(line).ok();
        } else if !self.quiet {
            // Whoever closed the other end wants no lines, and that is no reason to fail.
            writeln!(std::io::stderr(), "{line}").ok();
        }
    }

    /// A bar for several runs: `work` is what they take together, in any unit. It stays below theirs.
    pub fn whole(&self, work: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("{msg} {bar:20.green/dim} {percent} %  left {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━━─");
        let bar = self.bars.add(ProgressBar::new(work.max(1)).with_style(style));
        bar.enable_steady_tick(Duration::from_secs(1));
        bar
    }

    /// The same stage for a run that takes `work` of a larger bar, behind what that bar shows now.
    #[must_use]
    pub fn within(&self, whole: &ProgressBar, work: u64) -> Self {
        let share = Share { whole: whole.clone(), from: whole.position(), work };
        Self { share: Some(share), ..self.clone() }
    }

    /// Someone who watches one run.
    pub fn watch(&self, label: &str, steps: u64, epochs: usize) -> Watch {
        let style = ProgressStyle::with_template("{prefix} {bar:20.cyan/dim} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━━─");
        let bar = ProgressBar::new(steps).with_style(style).with_prefix(label.to_owned());
        let bar = match &self.share {
            Some(share) => self.bars.insert_before(&share.whole, bar),
            None => self.bars.add(bar),
        };
        let now = Stopwatch::start();
        Watch {
            stage: self.clone(),
            label: label.to_owned(),
            epochs,
            bar,
            from: 0,
            aside: 0,
            step: None,
            images: 0,
            loss: f64::NAN,
            top1: None,
            begun: now,
            said: now,
        }
    }
}

/// An [`Observer`] that shows how far a run is.
pub struct Watch {
    stage: Stage,
    label: String,
    epochs: usize,
    bar: ProgressBar,
    /// Steps done before this process took over.
    from: u64,
    /// Steps done in interludes, which no epoch counts.
    aside: u64,
    /// The step whose phases are being counted.
    step: Option<u64>,
    images: u64,
    loss: f64,
    top1: Option<f64>,
    begun: Stopwatch,
    said: Stopwatch,
}

impl Watch {
    /// Whether it is time for new numbers.
    fn due(&self) -> bool {
        let pause = if self.stage.terminal { OFTEN } else { SELDOM };
        !self.stage.quiet && self.said.elapsed() >= pause
    }

    fn show(&mut self, epoch: usize, interlude: Option<(&str, Moment)>) {
        let elapsed = self.begun.seconds();
        let done = self.bar.position().saturating_sub(self.from);
        let left = self.bar.length().unwrap_or(0).saturating_sub(self.bar.position());
        let eta = elapsed / done.max(1) as f64 * left as f64;
        let rate = self.images as f64 / elapsed.max(1e-9);
        let top1 = self.top1.map_or_else(String::new, |top1| format!("  test/top1 {top1:.2} %"));
        let pass = interlude.map_or_else(String::new, |(phase, at)| {
            format!("  {phase}: pass {}/{}", at.epoch + 1, at.epochs)
        });
        let text = format!(
            "epoch {}/{}{pass}  {rate:.0} images/s  loss {:.3}{top1}  left {}",
            (epoch + 1).min(self.epochs),
            self.epochs,
            self.loss,
            clock(eta)
        );
        if self.stage.terminal {
            self.bar.set_message(text);
        } else {
            self.stage.say(&format!("{}: {text}", self.label));
        }
        self.said = Stopwatch::start();
    }
}

impl Observer for Watch {
    fn begin(&mut self, at: &Progress) -> Result<()> {
        self.aside = at.aside.steps;
        self.from = at.steps + self.aside;
        self.bar.set_position(self.from);
        self.begun = Stopwatch::start();
        Ok(())
    }

    fn unreached(&mut self, phase: &str, weights: &[&str]) -> Result<()> {
        self.stage.say(&format!("{}: {}", self.label, unreached(phase, weights)));
        Ok(())
    }

    fn step(&mut self, report: &StepReport<'_>) -> Result<()> {
        // Several phases may act in one step; the first stands for it.
        if report.interlude.is_none() && self.step.replace(report.at.index) == Some(report.at.index) {
            return Ok(());
        }
        self.aside += u64::from(report.interlude.is_some());
        self.images += report.images as u64;
        self.bar.set_position(report.at.index + u64::from(report.interlude.is_none()) + self.aside);
        if let Some(Share { whole, from, work }) = &self.stage.share {
            let part = self.bar.position() as f64 / self.bar.length().unwrap_or(1).max(1) as f64;
            whole.set_position(from + (*work as f64 * part.min(1.0)) as u64);
        }
        if self.due() {
            if let Some(total) = report.terms.total()? {
                self.loss = f64::from(total.to_dtype(candle::DType::F32)?.to_scalar::<f32>()?);
            }
            self.show(report.at.epoch, report.interlude.map(|at| (report.phase, at)));
        }
        Ok(())
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.top1 = report.exams.get("test").map(|exam| exam.top1).or(self.top1);
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.stage.bars.remove(&self.bar);
    }
}

/// Someone who watches what is done before the first step.
pub struct Preparing {
    stage: Stage,
    bar: ProgressBar,
    said: Cell<Option<Stopwatch>>,
}

impl Preparing {
    /// Silent, until there is something to see.
    pub fn new(stage: &Stage) -> Self {
        Self { stage: stage.clone(), bar: ProgressBar::hidden(), said: Cell::new(None) }
    }
}

impl core::Watch for Preparing {
    fn at(&self, what: &str, done: usize, of: usize) {
        let pause = if self.stage.terminal { OFTEN } else { SELDOM };
        if self.stage.quiet || self.said.get().is_some_and(|said| said.elapsed() < pause) {
            return;
        }
        let text = format!("before the first step: {what}, {done} of {of}");
        if self.stage.terminal {
            if self.said.get().is_none() {
                self.stage.bars.add(self.bar.clone());
                self.bar.set_style(ProgressStyle::default_spinner());
            }
            self.bar.set_message(text);
        } else {
            self.stage.say(&text);
        }
        self.said.set(Some(Stopwatch::start()));
    }

    fn say(&self, line: &str) {
        self.stage.say(line);
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.stage.bars.remove(&self.bar);
    }
}

/// `0:07`, `12:34`, `1:02:03`.
pub fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn a_clock_reads_as_a_clock() {
        assert_eq!([clock(7.2), clock(754.0), clock(3723.0)], ["0:07", "12:34", "1:02:03"]);
    }
}
