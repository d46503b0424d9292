#![doc = include_str!("../README.md")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, Refiner, Result};

/// DAM: the areas that student and teacher both find distinctive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Dam {}

impl Build<dyn Refiner> for Dam {
    fn build(&self, _: &BuildCx<'_>) -> Result<Box<dyn Refiner>> {
        todo!()
    }
}
