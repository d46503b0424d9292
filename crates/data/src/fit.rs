use crate::resample::Axis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Error, Result};

/// How pictures of any size become squares of one size: the shorter side resized, the centre cut out.
///
/// # Source
/// torchvision's `Resize(256)` and `CenterCrop(224)`, bilinear with antialiasing: how the field judges on ImageNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Fit {
    /// What the shorter side becomes, in pixels.
    pub shorter: usize,
    /// Side of the square that is cut out, in pixels.
    pub crop: usize,
}

impl Default for Fit {
    fn default() -> Self {
        Self { shorter: 256, crop: 224 }
    }
}

impl Fit {
    /// # Errors
    /// [`Error::Setting`] for no pixels, and for a square larger than what it is cut out of.
    pub(crate) fn check(self) -> Result<()> {
        if self.crop == 0 || self.crop > self.shorter {
            let problem = format!("a square of {} is not in pictures of {}", self.crop, self.shorter);
            return Err(Error::setting("fit", problem));
        }
        Ok(())
    }

    /// Height and width of its squares.
    pub(crate) fn size(self) -> [usize; 2] {
        [self.crop; 2]
    }

    /// What becomes of a picture of a size.
    pub(crate) fn axes(self, size: [usize; 2]) -> [Axis; 2] {
        let shortest = size[0].min(size[1]);
        size.map(|side| {
            // The longer side is cut off to whole pixels; a centre between two pixels goes to the even one.
            let to = self.shorter * side / shortest;
            let first = ((to - self.crop) as f64 / 2.0).round_ties_even() as usize;
            Axis { from: 0..side, to, wanted: first..first + self.crop }
        })
    }
}
