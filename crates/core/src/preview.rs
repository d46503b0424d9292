use crate::{Backbone, Dataset};
use candle::Device;
use std::path::Path;

/// The teacher and the images before the first step, for parts that learn of them once and keep what they learned.
#[derive(Clone, Copy)]
pub struct Preview<'a> {
    /// Who is learned from.
    pub teacher: &'a dyn Backbone,
    /// Tells the teacher, its weights and the data set from all others.
    pub who: &'a str,
    /// The images.
    pub images: &'a dyn Dataset,
    /// Where the teacher is.
    pub device: &'a Device,
    /// Where what was learned is kept.
    pub folder: &'a Path,
    /// Who watches.
    pub watch: &'a dyn Watch,
}

/// Someone who watches what is done before the first step.
pub trait Watch {
    /// What is done, and how much of how much.
    fn at(&self, what: &str, done: usize, of: usize);

    /// Something that a person should know.
    fn say(&self, line: &str);
}
