#![doc = include_str!("../README.md")]

mod frame;
mod meet;
mod place;
mod world;

pub use place::Place;
pub use world::{ALONE, Share, World};
