//! What a network subtracts from its images and divides them by, and how that is found out.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sokd_core::{DatasetInfo, PixelNorm};
use sokd_data::Manifest;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use crate::Model;

/// What a network subtracts from its images and divides them by: a name, or the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Pixels {
    /// `imagenet`, `half`, or the name of a data set whose own statistics are meant.
    Named(String),
    /// Mean and standard deviation of pixels in [0, 1].
    Given(PixelNorm),
}

const NAMES: &str = "`imagenet`, `half`, `cifar10`, `cifar100`, or numbers";

/// The statistics of `ImageNet`, as torchvision's models have them.
const IMAGENET: PixelNorm = PixelNorm { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const HALF: PixelNorm = PixelNorm { mean: [0.5; 3], std: [0.5; 3] };

impl Pixels {
    /// The numbers.
    ///
    /// # Errors
    /// A name that stands for none.
    pub fn norm(&self) -> Result<PixelNorm, String> {
        match self {
            Self::Given(norm) => Ok(*norm),
            Self::Named(name) => match name.as_str() {
                "imagenet" => Ok(IMAGENET),
                "half" => Ok(HALF),
                name => Manifest::named(name)
                    .map(|manifest| PixelNorm::from(&manifest.pixels))
                    .ok_or_else(|| format!("no pixel statistics are called `{name}`: expected {NAMES}")),
            },
        }
    }
}

impl FromStr for Pixels {
    type Err = String;

    /// A name, or `mean/std` with one number or three each: `0.5/0.25`, `0.49,0.48,0.45/0.25,0.24,0.26`.
    fn from_str(text: &str) -> Result<Self, String> {
        let pixels = match text.split_once('/') {
            None => Self::Named(text.to_owned()),
            Some((mean, std)) => Self::Given(PixelNorm { mean: three(mean)?, std: three(std)? }),
        };
        pixels.norm().map(|_| pixels)
    }
}

fn three(text: &str) -> Result<[f32; 3], String> {
    let numbers: Vec<f32> = text
        .split(',')
        .map(|number| number.trim().parse().map_err(|_| format!("`{number}` is no number: expected {NAMES}")))
        .collect::<Result<_, _>>()?;
    match numbers[..] {
        [one] => Ok([one; 3]),
        [red, green, blue] => Ok([red, green, blue]),
        _ => Err(format!("`{text}`: expected one number, or one each for red, green and blue")),
    }
}

impl<'de> Deserialize<'de> for Pixels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's untagged enums would lose what is wrong with the numbers.
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text.parse().map_err(D::Error::custom),
            table => PixelNorm::deserialize(table).map(Self::Given).map_err(D::Error::custom),
        }
    }
}

/// Numbers for people and for files: 0.45, where the same in double precision is 0.44999998807907104.
pub fn short(numbers: [f32; 3]) -> [f64; 3] {
    numbers.map(|number| number.to_string().parse().unwrap_or_else(|_| f64::from(number)))
}

/// What a network with these weights expects, as far as it is known, else the data's own statistics.
pub fn expected(
    told: Option<&Pixels>,
    weights: Option<&Path>,
    model: &Model,
    data: &DatasetInfo,
) -> PixelNorm {
    known(told, weights, model).unwrap_or(data.pixels)
}

/// What a network with these weights expects: as told, else as noted beside the weights, else as the family's published
/// weights want it.
pub fn known(told: Option<&Pixels>, weights: Option<&Path>, model: &Model) -> Option<PixelNorm> {
    told.and_then(|pixels| pixels.norm().ok()).or_else(|| weights.and_then(noted)).or_else(|| match model {
        Model::Named(name) => sokd_models::pixels(name),
        Model::Spec(_) => None,
    })
}

/// What stands beside or in a file of weights: `pretrained_cfg` of a `config.json`, as timm and we write it, or
/// `pixels` among the metadata of safetensors.
pub fn noted(weights: &Path) -> Option<PixelNorm> {
    let norm = |value: &serde_json::Value| {
        let three = |name: &str| serde_json::from_value(value.get(name)?.clone()).ok();
        Some(PixelNorm { mean: three("mean")?, std: three("std")? })
    };
    let beside = || {
        let config = std::fs::read(weights.with_file_name("config.json")).ok()?;
        let config: serde_json::Value = serde_json::from_slice(&config).ok()?;
        norm(config.get("pretrained_cfg")?)
    };
    let inside = || norm(&serde_json::from_str(&inscribed(weights, "pixels")?).ok()?);
    inside().or_else(beside)
}

/// What stands under a name among the metadata of safetensors.
pub fn inscribed(weights: &Path, name: &str) -> Option<String> {
    let mut file = std::fs::File::open(weights).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    // The format allows headers of up to 100 MB; a file that claims more is no safetensors.
    file.take(u64::from_le_bytes(length).min(100_000_000)).read_to_end(&mut header).ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    Some(header.get("__metadata__")?.get(name)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_singly_or_by_channel() {
        let norm = |text: &str| text.parse::<Pixels>().and_then(|pixels| pixels.norm());
        assert_eq!(norm("0.5/0.25"), Ok(PixelNorm { mean: [0.5; 3], std: [0.25; 3] }));
        assert_eq!(norm("0.485,0.456,0.406/0.229,0.224,0.225"), norm("imagenet"));
        assert!(norm("0.5,0.5/1").is_err());
        assert!(norm("imagnet").is_err());
    }
}
