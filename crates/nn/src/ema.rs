use crate::Params;
use candle::{Tensor, Var};
use sokd_core::{Error, Result};
use sokd_ops::{Moved, axpby_};
use std::collections::BTreeMap;

/// The exponential moving average of some weights and their buffers.
///
/// # Source
/// Tarvainen and Valpola, 2017 (arXiv:1703.01780), section 2; buffers are averaged too, as timm's `ModelEmaV2` does.
pub struct Ema {
    average: Params,
    prefix: String,
    decay: f64,
    /// Each average and the weight that it follows.
    pairs: Vec<(Var, Var)>,
}

impl Ema {
    /// Starts as what `params` holds under `prefix` now, and follows just that.
    ///
    /// # Errors
    /// [`Error::Setting`] when `decay`, what stays of the average in a step, does not lie in [0, 1).
    pub fn new(params: &Params, prefix: &str, decay: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&decay) {
            return Err(Error::setting("decay", format!("{decay} does not lie in [0, 1)")));
        }
        let average = params.twin(prefix)?;
        let pairs = average.under(prefix).into_values().zip(params.under(prefix).into_values()).collect();
        Ok(Self { average, prefix: prefix.to_owned(), decay, pairs })
    }

    /// Takes in the weights as they are now.
    pub fn update(&self) -> Result<()> {
        let followed: Vec<_> =
            self.pairs.iter().map(|(average, weight)| Moved::new(average, weight)).collect();
        axpby_(&followed, 1.0 - self.decay, self.decay)
    }

    /// The averages under the weights' own names: a network on their [`Params::frozen`] is the averaged one.
    pub fn params(&self) -> &Params {
        &self.average
    }

    /// The averages, as [`Params::tensors`] gives them.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.average.tensors(&self.prefix)
    }

    /// Takes up what [`Ema::state`] gave, strictly.
    pub fn load_state(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.average.load(&self.prefix, state)
    }
}
