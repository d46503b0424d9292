use candle::{Device, Tensor};
use sokd_core::{Area, Batch, Error, PixelNorm, Result};

/// Labelled pictures of one size, held as bytes.
///
/// # Shapes
/// `pixels`: `(images, height, width, 3)`; `labels`, `areas`: `(images,)`.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// Height and width of each.
    pub size: [usize; 2],
    /// Red, green and blue of each pixel, row by row, image by image.
    pub pixels: Vec<u8>,
    /// The true classes.
    pub labels: Vec<u32>,
    /// Where the thing to recognise is, if that is known.
    pub areas: Option<Vec<Area>>,
}

impl Images {
    /// None yet, of a size.
    pub fn of_size(size: [usize; 2]) -> Self {
        Self { size, ..Self::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image.
    pub fn stride(&self) -> usize {
        self.size[0] * self.size[1] * 3
    }

    /// The pixels of one image.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.stride()..][..self.stride()]
    }

    /// Mean and standard deviation per channel of all pixels, in [0, 1].
    pub fn statistics(&self) -> PixelNorm {
        // Whole numbers: the sums are exact, and so the same in any order.
        let (mut sum, mut square) = ([0u64; 3], [0u64; 3]);
        for pixel in self.pixels.chunks_exact(3) {
            for channel in 0..3 {
                let value = u64::from(pixel[channel]);
                sum[channel] += value;
                square[channel] += value * value;
            }
        }
        let count = (self.pixels.len() / 3).max(1) as f64;
        let mean = sum.map(|sum| sum as f64 / count / 255.0);
        let std = [0, 1, 2].map(|channel| {
            let variance = square[channel] as f64 / count / (255.0 * 255.0) - mean[channel] * mean[channel];
            // A channel that never changes would divide by zero.
            if variance > 1e-12 { variance.sqrt() } else { 1.0 }
        });
        PixelNorm { mean: mean.map(|mean| mean as f32), std: std.map(|std| std as f32) }
    }

    /// # Errors
    /// [`Error::Setting`] when axes disagree or a label has no class.
    pub(crate) fn check(&self, classes: usize, what: &str) -> Result<()> {
        let problem = if self.pixels.len() != self.len() * self.stride() {
            format!("{} bytes for {} images of {:?}", self.pixels.len(), self.len(), self.size)
        } else if self.areas.as_ref().is_some_and(|areas| areas.len() != self.len()) {
            "areas and labels differ in number".to_owned()
        } else if let Some(label) = self.labels.iter().find(|&&label| label as usize >= classes) {
            format!("label {label}, but there are {classes} classes")
        } else {
            return Ok(());
        };
        Err(Error::setting(what, problem))
    }
}

/// Images of one size, as bytes in a row, as networks take them.
pub(crate) fn batch(
    bytes: &[u8],
    labels: Vec<u32>,
    rows: &[u32],
    [height, width]: [usize; 2],
) -> Result<Batch> {
    // Divided, not multiplied by 1/255: the last bit is then torchvision's.
    let images: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
    Ok(Batch {
        images: Tensor::from_vec(images, (rows.len(), height, width, 3), &Device::Cpu)?,
        labels: Tensor::from_vec(labels, rows.len(), &Device::Cpu)?,
        rows: Tensor::new(rows, &Device::Cpu)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_two_pixels() {
        let images =
            Images { size: [1, 2], pixels: vec![0, 255, 51, 255, 255, 153], labels: vec![0], areas: None };
        let norm = images.statistics();
        assert_eq!(norm, PixelNorm { mean: [0.5, 1.0, 0.4], std: [0.5, 1.0, 0.2] });
    }
}
