use crate::progress::Stage;
use crate::stopwatch::Stopwatch;
use indicatif::{ProgressBar, ProgressStyle};
use sokd_core::Watch;
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Without a terminal, a line at most so often.
const SELDOM: Duration = Duration::from_secs(10);

/// Someone who watches files come: a bar with its pace, or a line now and then.
pub struct Coming {
    stage: Stage,
    /// The file, and its bar.
    bar: RefCell<Option<(String, ProgressBar)>>,
    /// When its first bytes came, how many they were, and when it was last spoken of.
    begun: Cell<Option<(Stopwatch, usize)>>,
    said: Cell<Option<Stopwatch>>,
}

impl Coming {
    /// Silent, until something comes.
    pub fn new(stage: &Stage) -> Self {
        Self { stage: stage.clone(), bar: RefCell::default(), begun: Cell::default(), said: Cell::default() }
    }

    fn begin(&self, what: &str, done: usize, of: usize) {
        self.end();
        let style = ProgressStyle::with_template(
            "{prefix} {bar:20.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} left {eta}",
        );
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━─");
        let bar = ProgressBar::new(of as u64).with_style(style).with_prefix(what.to_owned());
        // What an earlier try left says nothing of today's pace.
        let bar = self.stage.bars.add(bar.with_position(done as u64));
        bar.reset_eta();
        *self.bar.borrow_mut() = Some((what.to_owned(), bar));
        self.begun.set(Some((Stopwatch::start(), done)));
        self.said.set(Some(Stopwatch::start()));
    }

    fn end(&self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
            self.stage.bars.remove(&bar);
        }
    }
}

impl Watch for Coming {
    fn at(&self, what: &str, done: usize, of: usize) {
        if self.bar.borrow().as_ref().is_none_or(|(known, _)| known != what) {
            self.begin(what, done, of);
        }
        if let Some((_, bar)) = &*self.bar.borrow() {
            bar.set_position(done as u64);
        }
        let due = self.said.get().is_some_and(|said| said.elapsed() >= SELDOM);
        if let (false, true, Some((begun, from))) = (self.stage.is_terminal(), due, self.begun.get()) {
            let megabytes = |bytes: usize| bytes as f64 / 1e6;
            let pace = megabytes(done.saturating_sub(from)) / begun.seconds().max(1e-9);
            let (done, of) = (megabytes(done), megabytes(of));
            self.stage.say(&format!("{what}: {done:.1} of {of:.1} MB, {pace:.1} MB/s"));
            self.said.set(Some(Stopwatch::start()));
        }
    }

    fn say(&self, line: &str) {
        self.stage.say(line);
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.end();
    }
}
