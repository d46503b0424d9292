#![doc = include_str!("../README.md")]

mod address;
mod cache;
mod digest;
mod download;
mod fetch;
mod hub;
mod list;
#[cfg(feature = "mock")]
pub mod mock;
mod push;
mod refusal;
mod token;
mod wire;

pub use address::{Address, Kind, Repository};
pub use digest::sha256;
pub use download::{Original, download};
pub use fetch::Fetched;
pub use hub::Hub;
pub use list::Listing;
pub use push::{Parcel, Pushed};
pub use wire::{Patience, chain};
