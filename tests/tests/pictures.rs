//! Pictures of any size against Pillow's: what the field judges ImageNet by, parts resized to learn from, and turns. And
//! images that stay on a GPU, as its mirror has them.

use candle::Device;
use serde::Deserialize;
use sokd_core::{Area, Batch, Batches, Dataset, Error, Key, LearnSplit, Result, Split};
use sokd_data::{
    Augment, DataSpec, Fit, ImageFolder, Loader, Locations, Margin, ResizedCrop, Sequential, Shapes, rotated,
};
use sokd_ops::{Backend, spent, with_backend};
use sokd_tests::golden;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

#[derive(Deserialize)]
struct Recorded {
    fits: Vec<Fitted>,
    parts: Vec<Cut>,
    turns: Vec<Turned>,
    photographs: BTreeMap<String, Vec<u8>>,
}

/// Height, width, what the shorter side becomes, the square's side; and the square.
#[derive(Deserialize)]
struct Fitted {
    fit: [usize; 4],
    bytes: Vec<u8>,
}

/// Height, width; top, left, height and width of the part; the side that it becomes; and what it becomes.
#[derive(Deserialize)]
struct Cut {
    part: [usize; 7],
    bytes: Vec<u8>,
}

/// Height, width, degrees against the clock; and what comes of it.
#[derive(Deserialize)]
struct Turned {
    turn: (usize, usize, f64),
    bytes: Vec<u8>,
}

/// The script's closed form.
fn picture(height: usize, width: usize) -> image::RgbImage {
    image::RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let value = |channel: u32| {
            let ramp = (x * 11 + y * 29 + x * y * (channel + 1) + channel * 85) % 256;
            if (x * 5 + y * 3) % 7 == 0 { 255 } else { ramp as u8 }
        };
        image::Rgb([0, 1, 2].map(value))
    })
}

/// A folder of one picture to learn from and the same to judge by.
fn folder(height: usize, width: usize, fit: Fit) -> Result<(tempfile::TempDir, Arc<dyn Dataset>)> {
    let dir = tempfile::tempdir().expect("a folder");
    for split in ["train", "test"] {
        let class = dir.path().join(split).join("a");
        std::fs::create_dir_all(&class).expect("a class");
        picture(height, width).save(class.join("0.png")).expect("a file");
    }
    let data = opened(dir.path(), fit)?;
    Ok((dir, data))
}

fn opened(path: &Path, fit: Fit) -> Result<Arc<dyn Dataset>> {
    let spec = ImageFolder { path: path.to_owned(), fit: Some(fit), ..ImageFolder::default() };
    DataSpec::ImageFolder(spec).open(&Locations::default())
}

fn bytes(batch: &sokd_core::Batch) -> Result<Vec<u8>> {
    let pixels: Vec<f32> = batch.images.flatten_all()?.to_vec1()?;
    Ok(pixels.into_iter().map(|pixel| (pixel * 255.0).round() as u8).collect())
}

#[test]
fn what_is_judged_by_is_pillows_to_the_bit() -> Result<()> {
    let recorded: Recorded = golden("pictures");
    for Fitted { fit: [height, width, shorter, crop], bytes: expected } in recorded.fits {
        let (_dir, data) = folder(height, width, Fit { shorter, crop })?;
        assert_eq!(data.info().size, [crop; 2]);
        assert!(
            bytes(&data.read(Split::Test, &[0])?)? == expected,
            "{height} x {width} to {shorter}, {crop}"
        );
    }
    Ok(())
}

#[test]
fn so_are_parts() -> Result<()> {
    let recorded: Recorded = golden("pictures");
    for Cut { part: [height, width, top, left, tall, wide, side], bytes: expected } in recorded.parts {
        let (_dir, data) = folder(height, width, Fit { shorter: side, crop: side })?;
        let [top, left, bottom, right] = [top, left, top + tall, left + wide].map(|place| place as f32);
        let part = |row: u32, size: [usize; 2]| {
            assert_eq!((row, size), (0, [height, width]));
            Area { top, left, bottom, right }
        };
        let cut = data.cut(Split::Train, &[0], &part)?;
        assert!(bytes(&cut)? == expected, "{tall} x {wide} of {height} x {width} to {side}");
    }
    Ok(())
}

#[test]
fn so_are_turns() {
    let recorded: Recorded = golden("pictures");
    assert!(recorded.turns.len() > 10);
    for Turned { turn: (height, width, degrees), bytes: expected } in recorded.turns {
        let image: Vec<f32> = picture(height, width).into_raw().into_iter().map(f32::from).collect();
        let expected: Vec<f32> = expected.into_iter().map(f32::from).collect();
        assert!(rotated(&image, [height, width], degrees) == expected, "{height} x {width} by {degrees}");
    }
}

