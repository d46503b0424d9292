use sokd_core::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A file on the Hugging Face Hub: `owner/repository@revision/path/to/file`, at the revision `main` if none is named.
///
/// # Example
/// ```
/// let address: sokd_hub::Address = "timm/resnet18.a1_in1k/model.safetensors".parse()?;
/// assert_eq!(address.to_string(), "timm/resnet18.a1_in1k@main/model.safetensors");
/// # Ok::<(), sokd_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whose repository it is.
    pub owner: String,
    /// Which repository.
    pub repository: String,
    /// A branch, tag or commit.
    pub revision: String,
    /// The path inside the repository.
    pub file: String,
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = || {
            let (owner, rest) = text.split_once('/')?;
            let (name, file) = rest.split_once('/')?;
            let (repository, revision) = name.split_once('@').unwrap_or((name, "main"));
            let plain = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
            let inside = !file.is_empty() && file.split('/').all(|part| !["", ".", ".."].contains(&part));
            (inside && [owner, repository, revision].into_iter().all(plain)).then(|| Self {
                owner: owner.to_owned(),
                repository: repository.to_owned(),
                revision: revision.to_owned(),
                file: file.to_owned(),
            })
        };
        parts().ok_or_else(|| {
            Error::setting(format!("hub://{text}"), "expected hub://owner/repository@revision/path/to/file")
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, repository, revision, file } = self;
        write!(out, "{owner}/{repository}@{revision}/{file}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_file_inside_a_repository() {
        let address: Address = "owner/name@v1.0/sub/model.safetensors".parse().expect("an address");
        assert_eq!((address.revision.as_str(), address.file.as_str()), ("v1.0", "sub/model.safetensors"));
        for wrong in ["", "owner", "owner/name", "owner/name/", "owner/name@/x", "/n/f", "o/n/../f", "o/n//f"]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
