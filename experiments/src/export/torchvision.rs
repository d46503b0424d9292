//! A state dict for torchvision's classes.

use super::{Export, Format, Leaving, timm};
use crate::Result;
use sokd_models::weights;

/// `model.pth`, which `load_state_dict(strict=True)` takes.
pub const FORMAT: Format =
    Format { name: "torchvision", about: "a state dict of torchvision.models: ImageNet's ResNets", make };

fn make(leaving: &Leaving, _: super::Normalise) -> Result<Export> {
    // timm took over torchvision's ResNets, names and all.
    let Some(class) = timm::architecture(&leaving.plain("torchvision")?) else {
        return Err(leaving.stranger("torchvision", "ImageNet's ResNets"));
    };
    let python = format!(
        "import torch, torchvision\n\n\
         net = torchvision.models.{class}(num_classes={}).eval()\n\
         net.load_state_dict(torch.load(\"model.pth\", weights_only=True), strict=True)\n",
        leaving.data.classes.len()
    );
    Ok(Export { files: vec![("model.pth", weights::pth(&leaving.weights()?, None)?)], python })
}
