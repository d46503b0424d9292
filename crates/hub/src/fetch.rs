use crate::Address;
use crate::digest::{git_blob, sha256};
use hf_hub::{HFClientSync, HFError};
use sokd_core::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait for another process that fetches the same file.
const PATIENCE: Duration = Duration::from_mins(10);

/// A file of the Hub, from the cache if it is there.
///
/// # Errors
/// [`Error::Missing`] where the Hub knows no such file; [`Error::Unreachable`] where it does not answer or wants to know
/// who asks; [`Error::File`] when what came is not what the Hub said it would be, and nothing of it is kept.
pub fn fetch(address: &Address) -> Result<PathBuf> {
    let client = HFClientSync::new().map_err(|error| unreachable(address, &error))?;
    fetch_by(&client, address, offline())
}

fn fetch_by(client: &HFClientSync, address: &Address, offline: bool) -> Result<PathBuf> {
    let repository = client.model(&address.owner, &address.repository);
    let ask = |local: bool| {
        let file = repository.download_file().filename(&address.file).revision(&address.revision);
        file.local_files_only(local).send()
    };
    if let Ok(path) = ask(true) {
        verify(&path)?;
        return Ok(path);
    }
    if offline {
        let problem = "it is not in the cache, and HF_HUB_OFFLINE forbids to ask";
        let remedy = "unset HF_HUB_OFFLINE, or fetch it once where there is a network".to_owned();
        return Err(Error::Unreachable { url: hub(address), problem: problem.into(), remedy });
    }
    #[expect(clippy::disallowed_methods, reason = "it only bounds how long we wait for a sibling's lock")]
    let begun = Instant::now();
    let path = loop {
        match ask(false) {
            Ok(path) => break path,
            // The library gives up on a sibling's lock after ten seconds: every array of jobs with a cold cache would
            // lose all but one.
            Err(HFError::CacheLockTimeout { .. }) if begun.elapsed() < PATIENCE => {}
            Err(error) => return Err(refused(address, &error)),
        }
    };
    verify(&path)?;
    Ok(path)
}

/// As Python's library reads it.
fn offline() -> bool {
    std::env::var("HF_HUB_OFFLINE")
        .is_ok_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
}

/// Compares a cached file with its digest, which is the name of what its link leads to: SHA-256 of large files, and for
/// small ones the digest that git gives them. The library below keeps the body of an error as if it were the file.
fn verify(path: &Path) -> Result<()> {
    let blob = std::fs::canonicalize(path).map_err(Error::io(path))?;
    let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let found = match name.len() {
        _ if !name.bytes().all(|byte| byte.is_ascii_hexdigit()) => return Ok(()),
        64 => sha256(&blob)?,
        40 => git_blob(&blob)?,
        // Where links are not possible the cache holds files by their names, and nothing to compare them with.
        _ => return Ok(()),
    };
    if found == name {
        return Ok(());
    }
    for stale in [path, &blob] {
        std::fs::remove_file(stale).ok();
    }
    let problem = format!("what came has the digest {found}, and not the one under which the Hub keeps it");
    Err(Error::file(path, None, problem, "it has been removed: try again"))
}

fn hub(address: &Address) -> String {
    format!("hub://{address}")
}

fn unreachable(address: &Address, error: &HFError) -> Error {
    let remedy = "check the network, HF_ENDPOINT and any proxy; or fetch the file by hand and name its path"
        .to_owned();
    Error::Unreachable { url: hub(address), problem: error.to_string(), remedy }
}

fn refused(address: &Address, error: &HFError) -> Error {
    match error {
        HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } | HFError::EntryNotFound { .. } => {
            Error::Missing {
                path: hub(address).into(),
                what: format!("the Hub knows no such file ({error})"),
                remedy: "check owner, repository, revision and file; a private repository needs HF_TOKEN"
                    .into(),
            }
        }
        HFError::AuthRequired { .. } | HFError::Forbidden { .. } => Error::Unreachable {
            url: hub(address),
            problem: error.to_string(),
            remedy: "accept the repository's terms on its page, and set HF_TOKEN".into(),
        },
        error => unreachable(address, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Mock;

    const ADDRESS: &str = "owner/name@main/model.safetensors";

    fn client(mock: &Mock, cache: &Path) -> HFClientSync {
        let client =
            hf_hub::HFClient::builder().endpoint(mock.url("")).cache_dir(cache).retry_max_attempts(1);
        client.build_sync().expect("a client")
    }

    #[test]
    fn what_is_right_is_fetched_once() {
        let (cache, address) = (tempfile::tempdir().expect("a folder"), ADDRESS.parse().expect("an address"));
        let mock = Mock::new(b"weights", None);
        let client = client(&mock, cache.path());
        let path = fetch_by(&client, &address, false).expect("a file");
        assert_eq!(std::fs::read(&path).expect("the file"), b"weights");
        let asked = mock.asked();
        assert!(asked > 0);
        assert_eq!(fetch_by(&client, &address, false).expect("the same file"), path);
        assert_eq!(fetch_by(&client, &address, true).expect("the same file"), path);
        assert_eq!(mock.asked(), asked, "the cache has it");
    }

    #[test]
    fn what_is_wrong_never_becomes_weights() {
        // An error page, a part, and something of the right length.
        for instead in [&b"<html>"[..], b"weigh", b"weighty"] {
            let cache = tempfile::tempdir().expect("a folder");
            let address = ADDRESS.parse().expect("an address");
            let mock = Mock::new(b"weights", Some(instead));
            for _ in 0..2 {
                let error =
                    fetch_by(&client(&mock, cache.path()), &address, false).expect_err("another body came");
                assert!(
                    error.to_string().contains("digest") && error.to_string().contains("removed"),
                    "{error}"
                );
            }
            let mended = Mock::new(b"weights", None);
            assert!(fetch_by(&client(&mended, cache.path()), &address, false).is_ok());
        }
    }

    #[test]
    fn offline_asks_nobody() {
        let (cache, address) = (tempfile::tempdir().expect("a folder"), ADDRESS.parse().expect("an address"));
        let mock = Mock::new(b"weights", None);
        let error = fetch_by(&client(&mock, cache.path()), &address, true).expect_err("nothing is cached");
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert_eq!(mock.asked(), 0);
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let (cache, address) =
            (tempfile::tempdir().expect("a folder"), "owner/name/other".parse().expect("an address"));
        let mock = Mock::new(b"weights", None);
        let error = fetch_by(&client(&mock, cache.path()), &address, false).expect_err("it has another name");
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    }
}
