//! Hints (Romero et al., 2015).

use crate::adapter::Adapter;
use crate::functional::mse;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, DistillLoss, Pair, Result, Step, Terms};

/// The mean squared difference of one stage's maps, the student's brought to the teacher's shape by an adapter that
/// learns with it.
///
/// # Source
/// Romero et al., 2015 (arXiv:1412.6550), section 2.2, in one phase as RepDistiller and mdistiller run it. Their hint layer 2
/// counts the stem, so it is our stage 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fitnet {
    /// Which stage hints, counted from 0.
    pub stage: usize,
}

impl Default for Fitnet {
    fn default() -> Self {
        Self { stage: 1 }
    }
}

/// A [`Fitnet`] with its adapter.
struct Hint {
    stage: usize,
    adapter: Adapter,
}

impl Build<dyn DistillLoss> for Fitnet {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn DistillLoss>> {
        let student = cx.student("fitnet")?.stage(self.stage)?;
        let teacher = cx.teacher("fitnet")?.stage(self.stage)?;
        let vars = cx.vars.pp(format!("adapter.fitnet.{}", self.stage));
        Ok(Box::new(Hint { stage: self.stage, adapter: Adapter::new(student, teacher, cx.data, &vars)? }))
    }
}

impl DistillLoss for Hint {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let teacher = &pair.teacher("fitnet")?.out.stage(self.stage)?.map;
        let student = &pair.student.out.stage(self.stage)?.map;
        Ok(Terms::one("fitnet", mse(&self.adapter.forward(student, pair.student.mode)?, teacher)?))
    }
}
