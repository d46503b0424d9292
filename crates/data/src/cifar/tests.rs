use super::*;
use proptest::prelude::*;
use sokd_core::{Dataset, Error, Split};
use std::path::Path;

/// What `datasets/fixtures/make.py` draws.
fn picture(index: usize) -> Vec<u8> {
    let pixel = |at: usize| [7 * (at / 32) as u8, 7 * (at % 32) as u8, 40 * index as u8 + 10];
    (0..32 * 32).flat_map(pixel).collect()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/fixtures")
}

/// The manifest of the real set, for a release of three pictures.
fn tiny(manifest: &Manifest) -> Manifest {
    let mut tiny = manifest.clone();
    (tiny.train, tiny.test) = (2, 1);
    for file in &mut tiny.files {
        file.images = file.part.map(|part| if part == ForUse::Train { 2 } else { 1 });
    }
    tiny
}

fn open(manifest: &Manifest, place: &Path) -> Result<Memory> {
    read(manifest, manifest.shelf(Some(place), &Locations::default())?, None)
}

#[track_caller]
fn expect_fixture(data: &Memory) {
    let hundred = data.info().classes.len() == 100;
    let label = |index: u32| if hundred { 37 * index } else { (3 * index + 1) % 10 };
    assert_eq!((data.info().train, data.info().test, data.info().size), (2, 1, [32, 32]));
    for (split, row, index) in [(Split::Train, 0, 0), (Split::Train, 1, 1), (Split::Test, 0, 2)] {
        assert_eq!(data.image(split, row).unwrap(), picture(index), "image {index}");
        let batch = data.read(split, &[row]).unwrap();
        assert_eq!(batch.labels.to_vec1::<u32>().unwrap(), [label(index as u32)]);
    }
}

/// Records of the binary release.
fn records(manifest: &Manifest, indices: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &index in indices {
        match manifest.classes.len() {
            100 => bytes.extend([index as u8, 37 * index as u8]),
            _ => bytes.push((3 * index as u8 + 1) % 10),
        }
        let image = picture(index);
        bytes.extend((0..3).flat_map(|channel| image.iter().copied().skip(channel).step_by(3)));
    }
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    std::io::copy(&mut flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()), &mut packed)
        .unwrap();
    packed
}

/// A `.tar.gz` as the official ones: a folder, and the files in it.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("cifar-batches/{name}"), *bytes).unwrap();
    }
    gzip(&archive.into_inner().unwrap())
}

#[test]
fn python_release_and_hub_hold_the_same_pictures() {
    for manifest in [Manifest::cifar10(), Manifest::cifar100()] {
        for form in ["py", "hub"] {
            let place = fixtures().join(format!("{}-{form}", manifest.name));
            expect_fixture(&open(manifest, &place).unwrap());
        }
    }
}

#[test]
fn binary_release_plain_packed_and_archived() {
    for (manifest, train, test) in [
        (tiny(Manifest::cifar10()), "data_batch_1.bin", "test_batch.bin"),
        (tiny(Manifest::cifar100()), "train.bin", "test.bin"),
    ] {
        let (learned, judged) = (records(&manifest, &[0, 1]), records(&manifest, &[2]));
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(&manifest.name).join(&manifest.folders[0]);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join(train), &learned).unwrap();
        std::fs::write(place.join(format!("{test}.gz")), gzip(&judged)).unwrap();
        // Found from above, too, as `SOKD_DATA_DIR` would name it.
        let shelf = manifest.shelf(None, &Locations::new([dir.path()])).unwrap();
        expect_fixture(&read(&manifest, shelf, None).unwrap());

        let dir = tempfile::tempdir().unwrap();
        let packed = archive(&[(test, &judged), ("readme.html", b"hello"), (train, &learned)]);
        std::fs::write(dir.path().join(&manifest.files[0].name), &packed).unwrap();
        expect_fixture(&open(&manifest, dir.path()).unwrap());
        for end in (0..packed.len()).step_by(7) {
            std::fs::write(dir.path().join(&manifest.files[0].name), &packed[..end]).unwrap();
            assert!(open(&manifest, dir.path()).is_err(), "{end} of {} bytes were read", packed.len());
        }
    }
}

