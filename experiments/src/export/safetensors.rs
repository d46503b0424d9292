//! Weights under PyTorch's names, and what they are.

use super::{Export, Format, Leaving};
use crate::Result;
use sokd_models::weights;

/// `model.safetensors` and `config.json`, of any network.
pub const FORMAT: Format = Format {
    name: "safetensors",
    about: "any network: model.safetensors under PyTorch's names, and config.json",
    make: |leaving, _| {
        let python = format!(
            "from safetensors.torch import load_file\n\n\
             net.load_state_dict(load_file(\"model.safetensors\"), strict=True)  # net: a {} of yours\n",
            leaving.name()
        );
        Ok(Export { files: files(leaving, &leaving.weights()?, &leaving.config()?)?, python })
    },
};

/// `config.json` and the weights, under any names.
pub fn files(
    leaving: &Leaving,
    weights: &weights::StateDict,
    config: &serde_json::Value,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let config = format!("{config:#}\n").into_bytes();
    Ok(vec![("config.json", config), ("model.safetensors", weights::safetensors(weights, &leaving.notes())?)])
}
