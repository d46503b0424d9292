#![doc = include_str!("../README.md")]

mod address;
mod digest;
mod download;
mod fetch;
#[cfg(test)]
mod mock;

pub use address::Address;
pub use digest::sha256;
pub use download::download;
pub use fetch::fetch;
