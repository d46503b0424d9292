use crate::Images;
use crate::files::whole;
use crate::hold::hold_out;
use crate::images::batch;
use crate::resample::resample;
use sokd_core::{Area, Batch, Bytes, Dataset, DatasetInfo, Error, PixelNorm, Result, Split};
use std::sync::Arc;

/// A data set held in memory as bytes.
///
/// # Example
/// ```
/// use sokd_core::{Dataset, PixelNorm, Split};
/// use sokd_data::{Images, Memory};
///
/// let half = PixelNorm { mean: [0.5; 3], std: [0.5; 3] };
/// let train = Images { size: [1, 1], pixels: vec![0, 51, 255], labels: vec![1], areas: None };
/// let data = Memory::new("tiny", vec!["no".into(), "yes".into()], half, train.clone(), train)?;
/// let batch = data.read(Split::Train, &[0])?;
/// assert_eq!(batch.images.flatten_all()?.to_vec1::<f32>()?, [0.0, 0.2, 1.0]);
/// # Ok::<(), sokd_core::Error>(())
/// ```
pub struct Memory {
    info: DatasetInfo,
    train: Part,
    search: Part,
    test: Part,
}

/// Some rows of some images.
struct Part {
    images: Arc<Images>,
    rows: Vec<u32>,
    areas: Option<Vec<Area>>,
}

impl Part {
    fn new(images: &Arc<Images>, rows: Vec<u32>) -> Self {
        let pick = |areas: &Vec<Area>| rows.iter().map(|&row| areas[row as usize]).collect();
        Self { images: images.clone(), areas: images.areas.as_ref().map(pick), rows }
    }

    fn whole(images: Images) -> Self {
        let rows = (0..images.len() as u32).collect();
        Self::new(&Arc::new(images), rows)
    }
}

impl Memory {
    /// All of `train` to learn from, all of `test` to judge by, nothing held out.
    ///
    /// # Errors
    /// [`Error::Setting`] when sizes differ, a part is empty, or a label has no class.
    pub fn new(
        name: &str,
        classes: Vec<String>,
        pixels: PixelNorm,
        train: Images,
        test: Images,
    ) -> Result<Self> {
        for (part, what) in [(&train, "the training images"), (&test, "the test images")] {
            let what = format!("{what} of {name}");
            if part.is_empty() {
                return Err(Error::setting(what, "there are none"));
            }
            if part.size != train.size {
                return Err(Error::setting(
                    what,
                    format!("{:?}, but others are {:?}", part.size, train.size),
                ));
            }
            part.check(classes.len(), &what)?;
        }
        let info = DatasetInfo {
            name: name.to_owned(),
            classes,
            size: train.size,
            pixels,
            train: train.len(),
            search: 0,
            test: test.len(),
        };
        let search =
            Images { areas: train.areas.as_ref().map(|_| Vec::new()), ..Images::of_size(train.size) };
        Ok(Self { info, train: Part::whole(train), search: Part::whole(search), test: Part::whole(test) })
    }

    /// The same with images made for [`Split::Search`], in place of images held out.
    ///
    /// # Errors
    /// [`Error::Setting`] when their size differs or a label has no class.
    pub fn with_search(self, search: Images) -> Result<Self> {
        let what = format!("the search images of {}", self.info.name);
        if search.size != self.info.size {
            return Err(Error::setting(what, format!("{:?}, not {:?}", search.size, self.info.size)));
        }
        search.check(self.info.classes.len(), &what)?;
        let info = DatasetInfo { search: search.len(), ..self.info };
        Ok(Self { info, search: Part::whole(search), ..self })
    }

    /// Holds `search` images out of training, each class in proportion, and keeps at most `limit` of each class of
    /// the rest. `seed` decides which; the pixel statistics stay those of all.
    ///
    /// # Errors
    /// [`Error::Setting`] when nothing would be left to learn from.
    pub fn hold_out(self, search: usize, limit: Option<usize>, seed: u64) -> Result<Self> {
        let all = &self.train.images;
        let (aside, kept) = hold_out(&all.labels, self.info.classes.len(), search, limit, seed)?;
        let info = DatasetInfo { train: kept.len(), search: aside.len(), ..self.info };
        Ok(Self { info, search: Part::new(all, aside), train: Part::new(all, kept), ..self })
    }

    fn part(&self, split: Split) -> &Part {
        match split {
            Split::Train => &self.train,
            Split::Search => &self.search,
            Split::Test => &self.test,
        }
    }

    /// Where the rows of a split lie among its images.
    fn find(&self, split: Split, rows: &[u32]) -> Result<(&Images, Vec<usize>)> {
        let part = self.part(split);
        let find = |&row: &u32| {
            part.rows.get(row as usize).map(|&index| index as usize).ok_or_else(|| {
                let problem = format!("{} has {} rows of {split:?}", self.info.name, part.rows.len());
                Error::setting(format!("row {row}"), problem)
            })
        };
        Ok((&part.images, rows.iter().map(find).collect::<Result<_>>()?))
    }

    /// One image of a split as bytes, `(height, width, 3)`, for pictures in reports.
    pub fn image(&self, split: Split, row: u32) -> Option<&[u8]> {
        let part = self.part(split);
        part.rows.get(row as usize).map(|&index| part.images.image(index as usize))
    }
}

impl Dataset for Memory {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn read(&self, split: Split, rows: &[u32]) -> Result<Batch> {
        let (images, found) = self.find(split, rows)?;
        let pixels: Vec<&[u8]> = found.iter().map(|&index| images.image(index)).collect();
        let labels = found.iter().map(|&index| images.labels[index]).collect();
        batch(&pixels.concat(), labels, rows, self.info.size)
    }

    fn bytes(&self, split: Split) -> Option<Bytes> {
        let Part { images, rows, .. } = self.part(split);
        let pixels: Vec<&[u8]> = rows.iter().map(|&row| images.image(row as usize)).collect();
        Some(Bytes {
            pixels: pixels.concat(),
            labels: rows.iter().map(|&row| images.labels[row as usize]).collect(),
        })
    }

    fn show(&self, to: &mut dyn FnMut(&[u8])) -> Result<()> {
        for part in [&self.train, &self.search, &self.test] {
            part.rows.iter().for_each(|row| to(&row.to_le_bytes()));
            part.images.labels.iter().for_each(|label| to(&label.to_le_bytes()));
            // What is held out lies among what is learned from.
            if !Arc::ptr_eq(&part.images, &self.train.images) || std::ptr::eq(part, &raw const self.train) {
                to(&part.images.pixels);
            }
        }
        Ok(())
    }

    fn cut(
        &self,
        split: Split,
        rows: &[u32],
        part: &(dyn Fn(u32, [usize; 2]) -> Area + Sync),
    ) -> Result<Batch> {
        let (size, (images, found)) = (self.info.size, self.find(split, rows)?);
        let cut = |(&row, &index)| resample(images.image(index), size, &whole(part(row, size), size));
        let pixels: Vec<Vec<u8>> = rows.iter().zip(&found).map(cut).collect();
        let labels = found.iter().map(|&index| images.labels[index]).collect();
        batch(&pixels.concat(), labels, rows, size)
    }

    fn areas(&self, split: Split) -> Option<&[Area]> {
        self.part(split).areas.as_deref()
    }
}
