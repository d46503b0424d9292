//! What candle-datasets reads, beside what is read here.

use crate::parquet;
use candle_datasets::vision::{cifar, mnist};
use image::{Rgb, RgbImage};
use sokd_core::{Dataset, Split};
use sokd_data::{Cifar, Cifar10, Idx, Locations, Memory, Source, upright};
use std::path::Path;
use std::process::Command;

fn bytes(data: &Memory, split: Split, row: u32) -> Vec<u8> {
    data.image(split, row).expect("a row").to_vec()
}

#[test]
fn mnist_is_the_same_set() {
    let folder = tempfile::tempdir().unwrap();
    for (part, count) in [("train", 3u8), ("t10k", 2)] {
        let pixels: Vec<u8> =
            (0..count).flat_map(|image| (0..784).map(move |at| (at % 251) as u8 ^ image)).collect();
        let images = [&[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28][..], &pixels].concat();
        let labels = [&[0, 0, 8, 1, 0, 0, 0, count][..], &[9, 4, 7][..usize::from(count)]].concat();
        std::fs::write(folder.path().join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(folder.path().join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
    let theirs = Memory::adopt("mnist", &mnist::load_dir(folder.path()).unwrap()).unwrap();
    let ours = Idx { path: folder.path().to_owned(), ..Idx::default() }.read(&Locations::default()).unwrap();
    assert_eq!(theirs.info().size, ours.info().size);
    assert_eq!((theirs.info().train, theirs.info().test), (3, 2));
    for (split, rows) in [(Split::Train, 3), (Split::Test, 2)] {
        for row in 0..rows {
            assert_eq!(bytes(&theirs, split, row), bytes(&ours, split, row), "{split:?} {row}");
            let label = |data: &Memory| data.read(split, &[row]).unwrap().labels.to_vec1::<u32>().unwrap();
            assert_eq!(label(&theirs), label(&ours));
        }
    }
}

/// Red grows downwards and green to the right.
fn ramp() -> RgbImage {
    RgbImage::from_fn(32, 32, |x, y| Rgb([8 * y as u8, 8 * x as u8, 100]))
}

/// Its loader asks the Hub's cache first: the cache that this process names.
#[test]
fn cifar_comes_on_its_side_and_is_turned_back() {
    let Some(cache) = std::env::var_os("SOKD_TEST_HUB_CACHE") else {
        let cache = tempfile::tempdir().unwrap();
        let this = std::thread::current().name().unwrap().to_owned();
        let again = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &this])
            .env("SOKD_TEST_HUB_CACHE", cache.path())
            .env("HF_HUB_CACHE", cache.path())
            .output()
            .unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
        return;
    };
    let repository = Path::new(&cache).join("datasets--cifar10");
    let commit = "0123456789".repeat(4);
    let plain = repository.join("snapshots").join(&commit).join("plain_text");
    std::fs::create_dir_all(repository.join("refs/refs/convert")).unwrap();
    std::fs::write(repository.join("refs/refs/convert/parquet"), &commit).unwrap();
    let ours = Path::new(&cache).join("cifar10");
    std::fs::create_dir(&ours).unwrap();
    for split in ["train", "test"] {
        std::fs::create_dir_all(plain.join(split)).unwrap();
        let path = plain.join(split).join("0000.parquet");
        parquet::write(&path, "img", &[(parquet::png(&ramp()), 3)], &[]);
        std::fs::copy(path, ours.join(format!("{split}-00000-of-00001.parquet"))).unwrap();
    }
    let right = Cifar10(Cifar { path: Some(ours), ..Cifar::default() }).read(&Locations::default()).unwrap();
    assert_eq!(bytes(&right, Split::Test, 0), ramp().into_raw());

    let side = Memory::adopt("cifar10", &cifar::load().unwrap()).unwrap();
    let turned = image::imageops::flip_horizontal(&image::imageops::rotate90(&ramp()));
    assert_eq!(
        bytes(&side, Split::Test, 0),
        turned.into_raw(),
        "candle-datasets has been mended: `upright` would now turn its images"
    );
    let up = Memory::adopt("cifar10", &upright(cifar::load().unwrap()).unwrap()).unwrap();
    assert_eq!(bytes(&up, Split::Test, 0), ramp().into_raw());
    assert_eq!(up.read(Split::Train, &[0]).unwrap().labels.to_vec1::<u32>().unwrap(), [3]);
}

#[test]
fn what_is_no_image_is_named() {
    use candle::{DType, Device, Tensor};
    let set = |images: Tensor| candle_datasets::vision::Dataset {
        train_labels: Tensor::zeros(images.dims()[0], DType::U8, &Device::Cpu).unwrap(),
        test_labels: Tensor::zeros(images.dims()[0], DType::U8, &Device::Cpu).unwrap(),
        train_images: images.clone(),
        test_images: images,
        labels: 10,
    };
    let said = |images: Tensor| Memory::adopt("x", &set(images)).err().unwrap().to_string();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    assert!(said(zeros(&[2, 783])).contains("[2, 783]"));
    assert!(said(zeros(&[2, 2, 4, 4])).contains("[2, 2, 4, 4]"));
    let normalised = (zeros(&[2, 784]) - 0.42).unwrap();
    assert!(said(normalised).contains("no byte divided by 255"));
}
