use crate::Augment;
use candle::{Device, Tensor};
use sokd_core::{Batch, Bytes, Dataset, Key, Result, Split};
use sokd_ops::{Pictures, beside_captures};

/// The images of a split on the device that learns from them: a batch is made there, of a few numbers for each image.
pub(crate) struct Resident {
    pictures: Pictures,
    labels: Vec<u32>,
    device: Device,
}

impl Resident {
    /// Bytes that a device lends to images at most: whatever else trains there needs room too.
    const ROOM: usize = 2 << 30;

    /// Those of a split, where that pays and the set holds them as bytes.
    pub(crate) fn of(dataset: &dyn Dataset, split: Split, device: &Device) -> Result<Option<Self>> {
        let [height, width] = dataset.info().size;
        if !Pictures::pay(device) || dataset.info().len(split) * height * width * 3 > Self::ROOM {
            return Ok(None);
        }
        let bring = |Bytes { pixels, labels }| {
            let pictures = Pictures::new(pixels, [height, width], device)?;
            Ok(Self { pictures, labels, device: device.clone() })
        };
        dataset.bytes(split).map(bring).transpose()
    }

    /// The batch that [`Augment::read`] gives of an augmentation that [moves](Augment::moves) images alone.
    pub(crate) fn batch(&self, augment: Augment, rows: &[u32], key: Key, epoch: u32) -> Result<Batch> {
        let (picks, folded) = augment.picks(rows, key, epoch);
        let labels: Vec<u32> = rows.iter().map(|&row| self.labels[row as usize]).collect();
        let of = |numbers: &[u32]| Tensor::new(numbers, &self.device);
        beside_captures(|| {
            Ok(Batch { images: self.pictures.crops(&picks, folded)?, labels: of(&labels)?, rows: of(rows)? })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataSpec, Locations, Margin, Shapes};

    /// Of a split that is a part of a set, in each way that images are moved.
    #[test]
    fn a_batch_is_the_one_that_this_machine_makes_to_the_bit() -> Result<()> {
        let shapes = Shapes { train: 60, test: 20, search: 20, ..Shapes::default() };
        let set = DataSpec::Shapes(shapes).open(&Locations::from_env())?;
        let (rows, device) = ([7, 3, 3, 19, 0], Device::Cpu);
        for split in [Split::Train, Split::Search, Split::Test] {
            let bytes = set.bytes(split).expect("shapes are bytes");
            assert_eq!(bytes.labels.len(), set.info().len(split));
            let pictures = Pictures::new(bytes.pixels, set.info().size, &device)?;
            let resident = Resident { pictures, labels: bytes.labels, device: device.clone() };
            for augment in [
                Augment::none(),
                Augment::default(),
                Augment { crop: 0, ..Augment::default() },
                Augment { flip: false, margin: Margin::Reflect, ..Augment::default() },
            ] {
                assert!(augment.moves());
                let here = augment.read(&*set, split, &rows, Key::new(4), 2)?;
                let there = resident.batch(augment, &rows, Key::new(4), 2)?;
                let pixels = |batch: &Batch| batch.images.flatten_all()?.to_vec1::<f32>();
                assert_eq!(pixels(&here)?, pixels(&there)?, "{split:?}, {augment:?}");
                for (here, there) in [(&here.labels, &there.labels), (&here.rows, &there.rows)] {
                    assert_eq!(here.to_vec1::<u32>()?, there.to_vec1::<u32>()?);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn this_machine_needs_none() -> Result<()> {
        let set = DataSpec::Shapes(Shapes::default()).open(&Locations::from_env())?;
        assert!(Resident::of(&*set, Split::Train, &Device::Cpu)?.is_none());
        Ok(())
    }
}
