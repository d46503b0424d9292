#![doc = include_str!("../README.md")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a VarBuilder is a path: `vb.pp(..)` is handed on, as all over candle"
)]
#![cfg_attr(
    test,
    allow(clippy::float_cmp, clippy::unwrap_used, reason = "what should be exact is compared exactly")
)]

pub mod tst;

pub use tst::Tst;

/// Name and text of every preset: methods, then schedules.
const PRESETS: &[(&str, &str)] = &[
    ("cross-entropy", include_str!("../presets/cross-entropy.toml")),
    ("kd", include_str!("../presets/kd.toml")),
    ("dkd", include_str!("../presets/dkd.toml")),
    ("fitnet", include_str!("../presets/fitnet.toml")),
    ("at", include_str!("../presets/at.toml")),
    ("crd", include_str!("../presets/crd.toml")),
    ("review-kd", include_str!("../presets/review-kd.toml")),
    ("tst", include_str!("../presets/tst.toml")),
    ("dafa-search", include_str!("../presets/dafa-search.toml")),
    ("dafa", include_str!("../presets/dafa.toml")),
    ("dam", include_str!("../presets/dam.toml")),
    ("dam-robust", include_str!("../presets/dam-robust.toml")),
    ("sokd-paper", include_str!("../presets/sokd-paper.toml")),
    ("sokd-released", include_str!("../presets/sokd-released.toml")),
    ("sokd-robust", include_str!("../presets/sokd-robust.toml")),
    ("cifar100-240", include_str!("../presets/cifar100-240.toml")),
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