/// What is kept of a release is what comes out of it; one that lies there plainly is not kept twice.
#[test]
fn what_is_packed_is_kept_unpacked() {
    let manifest = tiny(Manifest::cifar100());
    let (learned, judged) = (records(&manifest, &[0, 1]), records(&manifest, &[2]));
    let packed = archive(&[("test.bin", &judged), ("train.bin", &learned)]);
    let archived: &[(&str, &[u8])] = &[(&manifest.files[0].name, &packed)];
    let gzipped: &[(&str, &[u8])] = &[("train.bin", &learned), ("test.bin.gz", &gzip(&judged))];
    let plain: &[(&str, &[u8])] = &[("train.bin", &learned), ("test.bin", &judged)];
    for (files, keeps) in [(archived, true), (gzipped, true), (plain, false)] {
        let (dir, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let open = || Cifar::default().read(&manifest, &Locations::new([dir.path()]).keeping(kept.path()));
        expect_fixture(&open().unwrap());
        assert_eq!(std::fs::read_dir(kept.path()).unwrap().count(), usize::from(keeps), "{}", files[0].0);
        expect_fixture(&open().unwrap());
    }
}

#[test]
fn a_whole_beside_its_halves_counts_once() {
    let mut manifest = tiny(Manifest::cifar100());
    for file in manifest.files.iter_mut().filter(|file| file.name.starts_with("train-")) {
        file.images = Some(1);
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("test.bin"), records(&manifest, &[2])).unwrap();
    std::fs::write(dir.path().join("train-0.bin"), records(&manifest, &[0])).unwrap();
    std::fs::write(dir.path().join("train-1.bin"), records(&manifest, &[1])).unwrap();
    expect_fixture(&open(&manifest, dir.path()).unwrap());
    std::fs::write(dir.path().join("train.bin"), records(&manifest, &[0, 1])).unwrap();
    expect_fixture(&open(&manifest, dir.path()).unwrap());
}

#[test]
fn the_first_images_are_the_same_in_a_part_and_in_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = tiny(Manifest::cifar10());
    let first = |first| {
        read(&manifest, manifest.shelf(Some(dir.path()), &Locations::default()).unwrap(), Some(first))
    };
    std::fs::write(dir.path().join("test_batch.bin"), records(&manifest, &[2])).unwrap();
    std::fs::write(dir.path().join("data_batch_1.bin"), records(&manifest, &[0, 1])).unwrap();
    let one = first(1).unwrap();
    assert_eq!((one.info().train, one.image(Split::Train, 0).unwrap()), (1, &picture(0)[..]));
    expect_fixture(&first(2).unwrap());
    let said = first(3).err().expect("there are two").to_string();
    assert_eq!(said, "first: 3 training images are asked for, and 2 are there");
}

#[test]
fn a_torn_or_foreign_binary_names_file_offset_and_remedy() {
    let manifest = tiny(Manifest::cifar10());
    let said = |bytes: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("data_batch_1.bin"), bytes).unwrap();
        std::fs::write(dir.path().join("test_batch.bin"), records(&manifest, &[2])).unwrap();
        open(&manifest, dir.path()).err().expect("an error").to_string()
    };
    let whole = records(&manifest, &[0, 1]);
    for end in (0..whole.len()).step_by(97) {
        let said = said(&whole[..end]);
        assert!(
            said.contains("data_batch_1.bin at byte") && said.contains("sokd data fetch cifar10"),
            "{said}"
        );
    }
    assert!(said(&whole[..3073 + 5]).contains("at byte 3073: ends inside record 1: 5 bytes of 3073"));
    assert!(said(&whole[..3073]).contains("holds 1 records of 3073 bytes where the release has 2"));
    let mut foreign = whole.clone();
    foreign[3073] = 10;
    assert!(said(&foreign).contains("at byte 3073: label 10 in record 1: CIFAR-10 has 10 classes"));
}

