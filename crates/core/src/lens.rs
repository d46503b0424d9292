use crate::{Batch, Result, Step, Terms};

/// The group of weights that lenses learn: what a phase that moves them wants is a gradient through the lens.
pub const LENS: &str = "augment";

/// What stands between the images and both networks: they see what it shows.
///
/// A [`Refiner`](crate::Refiner) rewrites what networks said of a batch; a lens rewrites the batch before anyone sees
/// it, so that student and teacher speak of the same images.
pub trait Lens: Send + Sync {
    /// The batch as both networks will see it, and readings about it.
    ///
    /// It may show more examples than it was given: labels and rows come with every one. In a step that
    /// [focuses](Step::focuses), gradients pass through the images to whatever the lens learns; in others, images are
    /// plain numbers.
    fn look(&self, batch: &Batch, at: &Step) -> Result<(Batch, Terms)>;

    /// How often it shows each example that it is given, all of them once before any comes again: what a step costs, and by what a
    /// method tells one showing from the next.
    fn shows(&self, at: &Step) -> usize {
        let _ = at;
        1
    }
}
