#![doc = include_str!("../README.md")]

mod cost;
mod mixed;
mod mobile;
mod names;
pub mod published;
mod remembered;
mod residual;
mod trace;
pub mod weights;

pub use cost::{Cost, cost, info};
pub use mixed::Precision;
pub use names::{name, named, names, pixels};
pub use published::Published;
pub use remembered::Remembered;
pub use residual::Stem;
pub use trace::Traced;

use sokd_core::Backbone;

sokd_core::catalog! {
    /// A network that a recipe may name.
    pub enum ModelSpec: dyn Backbone {
        cifar_resnet::CifarResnet,
        option_a_resnet::OptionAResnet,
        wide_resnet::WideResnet,
        vgg::Vgg,
        resnet::Resnet,
        mobilenet_v1::MobilenetV1,
        mobilenet_v2::MobilenetV2,
        shufflenet_v1::ShufflenetV1,
        shufflenet_v2::ShufflenetV2,
    }
}
