use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Area, Error, Result, Stream};

/// A part of the whole picture, of a random area and aspect at a random place, resized to the images' size.
///
/// # Source
/// Szegedy et al., "Going deeper with convolutions", 2014 (arXiv:1409.4842), section 6; as torchvision's
/// `RandomResizedCrop` draws it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ResizedCrop {
    /// The part's area, as a share of the picture's: between these, uniformly.
    pub area: [f64; 2],
    /// The part's width by its height: between these, uniformly in its logarithm.
    pub ratio: [f64; 2],
}

impl Default for ResizedCrop {
    fn default() -> Self {
        Self { area: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] }
    }
}

/// Parts that are tried before the largest in the middle is taken.
const TRIES: usize = 10;

impl ResizedCrop {
    /// # Errors
    /// [`Error::Setting`] for bounds that are not positive numbers in order.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, [low, high]) in [("area", self.area), ("ratio", self.ratio)] {
            if !(low > 0.0 && low <= high && high.is_finite()) {
                let problem = format!("{low} to {high} are no positive bounds in order");
                return Err(Error::setting(format!("resized-crop.{name}"), problem));
            }
        }
        Ok(())
    }

    /// The part of one picture of `[height, width]`, in whole pixels.
    pub(crate) fn draw(&self, mut stream: Stream, [height, width]: [usize; 2]) -> Area {
        let [low, high] = self.ratio;
        let pixels = (height * width) as f64;
        for _ in 0..TRIES {
            let area = pixels * stream.between(self.area[0], self.area[1]);
            let ratio = stream.between(low.ln(), high.ln()).exp();
            let tall = (area / ratio).sqrt().round_ties_even() as usize;
            let wide = (area * ratio).sqrt().round_ties_even() as usize;
            if (1..=height).contains(&tall) && (1..=width).contains(&wide) {
                let top = stream.below((height - tall + 1) as u32) as usize;
                let left = stream.below((width - wide + 1) as u32) as usize;
                return part([top, left], [tall, wide]);
            }
        }
        let (tall, wide) = (height as f64, width as f64);
        let [tall, wide] = if wide / tall < low {
            [((wide / low).round_ties_even() as usize).min(height), width]
        } else if wide / tall > high {
            [height, ((tall * high).round_ties_even() as usize).min(width)]
        } else {
            [height, width]
        };
        // A picture so narrow that its part would have no pixel gives the one that it has.
        let [tall, wide] = [tall.max(1), wide.max(1)];
        part([(height - tall) / 2, (width - wide) / 2], [tall, wide])
    }
}

fn part([top, left]: [usize; 2], [height, width]: [usize; 2]) -> Area {
    let [top, left, bottom, right] = [top, left, top + height, left + width].map(|place| place as f32);
    Area { top, left, bottom, right }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sokd_core::Key;

    #[test]
    fn parts_have_the_areas_ratios_and_places_of_the_definition() {
        let crop = ResizedCrop::default();
        let (mut areas, mut ratios, mut tops) = (0.0, 0.0, 0.0);
        let count = 4000;
        for row in 0..count {
            let Area { top, left, bottom, right } = crop.draw(Key::new(3).stream_at(2, 0, row), [300, 400]);
            assert!(top >= 0.0 && left >= 0.0 && bottom <= 300.0 && right <= 400.0);
            let (tall, wide) = (f64::from(bottom - top), f64::from(right - left));
            let (area, ratio) = (tall * wide / 120_000.0, wide / tall);
            // Rounding to whole pixels moves both a little.
            assert!((0.079..=1.0).contains(&area) && (0.74..=1.35).contains(&ratio), "{area} {ratio}");
            areas += area;
            ratios += ratio.ln();
            tops += f64::from(top);
        }
        // The means of 400,000 draws of torchvision's rule, written down in Python: 0.4331, 0.0305 and 41.88. Large parts of
        // extreme ratios do not fit and are drawn again, so that none is in the middle of its bounds.
        let near = |sum: f64, mean: f64, off| (sum / f64::from(count) - mean).abs() < off;
        assert!(near(areas, 0.4331, 0.01) && near(ratios, 0.0305, 0.01) && near(tops, 41.88, 2.0));
    }

    #[test]
    fn pictures_that_no_part_fits_give_their_middle() {
        let draw = |size| {
            ResizedCrop { area: [1.0, 1.0], ..ResizedCrop::default() }.draw(Key::new(0).stream(), size)
        };
        assert_eq!(draw([100, 1000]), part([0, 433], [100, 133]));
        assert_eq!(draw([1000, 90]), part([440, 0], [120, 90]));
        assert_eq!(draw([1, 1]), part([0, 0], [1, 1]));
    }
}
