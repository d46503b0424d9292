//! A checkpoint for the classes of mdistiller and RepDistiller, whose weights have the names that ours have.

use super::{Export, Format, Leaving};
use crate::Result;
use sokd_models::weights;

/// `model.pth`: their trainers keep a student under `model`, and load a teacher from there.
pub const FORMAT: Format = Format {
    name: "mdistiller",
    about: "a checkpoint of mdistiller and RepDistiller: their whole zoo",
    make,
};

/// Networks of other names here than there.
const IMAGENET: [(&str, &str); 5] = [
    ("imagenet_resnet18", "ResNet18"),
    ("imagenet_resnet34", "ResNet34"),
    ("imagenet_resnet50", "ResNet50"),
    ("imagenet_resnet101", "ResNet101"),
    ("imagenet_mobilenetv1", "MobileNetV1"),
];

/// Networks that only we have, among those with names.
const OURS: [&str; 4] = ["ResNet34", "ResNet101", "ResNet152", "imagenet_resnet152"];

fn make(leaving: &Leaving, _: super::Normalise) -> Result<Export> {
    leaving.plain("mdistiller")?;
    let stranger = || leaving.stranger("mdistiller", "the networks of the CIFAR-100 tables and ImageNet's");
    let name = leaving.known().filter(|name| !OURS.contains(name) && !name.ends_with("_a"));
    let name = name.ok_or_else(stranger)?;
    let classes = leaving.data.classes.len();
    let python = match IMAGENET.iter().find(|(ours, _)| *ours == name) {
        // A class of theirs that knows no other number.
        Some((_, "MobileNetV1")) if classes != 1000 => {
            return Err(leaving.stranger("mdistiller", "a MobileNetV1 of 1,000 classes"));
        }
        Some((_, theirs)) => {
            let classes = if classes == 1000 { String::new() } else { format!(", num_classes={classes}") };
            format!(
                "import torch\nfrom mdistiller.models import imagenet_model_dict\n\n\
                 net = imagenet_model_dict[\"{theirs}\"](pretrained=False{classes}).eval()\n"
            )
        }
        None => format!(
            "import torch\nfrom mdistiller.models import cifar_model_dict  # RepDistiller: models.model_dict\n\n\
             net = cifar_model_dict[\"{name}\"][0](num_classes={classes}).eval()\n"
        ),
    };
    let python = format!(
        "{python}net.load_state_dict(torch.load(\"model.pth\", weights_only=True)[\"model\"], strict=True)\n"
    );
    Ok(Export { files: vec![("model.pth", weights::pth(&leaving.weights()?, Some("model"))?)], python })
}
