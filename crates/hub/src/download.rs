use crate::digest::{hex, sha256 as digest_of};
use sha2::{Digest, Sha256};
use sokd_core::file::Unfinished;
use sokd_core::{Error, Result};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// Fetches a file from its publisher to a place; it is there whole and with its digest, or not at all. A file that is
/// there with that digest is not fetched again.
///
/// `watch` hears how many bytes have come so far.
///
/// # Errors
/// [`Error::Unreachable`] where nobody answers; [`Error::File`] when something else came.
pub fn download(url: &str, path: &Path, sha256: &str, watch: &mut dyn FnMut(u64)) -> Result<()> {
    if path.exists() && digest_of(path)? == sha256.to_lowercase() {
        return Ok(());
    }
    let unreachable = |problem: String| Error::Unreachable {
        url: url.to_owned(),
        problem,
        remedy: format!("check the network and any proxy; or fetch it by hand to {}", path.display()),
    };
    let client = reqwest::blocking::Client::builder()
        .user_agent(concat!("sokd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(30))
        .tcp_user_timeout(Duration::from_mins(1))
        // A large archive may take hours on a slow line.
        .timeout(None)
        .build()
        .map_err(|error| unreachable(chain(&error)))?;
    let answer = client.get(url).send().and_then(reqwest::blocking::Response::error_for_status);
    let mut answer = answer.map_err(|error| unreachable(chain(&error)))?;

    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut aside = Unfinished::new(path)?;
    let (mut digest, mut so_far, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let count = answer.read(&mut buffer).map_err(|error| unreachable(chain(&error)))?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        aside.write_all(&buffer[..count]).map_err(Error::io(path))?;
        so_far += count as u64;
        watch(so_far);
    }
    let found = hex(&digest.finalize());
    if found != sha256.to_lowercase() {
        let problem = format!("{so_far} bytes came, with the SHA-256 {found} where {sha256} is on record");
        return Err(Error::file(
            path,
            None,
            problem,
            "try again; if it stays so, its publisher has changed it",
        ));
    }
    aside.place()
}

/// An error with its causes: the outermost alone says only that a request failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = inner.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Mock;

    #[test]
    fn a_file_comes_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data.bin");
        let sha256 = hex(&Sha256::digest(b"weights"));
        let wrong = Mock::new(b"weights", Some(b"torn"));
        let error =
            download(&wrong.url("/model.safetensors"), &path, &sha256, &mut |_| {}).expect_err("torn");
        assert!(error.to_string().contains("4 bytes came"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);

        let right = Mock::new(b"weights", None);
        let mut heard = 0;
        download(&right.url("/model.safetensors"), &path, &sha256, &mut |bytes| heard = bytes)
            .expect("the file");
        assert_eq!((heard, std::fs::read(&path).expect("the file")), (7, b"weights".to_vec()));
        let asked = right.asked();
        download(&right.url("/model.safetensors"), &path, &sha256, &mut |_| {}).expect("it is there");
        assert_eq!(right.asked(), asked);
    }

    #[test]
    fn what_is_not_there_or_not_whole_is_unreachable_and_leaves_what_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data.bin");
        std::fs::write(&path, "what was there").expect("a file");
        let sha256 = hex(&Sha256::digest(b"weights"));
        let server = Mock::declaring(b"weights", b"wei");
        for (at, said) in [("/model.safetensors", "end of file"), ("/elsewhere", "404")] {
            let error = download(&server.url(at), &path, &sha256, &mut |_| {}).expect_err(at);
            assert!(matches!(error, Error::Unreachable { .. }), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        assert_eq!(std::fs::read(&path).expect("the file"), b"what was there");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
    }

    #[test]
    fn nobody_there_is_unreachable() {
        let folder = tempfile::tempdir().expect("a folder");
        let error =
            download("http://127.0.0.1:9/x", &folder.path().join("x"), "", &mut |_| {}).expect_err("no one");
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    }
}
