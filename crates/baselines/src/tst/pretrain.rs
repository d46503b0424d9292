use super::affine::IDENTITY;
use super::encoders::Encoder;
use super::exact::apply_all;
use super::operation::BINS;
use super::{Kind, Operation};
use candle::Tensor;
use serde::Serialize;
use sokd_core::{Batches, Error, Key, PixelNorm, Result};
use sokd_nn::{Adamw, OptimSpec, Params};
use sokd_ops::normalize;
use std::collections::BTreeMap;

/// How encoders learn to imitate their operations.
///
/// # Source
/// TST's released code for CIFAR, `datas/pretrain`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pretraining {
    /// Passes over the images for encoders of places.
    pub affine_epochs: usize,
    /// Passes for encoders of colours.
    pub color_epochs: usize,
    /// The learning rate at first.
    pub lr: f64,
    /// What each step leaves of it.
    pub gamma: f64,
    /// Of encoders of places; those of colours have none.
    pub weight_decay: f64,
    /// The deviation of what is added to the features of encoders of colours.
    pub noise: f64,
}

impl Default for Pretraining {
    fn default() -> Self {
        Self { affine_epochs: 10, color_epochs: 20, lr: 1e-3, gamma: 0.999, weight_decay: 0.01, noise: 0.01 }
    }
}

/// What an encoder came to: mean squared errors of normalised pixels, over the last pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learned {
    /// Steps that it learned for.
    pub steps: u64,
    /// Between what it makes and what the operation makes.
    pub error: f64,
    /// Between the image as it was and what the operation makes: what an encoder that does nothing would have.
    pub idle: f64,
}

impl Pretraining {
    /// Trains the encoder of an operation; `watch` sees steps done, steps in all, and the newest error.
    ///
    /// # Errors
    /// [`Error::Setting`] for an operation without one, and where no pass over the images is to be made.
    pub fn learn(
        &self,
        operation: Operation,
        images: &dyn Batches,
        pixels: PixelNorm,
        key: Key,
        watch: &mut dyn FnMut(u64, u64, f64),
    ) -> Result<(BTreeMap<String, Tensor>, Learned)> {
        let (params, device) = (Params::new(key.fold("weights")), candle::Device::Cpu);
        let Some(encoder) = Encoder::new(operation, params.builder(&device).pp(operation.name()))? else {
            return Err(Error::setting(operation.name(), "it is exact, and has no encoder"));
        };
        let vars = params.group(operation.name());
        if let Some((_, bias)) = vars.iter().find(|(name, _)| name.ends_with("fc.bias")) {
            bias.set(&Tensor::new(&IDENTITY, &device)?)?;
        }
        let affine = operation.kind() == Kind::Affine;
        let weight_decay = if affine { self.weight_decay } else { 0.0 };
        let mut optimizer = OptimSpec::Adamw(Adamw { weight_decay, ..Adamw::default() }).build(vars)?;
        let (setting, epochs) =
            if affine { ("affine-epochs", self.affine_epochs) } else { ("color-epochs", self.color_epochs) };
        if epochs == 0 {
            return Err(Error::setting(setting, "an encoder learns in one pass over the images at least"));
        }
        let all = (epochs * images.steps()) as u64;
        let mut learned = Learned { steps: 0, error: 0.0, idle: 0.0 };
        for epoch in 0..epochs {
            let (mut errors, mut idles, mut seen) = (0.0, 0.0, 0.0);
            for batch in images.epoch(epoch, 0) {
                let key = key.fold("step").fold_in(learned.steps);
                let (level, strength) =
                    draw(operation, key, batch.as_ref().map_or(0, |batch| batch.images.dims()[1]));
                let images = batch?.images;
                let (count, ..) = images.dims4()?;
                let target = normalize(&apply_all(operation, strength, &images)?, pixels.mean, pixels.std)?;
                let plain = normalize(&images, pixels.mean, pixels.std)?;
                let levels = Tensor::full(level as f32, (count, 1), &device)?;
                let made = match &encoder {
                    Encoder::Affine(encoder) => encoder.forward(&plain, &levels, None)?,
                    Encoder::Color(encoder) => encoder.forward(&plain, &levels, (key, self.noise), None)?,
                };
                let loss = (made - &target)?.sqr()?.mean_all()?;
                let lr = self.lr * self.gamma.powi(learned.steps as i32);
                optimizer.step(&loss.backward()?, lr)?;
                learned.steps += 1;
                let error = f64::from(loss.to_scalar::<f32>()?);
                let idle = f64::from((plain - target)?.sqr()?.mean_all()?.to_scalar::<f32>()?);
                errors += error * count as f64;
                idles += idle * count as f64;
                seen += count as f64;
                watch(learned.steps, all, error);
            }
            (learned.error, learned.idle) = (errors / seen, idles / seen);
        }
        let weights = params.tensors("")?;
        Ok((weights, learned))
    }
}

/// The strength as the encoder reads it, even in [0, 1) and perhaps with a sign, and as the exact operation has it: that
/// of its bin.
fn draw(operation: Operation, key: Key, side: usize) -> (f64, f64) {
    let mut stream = key.fold("strength").stream();
    let level = stream.uniform();
    let strength = operation.strength(((BINS as f64 * level) as usize).min(BINS - 1), side);
    let sign = if operation.signed() && stream.chance(0.5) { -1.0 } else { 1.0 };
    (sign * level, sign * strength)
}
