//! What the crate promises, from outside: one binary, since each costs a link.

// What fails to unwrap fails its test, at the line that says what it was.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "candle-datasets")]
mod candle_datasets;
mod epochs;
mod folders;
mod parquet;
mod real;
mod tiny_imagenet;
mod verdicts;
