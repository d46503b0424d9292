#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::float_cmp, reason = "what should be exact is compared exactly"))]

mod checkpoint;
mod clock;
mod distiller;
mod endless;
mod evaluate;
mod exam;
mod fit;
mod interlude;
pub mod metrics;
mod observe;
mod phase;
mod progress;
mod schedule;
mod steps;
mod stop;
mod tally;
mod together;
mod training;
mod update;

pub use checkpoint::{Checkpoint, Checkpoints, Found, Tensors};
pub use clock::processor_seconds;
pub use distiller::{Distiller, Hand, Shown, TermOf, Toward};
pub use evaluate::{Evaluation, evaluate, predictions};
pub use exam::{Best, Exam};
pub use fit::{Outcome, fit};
pub use interlude::{Aside, Interlude};
pub use metrics::JsonLines;
pub use observe::{EpochReport, Observer, PassReport, PhaseReport, StepReport};
pub use phase::Phase;
pub use progress::Progress;
pub use schedule::{Ramp, Schedule, Weighted};
pub use steps::Steps;
pub use stop::Stop;
pub use tally::{Sums, Tally};
pub use training::Training;
pub use update::{Course, Descend, Through, Unroll, Update, UpdateSpec};
