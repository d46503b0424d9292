//! Hints (Romero et al., 2015).

use crate::functional::mse;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, DistillLoss, Pair, Result, Step, Terms};
use sokd_nn::{Adapter, Hint};

/// The mean squared difference of one stage's maps, the student's brought to the teacher's shape by an adapter that
/// learns with it. Its settings are the hint's own.
///
/// # Formula
/// ```text
/// loss = mean (adapter(student map) − teacher map)²
/// ```
///
/// # Source
/// Romero et al., 2015 (arXiv:1412.6550), section 2.2, in one phase as RepDistiller and mdistiller run it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Fitnet(pub Hint);

/// A [`Fitnet`] with its adapter.
struct Hinted(Adapter);

impl Build<dyn DistillLoss> for Fitnet {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn DistillLoss>> {
        Ok(Box::new(Hinted(self.0.build(cx, "fitnet")?)))
    }
}

impl DistillLoss for Hinted {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let Self(adapter) = self;
        Ok(Terms::one("fitnet", mse(&adapter.adapted(pair)?, &adapter.teachers(pair, "fitnet")?)?))
    }
}
