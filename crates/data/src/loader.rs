use crate::Augment;
use crate::prefetch::prefetch;
use crate::resident::Resident;
use candle::Device;
use sokd_core::{Batch, Batches, Dataset, Error, Key, LearnSplit, Result, Split};
use sokd_ops::beside_captures;
use sokd_world::Share;
use std::sync::Arc;

type Epoch<'a> = Box<dyn Iterator<Item = Result<Batch>> + Send + 'a>;

/// Batches to learn from: every image once an epoch, in an order and changed in ways that `key` and the epoch
/// decide.
///
/// # Example
/// ```
/// use sokd_core::{Batches, Key, LearnSplit};
/// use sokd_data::{Augment, DataSpec, Loader, Locations, Shapes};
///
/// let spec = DataSpec::Shapes(Shapes { train: 100, test: 10, ..Shapes::default() });
/// let data = spec.open(&Locations::from_env())?;
/// let loader = Loader::new(data, LearnSplit::Train, 64, Augment::default(), Key::new(0))?.with_threads(2);
/// assert_eq!(loader.steps(), 2);
/// let last = loader.epoch(7, 1).next().expect("the second of two")?;
/// assert_eq!(last.images.dims(), [36, 32, 32, 3]);
/// # Ok::<(), sokd_core::Error>(())
/// ```
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    split: LearnSplit,
    batch: usize,
    share: Share,
    augment: Augment,
    key: Key,
    threads: usize,
    device: Device,
    resident: Option<Arc<Resident>>,
}

impl Loader {
    /// # Errors
    /// [`Error::Setting`] for batches of no image, for a split without any, and for an augmentation that cannot be.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        split: LearnSplit,
        batch: usize,
        augment: Augment,
        key: Key,
    ) -> Result<Self> {
        check(&*dataset, split.into(), batch)?;
        augment.check(dataset.info().size)?;
        Ok(Self {
            dataset,
            split,
            batch,
            share: Share::WHOLE,
            augment,
            key,
            threads: 1,
            device: Device::Cpu,
            resident: None,
        })
    }

    /// The same batches, made ahead by `threads` threads; by the caller itself, with 0.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The same batches on a device: brought there by the threads that make them, or made there of images that stay there.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn on(self, device: &Device) -> Result<Self> {
        let moves = self.augment.moves();
        let resident = moves.then(|| Resident::of(&*self.dataset, self.split.into(), device)).transpose()?;
        Ok(Self { device: device.clone(), resident: resident.flatten().map(Arc::new), ..self })
    }

    /// Of each batch the images that are one process's: the same images, changed in the same ways, as in the whole batch.
    ///
    /// # Errors
    /// [`Error::Setting`] when a batch, the last perhaps, has no image for each process.
    pub fn shared(self, share: Share) -> Result<Self> {
        let last = match self.examples() % self.batch {
            0 => self.batch,
            rest => rest,
        };
        if last < share.size() {
            let problem = format!(
                "the last batch of an epoch has {last} of the {} images, too few for {} processes: another size leaves more",
                self.examples(),
                share.size()
            );
            return Err(Error::setting("batch", problem));
        }
        Ok(Self { share, ..self })
    }

    /// The rows in the order of an epoch.
    fn order(&self, epoch: u32) -> Vec<u32> {
        let mut rows: Vec<u32> = (0..self.examples() as u32).collect();
        self.key.stream_at(ORDER, epoch, 0).shuffle(&mut rows);
        rows
    }
}

/// The purpose of the draws for an epoch's order; those for an image's augmentation have another.
const ORDER: u32 = 0;

impl Batches for Loader {
    fn steps(&self) -> usize {
        self.examples().div_ceil(self.batch)
    }

    fn examples(&self) -> usize {
        self.dataset.info().len(self.split.into())
    }

    fn epoch(&self, epoch: usize, from: usize) -> Epoch<'_> {
        let (dataset, split, batch) = (self.dataset.clone(), self.split.into(), self.batch);
        let (augment, key, epoch, device) = (self.augment, self.key, epoch as u32, self.device.clone());
        let (order, share, resident) = (self.order(epoch), self.share, self.resident.clone());
        let make = move |step: usize| {
            let rows = &order[step * batch..order.len().min((step + 1) * batch)];
            let rows = &rows[share.of(rows.len())];
            match &resident {
                Some(resident) => resident.batch(augment, rows, key, epoch),
                None => send(&augment.read(&*dataset, split, rows, key, epoch)?, &device),
            }
        };
        iterate(prefetch(self.threads, from..self.steps(), make))
    }
}

/// Batches to judge by: a split in its own order, unchanged; every epoch is the same.
pub struct Sequential {
    dataset: Arc<dyn Dataset>,
    split: Split,
    batch: usize,
    threads: usize,
    device: Device,
    resident: Option<Arc<Resident>>,
}

impl Sequential {
    /// # Errors
    /// [`Error::Setting`] for batches of no image, and for a split without any.
    pub fn new(dataset: Arc<dyn Dataset>, split: Split, batch: usize) -> Result<Self> {
        check(&*dataset, split, batch)?;
        Ok(Self { dataset, split, batch, threads: 1, device: Device::Cpu, resident: None })
    }

    /// The same batches, made ahead by `threads` threads; by the caller itself, with 0.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The same batches on a device, as those of [`Loader::on`].
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn on(self, device: &Device) -> Result<Self> {
        let resident = Resident::of(&*self.dataset, self.split, device)?.map(Arc::new);
        Ok(Self { device: device.clone(), resident, ..self })
    }
}

impl Batches for Sequential {
    fn steps(&self) -> usize {
        self.examples().div_ceil(self.batch)
    }

    fn examples(&self) -> usize {
        self.dataset.info().len(self.split)
    }

    fn epoch(&self, _: usize, from: usize) -> Epoch<'_> {
        let (dataset, split, batch, examples) =
            (self.dataset.clone(), self.split, self.batch, self.examples());
        let (device, resident) = (self.device.clone(), self.resident.clone());
        let make = move |step: usize| {
            let rows: Vec<u32> =
                (step * batch..examples.min((step + 1) * batch)).map(|row| row as u32).collect();
            match &resident {
                Some(resident) => resident.batch(Augment::none(), &rows, Key::new(0), 0),
                None => send(&dataset.read(split, &rows)?, &device),
            }
        };
        iterate(prefetch(self.threads, from..self.steps(), make))
    }
}

fn send(batch: &Batch, device: &Device) -> Result<Batch> {
    beside_captures(|| batch.to_device(device))
}

fn check(dataset: &dyn Dataset, split: Split, batch: usize) -> Result<()> {
    if batch == 0 {
        return Err(Error::setting("batch", "0 images make no batch"));
    }
    if dataset.info().len(split) == 0 {
        let problem = match split {
            Split::Search => "holds out no images: set `search` in its table",
            Split::Train | Split::Test => "has no images",
        };
        return Err(Error::setting(format!("{split:?} of {}", dataset.info().name), problem));
    }
    Ok(())
}

/// Threads that could not be started are the one error of an epoch.
fn iterate<'a, I: Iterator<Item = Result<Batch>> + Send + 'a>(batches: Result<I>) -> Epoch<'a> {
    match batches {
        Ok(batches) => Box::new(batches),
        Err(error) => Box::new(std::iter::once(Err(error))),
    }
}
