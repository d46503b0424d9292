//! What a network says of some test images.

use super::attention::{Heat, attention};
use candle::Device;
use sokd_core::{Backbone, Batch, Dataset, Mode, Result, Split};

/// Images at once: memory, and nothing else.
const BATCH: usize = 50;

/// The images that studies look at.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Their places in the test split.
    pub rows: Vec<u32>,
    /// Where the networks are that look.
    device: Device,
}

/// What a network says of them, image by image.
pub struct Reading {
    /// Its embedding.
    pub pooled: Vec<Vec<f64>>,
    /// Where it looks for the true class.
    pub heat: Vec<Heat>,
    /// Whether it recognises it.
    pub right: Vec<bool>,
}

impl Sight {
    /// At most `most` of `all` images, evenly spaced: files of images stand class by class.
    pub fn of(all: usize, most: usize) -> Self {
        let count = all.min(most);
        Self { rows: (0..count).map(|at| (at * all / count) as u32).collect(), device: Device::Cpu }
    }

    /// The same images, for networks on a device.
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// The images, some at a time.
    pub fn batches<'a>(&'a self, data: &'a dyn Dataset) -> impl Iterator<Item = Result<Batch>> + 'a {
        self.rows.chunks(BATCH).map(|rows| data.read(Split::Test, rows)?.to_device(&self.device))
    }
}

impl Reading {
    /// Shows the images to a network.
    ///
    /// # Errors
    /// Whatever the network or the data refuse.
    pub fn of(net: &dyn Backbone, sight: &Sight, data: &dyn Dataset) -> Result<Self> {
        let mut reading = Self { pooled: Vec::new(), heat: Vec::new(), right: Vec::new() };
        for batch in sight.batches(data) {
            let batch = batch?;
            let said = net.forward(&batch.images, Mode::Eval)?.detach()?;
            let last = said.stage(said.stages.len().saturating_sub(1))?;
            reading.heat.extend(attention(net, &last.map, &batch.labels)?);
            let pooled = said.pooled.to_vec2::<f32>()?;
            reading.pooled.extend(pooled.iter().map(|row| row.iter().copied().map(f64::from).collect()));
            let guesses = said.logits.argmax(1)?.to_vec1::<u32>()?;
            let labels = batch.labels.to_vec1::<u32>()?;
            reading.right.extend(guesses.iter().zip(&labels).map(|(guess, label)| guess == label));
        }
        Ok(reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_images_are_spread_over_all() {
        assert_eq!(Sight::of(10, 4).rows, [0, 2, 5, 7]);
        assert_eq!(Sight::of(3, 4).rows, [0, 1, 2]);
        assert!(Sight::of(0, 4).rows.is_empty());
    }
}
