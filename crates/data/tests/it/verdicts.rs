//! Files against the digests on record.

use sokd_data::{Locations, Verdict, verify};
use std::path::Path;

#[test]
fn a_file_that_is_not_the_official_one_is_wrong_and_not_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("cifar-10-batches-py");
    std::fs::create_dir(&place).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/fixtures/cifar10-py");
    for name in ["data_batch_1", "test_batch"] {
        std::fs::copy(fixtures.join(name), place.join(name)).unwrap();
    }
    let report = verify("cifar10", &Locations::new([dir.path()])).unwrap();
    assert!(!report.is_right());
    assert_eq!((report.place, report.train, report.test, report.checks.len()), (place, 2, 1, 2));
    let known = Verdict::Wrong { expected: "c99cafc152244af753f735de768cd75f".into() };
    assert_eq!(report.checks[0].verdict, known);
}

#[test]
fn a_record_of_a_packed_file_says_nothing_of_what_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("mnist");
    std::fs::create_dir(&place).unwrap();
    for part in ["train", "t10k"] {
        let (images, labels) =
            ([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 99], [0, 0, 8, 1, 0, 0, 0, 1, 7]);
        std::fs::write(place.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(place.join(format!("{part}-labels-idx1-ubyte.gz")), gzip(&labels)).unwrap();
    }
    let report = verify("mnist", &Locations::new([dir.path()])).unwrap();
    let verdicts: Vec<bool> = report.checks.iter().map(|check| check.verdict == Verdict::Unknown).collect();
    assert_eq!((verdicts.as_slice(), report.train), (&[true, false, true, false][..], 1));
    assert!(!report.is_right());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    std::io::copy(&mut flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()), &mut packed)
        .unwrap();
    packed
}

#[test]
fn what_has_no_record_says_so() {
    let error = verify("shapes", &Locations::default()).unwrap_err().to_string();
    assert!(error.contains("they are for cifar10, cifar100, fashion-mnist, mnist"), "{error}");
    let error = verify("mnist", &Locations::default()).unwrap_err().to_string();
    assert!(error.contains("looked in no folder") && error.contains("sokd data fetch mnist"), "{error}");
}
