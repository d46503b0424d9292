//! Publishing, by the requests that the Hub's own client makes.

use sokd_core::{Error, Watch};
use sokd_hub::mock::Mock;
use sokd_hub::{Hub, Parcel, Repository};
use std::path::Path;

struct Silent;

impl Watch for Silent {
    fn at(&self, _: &str, _: usize, _: usize) {}
    fn say(&self, _: &str) {}
}

fn parcel(folder: &Path) -> Parcel {
    let path = folder.join("model.safetensors");
    std::fs::write(&path, b"weights").expect("a file");
    Parcel {
        files: vec![("model.safetensors".into(), path)],
        texts: vec![("README.md".into(), "# A student".into())],
        message: "A student".into(),
        private: true,
    }
}

#[test]
fn what_is_pushed_is_what_is_fetched() {
    let (folder, mock) = (tempfile::tempdir().expect("a folder"), Mock::start());
    mock.want("hf_secret");
    let repository: Repository = "me/student".parse().expect("a repository");
    let hub =
        || Hub::new(&mock.endpoint(), &folder.path().join("cache")).expect("a hub").with_token("hf_secret");
    let first = hub().push(&repository, &parcel(folder.path()), &Silent).expect("published");
    assert_eq!(mock.file("me/student", "README.md").as_deref(), Some(&b"# A student"[..]));
    assert!(first.page.ends_with("/me/student"), "{first:?}");
    let address = repository.file("model.safetensors").expect("an address");
    let fetched = hub().fetch(&address, &Silent).expect("the file");
    assert_eq!(fetched.commit, first.commit);
    assert_eq!(std::fs::read(fetched.path).expect("the file"), b"weights");

    let made =
        mock.heard().into_iter().find(|request| request.path == "/api/repos/create").expect("made first");
    let made: serde_json::Value = serde_json::from_slice(&made.body).expect("JSON");
    assert_eq!((&made["private"], &made["organization"]), (&true.into(), &"me".into()));
    // It is there already: that is no fault.
    hub().push(&repository, &parcel(folder.path()), &Silent).expect("published again");
}

#[test]
fn nothing_is_published_without_a_right_to() {
    let (folder, mock) = (tempfile::tempdir().expect("a folder"), Mock::start());
    mock.want("hf_secret");
    let repository: Repository = "me/student".parse().expect("a repository");
    let hub = || Hub::new(&mock.endpoint(), folder.path()).expect("a hub");
    let error = hub().push(&repository, &parcel(folder.path()), &Silent).expect_err("no token");
    assert!(error.to_string().contains("HF_TOKEN") && mock.heard().is_empty(), "{error}");
    let error = hub().with_token("hf_other").push(&repository, &parcel(folder.path()), &Silent);
    let error = error.expect_err("another's token");
    assert!(matches!(error, Error::Unreachable { .. }) && error.to_string().contains("401"), "{error}");
    assert!(!error.to_string().contains("hf_other"), "{error}");
    let error = hub().with_token("hf_secret").offline().push(&repository, &parcel(folder.path()), &Silent);
    assert!(error.expect_err("offline").to_string().contains("HF_HUB_OFFLINE"));
    assert_eq!(mock.file("me/student", "README.md"), None);
}
