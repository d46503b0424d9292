use crate::{Error, PixelNorm, Result};
use candle::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// What images may be drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What students learn from.
    Train,
    /// Held out of training: policies learn from it, and selection looks at it.
    Search,
    /// Looked at, never learned from.
    Test,
}

/// A split that weights may learn from. [`Split::Test`] has no counterpart here: leakage is a type error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LearnSplit {
    /// What students learn from.
    #[default]
    Train,
    /// Held out of training, for policies.
    Search,
}

impl From<LearnSplit> for Split {
    fn from(split: LearnSplit) -> Self {
        match split {
            LearnSplit::Train => Self::Train,
            LearnSplit::Search => Self::Search,
        }
    }
}

/// Some examples.
///
/// # Shapes
/// `images`: `(batch, height, width, 3)` in [0, 1], `f32`; `labels`, `rows`: `(batch,)`, `u32`.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Pixels in [0, 1]; networks normalise them.
    pub images: Tensor,
    /// The true classes.
    pub labels: Tensor,
    /// Position in the split, for losses that remember examples.
    pub rows: Tensor,
}

impl Batch {
    /// The same on a device, which is its own copy unless it is there already.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let to = |tensor: &Tensor| tensor.to_device(device);
        Ok(Self { images: to(&self.images)?, labels: to(&self.labels)?, rows: to(&self.rows)? })
    }
}

/// All examples of a split, as bytes.
///
/// # Shapes
/// `pixels`: `(images, height, width, 3)`, red, green and blue; `labels`: `(images,)`.
#[derive(Clone, Debug)]
pub struct Bytes {
    /// Pixels in 0 to 255.
    pub pixels: Vec<u8>,
    /// The true classes.
    pub labels: Vec<u32>,
}

/// A rectangle of an image, in pixels from the top left; `bottom` and `right` are outside.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Area {
    /// First row inside.
    pub top: f32,
    /// First column inside.
    pub left: f32,
    /// First row below.
    pub bottom: f32,
    /// First column to the right.
    pub right: f32,
}

/// What is known of a data set before it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct DatasetInfo {
    /// How recipes call it.
    pub name: String,
    /// The classes' names, by label.
    pub classes: Vec<String>,
    /// Height and width of its images.
    pub size: [usize; 2],
    /// The statistics that networks trained on it subtract and divide by, unless they bring their own.
    pub pixels: PixelNorm,
    /// Images to learn from, `search` not among them.
    pub train: usize,
    /// Images held out of training.
    pub search: usize,
    /// Images to judge by.
    pub test: usize,
}

impl DatasetInfo {
    /// Images of a split.
    pub fn len(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Search => self.search,
            Split::Test => self.test,
        }
    }
}

/// Labelled images that can be read by row.
pub trait Dataset: Send + Sync {
    /// What is known before reading.
    fn info(&self) -> &DatasetInfo;

    /// The examples at `rows` of a split, unchanged.
    fn read(&self, split: Split, rows: &[u32]) -> Result<Batch>;

    /// All examples of a split, from a set that holds them as bytes of which [`read`](Self::read)'s pixels are 255ths: a device
    /// can keep them then.
    fn bytes(&self, split: Split) -> Option<Bytes> {
        let _ = split;
        None
    }

    /// The examples at `rows`, of each the part that `part` chooses for its row and its picture's height and width, resized
    /// to the set's size. Parts have whole pixels, at least one each way.
    ///
    /// # Errors
    /// [`Error::Setting`] from a set whose pictures cannot be cut.
    fn cut(
        &self,
        split: Split,
        rows: &[u32],
        part: &(dyn Fn(u32, [usize; 2]) -> Area + Sync),
    ) -> Result<Batch> {
        let _ = (split, rows, part);
        Err(Error::setting("resized-crop", format!("{} gives whole images only", self.info().name)))
    }

    /// Shows all that the set is made of, in an order of its own: what its digest is made of. By default every example, as
    /// batches have it; a set that has a shorter way to tell itself from others takes that.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn show(&self, to: &mut dyn FnMut(&[u8])) -> Result<()> {
        for split in [Split::Train, Split::Search, Split::Test] {
            for first in (0..self.info().len(split) as u32).step_by(256) {
                let rows: Vec<u32> = (first..self.info().len(split) as u32).take(256).collect();
                let Batch { images, labels, .. } = self.read(split, &rows)?;
                images.flatten_all()?.to_vec1::<f32>()?.iter().for_each(|value| to(&value.to_le_bytes()));
                labels.to_vec1::<u32>()?.iter().for_each(|label| to(&label.to_le_bytes()));
            }
        }
        Ok(())
    }

    /// Where the thing to recognise is, by row, for the sets that know.
    fn areas(&self, split: Split) -> Option<&[Area]> {
        let _ = split;
        None
    }
}

/// A split in batches. An epoch is a function of (seed, epoch) alone: the same batches for any number of
/// threads and after any resume.
pub trait Batches: Send + Sync {
    /// Batches in an epoch, the last perhaps smaller.
    fn steps(&self) -> usize;

    /// Images in an epoch.
    fn examples(&self) -> usize;

    /// The batches of an epoch, without the first `from`.
    fn epoch(&self, epoch: usize, from: usize) -> Box<dyn Iterator<Item = Result<Batch>> + Send + '_>;
}
