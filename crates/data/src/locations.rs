use sokd_core::{Error, Result};
use std::path::{Path, PathBuf};

/// Names the folders in which data sets and teachers are looked for; several are separated as in `PATH`.
pub const DATA_DIR: &str = "SOKD_DATA_DIR";

/// The folders in which data sets and teachers' weights are looked for, in order.
///
/// # Example
/// ```no_run
/// use sokd_data::{DataSpec, Locations};
/// let data = DataSpec::named("cifar10").expect("one of the names").open(&Locations::from_env())?;
/// # Ok::<(), sokd_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locations {
    data: Vec<PathBuf>,
    teachers: Vec<PathBuf>,
    unpacked: Option<PathBuf>,
}

impl Locations {
    /// These folders and no others; teachers lie in `teachers` below each.
    pub fn new<P: Into<PathBuf>>(folders: impl IntoIterator<Item = P>) -> Self {
        let data: Vec<PathBuf> = folders.into_iter().map(Into::into).collect();
        let teachers = data.iter().map(|folder| folder.join("teachers")).collect();
        Self { data, teachers, unpacked: None }
    }

    /// The same folders, and one to keep in what had to be unpacked.
    #[must_use]
    pub fn keeping(self, folder: &Path) -> Self {
        Self { unpacked: Some(folder.to_owned()), ..self }
    }

    /// What `SOKD_DATA_DIR` names, then `shared` beside the workspace that the program runs in, then the cache, in which is kept
    /// what had to be unpacked.
    pub fn from_env() -> Self {
        let named = std::env::var_os(DATA_DIR).unwrap_or_default();
        let mut found =
            Self::new(std::env::split_paths(&named).filter(|folder| !folder.as_os_str().is_empty()));
        if let Some(shared) = beside_workspace() {
            found.data.push(shared.join("data"));
            found.teachers.push(shared.join("teachers"));
        }
        if let Some(cache) = cache() {
            found.unpacked = Some(cache.join("unpacked"));
            found.teachers.push(cache.join("teachers"));
            found.data.push(cache);
        }
        found
    }

    /// The folders for data sets.
    pub fn folders(&self) -> &[PathBuf] {
        &self.data
    }

    /// Where what had to be unpacked is kept, if anywhere.
    pub(crate) fn unpacked(&self) -> Option<&Path> {
        self.unpacked.as_deref()
    }

    /// Where a fetched data set belongs: the first folder that `SOKD_DATA_DIR` names, else the cache.
    pub fn to_fetch_into() -> Option<PathBuf> {
        let named = std::env::var_os(DATA_DIR).unwrap_or_default();
        std::env::split_paths(&named).find(|folder| !folder.as_os_str().is_empty()).or_else(cache)
    }

    /// `path` itself, or below one of the folders.
    ///
    /// # Errors
    /// [`Error::Missing`] with all places that were tried.
    pub fn resolve(&self, path: &Path, what: &str, remedy: &str) -> Result<PathBuf> {
        first(path, &self.data, what, remedy)
    }

    /// The file of a pretrained teacher.
    ///
    /// # Errors
    /// [`Error::Missing`] with all places that were tried.
    pub fn teacher(&self, file: &Path) -> Result<PathBuf> {
        let remedy =
            format!("put it into a folder `teachers` below one that {DATA_DIR} names, or name its path");
        first(file, &self.teachers, "a teacher's weights", &remedy)
    }
}

fn first(path: &Path, folders: &[PathBuf], what: &str, remedy: &str) -> Result<PathBuf> {
    let mut places = std::iter::once(path.to_owned()).chain(folders.iter().map(|folder| folder.join(path)));
    places.find(|place| place.exists()).ok_or_else(|| missing(path, what, folders, remedy))
}

/// Nothing in any of `folders`.
pub(crate) fn missing(path: &Path, what: &str, folders: &[PathBuf], remedy: &str) -> Error {
    let tried: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let tried = if tried.is_empty() { "no folder".into() } else { tried.join(", ") };
    Error::Missing {
        path: path.to_owned(),
        what: format!("{what}; looked in {tried}"),
        remedy: remedy.to_owned(),
    }
}

/// Development copies lie in `shared`, beside the workspace.
fn beside_workspace() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let workspace = here.ancestors().find(|folder| folder.join("Cargo.lock").is_file())?;
    let shared = workspace.parent()?.join("shared");
    shared.is_dir().then_some(shared)
}

fn cache() -> Option<PathBuf> {
    Some(sokd_core::file::cache()?.join("sokd").join("data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_tried_in_order_and_named_when_none_fits() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::create_dir_all(two.join("teachers")).unwrap();
        let locations = Locations::new([&one, &two]);
        let file = Path::new("resnet.safetensors");
        let error = locations.teacher(file).unwrap_err().to_string();
        assert!(
            error.contains(&two.join("teachers").display().to_string()) && error.contains(DATA_DIR),
            "{error}"
        );
        std::fs::write(two.join("teachers").join(file), "x").unwrap();
        assert_eq!(locations.teacher(file).unwrap(), two.join("teachers").join(file));
    }
}
