use crate::Fit;
use crate::content::Content;
use crate::decode::{in_order, picture};
use crate::images::batch;
use crate::resample::{Axis, resample};
use sokd_core::{Area, Batch, Dataset, DatasetInfo, Error, Result, Split};
use std::path::PathBuf;

/// A file and its class.
pub(crate) type Labelled = (PathBuf, u32);

/// Pictures of any size, read from their files whenever a batch has them.
///
/// A batch is decoded on all cores, by whichever of the loader's threads makes it.
pub(crate) struct Files {
    pub info: DatasetInfo,
    pub fit: Fit,
    /// Training, search and test.
    pub splits: [Vec<Labelled>; 3],
    /// What to do about a file that is broken.
    pub remedy: &'static str,
}

impl Files {
    fn batch(
        &self,
        split: Split,
        rows: &[u32],
        axes: impl Fn(u32, [usize; 2]) -> [Axis; 2] + Sync,
    ) -> Result<Batch> {
        let files = &self.splits[split as usize];
        let find = |&row: &u32| {
            let file = files.get(row as usize).ok_or_else(|| {
                let problem = format!("{} has {} rows of {split:?}", self.info.name, files.len());
                Error::setting(format!("row {row}"), problem)
            })?;
            Ok((row, file))
        };
        let found: Vec<(u32, &Labelled)> = rows.iter().map(find).collect::<Result<_>>()?;
        let pixels = in_order(&found, |&(row, (path, _))| {
            let picture = picture(&Content::read(path, self.remedy)?)?;
            Ok(resample(&picture.pixels, picture.size, &axes(row, picture.size)))
        })?;
        batch(&pixels, found.iter().map(|(_, (_, label))| *label).collect(), rows, self.info.size)
    }
}

impl Dataset for Files {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn read(&self, split: Split, rows: &[u32]) -> Result<Batch> {
        self.batch(split, rows, |_, size| self.fit.axes(size))
    }

    /// The names of classes and files: to read a million pictures only to know them again would take longer than an epoch.
    fn show(&self, to: &mut dyn FnMut(&[u8])) -> Result<()> {
        for (path, label) in self.splits.iter().flatten() {
            to(&label.to_le_bytes());
            path.file_name().into_iter().for_each(|name| to(name.as_encoded_bytes()));
        }
        Ok(())
    }

    fn cut(
        &self,
        split: Split,
        rows: &[u32],
        part: &(dyn Fn(u32, [usize; 2]) -> Area + Sync),
    ) -> Result<Batch> {
        self.batch(split, rows, |row, size| whole(part(row, size), self.info.size))
    }
}

/// A part in whole pixels, resized to all of `size`.
pub(crate) fn whole(part: Area, size: [usize; 2]) -> [Axis; 2] {
    let axis = |first: f32, end: f32, to| Axis::whole(first as usize..end as usize, to);
    [axis(part.top, part.bottom, size[0]), axis(part.left, part.right, size[1])]
}
