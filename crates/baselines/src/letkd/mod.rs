//! letKD: a layer in the student that matches templates, and a loss that says how the teacher would match them.
//!
//! The layer stays in the student. What it should match is learned of the frozen teacher before the first step: clusters
//! of its last map ([`LetkdClusters`]), or the decisions between parts of classes that an intermediate map allows
//! ([`LetkdDecisions`]).

pub mod artefact;
pub mod decisions;
pub mod eigen;
pub mod kmeans;
mod layer;
pub mod lda;
mod loss;
pub mod maps;

pub use layer::{KdLayer, Templates};
pub use loss::{Distances, LetkdClusters, LetkdDecisions, divergence};
