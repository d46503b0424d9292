use serde::Deserialize;
use sokd_core::PixelNorm;
use std::sync::LazyLock;

/// What is on record about a published data set: who made it, under which licence, which files it comes in and
/// their digests. Compiled in from `datasets/<name>.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// How recipes call it.
    pub name: String,
    /// How people call it.
    pub title: String,
    /// The page of those who made it.
    pub home: String,
    /// What to cite.
    pub citation: String,
    /// What its makers allow.
    pub licence: String,
    /// The repository on the Hugging Face Hub that holds it as parquet.
    pub hub: Option<String>,
    /// Height and width of its images.
    pub size: [usize; 2],
    /// How many images it has to learn from.
    pub train: usize,
    /// How many images it has to judge by.
    pub test: usize,
    /// The classes' names, by label; none, where a file of its own names them.
    #[serde(default)]
    pub classes: Vec<String>,
    /// What networks trained on it subtract and divide by, and who says so.
    pub pixels: Statistics,
    /// Folders that the official archives unpack to.
    pub folders: Vec<String>,
    /// What stands on top of its folder, where it is a tree of folders of images and not a few files.
    pub tree: Option<String>,
    /// The files that it comes in.
    #[serde(rename = "file", default)]
    pub files: Vec<Entry>,
}

/// Published pixel statistics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Of red, green and blue, in [0, 1].
    pub mean: [f32; 3],
    /// Of red, green and blue, in [0, 1].
    pub std: [f32; 3],
    /// Where the numbers come from.
    pub source: String,
}

impl From<&Statistics> for PixelNorm {
    fn from(statistics: &Statistics) -> Self {
        Self { mean: statistics.mean, std: statistics.std }
    }
}

/// One file of a data set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name, without folders.
    pub name: String,
    /// How it is written.
    pub form: Form,
    /// What its images are for; archives hold both.
    pub part: Option<ForUse>,
    /// How many images it holds.
    pub images: Option<usize>,
    /// Where `sokd data fetch` gets it.
    pub url: Option<String>,
    /// Its length.
    pub bytes: Option<u64>,
    /// Its digest, as its makers published it or as ours of the same file.
    pub md5: Option<String>,
    /// The same, stronger.
    pub sha256: Option<String>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A `.tar.gz` of other files.
    Archive,
    /// The CIFAR binary release: labels, then planes of red, green, blue.
    Binary,
    /// The CIFAR python release: a pickled dict.
    Pickle,
    /// The Hub's: PNG in a column.
    Parquet,
    /// The MNIST family's.
    Idx,
}

/// What the images of a file are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForUse {
    /// To learn from.
    Train,
    /// To judge by.
    Test,
}

static ALL: LazyLock<[Manifest; 5]> = LazyLock::new(|| {
    let texts = [
        include_str!("../../../datasets/cifar10.toml"),
        include_str!("../../../datasets/cifar100.toml"),
        include_str!("../../../datasets/fashion-mnist.toml"),
        include_str!("../../../datasets/mnist.toml"),
        include_str!("../../../datasets/tiny-imagenet.toml"),
    ];
    texts.map(|text| toml::from_str(text).expect("manifests are compiled in, and a test reads them"))
});

impl Manifest {
    /// All of them.
    pub fn all() -> &'static [Self] {
        &*ALL
    }

    pub(crate) fn cifar10() -> &'static Self {
        &ALL[0]
    }

    pub(crate) fn cifar100() -> &'static Self {
        &ALL[1]
    }

    pub(crate) fn tiny_imagenet() -> &'static Self {
        &ALL[4]
    }

    /// The manifest of a data set, if it has one.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|manifest| manifest.name == name)
    }

    /// The files that make the whole data set, with their addresses.
    pub fn to_fetch(&self) -> impl Iterator<Item = &Entry> {
        self.files.iter().filter(|entry| entry.url.is_some())
    }

    /// Whether `sokd data fetch` gets it, from its makers or from the Hub.
    pub fn is_fetched(&self) -> bool {
        self.hub.is_some() || self.to_fetch().next().is_some()
    }

    /// What to do when it is missing or broken.
    pub fn remedy(&self) -> String {
        if self.to_fetch().next().is_none() {
            let (home, variable, name) = (&self.home, crate::DATA_DIR, &self.name);
            let fetch = self.hub.as_ref().map(|_| format!("; or fetch the Hub's: `sokd data fetch {name}`"));
            let fetch = fetch.unwrap_or_default();
            return format!(
                "unpack what {home} offers, and set {variable} to the folder that holds it{fetch}"
            );
        }
        format!(
            "fetch it again: `sokd data fetch {}`, or set {} to the folder that holds it",
            self.name,
            crate::DATA_DIR
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_is_whole() {
        for manifest in Manifest::all() {
            assert!(!manifest.licence.is_empty(), "{}", manifest.name);
            let files = !manifest.classes.is_empty() && manifest.to_fetch().next().is_some();
            assert_eq!(files, manifest.tree.is_none(), "{}: files to fetch, or a tree", manifest.name);
            for entry in &manifest.files {
                let hex = |digest: &str, digits| {
                    digest.len() == digits
                        && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                };
                assert!(entry.sha256.iter().all(|digest| hex(digest, 64)), "{}", entry.name);
                assert!(entry.md5.iter().all(|digest| hex(digest, 32)), "{}", entry.name);
                assert_eq!(entry.form == Form::Archive, entry.part.is_none(), "{}", entry.name);
                assert!(
                    entry.url.is_none() || (entry.sha256.is_some() && entry.bytes.is_some()),
                    "{}",
                    entry.name
                );
            }
        }
    }
}
