//! The real sets, where they are: values as numpy reads them.

use sokd_core::{Dataset, Split};
use sokd_data::{DataSpec, Idx, ImageFolder, Locations, Memory, Source, TinyImagenet, Verdict, verify};
use std::path::{Path, PathBuf};

/// What `names` of a data set would be read from; says so when it is not there.
fn found(name: &str) -> Option<Locations> {
    let locations = Locations::from_env();
    if locations.resolve(Path::new(name), "real data", "").is_ok() {
        return Some(locations);
    }
    eprintln!("skipped, because {name} lies in none of {:?}: set SOKD_DATA_DIR", locations.folders());
    None
}

fn read(name: &str, locations: &Locations) -> Memory {
    let spec = DataSpec::named(name).unwrap();
    let source: &dyn Source = spec.as_ref();
    source.read(locations).unwrap()
}

fn pixel(data: &Memory, split: Split, row: u32, at: [usize; 2]) -> [u8; 3] {
    let image = data.image(split, row).unwrap();
    let start = (at[0] * data.info().size[1] + at[1]) * 3;
    [image[start], image[start + 1], image[start + 2]]
}

fn labels(data: &Memory, split: Split) -> Vec<u32> {
    let rows: Vec<u32> = (0..data.info().len(split) as u32).collect();
    data.read(split, &rows).unwrap().labels.to_vec1().unwrap()
}

#[test]
fn cifar10() {
    let Some(locations) = found("cifar10") else { return };
    let data = read("cifar10", &locations);
    assert!(data.info().train.is_multiple_of(10_000) && data.info().train > 0 && data.info().test == 10_000);
    assert_eq!(labels(&data, Split::Test)[..10], [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]);
    // A cat; the corners tell rows from columns.
    assert_eq!(pixel(&data, Split::Test, 0, [0, 0]), [158, 112, 49]);
    assert_eq!(pixel(&data, Split::Test, 0, [0, 31]), [116, 85, 33]);
    assert_eq!(pixel(&data, Split::Test, 0, [31, 0]), [54, 107, 160]);
    assert_eq!(pixel(&data, Split::Test, 0, [10, 20]), [175, 165, 154]);
    let first: Vec<f32> =
        data.read(Split::Test, &[0]).unwrap().images.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(first[..3], [158.0 / 255.0, 112.0 / 255.0, 49.0 / 255.0]);
}

#[test]
fn cifar100() {
    let Some(locations) = found("cifar100") else { return };
    let data = read("cifar100", &locations);
    assert_eq!((data.info().train, data.info().test, data.info().classes.len()), (50_000, 10_000, 100));
    let mut counts = [0; 100];
    for label in labels(&data, Split::Train) {
        counts[label as usize] += 1;
    }
    assert_eq!(counts, [500; 100]);
    assert_eq!(
        (pixel(&data, Split::Train, 0, [5, 7]), pixel(&data, Split::Train, 49_999, [5, 7])),
        ([252, 245, 245], [29, 75, 137])
    );
    assert_eq!(data.info().classes[labels(&data, Split::Train)[0] as usize], "cattle");
}

#[test]
fn the_files_are_the_official_ones() {
    for name in ["cifar10", "cifar100"] {
        let Some(locations) = found(name) else { continue };
        let report = verify(name, &locations).unwrap();
        assert!(!report.checks.is_empty(), "nothing in {} has a digest on record", report.place.display());
        assert!(report.checks.iter().all(|check| check.verdict == Verdict::Right), "{report:?}");
    }
}

#[test]
fn idx_files_of_the_mnist_family() {
    for (name, sizes, test_labels, value) in [
        ("small/digits-8x8", (3823, 1797, 8), [0, 1, 2, 3, 4], 208),
        ("small/fashion-mini", (4000, 1500, 28), [9, 2, 1, 1, 6], 2),
    ] {
        let Some(locations) = found(name) else { continue };
        let plain = Idx { path: name.into(), ..Idx::default() }.read(&locations).unwrap();
        let info = plain.info();
        assert_eq!(
            (info.train, info.test, info.size[0], info.classes.len()),
            (sizes.0, sizes.1, sizes.2, 10)
        );
        assert_eq!(labels(&plain, Split::Test)[..5], test_labels);
        let at = if sizes.2 == 8 { [4, 4] } else { [14, 6] };
        assert_eq!(pixel(&plain, Split::Train, 3, at), [value; 3]);
        let padded = Idx { path: name.into(), pad: Some(32), ..Idx::default() }.read(&locations).unwrap();
        let margin = (32 - sizes.2) / 2;
        assert_eq!(pixel(&padded, Split::Train, 3, [at[0] + margin, at[1] + margin]), [value; 3]);
    }
}

