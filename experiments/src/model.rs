//! A network as recipes and the command line name it.

use crate::misfit::{closest, inline};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sokd_core::{Backbone, Build, BuildCx, Result};
use sokd_models::ModelSpec;
use std::str::FromStr;

/// A network: one of the field's names (`resnet8x4`), or a table with a `type` and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Model {
    /// By a name of the field.
    Named(String),
    /// By its settings.
    Spec(ModelSpec),
}

impl Model {
    /// The network of that name.
    ///
    /// # Errors
    /// The message offers the name most like it.
    pub fn named(name: &str) -> Result<Self, String> {
        if sokd_models::named(name).is_some() {
            return Ok(Self::Named(name.to_owned()));
        }
        // A name of timm's or torchvision's that no network here has is answered with those that one has.
        sokd_models::Published::named(name)?;
        let names = sokd_models::names();
        let meant =
            closest(name, names.iter().copied()).map_or(String::new(), |near| format!(", perhaps `{near}`"));
        Err(format!("no network is called `{name}`{meant}; `sokd list models` names them all"))
    }

    /// Its settings.
    ///
    /// # Errors
    /// A name that no network has.
    pub fn spec(&self) -> Result<ModelSpec> {
        match self {
            Self::Spec(spec) => Ok(spec.clone()),
            Self::Named(name) => sokd_models::named(name)
                .ok_or_else(|| sokd_core::Error::setting("model", format!("no network is called `{name}`"))),
        }
    }

    /// How messages and tables call it.
    pub fn label(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Spec(spec) => spec.name(),
        }
    }
}

/// As the command line has it: a name, or a table such as `{ type = "cifar-resnet", depth = 20 }`.
impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') { inline(text) } else { Self::named(text) }
    }
}

impl Build<dyn Backbone> for Model {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        self.spec()?.build(cx)
    }
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's untagged enums would lose the path to a faulty setting.
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(name) => Self::named(&name).map_err(D::Error::custom),
            table => ModelSpec::deserialize(table).map(Self::Spec).map_err(D::Error::custom),
        }
    }
}
