use candle::{Device, Tensor};
use serde::Deserialize;
use sokd_core::Result;

/// Noise in a closed form: what `wave` in the scripts under `golden` draws.
#[derive(Clone, Debug, Deserialize)]
pub struct Wave {
    /// Axes, in PyTorch's order.
    pub shape: Vec<usize>,
    /// Half the range of the values.
    pub scale: f64,
    /// Its middle.
    #[serde(default)]
    pub shift: f64,
    /// Examples that are all zero.
    #[serde(default)]
    pub dead: Vec<usize>,
}

impl Wave {
    /// The values, single precision.
    pub fn draw(&self, name: &str) -> Result<Tensor> {
        let each: usize = self.shape[1..].iter().product();
        let mut values = numbers(name, self.shape.iter().product(), self.scale, self.shift);
        for &example in &self.dead {
            values[example * each..(example + 1) * each].fill(0.0);
        }
        Ok(Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu)?)
    }
}

/// The digits of sines, in `-scale..scale`: noise that is the same in every language.
pub fn wave(name: &str, shape: &[usize], scale: f64) -> Result<Tensor> {
    let values = numbers(name, shape.iter().product(), scale, 0.0);
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn numbers(name: &str, count: usize, scale: f64, shift: f64) -> Vec<f32> {
    let phase: usize =
        name.bytes().enumerate().map(|(place, letter)| usize::from(letter) * (place + 1)).sum();
    let digits = |i: usize| (phase as f64 + 12.9898 * (i + 1) as f64).sin() * 43758.5453;
    (0..count).map(|i| (shift + scale * (2.0 * (digits(i) - digits(i).floor()) - 1.0)) as f32).collect()
}
