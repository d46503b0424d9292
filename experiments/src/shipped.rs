//! The recipes, tables and teachers that come with the program, found by name wherever it runs.

use crate::{Result, rundir};
use serde::Deserialize;
use sokd_core::{Error, file};
use std::path::PathBuf;

/// What `--tier smoke` lays on a recipe.
pub const SMOKE: &str = include_str!("../recipes/smoke.toml");

macro_rules! texts {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../", $folder, "/", $name, ".toml")))),*]
    };
}

/// Name and text of each recipe.
pub const RECIPES: &[(&str, &str)] = texts!("recipes":
    "cifar10-first",
    "cifar10-resnet56-resnet20",
    "cifar100-ResNet50",
    "cifar100-alone",
    "cifar100-letkd",
    "cifar100-letkd-resnet56-resnet20",
    "cifar100-resnet110",
    "cifar100-resnet32-short",
    "cifar100-resnet32x4",
    "cifar100-resnet32x4-resnet8x4",
    "cifar100-resnet56",
    "cifar100-resnet56-resnet20",
    "cifar100-sokd-ablation",
    "cifar100-tst",
    "cifar100-vgg13",
    "cifar100-vgg13-vgg8",
    "cifar100-wrn_40_2",
    "cifar100-wrn_40_2-wrn_16_2",
    "imagenet-letkd",
    "imagenet-resnet34-resnet18",
    "imagenet-resnet50-mobilenetv1",
    "shapes-alone",
    "shapes-teacher",
    "tiny-imagenet-ResNet50",
    "tiny-imagenet-letkd",
    "tiny-imagenet-resnet56",
    "tiny-imagenet-wrn_40_2",
    "teachers/cifar10-resnet20_a",
    "teachers/cifar10-resnet56_a",
);

/// Name and text of each table.
pub const TABLES: &[(&str, &str)] = texts!("tables":
    "demo",
    "cifar10-first",
    "cifar10-teachers",
    "cifar100-letkd",
    "cifar100-letkd-ablation",
    "cifar100-letkd-fitnet",
    "cifar100-letkd-parts",
    "cifar100-pairs",
    "cifar100-skd",
    "cifar100-sokd-ablation",
    "cifar100-sokd-components",
    "cifar100-sokd-different-family",
    "cifar100-sokd-same-family",
    "cifar100-sokd-search-epochs",
    "cifar100-student-oriented",
    "cifar100-tst",
    "imagenet-letkd",
    "imagenet-sokd",
    "tiny-imagenet-letkd",
);

/// Teachers that nobody has to train again before a table runs: the page of each, and its weights in half precision.
const TEACHERS: &[(&str, &[u8])] = &[(
    include_str!("../results/teachers/cifar100-resnet32-20-epochs.json"),
    include_bytes!("../results/teachers/cifar100-resnet32-20-epochs.safetensors"),
)];

/// A teacher that comes with the program.
#[derive(Clone, Debug, Deserialize)]
pub struct Trained {
    /// The run that trained it, below the folder of all runs: another recipe's teacher has another.
    pub run: String,
    /// The digest of its weights as they are stored.
    pub sha256: String,
    #[serde(skip)]
    weights: &'static [u8],
}

/// The teacher of that run, if it comes with the program.
pub fn trained(run: &str) -> Option<Trained> {
    let read = |&(page, weights): &(&str, &'static [u8])| {
        let page = serde_json::from_str(page).ok()?;
        Some(Trained { weights, ..page })
    };
    TEACHERS.iter().filter_map(read).find(|trained| trained.run == run)
}

impl Trained {
    /// Its weights as a file below the folder of all runs.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn file(&self) -> Result<PathBuf> {
        let folder = rundir::root().join("teachers");
        let path = folder.join(format!("{}.safetensors", &self.sha256[..12]));
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        if !sokd_hub::sha256(&path).is_ok_and(|sha256| sha256 == self.sha256) {
            file::write(&path, self.weights)?;
        }
        Ok(path)
    }
}

/// The recipe of that name.
pub fn recipe(name: &str) -> Option<&'static str> {
    text(RECIPES, name)
}

/// The table of that name.
pub fn table(name: &str) -> Option<&'static str> {
    text(TABLES, name)
}

fn text(texts: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    texts.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
