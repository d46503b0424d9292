//! Class folders of pictures.

use image::{GrayImage, Rgb, RgbImage};
use sokd_core::{Dataset, Split};
use sokd_data::{ImageFolder, Locations, Memory, Source};
use std::path::Path;

/// A picture whose every pixel tells where it is and which picture it is in.
fn picture(number: u8, [height, width]: [u32; 2]) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([10 * y as u8, 10 * x as u8, number]))
}

fn save(image: &RgbImage, path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

fn open(folder: &ImageFolder) -> sokd_core::Result<Memory> {
    folder.read(&Locations::default())
}

#[track_caller]
fn refused(path: &Path) -> String {
    open(&ImageFolder { path: path.to_owned(), ..ImageFolder::default() })
        .err()
        .expect("an error")
        .to_string()
}

#[test]
fn a_tree_of_parts_is_read_in_order() {
    for second in ["test", "val"] {
        let dir = tempfile::tempdir().unwrap();
        let size = [3, 5];
        save(&picture(1, size), &dir.path().join("train/cat/b.png"));
        save(&picture(0, size), &dir.path().join("train/cat/a.PNG"));
        save(&picture(2, size), &dir.path().join("train/dog/images/deep.png"));
        save(&picture(3, size), &dir.path().join(second).join("dog/x.png"));
        GrayImage::from_pixel(5, 3, image::Luma([77])).save(dir.path().join("train/dog/grey.png")).unwrap();
        std::fs::write(dir.path().join("train/dog/notes.txt"), "no image").unwrap();
        std::fs::write(dir.path().join("train/dog/._hidden.png"), "no image").unwrap();
        let data = open(&ImageFolder { path: dir.path().to_owned(), ..ImageFolder::default() }).unwrap();
        assert_eq!(data.info().classes, ["cat", "dog"]);
        assert_eq!((data.info().train, data.info().test, data.info().size), (4, 1, [3, 5]));
        let labels: Vec<u32> = data.read(Split::Train, &[0, 1, 2, 3]).unwrap().labels.to_vec1().unwrap();
        assert_eq!(labels, [0, 0, 1, 1]);
        for (row, number) in [(0, 0), (1, 1), (3, 2)] {
            assert_eq!(data.image(Split::Train, row).unwrap(), picture(number, size).as_raw().as_slice());
        }
        assert_eq!(data.image(Split::Train, 2).unwrap(), [77; 45]);
    }
}

#[test]
fn a_flat_tree_sets_a_part_of_each_class_aside() {
    let dir = tempfile::tempdir().unwrap();
    for (class, count) in [("a", 20), ("b", 10)] {
        for number in 0..count {
            save(&picture(number, [2, 2]), &dir.path().join(class).join(format!("{number}.png")));
        }
    }
    let open = |seed, search| {
        let path = dir.path().to_owned();
        open(&ImageFolder { path, search, test_share: 0.3, seed, limit: Some(8), ..ImageFolder::default() })
            .unwrap()
    };
    let (data, again, other) = (open(1, 3), open(1, 3), open(2, 3));
    assert_eq!((data.info().train, data.info().search, data.info().test), (8 + 6, 3, 9));
    let pixels = |data: &Memory| {
        (0..9).flat_map(|row| data.image(Split::Test, row).unwrap().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(pixels(&data), pixels(&again));
    assert_ne!(pixels(&data), pixels(&other));
    let labels: Vec<u32> =
        data.read(Split::Test, &(0..9).collect::<Vec<_>>()).unwrap().labels.to_vec1().unwrap();
    assert_eq!(labels.iter().filter(|&&label| label == 0).count(), 6);
}

#[test]
fn what_cannot_work_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(refused(dir.path()).contains("there is no class"));
    save(&picture(0, [4, 4]), &dir.path().join("train/a/0.png"));
    assert!(refused(dir.path()).contains("the images to judge by, beside train/"));
    save(&picture(0, [4, 4]), &dir.path().join("val/b/0.png"));
    assert!(refused(dir.path()).contains("a class that train/ does not have"));
    save(&picture(0, [4, 4]), &dir.path().join("train/b/0.png"));
    save(&picture(0, [4, 5]), &dir.path().join("train/b/1.png"));
    let said = refused(dir.path());
    assert!(said.contains("1.png: is 4 x 5 pixels where others are 4 x 4"), "{said}");
    let whole = std::fs::read(dir.path().join("train/b/0.png")).unwrap();
    for end in 0..whole.len() - 12 {
        std::fs::write(dir.path().join("train/b/1.png"), &whole[..end]).unwrap();
        let said = refused(dir.path());
        assert!(
            said.contains("1.png: cannot be decoded") && said.contains("remedy: mend or remove"),
            "{said}"
        );
    }
    std::fs::write(dir.path().join("train/b/1.png"), whole).unwrap();
    assert!(open(&ImageFolder { path: dir.path().to_owned(), ..ImageFolder::default() }).is_ok());
    std::fs::create_dir(dir.path().join("train/empty")).unwrap();
    assert!(refused(dir.path()).contains("it holds no PNG or JPEG"));
    assert!(refused(Path::new("no/such/folder")).contains("no/such/folder is missing"));
}
