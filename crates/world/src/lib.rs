#![doc = include_str!("../README.md")]

mod fabric;
mod frame;
mod meet;
mod place;
mod world;

pub use fabric::Fabric;
pub use place::Place;
pub use world::{ALONE, Share, World};
