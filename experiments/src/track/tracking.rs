use super::courier::{Courier, Shared, Word, complaint};
use super::{About, Ended, Kind};
use crate::log::Log;
use crate::progress::Stage;
use crate::stopwatch::Stopwatch;
use crate::{Error, Result};
use sokd_train::{EpochReport, Observer, PassReport, Progress};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// At its end, a run waits so long for a tracker that works.
const PATIENCE: Duration = Duration::from_secs(15);
/// And so long for one whose last attempt failed.
const HASTE: Duration = Duration::from_secs(2);
/// In between, it looks so often.
const LOOK: Duration = Duration::from_millis(50);

/// The trackers of a run, each in a thread of its own.
#[derive(Debug)]
pub struct Tracking {
    about: Arc<About>,
    log: Log,
    stage: Stage,
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    kind: &'static Kind,
    words: Sender<Word>,
    /// Disconnected when the thread is over.
    over: Receiver<()>,
    shared: Arc<Shared>,
}

impl Tracking {
    /// Makes them ready; they are told nothing before the run begins.
    ///
    /// # Errors
    /// A tracker whose settings do not fit.
    pub fn of(kinds: &[&'static Kind], about: About, log: Log, stage: &Stage) -> Result<Self> {
        let mut tracking = Self { about: Arc::new(about), log, stage: stage.clone(), threads: Vec::new() };
        for &kind in kinds {
            let courier = Courier::new(Arc::clone(&tracking.about), (kind.open)()?);
            let (words, heard) = channel();
            let (done, over) = channel();
            let shared = Arc::new(Shared::default());
            let (log, stage, seen) = (tracking.log.clone(), tracking.stage.clone(), Arc::clone(&shared));
            let work = move || {
                courier.work(kind, &heard, &seen, &log, &stage);
                drop(done);
            };
            let thread = std::thread::Builder::new().name(kind.name.to_owned()).spawn(work);
            match thread {
                Ok(_) => tracking.threads.push(Thread { kind, words, over, shared }),
                Err(error) => tracking.complain(kind, &format!("no thread for it: {error}")),
            }
        }
        Ok(tracking)
    }

    /// Someone who tells them when there are more lines. He comes behind the one who writes them.
    pub fn observer(&self) -> Box<dyn Observer> {
        Box::new(Bell(self.threads.iter().map(|thread| thread.words.clone()).collect()))
    }

    /// Tells them how the run has ended, and waits a bounded time for them.
    pub fn end(mut self, ended: Ended) {
        self.part(ended);
    }

    fn part(&mut self, ended: Ended) {
        for thread in &self.threads {
            thread.words.send(Word::End(ended)).ok();
        }
        let waited = Stopwatch::start();
        for thread in std::mem::take(&mut self.threads) {
            let patience = || if thread.shared.away.load(Ordering::Relaxed) { HASTE } else { PATIENCE };
            let mut answer = Err(RecvTimeoutError::Timeout);
            while answer == Err(RecvTimeoutError::Timeout) && waited.elapsed() < patience() {
                answer = thread.over.recv_timeout(LOOK);
            }
            thread.shared.alone.store(true, Ordering::Relaxed);
            // One that is away has said so itself.
            if answer == Err(RecvTimeoutError::Timeout) && !thread.shared.away.load(Ordering::Relaxed) {
                self.complain(thread.kind, &format!("no answer in {} seconds", PATIENCE.as_secs()));
            }
        }
    }

    fn complain(&self, kind: &Kind, problem: &str) {
        let line = complaint(kind, problem, &self.about);
        self.log.say(&line).ok();
        self.stage.say(&line);
    }
}

impl Drop for Tracking {
    /// A run that ends without a word has failed.
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.part(Ended::Failed);
        }
    }
}

impl<T> From<&Result<T>> for Ended {
    fn from(outcome: &Result<T>) -> Self {
        match outcome {
            Ok(_) => Self::Finished,
            Err(Error::Stopped { .. }) => Self::Stopped,
            Err(_) => Self::Failed,
        }
    }
}

/// Rings when there is more. A word has no weight: a run of years would not fill the memory with them.
struct Bell(Vec<Sender<Word>>);

impl Bell {
    fn ring(&self, word: impl Fn() -> Word) -> sokd_core::Result<()> {
        // Whoever hears no more has ended, and has said why.
        self.0.iter().for_each(|words| drop(words.send(word())));
        Ok(())
    }
}

impl Observer for Bell {
    fn begin(&mut self, at: &Progress) -> sokd_core::Result<()> {
        self.ring(|| Word::Begin(at.steps + at.aside.passes))
    }

    fn pass(&mut self, _: &PassReport<'_>) -> sokd_core::Result<()> {
        self.ring(|| Word::More)
    }

    fn epoch(&mut self, _: &EpochReport) -> sokd_core::Result<()> {
        self.ring(|| Word::More)
    }
}
