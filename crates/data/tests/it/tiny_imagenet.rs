//! Tiny-ImageNet's own layout, on two classes of a few pictures.

use crate::parquet;
use image::{Rgb, RgbImage};
use sokd_core::{Dataset, Split};
use sokd_data::{DataSpec, Locations, Memory, Source, TinyImagenet};
use std::fmt::Write as _;
use std::fs::{create_dir_all, read, remove_file, write};
use std::path::{Path, PathBuf};

const WORDS: &str = "n02\tEgyptian cat, Felis\nn01\tgoldfish\nn99\tnothing here\n";

/// Three pictures of each class to learn from, and two to judge by; one of them grey.
fn tree(root: &Path) {
    let save = |name: &str, level: u8| {
        let path = root.join(name);
        create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(64, 64, Rgb([level, 100, 200])).save(path).unwrap();
    };
    for (class, level) in [("n01", 10), ("n02", 60)] {
        for number in 0..3 {
            save(&format!("train/{class}/images/{class}_{number}.JPEG"), level + number);
        }
        write(root.join(format!("train/{class}/{class}_boxes.txt")), "n01_0.JPEG\t0\t0\t63\t63\n").unwrap();
    }
    let mut list = String::new();
    for (number, class) in (0..4).zip(["n02", "n01", "n02", "n01"]) {
        save(&format!("val/images/val_{number}.JPEG"), 200 + number);
        writeln!(list, "val_{number}.JPEG\t{class}\t0\t1\t62\t63").expect("a string takes it");
    }
    let grey = image::GrayImage::from_pixel(64, 64, image::Luma([77]));
    grey.save(root.join("train/n01/images/n01_1.JPEG")).unwrap();
    write(root.join("val/val_annotations.txt"), list).unwrap();
    write(root.join("wnids.txt"), "n02\nn01\n").unwrap();
    write(root.join("words.txt"), WORDS).unwrap();
}

fn open(path: &Path) -> sokd_core::Result<Memory> {
    TinyImagenet { path: Some(path.to_owned()), ..TinyImagenet::default() }.read(&Locations::default())
}

fn labels(data: &dyn Dataset, split: Split) -> Vec<u32> {
    let rows: Vec<u32> = (0..data.info().len(split) as u32).collect();
    data.read(split, &rows).unwrap().labels.to_vec1().unwrap()
}

#[test]
fn the_makers_layout_is_read_in_order() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let data = open(dir.path()).unwrap();
    let info = data.info();
    assert_eq!(info.classes, ["goldfish", "Egyptian cat"], "in the order of the synsets");
    assert_eq!((info.name.as_str(), info.train, info.test, info.size), ("tiny-imagenet", 6, 4, [64, 64]));
    assert_eq!(
        (labels(&data, Split::Train), labels(&data, Split::Test)),
        (vec![0, 0, 0, 1, 1, 1], vec![1, 0, 1, 0])
    );
    // JPEG keeps an even picture but for rounding.
    let red = |split, row| i32::from(data.image(split, row).unwrap()[0]);
    for (split, row, level) in [(Split::Train, 0, 10), (Split::Train, 5, 62), (Split::Test, 3, 203)] {
        assert!((red(split, row) - level).abs() <= 3, "{}", red(split, row));
    }
    let grey = data.image(Split::Train, 1).unwrap();
    assert!(grey.chunks(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]), "three equal channels");
    assert!((info.pixels.mean[0] - 0.4802).abs() < 1e-6, "those of letKD's code");
}

#[test]
fn it_is_found_by_its_name_and_by_that_of_its_archive() {
    for name in ["tiny-imagenet", "tiny-imagenet-200"] {
        let dir = tempfile::tempdir().unwrap();
        tree(&dir.path().join(name));
        let data = DataSpec::named("tiny-imagenet").unwrap().open(&Locations::new([dir.path()])).unwrap();
        assert_eq!(data.info().train, 6);
    }
    let spec = DataSpec::named("tiny-imagenet").unwrap();
    let error = spec.open(&Locations::default()).err().unwrap().to_string();
    assert!(
        error.contains("Tiny-ImageNet with its wnids.txt") && error.contains("remedy: unpack"),
        "{error}"
    );
}

#[test]
fn a_part_of_the_validation_images_may_judge() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let judged = |seed| {
        let path = Some(dir.path().to_owned());
        let spec = TinyImagenet { path, judge: Some(1), limit: Some(2), seed, ..TinyImagenet::default() };
        let data = spec.read(&Locations::default()).unwrap();
        assert_eq!((data.info().train, data.info().test), (4, 2));
        let mut own = labels(&data, Split::Test);
        own.sort_unstable();
        assert_eq!(own, [0, 1], "one of each class");
        (0..2).map(|row| data.image(Split::Test, row).unwrap()[0]).collect::<Vec<_>>()
    };
    assert_eq!(judged(1), judged(1));
    assert!((2..20).any(|seed| judged(seed) != judged(1)));
    let none = TinyImagenet { path: Some(dir.path().into()), judge: Some(0), ..TinyImagenet::default() };
    assert!(none.read(&Locations::default()).err().unwrap().to_string().contains("none to judge by"));
}

