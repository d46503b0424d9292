#![doc = include_str!("../README.md")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, Refiner, Result};

/// DAFA: a learnable augmentation of the teacher's features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Dafa {}

impl Build<dyn Refiner> for Dafa {
    fn build(&self, _: &BuildCx<'_>) -> Result<Box<dyn Refiner>> {
        todo!()
    }
}
