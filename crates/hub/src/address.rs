//! How a file on the Hub is named, and which names are refused: a name becomes a path in the cache.

use sokd_core::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Weights.
    Model,
    /// Images and labels.
    Dataset,
}

impl Kind {
    /// As addresses of the Hub's API and names in the cache have it.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// What stands before `owner/name`.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

/// A repository on the Hugging Face Hub: `owner/name@revision`, or `datasets/owner/name@revision`; at the revision
/// `main` if none is named. A slash in a revision is written `%2F`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// Weights or data.
    pub kind: Kind,
    /// Whose it is.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// A branch, tag or commit.
    pub revision: String,
}

/// A file on the Hugging Face Hub: `owner/name@revision/path/to/file`.
///
/// # Example
/// ```
/// let address: sokd_hub::Address = "timm/resnet18.a1_in1k/model.safetensors".parse()?;
/// assert_eq!(address.to_string(), "timm/resnet18.a1_in1k@main/model.safetensors");
/// # Ok::<(), sokd_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Where it lies.
    pub repository: Repository,
    /// The path inside the repository.
    pub file: String,
}

const EXPECTED: &str =
    "expected hub://owner/name@revision/path/to/file, or hub://datasets/owner/name@revision/...";

impl Repository {
    /// A repository, or a file in it: `owner/name`, `owner/name@revision/file`, with `hub://` before it or without.
    ///
    /// # Errors
    /// [`Error::Setting`] for what is no address, and for one that would lead out of the cache.
    pub fn and_file(text: &str) -> Result<(Self, Option<String>)> {
        let wrong = || Error::setting(format!("hub://{}", text.trim_start_matches("hub://")), EXPECTED);
        let plain = text.strip_prefix("hub://").unwrap_or(text);
        let (kind, plain) = match plain.strip_prefix("datasets/") {
            Some(rest) => (Kind::Dataset, rest),
            None => (Kind::Model, plain),
        };
        let mut parts = plain.splitn(3, '/');
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else { return Err(wrong()) };
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let revision = revision.replace("%2F", "/").replace("%2f", "/");
        let file = parts.next();
        if !(is_name(owner) && is_name(name) && is_inside(&revision) && file.is_none_or(is_inside)) {
            return Err(wrong());
        }
        let repository = Self { kind, owner: owner.to_owned(), name: name.to_owned(), revision };
        Ok((repository, file.map(str::to_owned)))
    }

    /// The same at another revision.
    #[must_use]
    pub fn at(&self, revision: &str) -> Self {
        Self { revision: revision.to_owned(), ..self.clone() }
    }

    /// A file in it.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that leads out of it.
    pub fn file(&self, file: &str) -> Result<Address> {
        let outside =
            || Error::setting(format!("hub://{self}/{file}"), "its name leads out of the repository");
        is_inside(file)
            .then(|| Address { repository: self.clone(), file: file.to_owned() })
            .ok_or_else(outside)
    }

    /// Without revision, as the Hub's own addresses have it.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// Whether the revision can never mean anything else.
    pub fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }
}

/// Whether it is a commit's whole name.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The names that the Hub gives: `--` would be read as a slash in the cache.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty()
        && name.bytes().all(letter)
        && !name.starts_with(['.', '-'])
        && !name.contains("--")
        && !name.contains("..")
}

/// Whether a path of a repository, joined to a folder, stays in the folder on every system.
pub(crate) fn is_inside(path: &str) -> bool {
    let hostile = |letter: char| letter == '\\' || letter == ':' || letter.is_control();
    path.len() <= 1024
        && !path.contains(hostile)
        && path.split('/').all(|part| !part.trim().is_empty() && part != "." && part != "..")
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::and_file(text)? {
            (repository, None) => Ok(repository),
            (repository, Some(_)) => {
                let problem = format!("names a file; the repository alone is {repository}");
                Err(Error::setting(format!("hub://{text}"), problem))
            }
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Repository::and_file(text)? {
            (repository, Some(file)) => Ok(Self { repository, file }),
            (_, None) => Err(Error::setting(format!("hub://{text}"), format!("names no file: {EXPECTED}"))),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, owner, name, revision } = self;
        write!(out, "{}{owner}/{name}@{}", kind.prefix(), revision.replace('/', "%2F"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.repository, self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_file_inside_a_repository() {
        let address: Address = "owner/name@v1.0/sub/model.safetensors".parse().expect("an address");
        assert_eq!(
            (address.repository.revision.as_str(), address.file.as_str()),
            ("v1.0", "sub/model.safetensors")
        );
        for wrong in ["", "owner", "owner/name", "owner/name/", "owner/name@/x", "/n/f", "o/n/../f", "o/n//f"]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_what_it_prints() {
        for text in ["o/n@main/f", "datasets/o/n@refs%2Fpr%2F1/a/b c.parquet", "o/n@0123/f"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
            let again = format!("hub://{text}");
            assert_eq!(again.parse::<Address>().expect(text).to_string(), text);
        }
        let (repository, file) = Repository::and_file("o/n").expect("a repository");
        assert_eq!((repository.to_string().as_str(), file), ("o/n@main", None));
    }

    #[test]
    fn no_address_leads_out_of_the_cache() {
        for hostile in [
            "../n/f",
            "o/../f/g",
            "o/n@../f",
            "o/n@..%2F..%2Fx/f",
            "o/n@/f",
            "o/n/../../x",
            "o/n/a/../../x",
            "o/n/..\\x",
            "o/n/C:/x",
            "o/n/a\0b",
            "o/n/./x",
            "o--x/n/f",
            ".o/n/f",
            "o/n@a b\n/f",
            "o/n/a/ /b",
        ] {
            assert!(Repository::and_file(hostile).is_err(), "{hostile}");
        }
    }
}
