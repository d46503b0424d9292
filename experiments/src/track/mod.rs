//! Who is told what a run does, beside its own directory: TensorBoard, MLflow.
//!
//! `metrics.jsonl` is the truth. A tracker is told of its lines by a thread of its own, which reads them from the file:
//! the run never waits for it, no queue can fill, and what a tracker missed is still there when it is back.

mod about;
mod courier;
mod line;
mod tracking;

pub use about::About;
pub use courier::send;
pub use line::Line;
pub use tracking::Tracking;

use crate::{Error, Misfit, Result};

/// Someone who is told what a run does. Every call may take its time and may fail: it is repeated with the same
/// words after a while, and the run goes on meanwhile.
pub trait Tracker: Send {
    /// A run begins, or goes on where it has made `from` steps and passes: what was told beyond is void. Without a `from`, a
    /// run that has ended before is told anew.
    ///
    /// Answers up to where it knows the lines.
    fn begin(&mut self, run: &About, from: Option<u64>) -> Result<u64>;

    /// More lines, in order.
    fn tell(&mut self, lines: &[Line]) -> Result<()>;

    /// The run has ended.
    fn end(&mut self, ended: Ended) -> Result<()>;
}

/// How a run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Finished,
    /// Something went wrong.
    Failed,
    /// It was asked to stop, or killed, and can go on.
    Stopped,
}

/// A tracker as the command line knows it.
#[derive(Debug)]
pub struct Kind {
    /// Its name there.
    pub name: &'static str,
    /// Makes one ready.
    ///
    /// # Errors
    /// Settings that are missing or do not fit. Whether anyone answers is not asked yet.
    pub open: fn() -> Result<Box<dyn Tracker>>,
    /// How it stands, in a line.
    pub state: fn() -> String,
}

macro_rules! trackers {
    ($($file:ident::$kind:ident),* $(,)?) => {
        $(mod $file;)*

        /// All that there are. A new one is a file beside this one, and a line here.
        pub const ALL: &[&Kind] = &[$(&$file::$kind),*];
    };
}

trackers! {
    tensorboard::TENSORBOARD,
    mlflow::MLFLOW,
}

pub use mlflow::FILE as NOTE;
pub use tensorboard::files as event_files;

/// What says that there shall be none.
pub const NONE: &str = "none";

/// The trackers of these names.
///
/// # Errors
/// A name that nobody bears, a tracker whose settings are missing.
pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<&'static Kind>> {
    let mut found: Vec<&'static Kind> = Vec::new();
    for name in names.into_iter().map(str::trim).filter(|name| ![NONE, ""].contains(name)) {
        let Some(kind) = ALL.iter().find(|kind| kind.name == name) else {
            let known: Vec<&str> = ALL.iter().map(|kind| kind.name).collect();
            let misfit = Misfit::new(format!("no tracker is called `{name}`"));
            return Err(Error::from(misfit.help(format!("there are: {}, {NONE}", known.join(", ")))));
        };
        if !found.iter().any(|known| known.name == name) {
            // Settings that do not fit are said before the first step, not in the middle of a log.
            (kind.open)()?;
            found.push(kind);
        }
    }
    Ok(found)
}
