use super::affine::Chance;
use super::encoders::{self, Encoder, Frozen};
use super::exact::apply_all;
use super::policy::{Drawn, Theta};
use super::{Combine, Operation, Policy, Tst};
use candle::Tensor;
use sokd_core::{Batch, BuildCx, Key, Lens, PixelNorm, Result, Step, Terms};
use sokd_ops::normalize;

/// A [`Tst`] with its policy and its encoders.
pub struct Module {
    tst: Tst,
    theta: Theta,
    encoders: Vec<Frozen>,
    pixels: PixelNorm,
}

impl Module {
    pub(super) fn new(tst: Tst, cx: &BuildCx<'_>) -> Result<Self> {
        Ok(Self {
            theta: Theta::new(tst.policy, &cx.vars)?,
            encoders: encoders::frozen(&tst.encoders, tst.gate, cx.vars.device())?,
            pixels: cx.data("tst")?.pixels,
            tst,
        })
    }

    /// The images changed, in [0, 1] but for what operations overshoot.
    ///
    /// # Shapes
    /// `(batch, height, width, 3)`, and the same again.
    pub fn change(&self, images: &Tensor, key: Key, learned: bool) -> Result<Tensor> {
        let drawn = self.theta.draw(&self.tst, key, learned)?;
        let of = |of: [f32; 3]| Tensor::new(&of, images.device());
        // Encoders know images with mean 0 and deviation 1, and black margins stand for the mean there.
        let normal = |images: &Tensor| normalize(images, self.pixels.mean, self.pixels.std);
        let plain = normal(images)?;
        Ok(match self.tst.combine {
            Combine::Additive => {
                let mut shown = images.clone();
                for &operation in &drawn.operations {
                    let change = self.changed(operation, &plain, &drawn, key)?;
                    shown = (shown + change.broadcast_mul(&of(self.pixels.std)?)?)?;
                }
                shown
            }
            Combine::Sequential => {
                let mut shown = plain;
                for &operation in &drawn.operations {
                    shown = (&shown + self.changed(operation, &shown, &drawn, key)?)?;
                }
                shown.broadcast_mul(&of(self.pixels.std)?)?.broadcast_add(&of(self.pixels.mean)?)?
            }
        })
    }

    /// What an operation adds to normalised images: bit · (operation(x) − x).
    fn changed(&self, operation: Operation, images: &Tensor, drawn: &Drawn, key: Key) -> Result<Tensor> {
        let key = key.fold(operation.name());
        let bit = drawn.bits.narrow(0, operation.index(), 1)?.reshape((1, 1, 1, 1))?;
        let change = (self.apply(operation, images, drawn, key)? - images)?;
        Ok(change.broadcast_mul(&bit)?)
    }

    /// An operation on normalised images.
    fn apply(&self, operation: Operation, images: &Tensor, drawn: &Drawn, key: Key) -> Result<Tensor> {
        let Some(&Frozen { ref encoder, gate }) = self.encoders.get(operation.index()) else {
            return if operation == Operation::Cutout {
                self.cut(images, key)
            } else {
                let images = images.detach();
                let bytes = images.broadcast_mul(&Tensor::new(&self.pixels.std, images.device())?)?;
                let bytes = bytes.broadcast_add(&Tensor::new(&self.pixels.mean, images.device())?)?;
                normalize(&apply_all(operation, 0.0, &bytes)?, self.pixels.mean, self.pixels.std)
            };
        };
        let Tst { noise, temperature, .. } = self.tst;
        let chance = Some(Chance { key, noise, gate, temperature });
        let level = drawn.levels.narrow(0, operation.index(), 1)?;
        let level = level.reshape((1, 1))?.broadcast_as((images.dim(0)?, 1))?.contiguous()?;
        match encoder {
            Encoder::Affine(encoder) => encoder.forward(images, &level, chance),
            Encoder::Color(encoder) => encoder.forward(images, &level, (key, noise), chance),
        }
    }

    /// The same square of all images set to their mean.
    fn cut(&self, images: &Tensor, key: Key) -> Result<Tensor> {
        let (_, height, width, _) = images.dims4()?;
        let (mut stream, reach) = (key.stream(), self.tst.cutout / 2);
        let mut range = |length: usize| {
            let centre = stream.below(length as u32) as usize;
            centre.saturating_sub(reach)..(centre + reach).min(length)
        };
        let (rows, columns) = (range(height), range(width));
        let inside = |place: usize| rows.contains(&(place / width)) && columns.contains(&(place % width));
        let mask: Vec<f32> = (0..height * width).map(|place| f32::from(u8::from(!inside(place)))).collect();
        let mask = Tensor::from_vec(mask, (1, height, width, 1), images.device())?;
        Ok(images.broadcast_mul(&mask)?)
    }

    /// What the policy does on average.
    fn told(&self, key: Key) -> Result<Terms> {
        let mut terms = Terms::default();
        let [probabilities, levels] = self.theta.habits(&self.tst, key)?;
        for operation in &self.tst.operations {
            for (what, of) in [("execution", &probabilities), ("level", &levels)] {
                if operation.index() < of.dim(0)? {
                    let value = of.narrow(0, operation.index(), 1)?.squeeze(0)?;
                    terms = terms.reading(&format!("{what}/{}", operation.name()), &value);
                }
            }
        }
        Ok(terms)
    }
}

impl Lens for Module {
    fn look(&self, batch: &Batch, at: &Step) -> Result<(Batch, Terms)> {
        let key = at.key.fold("tst");
        if at.focuses {
            let images = self.change(&batch.images, key, self.tst.policy == Policy::Learned)?;
            return Ok((Batch { images, ..batch.clone() }, self.told(key)?));
        }
        if self.shows(at) == 1 {
            return Ok((batch.clone(), Terms::default()));
        }
        let changed = self.change(&batch.images, key, false)?;
        // Unchanged images come last: a loss that remembers examples keeps what was said of those.
        let images = Tensor::cat(&[&changed, &batch.images], 0)?;
        let twice = |of: &Tensor| Tensor::cat(&[of, of], 0);
        let batch = Batch { images, labels: twice(&batch.labels)?, rows: twice(&batch.rows)? };
        Ok((batch, Terms::default()))
    }

    fn shows(&self, at: &Step) -> usize {
        if at.focuses || at.epoch < self.tst.since { 1 } else { 2 }
    }
}
