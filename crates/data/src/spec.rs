use crate::cifar::{Cifar10, Cifar100};
use crate::idx::Idx;
use crate::image_folder::ImageFolder;
use crate::manifest::Manifest;
use crate::shapes::Shapes;
use crate::tiny_imagenet::TinyImagenet;
use crate::{Locations, Memory};
use sokd_core::{Dataset, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// Somewhere that labelled images come from.
pub trait Source {
    /// Reads or draws them all.
    fn read(&self, locations: &Locations) -> Result<Memory>;

    /// Makes them ready for batches: all in memory, unless the source can do better.
    fn open(&self, locations: &Locations) -> Result<Arc<dyn Dataset>> {
        Ok(Arc::new(self.read(locations)?))
    }
}

sokd_core::catalog! {
    /// A data set, as a recipe names it.
    ///
    /// # Example
    /// ```
    /// use sokd_data::DataSpec;
    /// let data: DataSpec = toml::from_str("type = 'cifar100'\nsearch = 5000")?;
    /// assert_eq!(data.name(), "cifar100");
    /// # Ok::<(), toml::de::Error>(())
    /// ```
    pub enum DataSpec: AsRef<dyn Source> {
        Cifar10(Cifar10),
        Cifar100(Cifar100),
        ImageFolder(ImageFolder),
        Idx(Idx),
        Shapes(Shapes),
        TinyImagenet(TinyImagenet),
    }
}

impl DataSpec {
    /// Reads or draws it, ready for batches.
    pub fn open(&self, locations: &Locations) -> Result<Arc<dyn Dataset>> {
        let source: &dyn Source = self.as_ref();
        source.open(locations)
    }

    /// Where it is looked for, where that is said.
    pub fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Cifar10(set) => set.0.path.as_mut(),
            Self::Cifar100(set) => set.0.path.as_mut(),
            Self::TinyImagenet(set) => set.path.as_mut(),
            Self::ImageFolder(set) => Some(&mut set.path),
            Self::Idx(set) => Some(&mut set.path),
            Self::Shapes(_) => None,
        }
    }

    /// A data set that has a name of its own, at its defaults.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "cifar10" => Self::Cifar10(Cifar10::default()),
            "cifar100" => Self::Cifar100(Cifar100::default()),
            "shapes" => Self::Shapes(Shapes::default()),
            "tiny-imagenet" => Self::TinyImagenet(TinyImagenet::default()),
            "mnist" | "fashion-mnist" => {
                let classes = Manifest::named(name)?.classes.clone();
                Self::Idx(Idx { path: name.into(), classes, ..Idx::default() })
            }
            _ => return None,
        })
    }

    /// The names that [`DataSpec::named`] knows.
    pub fn known() -> [&'static str; 6] {
        ["cifar10", "cifar100", "fashion-mnist", "mnist", "shapes", "tiny-imagenet"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sokd_core::misfit;

    #[test]
    fn names_fields_and_faults() {
        assert_eq!(
            DataSpec::names(),
            ["cifar10", "cifar100", "image-folder", "idx", "shapes", "tiny-imagenet"]
        );
        assert!(DataSpec::known().iter().all(|name| DataSpec::named(name).is_some()));
        let spec: DataSpec = toml::from_str("type = 'image-folder'\npath = 'x'\ntest-share = 0.5").unwrap();
        let again: DataSpec = toml::from_str(&toml::to_string(&spec).unwrap()).unwrap();
        assert_eq!(spec, again);
        let error =
            serde_json::from_str::<DataSpec>(r#"{"type": "cifar10", "serch": 1}"#).unwrap_err().to_string();
        let (path, message) = misfit(&error).unwrap();
        assert_eq!(path, "serch");
        assert!(
            message.starts_with("unknown field `serch`, expected one of `path`, `first`, `search`"),
            "{message}"
        );
    }
}
