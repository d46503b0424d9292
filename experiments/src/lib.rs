#![doc = include_str!("../README.md")]

pub mod assemble;
pub mod cli;
pub mod environment;
mod error;
mod exit;
mod misfit;
mod model;
pub mod overlay;
mod recipe;
pub mod report;
mod resolve;
mod run;
pub mod rundir;
pub mod shipped;
mod signals;
mod summary;
pub mod table;

pub use error::{Error, Result};
pub use exit::Exit;
pub use misfit::{Misfit, typed};
pub use model::Model;
pub use recipe::{EmaSpec, EvaluateSpec, Expectation, PhaseSpec, Pixels, Recipe, StudentSpec, TeacherSpec, TermSpec};
pub use resolve::{Layers, Resolved};
pub use run::{Options, run};
pub use signals::Signals;
pub use summary::{Best, Epoch, Network, Scores, Summary, Taught};
