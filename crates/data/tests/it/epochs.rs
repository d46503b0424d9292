//! An epoch is a function of (key, epoch).

use sokd_core::{Batch, Batches, Dataset, DatasetInfo, Error, Key, LearnSplit, Result, Split};
use sokd_data::{Augment, DataSpec, Loader, Locations, Sequential, Shapes};
use std::sync::Arc;

fn shapes() -> Arc<dyn Dataset> {
    let spec = DataSpec::Shapes(Shapes { train: 203, search: 20, test: 50, seed: 1 });
    spec.open(&Locations::default()).unwrap()
}

fn loader(threads: usize) -> Loader {
    let loader = Loader::new(shapes(), LearnSplit::Train, 32, Augment::default(), Key::new(5)).unwrap();
    loader.with_threads(threads)
}

/// All that a batch holds, to the bit.
fn bits(batch: Result<Batch>) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let batch = batch.unwrap();
    let pixels: Vec<f32> = batch.images.flatten_all().unwrap().to_vec1().unwrap();
    let pixels = pixels.into_iter().map(f32::to_bits).collect();
    (pixels, batch.labels.to_vec1().unwrap(), batch.rows.to_vec1().unwrap())
}

#[test]
fn threads_and_interruptions_change_nothing() {
    let alone = loader(0);
    assert_eq!((alone.steps(), alone.examples()), (7, 203));
    let whole: Vec<_> = alone.epoch(3, 0).map(bits).collect();
    for threads in [1, 2, 5, 16] {
        let loader = loader(threads);
        assert_eq!(loader.epoch(3, 0).map(bits).collect::<Vec<_>>(), whole);
        for from in 0..=7 {
            assert_eq!(loader.epoch(3, from).map(bits).collect::<Vec<_>>(), whole[from..]);
        }
        assert_eq!(loader.epoch(3, 8).count(), 0);
    }
}

#[test]
fn an_epoch_shows_every_image_once_and_none_resembles_another() {
    let loader = loader(2);
    let rows = |epoch| loader.epoch(epoch, 0).flat_map(|batch| bits(batch).2).collect::<Vec<u32>>();
    let (first, second) = (rows(0), rows(1));
    assert_ne!(first, second);
    for mut rows in [first, second] {
        rows.sort_unstable();
        assert_eq!(rows, (0..203).collect::<Vec<_>>());
    }
    let other = Loader::new(shapes(), LearnSplit::Train, 32, Augment::default(), Key::new(6)).unwrap();
    assert_ne!(bits(other.epoch(0, 0).next().unwrap()), bits(loader.epoch(0, 0).next().unwrap()));
}

#[test]
fn labels_stay_with_their_images() {
    let data = shapes();
    let loader = Loader::new(data.clone(), LearnSplit::Search, 7, Augment::none(), Key::new(5)).unwrap();
    for batch in loader.epoch(0, 0) {
        let batch = batch.unwrap();
        let rows: Vec<u32> = batch.rows.to_vec1().unwrap();
        assert_eq!(bits(Ok(batch)), bits(data.read(Split::Search, &rows)));
    }
}

#[test]
fn what_is_judged_by_comes_in_its_own_order() {
    let data = shapes();
    let test = Sequential::new(data.clone(), Split::Test, 16).unwrap().with_threads(3);
    let rows: Vec<u32> = test.epoch(9, 1).flat_map(|batch| bits(batch).2).collect();
    assert_eq!(rows, (16..50).collect::<Vec<_>>());
    assert!(Sequential::new(data.clone(), Split::Test, 0).is_err());
    let bare = DataSpec::Shapes(Shapes { train: 10, search: 0, test: 10, seed: 0 });
    let bare = bare.open(&Locations::default()).unwrap();
    let error = Loader::new(bare, LearnSplit::Search, 4, Augment::none(), Key::new(0)).err().unwrap();
    assert!(error.to_string().contains("set `search`"), "{error}");
}

/// A data set of which one row cannot be read.
struct Broken(DatasetInfo);

impl Dataset for Broken {
    fn info(&self) -> &DatasetInfo {
        &self.0
    }

    fn read(&self, _: Split, rows: &[u32]) -> Result<Batch> {
        if rows.contains(&21) {
            return Err(Error::file("disk".as_ref(), 21, "is worn out", "buy another"));
        }
        shapes().read(Split::Train, rows)
    }
}

#[test]
fn a_readers_error_is_an_item() {
    let broken = Arc::new(Broken(shapes().info().clone()));
    for threads in [0, 2] {
        let test = Sequential::new(broken.clone(), Split::Test, 10).unwrap().with_threads(threads);
        let items: Vec<_> = test.epoch(0, 0).collect();
        let fine: Vec<bool> = items.iter().map(Result::is_ok).collect();
        assert_eq!(fine, [true, true, false, true, true]);
        assert!(items[2].as_ref().unwrap_err().to_string().starts_with("disk at byte 21: is worn out"));
    }
}
