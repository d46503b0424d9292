#![doc = include_str!("../README.md")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a VarBuilder is a path: `vb.pp(..)` is handed on, as all over candle"
)]
#![cfg_attr(
    test,
    allow(clippy::float_cmp, clippy::unwrap_used, reason = "what should be exact is compared exactly")
)]

pub mod letkd;
pub mod skd;
pub mod tst;

pub use skd::Skd;
use sokd_core::{DistillLoss, Scion};
pub use tst::Tst;

sokd_core::catalog! {
    /// A loss that needs more than student and teacher, which a recipe may name.
    pub enum LossSpec: dyn DistillLoss {
        LetkdClusters(letkd::LetkdClusters),
        LetkdDecisions(letkd::LetkdDecisions),
    }
}

sokd_core::catalog! {
    /// A layer that a recipe may set into the student.
    pub enum GraftSpec: AsRef<dyn Scion> {
        KdLayer(letkd::KdLayer),
    }
}

impl LossSpec {
    /// Where the loss wants to see the teacher, beside what every network shows.
    pub fn looks(&self) -> sokd_core::Place {
        match self {
            Self::LetkdClusters(loss) => loss.looks(),
            Self::LetkdDecisions(loss) => loss.looks(),
        }
    }
}

/// Name and text of every preset: methods, then schedules.
const PRESETS: &[(&str, &str)] = &[
    ("cross-entropy", include_str!("../presets/cross-entropy.toml")),
    ("kd", include_str!("../presets/kd.toml")),
    ("dkd", include_str!("../presets/dkd.toml")),
    ("fitnet", include_str!("../presets/fitnet.toml")),
    ("at", include_str!("../presets/at.toml")),
    ("crd", include_str!("../presets/crd.toml")),
    ("review-kd", include_str!("../presets/review-kd.toml")),
    ("dafa-search", include_str!("../presets/dafa-search.toml")),
    ("dafa", include_str!("../presets/dafa.toml")),
    ("dam", include_str!("../presets/dam.toml")),
    ("dam-robust", include_str!("../presets/dam-robust.toml")),
    ("sokd-paper", include_str!("../presets/sokd-paper.toml")),
    ("sokd-released", include_str!("../presets/sokd-released.toml")),
    ("sokd-robust", include_str!("../presets/sokd-robust.toml")),
    ("skd", include_str!("../presets/skd.toml")),
    ("skd-robust", include_str!("../presets/skd-robust.toml")),
    ("tst-lens", include_str!("../presets/tst-lens.toml")),
    ("tst", include_str!("../presets/tst.toml")),
    ("letkd-1", include_str!("../presets/letkd-1.toml")),
    ("letkd-intermediate", include_str!("../presets/letkd-intermediate.toml")),
    ("letkd-2", include_str!("../presets/letkd-2.toml")),
    ("cifar100-240", include_str!("../presets/cifar100-240.toml")),
    ("letkd-cifar100", include_str!("../presets/letkd-cifar100.toml")),
    ("letkd-tiny-imagenet", include_str!("../presets/letkd-tiny-imagenet.toml")),
    ("tst-cifar100", include_str!("../presets/tst-cifar100.toml")),
    ("imagenet-100", include_str!("../presets/imagenet-100.toml")),
];

/// The text of a preset, by the name that stands behind `sokd:`.
///
/// # Example
/// ```
/// assert!(sokd_baselines::preset("kd").is_some_and(|text| text.contains("temperature = 4.0")));
/// assert!(sokd_baselines::preset("dk").is_none());
/// ```
pub fn preset(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The names of all presets.
pub fn presets() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}