/// The folder in an archive of real images, unpacked.
fn unpacked(name: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let archive = format!("small/{name}.tar.gz");
    let path = found(&archive)?.resolve(archive.as_ref(), "real images", "").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let packed = flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap());
    tar::Archive::new(packed).unpack(dir.path()).unwrap();
    let folder = dir.path().join(name);
    Some((dir, folder))
}

#[test]
fn class_folders_of_png() {
    let Some((_dir, path)) = unpacked("cifar10-imagefolder-sample") else { return };
    let data = ImageFolder { path, ..ImageFolder::default() }.read(&Locations::default()).unwrap();
    let info = data.info();
    assert_eq!(
        (info.name.as_str(), info.train, info.test, info.size),
        ("cifar10-imagefolder-sample", 500, 200, [32, 32])
    );
    assert_eq!(info.classes[9], "truck");
    assert_eq!(pixel(&data, Split::Test, 199, [0, 31]), [233, 233, 233]);
    assert_eq!(pixel(&data, Split::Test, 199, [31, 0]), [209, 204, 189]);
}

/// Ten classes of Tiny-ImageNet, some of their photographs grey.
#[test]
fn tiny_imagenet() {
    let Some((_dir, path)) = unpacked("tiny-imagenet-10") else { return };
    let (folder, here) = (Some(path.clone()), Locations::default());
    let data = TinyImagenet { path: folder.clone(), ..TinyImagenet::default() }.read(&here).unwrap();
    let info = data.info();
    assert_eq!((info.train, info.test, info.size, info.classes.len()), (1000, 500, [64, 64], 10));
    assert_eq!((info.classes[0].as_str(), info.classes[2].as_str()), ("American alligator", "Egyptian cat"));
    let test = labels(&data, Split::Test);
    assert_eq!(test[..3], [3, 3, 3], "val_9, val_12 and val_52 are of n02226429");
    // As Pillow decodes it, but for the rounding in which decoders differ.
    let off = pixel(&data, Split::Test, 0, [31, 40]).into_iter().zip([63, 54, 47u8]);
    assert!(off.into_iter().all(|(got, expected)| got.abs_diff(expected) <= 3));
    let grey = |row| data.image(Split::Train, row).unwrap().chunks(3).all(|p| p[0] == p[1] && p[1] == p[2]);
    assert!((0..1000).filter(|&row| grey(row)).count() >= 22, "files of one channel");
    let half = TinyImagenet { path: folder.clone(), judge: Some(25), search: 100, ..TinyImagenet::default() };
    let half = half.read(&here).unwrap();
    assert_eq!((half.info().train, half.info().search, half.info().test), (900, 100, 250));
    let verdict = verify("tiny-imagenet", &Locations::new([path])).unwrap();
    assert_eq!((verdict.train, verdict.test, verdict.checks.len(), verdict.is_right()), (1000, 500, 0, true));
}

#[test]
fn class_folders_that_are_none_or_of_mixed_sizes() {
    if let Some((_dir, path)) = unpacked("tiny-imagenet-10") {
        let error = ImageFolder { path, ..ImageFolder::default() }.read(&Locations::default()).err().unwrap();
        assert!(error.to_string().contains("read it by `type = \"tiny-imagenet\"`"), "{error}");
    }
    if let Some((_dir, path)) = unpacked("imagenet-sample-24") {
        let error = ImageFolder { path, ..ImageFolder::default() }.read(&Locations::default()).err().unwrap();
        assert!(error.to_string().contains("pixels where others are"), "{error}");
    }
}