#[test]
fn what_is_missing_or_broken_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let refused = || open(dir.path()).err().expect("an error").to_string();
    let says = |said: &str| {
        let error = refused();
        assert!(error.contains(said) && error.contains("remedy: unpack what http"), "{error}");
    };
    let list = read(at("val/val_annotations.txt")).unwrap();
    for (text, said) in [
        ("val_0.JPEG\tn02\t0\t0\t1\t1\nval_1.JPEG\n", "line 2 is no file and synset"),
        ("val_0.JPEG\tn03\t0\t0\t1\t1\n", "line 1 is about \"n03\", which wnids.txt does not name"),
        ("../../wnids.txt\tn02\t0\t0\t1\t1\n", "line 1 is no file and synset"),
        ("val_9.JPEG\tn02\t0\t0\t1\t1\n", "val_9.JPEG is missing: an image that val_annotations.txt lists"),
    ] {
        write(at("val/val_annotations.txt"), text).unwrap();
        says(said);
    }
    write(at("val/val_annotations.txt"), b"val_0.JPEG\t\xff").unwrap();
    says("val_annotations.txt at byte 11: it is no text");
    remove_file(at("val/val_annotations.txt")).unwrap();
    says("val_annotations.txt is missing");
    write(at("val/val_annotations.txt"), list).unwrap();

    let picture = read(at("val/images/val_2.JPEG")).unwrap();
    for end in [0, 10, picture.len() / 2] {
        write(at("val/images/val_2.JPEG"), &picture[..end]).unwrap();
        if let Some(error) = open(dir.path()).err() {
            let said = error.to_string();
            assert!(said.contains("val_2.JPEG") && said.contains("remedy: unpack"), "{said}");
        } else {
            assert!(end > 10, "a decoder may bear a torn end, and not a missing picture");
        }
    }
    write(at("val/images/val_2.JPEG"), picture).unwrap();
    RgbImage::from_pixel(32, 64, Rgb([1, 2, 3])).save(at("train/n02/images/odd.JPEG")).unwrap();
    says("odd.JPEG: is 64 x 32 pixels where others are 64 x 64");
    remove_file(at("train/n02/images/odd.JPEG")).unwrap();

    for text in ["", "n01/..\n"] {
        write(at("wnids.txt"), text).unwrap();
        says("it should name a synset");
    }
    write(at("wnids.txt"), "n01\nn02\nn04\n").unwrap();
    says("train/n04 is missing: the training images of a class");
    std::fs::create_dir(at("train/n04")).unwrap();
    says("train/n04 is missing: it holds no PNG or JPEG");
    write(at("wnids.txt"), "n01\nn02\n").unwrap();
    remove_file(at("words.txt")).unwrap();
    assert_eq!(open(dir.path()).unwrap().info().classes, ["n01", "n02"], "names are not needed");
    remove_file(at("wnids.txt")).unwrap();
    says("with its wnids.txt; looked in");
}

/// A picture of a level, as PNG.
fn png(level: u8) -> Vec<u8> {
    parquet::png(&RgbImage::from_fn(64, 64, |x, y| Rgb([level, x as u8, 2 * y as u8])))
}

fn rows(path: &Path, rows: &[(u8, i64)], names: &[&str]) {
    let rows: Vec<_> = rows.iter().map(|&(level, label)| (png(level), label)).collect();
    parquet::write(path, "image", &rows, names);
}

#[test]
fn the_hubs_layout_is_read_as_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["n01", "n02"];
    rows(
        &dir.path().join("train-00000-of-00001-1359597a978bc4fa.parquet"),
        &[(10, 0), (60, 1), (61, 1)],
        &names,
    );
    rows(
        &dir.path().join("valid-00000-of-00001-70d52db3c749a935.parquet"),
        &[(200, 1), (201, 0), (202, 1)],
        &names,
    );
    let data = open(dir.path()).unwrap();
    let info = data.info();
    assert_eq!((info.classes.as_slice(), info.train, info.test), (&names.map(str::to_owned)[..], 3, 3));
    assert_eq!((labels(&data, Split::Train), labels(&data, Split::Test)), (vec![0, 1, 1], vec![1, 0, 1]));
    // Row 2, column 3: green counts columns and blue counts rows by two.
    let picture = data.image(Split::Test, 1).unwrap();
    assert_eq!(picture[(2 * 64 + 3) * 3..][..3], [201, 3, 4]);
    let few = TinyImagenet { path: Some(dir.path().to_owned()), judge: Some(1), ..TinyImagenet::default() };
    assert_eq!(labels(&few.read(&Locations::default()).unwrap(), Split::Test).len(), 2);

    // By its name, below a folder of data; and verified.
    let place = dir.path().join("tiny-imagenet");
    std::fs::create_dir(&place).unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        std::fs::rename(entry.path(), place.join(entry.file_name())).unwrap();
    }
    let report = sokd_data::verify("tiny-imagenet", &Locations::new([dir.path()])).unwrap();
    assert_eq!((report.place, report.train, report.test), (place.clone(), 3, 3));
    let torn = place.join("valid-00000-of-00001-70d52db3c749a935.parquet");
    let whole = read(&torn).unwrap();
    write(&torn, &whole[..whole.len() / 2]).unwrap();
    assert!(open(&place).err().unwrap().to_string().contains("parquet"));
}
