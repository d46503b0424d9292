//! The field's own names for networks.

use crate::ModelSpec;
use crate::cifar_resnet::CifarResnet;
use crate::mobilenet_v1::MobilenetV1;
use crate::mobilenet_v2::MobilenetV2;
use crate::option_a_resnet::OptionAResnet;
use crate::residual::Stem;
use crate::resnet::Resnet;
use crate::shufflenet_v1::ShufflenetV1;
use crate::shufflenet_v2::ShufflenetV2;
use crate::vgg::Vgg;
use crate::wide_resnet::WideResnet;
use sokd_core::PixelNorm;

const THIN: [usize; 4] = [16, 16, 32, 64];
const WIDE: [usize; 4] = [32, 64, 128, 256];

const ZOO: [(&str, ModelSpec); 37] = [
    ("resnet8", cifar(8, THIN)),
    ("resnet14", cifar(14, THIN)),
    ("resnet20", cifar(20, THIN)),
    ("resnet32", cifar(32, THIN)),
    ("resnet44", cifar(44, THIN)),
    ("resnet56", cifar(56, THIN)),
    ("resnet110", cifar(110, THIN)),
    ("resnet8x4", cifar(8, WIDE)),
    ("resnet32x4", cifar(32, WIDE)),
    ("wrn_16_1", wide(16, 1)),
    ("wrn_16_2", wide(16, 2)),
    ("wrn_40_1", wide(40, 1)),
    ("wrn_40_2", wide(40, 2)),
    ("vgg8", ModelSpec::Vgg(Vgg { depth: 8 })),
    ("vgg11", ModelSpec::Vgg(Vgg { depth: 11 })),
    ("vgg13", ModelSpec::Vgg(Vgg { depth: 13 })),
    ("vgg16", ModelSpec::Vgg(Vgg { depth: 16 })),
    ("vgg19", ModelSpec::Vgg(Vgg { depth: 19 })),
    ("ResNet18", resnet(18, Stem::Cifar)),
    ("ResNet34", resnet(34, Stem::Cifar)),
    ("ResNet50", resnet(50, Stem::Cifar)),
    ("ResNet101", resnet(101, Stem::Cifar)),
    ("ResNet152", resnet(152, Stem::Cifar)),
    ("resnet20_a", option_a(20)),
    ("resnet32_a", option_a(32)),
    ("resnet44_a", option_a(44)),
    ("resnet56_a", option_a(56)),
    ("resnet110_a", option_a(110)),
    ("MobileNetV2", ModelSpec::MobilenetV2(MobilenetV2 { width: 0.5, expand: 6 })),
    ("ShuffleV1", ModelSpec::ShufflenetV1(ShufflenetV1 { widths: [24, 240, 480, 960], groups: 3 })),
    ("ShuffleV2", ModelSpec::ShufflenetV2(ShufflenetV2 { widths: [24, 116, 232, 464, 1024] })),
    // torchvision's `resnet18` differs in nothing but case from the CIFAR tables' `ResNet18`, which is another network:
    // those for ImageNet say so in their names.
    ("imagenet_resnet18", resnet(18, Stem::Imagenet)),
    ("imagenet_resnet34", resnet(34, Stem::Imagenet)),
    ("imagenet_resnet50", resnet(50, Stem::Imagenet)),
    ("imagenet_resnet101", resnet(101, Stem::Imagenet)),
    ("imagenet_resnet152", resnet(152, Stem::Imagenet)),
    ("imagenet_mobilenetv1", ModelSpec::MobilenetV1(MobilenetV1 { width: 1.0 })),
];

const fn cifar(depth: usize, widths: [usize; 4]) -> ModelSpec {
    ModelSpec::CifarResnet(CifarResnet { depth, widths })
}

const fn wide(depth: usize, widen: usize) -> ModelSpec {
    ModelSpec::WideResnet(WideResnet { depth, widen })
}

const fn resnet(depth: usize, stem: Stem) -> ModelSpec {
    ModelSpec::Resnet(Resnet { depth, width: 64, stem })
}

const fn option_a(depth: usize) -> ModelSpec {
    ModelSpec::OptionAResnet(OptionAResnet { depth, widths: THIN })
}

/// The network that the field calls so, in any case, with `-` or `_`; or the one that published weights of that name are of.
///
/// # Example
/// ```
/// let student = sokd_models::named("WRN-16-2").expect("it is in the zoo");
/// assert_eq!(student.name(), "wide-resnet");
/// ```
pub fn named(name: &str) -> Option<ModelSpec> {
    let published = crate::Published::named(name).ok().flatten();
    let name = published.map_or(name, |published| published.model);
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    ZOO.into_iter().find(|(known, _)| plain(known) == plain(name)).map(|(_, spec)| spec)
}

/// The field's name for a network; none for settings that no paper's tables have.
///
/// # Example
/// ```
/// let student = sokd_models::named("wrn-16-2").expect("it is in the zoo");
/// assert_eq!(sokd_models::name(&student), Some("wrn_16_2"));
/// ```
pub fn name(spec: &ModelSpec) -> Option<&'static str> {
    ZOO.iter().find(|(_, known)| known == spec).map(|(name, _)| *name)
}

/// All names that [`named`] answers to, family by family.
pub fn names() -> Vec<&'static str> {
    ZOO.iter().map(|(name, _)| *name).collect()
}

/// What the published weights of a network expect of their images, where that is not the data set's own.
///
/// # Source
/// The statistics of `ImageNet`: torchvision and mdistiller for its networks, and for those with option A
/// `akamaster/pytorch_resnet_cifar10`, `trainer.py`, although the images are CIFAR's.
pub fn pixels(name: &str) -> Option<PixelNorm> {
    match named(name)? {
        ModelSpec::OptionAResnet(_)
        | ModelSpec::MobilenetV1(_)
        | ModelSpec::Resnet(Resnet { stem: Stem::Imagenet, .. }) => {
            Some(PixelNorm { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] })
        }
        _ => None,
    }
}
