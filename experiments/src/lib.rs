#![doc = include_str!("../README.md")]

pub mod assemble;
mod card;
pub mod cli;
mod coming;
pub mod environment;
mod error;
mod exit;
pub mod export;
mod graft;
mod hub;
mod kept;
mod lens;
mod log;
mod logits;
mod loss;
mod misfit;
mod model;
mod network;
pub mod overlay;
mod pins;
mod pixels;
pub mod predictions;
pub mod progress;
mod protobuf;
mod recipe;
mod refine;
pub mod report;
mod resolve;
mod run;
pub mod rundir;
mod said;
pub mod schema;
pub mod shipped;
pub mod signals;
pub mod stopwatch;
mod student;
pub mod study;
mod summary;
pub mod sweep;
pub mod table;
pub mod track;

pub use error::{Error, Result};
pub use exit::Exit;
pub use graft::{Grafting, Planted};
pub use lens::LensSpec;
pub use loss::LossSpec;
pub use misfit::{Misfit, typed};
pub use model::Model;
pub use pixels::Pixels;
pub use recipe::{
    ApartSpec, EmaSpec, EvaluateSpec, Expectation, PhaseSpec, Recipe, StudentSpec, TeacherSpec, TermSpec,
};
pub use refine::{Refine, RefinerSpec};
pub use resolve::{Layers, Resolved};
pub use run::{Options, run};
pub use summary::{Best, Epoch, Network, Scores, Summary, Taught};
