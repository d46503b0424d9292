use sha1::Sha1;
use sha2::{Digest, Sha256};
use sokd_core::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// SHA-256 of a file, in hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    of(Sha256::new(), path)
}

/// The name that git gives to a file's content: SHA-1 of `blob`, its length, a zero, and the content.
pub(crate) fn git_blob(path: &Path) -> Result<String> {
    let length = std::fs::metadata(path).map_err(Error::io(path))?.len();
    of(Sha1::new().chain_update(format!("blob {length}\0")), path)
}

fn of(mut digest: impl Digest, path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block).map_err(Error::io(path))? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&block[..count]),
        }
    }
}

/// As digests are printed.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[digit as usize]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum_and_git() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x");
        std::fs::write(&path, "hello\n").expect("a file");
        let known = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(sha256(&path).expect("a digest"), known);
        assert_eq!(git_blob(&path).expect("a digest"), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
