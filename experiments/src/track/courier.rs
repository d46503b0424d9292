use super::line::{Line, Tail};
use super::{About, Ended, Kind, Tracker};
use crate::Result;
use crate::log::Log;
use crate::progress::Stage;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Lines that a tracker is told at once.
const AT_ONCE: usize = 64;
/// After a failure it is tried again so soon, or when there is more to tell.
const AGAIN: Duration = Duration::from_secs(5);

/// What a courier is told by its run.
#[derive(Debug, PartialEq)]
pub enum Word {
    /// The run begins, or goes on where it has made so many steps and passes.
    Begin(u64),
    /// There are more lines.
    More,
    /// The run has ended.
    End(Ended),
}

/// What a courier and its run both see.
#[derive(Debug, Default)]
pub struct Shared {
    /// The last attempt failed.
    pub away: AtomicBool,
    /// The run waits no longer.
    pub alone: AtomicBool,
}

/// Takes a run's lines to a tracker.
pub struct Courier {
    about: Arc<About>,
    tracker: Box<dyn Tracker>,
    /// Where the run goes on; nowhere, for one that is told when it is over.
    from: Option<u64>,
    /// Up to where the tracker knows the lines, once it has been asked.
    knows: Option<u64>,
    tail: Tail,
    /// Read and not yet told.
    lines: Vec<Line>,
}

impl Courier {
    pub fn new(about: Arc<About>, tracker: Box<dyn Tracker>) -> Self {
        let tail = Tail::new(&about.dir.join("metrics.jsonl"));
        Self { about, tracker, from: None, knows: None, tail, lines: Vec::new() }
    }

    /// Tells all that there is, and says how many lines that were.
    fn deliver(&mut self, shared: &Shared) -> Result<usize> {
        let knows = match self.knows {
            Some(knows) => knows,
            None => *self.knows.insert(self.tracker.begin(&self.about, self.from)?),
        };
        let mut told = 0;
        while !shared.alone.load(Ordering::Relaxed) {
            if self.lines.is_empty() {
                self.lines = self.tail.more()?;
                self.lines.retain(|line| line.at > knows);
            }
            let some = self.lines.len().min(AT_ONCE);
            if some == 0 {
                break;
            }
            self.tracker.tell(&self.lines[..some])?;
            self.lines.drain(..some);
            told += some;
            shared.away.store(false, Ordering::Relaxed);
        }
        Ok(told)
    }

    /// Does what its run says until that has ended. What fails is said once, in the log and to who looks on.
    pub fn work(mut self, kind: &Kind, words: &Receiver<Word>, shared: &Shared, log: &Log, stage: &Stage) {
        let (mut begun, mut ended, mut complained) = (false, None, false);
        while ended.is_none() && !shared.alone.load(Ordering::Relaxed) {
            let away = shared.away.load(Ordering::Relaxed);
            let first =
                if away { words.recv_timeout(AGAIN) } else { words.recv().map_err(RecvTimeoutError::from) };
            if first == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            // Many words while it was busy are one attempt.
            for word in first.into_iter().chain(words.try_iter()) {
                match word {
                    Word::Begin(from) => (begun, self.from) = (true, Some(from)),
                    Word::More => {}
                    Word::End(how) => ended = Some(how),
                }
            }
            if !begun {
                continue;
            }
            let delivered = self.deliver(shared);
            let done = delivered.and_then(|_| ended.map_or(Ok(()), |ended| self.tracker.end(ended)));
            shared.away.store(done.is_err(), Ordering::Relaxed);
            match done {
                Ok(()) if away => {
                    drop(log.say(&format!("{}: is back, and knows everything so far", kind.name)));
                }
                Err(error) if !complained => {
                    complained = true;
                    let line = complaint(kind, &error.to_string(), &self.about);
                    log.say(&line).ok();
                    stage.say(&line);
                }
                _ => {}
            }
        }
    }
}

/// What is said of a tracker that fails.
pub fn complaint(kind: &Kind, problem: &str, about: &About) -> String {
    let (name, dir) = (kind.name, about.dir.display());
    format!(
        "{name}: {problem}; the run goes on, and `sokd track {dir} --to {name}` tells later what is missing"
    )
}

/// Tells a tracker of a run that is over, and says how many lines it did not know.
///
/// # Errors
/// Whatever the tracker meets.
pub fn send(kind: &Kind, about: &Arc<About>, ended: Ended) -> Result<usize> {
    let mut courier = Courier::new(Arc::clone(about), (kind.open)()?);
    let told = courier.deliver(&Shared::default())?;
    courier.tracker.end(ended)?;
    Ok(told)
}