#[test]
fn a_part_of_a_release_says_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data_batch_1.bin"), "").unwrap();
    let said = Cifar10::default().read(&Locations::new([dir.path()])).err().unwrap().to_string();
    assert!(said.contains("images to judge by; there is data_batch_1.bin"), "{said}");
    let said = Cifar100::default().read(&Locations::new([dir.path()])).err().unwrap();
    assert!(matches!(said, Error::Missing { .. }));
    let said = said.to_string();
    assert!(
        said.contains(&dir.path().display().to_string()) && said.contains("sokd data fetch cifar100"),
        "{said}"
    );
}

/// Reads a fixture's file after `change`; the answer is the pictures or an error, never a panic.
fn changed(folder: &str, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<Memory> {
    let manifest = if folder.starts_with("cifar100") { Manifest::cifar100() } else { Manifest::cifar10() };
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixtures().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let mut bytes = std::fs::read(dir.path().join(file)).unwrap();
    change(&mut bytes);
    std::fs::write(dir.path().join(file), bytes).unwrap();
    open(manifest, dir.path())
}

#[test]
fn no_torn_pickle_is_read() {
    let whole = std::fs::read(fixtures().join("cifar100-py/train")).unwrap();
    for end in (0..whole.len()).filter(|end| *end < 300 || *end > whole.len() - 200 || end % 61 == 0) {
        let error = changed("cifar100-py", "train", |bytes| bytes.truncate(end)).err().expect("an error");
        assert!(
            matches!(&error, Error::File { path, offset: Some(_), .. } if path.ends_with("train")),
            "{error}"
        );
    }
}

#[test]
fn a_pickle_that_would_run_a_command_is_only_an_error() {
    let mark = std::env::temp_dir().join(format!("sokd-pickle-{}", std::process::id()));
    let program = format!("\u{2}cposix\nsystem\nU{}touch {}\u{85}R.", '\u{1f}', mark.display());
    let bytes: Vec<u8> = std::iter::once(0x80).chain(program.chars().map(|letter| letter as u8)).collect();
    assert!(changed("cifar10-py", "data_batch_1", |old| *old = bytes).is_err());
    assert!(!mark.exists());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_program_is_a_panic(program in prop::collection::vec(prop_oneof![
        prop::sample::select(b".NK]})(t\x85\x86\x87aesuRbqhc\n".to_vec()), any::<u8>(),
    ], 0..60)) {
        let content = crate::content::Content::new(Path::new("x"), [b"\x80\x02", &program[..]].concat(), "");
        let _ = pickle::read(&content, Manifest::cifar10(), &mut Images::of_size([32, 32]));
    }

    /// Whatever bytes: whole records of known classes are read, and all else is an error.
    #[test]
    fn a_binary_file_is_read_or_refused(labels in prop::collection::vec(any::<u8>(), 0..4), cut in 0usize..3100, hundred: bool) {
        let manifest = if hundred { Manifest::cifar100() } else { Manifest::cifar10() };
        let (before, classes) = if hundred { (2, 100) } else { (1, 10) };
        let record = |&label: &u8| [vec![label; before], vec![label; 3072]].concat();
        let mut bytes: Vec<u8> = labels.iter().flat_map(record).collect();
        // Most are cut within a record, and some between two.
        bytes.truncate(bytes.len().saturating_sub(if cut < 1000 { 0 } else { cut }));
        let (kept, left) = (bytes.len() / (before + 3072), bytes.len() % (before + 3072));
        let right = left == 0 && labels[..kept].iter().all(|&label| label < classes);
        let content = crate::content::Content::new(Path::new("x"), bytes, "");
        let mut images = Images::of_size([32, 32]);
        prop_assert_eq!(binary::read(&content, None, manifest, &mut images).is_ok(), right);
        prop_assert!(!right || images.labels == labels[..kept].iter().copied().map(u32::from).collect::<Vec<_>>());
    }
}
