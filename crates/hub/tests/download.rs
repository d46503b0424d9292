//! Files from their publishers.

use sokd_core::{Error, Watch};
use sokd_hub::mock::{Fault, Mock};
use sokd_hub::{Original, Patience, download};
use std::path::Path;
use std::time::Duration;

struct Silent;

impl Watch for Silent {
    fn at(&self, _: &str, _: usize, _: usize) {}
    fn say(&self, _: &str) {}
}

/// Of `weights`.
const SHA256: &str = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c";

const PATIENCE: Patience =
    Patience { attempts: 2, pause: Duration::from_millis(1), longest: Duration::from_secs(1) };

fn get(mock: &Mock, path: &Path, bytes: Option<u64>) -> sokd_core::Result<()> {
    let url = format!("{}/owner/name/resolve/main/model.safetensors", mock.endpoint());
    download(Original { url: &url, sha256: SHA256, bytes }, path, PATIENCE, &Silent)
}

#[test]
fn a_file_comes_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data.bin");
    let mock = Mock::of(b"weights");
    mock.fail(Fault::Instead(b"torn".into()), 1);
    let error = get(&mock, &path, None).expect_err("torn").to_string();
    assert!(error.contains("4 bytes came"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
    get(&mock, &path, None).expect("the file");
    assert_eq!(std::fs::read(&path).expect("the file"), b"weights");
    let asked = mock.heard().len();
    get(&mock, &path, None).expect("it is there");
    assert_eq!(mock.heard().len(), asked);
}

#[test]
fn what_was_there_stays_until_the_new_is_whole_and_a_part_is_gone_on_with() {
    for bytes in [None, Some(7)] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data.bin");
        std::fs::write(&path, "what was there").expect("a file");
        let mock = Mock::of(b"weights");
        mock.fail(Fault::Cut(3), 1);
        mock.fail(Fault::Cut(0), 1);
        let error = get(&mock, &path, bytes).expect_err("cut off");
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert_eq!(std::fs::read(&path).expect("the file"), b"what was there");
        get(&mock, &path, bytes).expect("the file");
        assert_eq!(std::fs::read(&path).expect("the file"), b"weights");
        let last = mock.heard().pop().expect("a request");
        assert_eq!(last.headers.get("range").map(String::as_str), Some("bytes=3-"), "{bytes:?}");
    }
}

#[test]
fn nobody_there_is_unreachable() {
    let folder = tempfile::tempdir().expect("a folder");
    let original = Original { url: "http://127.0.0.1:9/x", sha256: "", bytes: None };
    let error = download(original, &folder.path().join("x"), PATIENCE, &Silent).expect_err("no one");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}
