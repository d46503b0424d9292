//! A folder for `timm.create_model("local-dir:…", pretrained=True)`.

use super::{Export, Format, Leaving, safetensors};
use crate::Result;
use serde_json::json;
use sokd_models::weights::StateDict;
use sokd_models::{ModelSpec, Stem, mobilenet_v1::MobilenetV1, resnet::Resnet};

/// The same files as `safetensors` has, under the names of timm's class.
pub const FORMAT: Format = Format {
    name: "timm",
    about: "timm.create_model(\"local-dir:...\", pretrained=True): ImageNet's ResNets and MobileNetV1",
    make,
};

fn make(leaving: &Leaving, _: super::Normalise) -> Result<Export> {
    let spec = leaving.plain("timm")?;
    let (weights, mut config) = (leaving.weights()?, leaving.config()?);
    let weights = match (architecture(&spec), spec) {
        (Some(_), _) => weights,
        (None, ModelSpec::MobilenetV1(MobilenetV1 { width: 1.0 })) => {
            config["architecture"] = json!("mobilenetv1_100");
            // The paper's and mdistiller's networks have ReLU where timm's has ReLU6.
            config["model_args"] = json!({ "act_layer": "relu" });
            config["pretrained_cfg"]["first_conv"] = json!("conv_stem");
            config["pretrained_cfg"]["classifier"] = json!("classifier");
            weights.into_iter().map(|(name, weight)| (mobilenet(&name), weight)).collect::<StateDict>()
        }
        _ => return Err(leaving.stranger("timm", "ImageNet's ResNets and MobileNetV1")),
    };
    let python = "import timm\n\nnet = timm.create_model(\"local-dir:.\", pretrained=True).eval()\n\
                  transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))\n";
    Ok(Export { files: safetensors::files(leaving, &weights, &config)?, python: python.into() })
}

/// What timm calls a network whose weights have the same names there.
pub fn architecture(spec: &ModelSpec) -> Option<&'static str> {
    let ModelSpec::Resnet(Resnet { depth, width: 64, stem: Stem::Imagenet }) = spec else { return None };
    match depth {
        18 => Some("resnet18"),
        34 => Some("resnet34"),
        50 => Some("resnet50"),
        101 => Some("resnet101"),
        152 => Some("resnet152"),
        _ => None,
    }
}

/// timm's name for a weight of `MobileNetV1`: it counts the thirteen pairs by the size of their maps.
fn mobilenet(name: &str) -> String {
    const FIRST: [usize; 5] = [1, 2, 4, 6, 12];
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["fc", part] => format!("classifier.{part}"),
        ["model", "0", "0", part] => format!("conv_stem.{part}"),
        ["model", "0", "1", part] => format!("bn1.{part}"),
        ["model", pair, layer, part] => {
            let pair: usize = pair.parse().unwrap_or(0);
            let stage = FIRST.iter().rposition(|&first| first <= pair).unwrap_or(0);
            let layer = match layer {
                "0" => "conv_dw",
                "1" => "bn1",
                "3" => "conv_pw",
                _ => "bn2",
            };
            format!("blocks.{stage}.{}.{layer}.{part}", pair - FIRST[stage].min(pair))
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_as_timm_does() {
        for (ours, timms) in [
            ("model.0.0.weight", "conv_stem.weight"),
            ("model.1.4.running_var", "blocks.0.0.bn2.running_var"),
            ("model.3.0.weight", "blocks.1.1.conv_dw.weight"),
            ("model.11.3.weight", "blocks.3.5.conv_pw.weight"),
            ("model.13.1.bias", "blocks.4.1.bn1.bias"),
            ("fc.bias", "classifier.bias"),
        ] {
            assert_eq!(mobilenet(ours), timms);
        }
    }
}