/// The decoders of JPEG differ in how they round and how they spread colours; what is left of that behind the resizing
/// is little.
#[test]
fn photographs_are_pillows_but_for_the_decoder() -> Result<()> {
    let Some(dir) = photographs() else { return Ok(()) };
    let data = opened(&dir.path().join("imagenet-sample-24"), Fit::default())?;
    let recorded: Recorded = golden("pictures");
    // A flat tree of one picture a class: each is either learned from or judged by.
    let mut found = 0;
    let (mut sum, mut count, mut largest) = (0.0, 0.0, 0.0f32);
    for split in [Split::Train, Split::Test] {
        for row in 0..data.info().len(split) as u32 {
            let batch = data.read(split, &[row])?;
            let class = &data.info().classes[batch.labels.to_vec1::<u32>()?[0] as usize];
            let (_, expected) = recorded
                .photographs
                .iter()
                .find(|(name, _)| name.starts_with(class.as_str()))
                .expect("every photograph is recorded");
            let pixels = bytes(&batch)?;
            let every = |place: usize| (0..224).step_by(16).nth(place).expect("14 a line");
            for (at, &expected) in expected.iter().enumerate() {
                let (line, column, channel) = (every(at / 42), every(at / 3 % 14), at % 3);
                let got = pixels[(line * 224 + column) * 3 + channel];
                let off = (f32::from(got) - f32::from(expected)).abs();
                largest = largest.max(off);
                sum += off;
                count += 1.0;
            }
            found += 1;
        }
    }
    assert_eq!(found, recorded.photographs.len());
    println!("{found} photographs: mean difference {}, largest {largest}, of 255", sum / count);
    assert!(largest <= 4.0 && sum / count <= 0.1, "{largest} {}", sum / count);
    Ok(())
}

/// Parts of photographs, grey ones among them, are the same for any number of threads, and others in another epoch.
#[test]
fn an_epoch_of_photographs_is_a_function() -> Result<()> {
    let Some(dir) = photographs() else { return Ok(()) };
    let data = opened(&dir.path().join("imagenet-sample-24"), Fit::default())?;
    let augment =
        Augment { resized_crop: Some(ResizedCrop::default()), crop: 0, flip: true, ..Augment::none() };
    let epoch = |epoch, threads| -> Result<Vec<Vec<u8>>> {
        let loader = Loader::new(data.clone(), LearnSplit::Train, 8, augment, Key::new(4))?;
        loader.with_threads(threads).epoch(epoch, 0).map(|batch| bytes(&batch?)).collect()
    };
    let first = epoch(0, 0)?;
    assert_eq!(first.concat().len(), data.info().train * 224 * 224 * 3);
    assert!(first == epoch(0, 3)? && first != epoch(1, 3)?);
    Ok(())
}

fn photographs() -> Option<tempfile::TempDir> {
    let archive = "small/imagenet-sample-24.tar.gz";
    let Ok(path) = Locations::from_env().resolve(archive.as_ref(), "photographs", "") else {
        eprintln!("skipped, because {archive} is in none of the folders for data");
        return None;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let packed = flate2::read::GzDecoder::new(std::fs::File::open(path).expect("it was found"));
    tar::Archive::new(packed).unpack(dir.path()).expect("it is whole");
    Some(dir)
}

/// The batches of an epoch, and how many were made of images that stay on the device.
fn epoch(batches: &dyn Batches) -> Result<(Vec<Batch>, u64)> {
    let (all, told) = spent(|| batches.epoch(3, 0).collect::<Result<Vec<_>>>());
    Ok((all?, told.iter().find(|kind| kind.work == "crops").map_or(0, |kind| kind.times)))
}

#[test]
fn images_that_stay_on_a_gpu_make_the_same_batches() -> Result<()> {
    let set =
        DataSpec::Shapes(Shapes { train: 50, test: 20, ..Shapes::default() }).open(&Locations::from_env())?;
    let folded = Augment { margin: Margin::Reflect, ..Augment::default() };
    let turned = Augment { rotation: 15.0, ..Augment::default() };
    for (augment, stays) in [(Augment::default(), 4), (folded, 4), (turned, 0)] {
        let loader = || {
            Ok::<_, Error>(
                Loader::new(set.clone(), LearnSplit::Train, 16, augment, Key::new(6))?.with_threads(0),
            )
        };
        same(&loader()?, &with_backend(Backend::Mirror, || loader()?.on(&Device::Cpu))?, stays)?;
    }
    let all = || Ok::<_, Error>(Sequential::new(set.clone(), Split::Test, 8)?.with_threads(0));
    same(&all()?, &with_backend(Backend::Mirror, || all()?.on(&Device::Cpu))?, 3)
}

fn same(here: &dyn Batches, there: &dyn Batches, stays: u64) -> Result<()> {
    let ((here, none), (there, some)) = (epoch(here)?, with_backend(Backend::Mirror, || epoch(there))?);
    assert_eq!((none, some), (0, stays));
    assert_eq!(here.len(), there.len());
    for (here, there) in here.iter().zip(&there) {
        let pixels = |batch: &Batch| batch.images.flatten_all()?.to_vec1::<f32>();
        assert_eq!(pixels(here)?, pixels(there)?);
        assert_eq!(here.labels.to_vec1::<u32>()?, there.labels.to_vec1::<u32>()?);
        assert_eq!(here.rows.to_vec1::<u32>()?, there.rows.to_vec1::<u32>()?);
    }
    Ok(())
}
