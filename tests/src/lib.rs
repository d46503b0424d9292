#![doc = include_str!("../README.md")]

mod close;
mod diary;
mod filled;
mod said;
mod wave;

pub use close::{gap, near, same, slopes, weighed};
pub use diary::Diary;
pub use filled::{fill, fill_with, images};
pub use said::{Said, data, first, networks, pair};
pub use wave::{Wave, wave};

use serde::de::DeserializeOwned;

/// What a script under `tests/golden` recorded.
///
/// # Panics
/// When the file is missing or does not say what the test expects to read.
#[must_use]
pub fn golden<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}
