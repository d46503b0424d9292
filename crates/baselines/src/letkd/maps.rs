//! What a teacher shows of the training images.

use candle::{DType, Tensor};
use sokd_core::{BuildCx, Error, Key, Mode, Place, Preview, Result, Split};
use sokd_ops::{Pool, avg_pool2d};

/// Where a teacher is looked at, and how its map becomes as large as the student's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Where.
    pub place: Place,
    /// How many pixels along a side become one, by their mean.
    pub pool: usize,
}

/// A teacher's maps of many images, place by place.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    /// Channels.
    pub width: usize,
    /// The places of an image, image by image.
    pub points: Vec<f32>,
    /// The class of each place's image.
    pub labels: Vec<u32>,
}

impl View {
    /// The view that makes the teacher's map at one place as large as the student's at another.
    ///
    /// # Errors
    /// [`Error::Setting`] where no pool does.
    pub fn between(student: Place, teacher: Place, cx: &BuildCx<'_>, who: &'static str) -> Result<Self> {
        let (coarse, fine) = (student.stride(cx.student(who)?)?, teacher.stride(cx.teacher(who)?)?);
        if coarse.is_multiple_of(fine) {
            return Ok(Self { place: teacher, pool: coarse / fine });
        }
        let problem = format!(
            "a pixel of the student's map at {student} stands for {coarse} pixels of the image and one of the \
             teacher's at {teacher} for {fine}: choose places whose maps a pool makes equal"
        );
        Err(Error::setting("letkd.place", problem))
    }

    /// The map, pooled.
    ///
    /// # Shapes
    /// `(batch, height, width, channels)` → `(batch, height / pool, width / pool, channels)`.
    pub fn of(&self, map: &Tensor) -> Result<Tensor> {
        if self.pool == 1 {
            Ok(map.clone())
        } else {
            avg_pool2d(map, Pool::square(self.pool, self.pool), false)
        }
    }
}

/// Images a teacher is shown at once; it changes the speed and nothing else.
const BATCH: usize = 125;

impl Maps {
    /// The maps of the training images as they are, of at most `images` of them, drawn with `key`.
    ///
    /// # Errors
    /// What images and teacher raise.
    pub fn read(preview: &Preview<'_>, view: View, images: Option<usize>, key: Key) -> Result<Self> {
        let number = preview.images.info().train;
        let mut rows: Vec<u32> = (0..number as u32).collect();
        if let Some(most) = images.filter(|most| *most < number) {
            key.stream().shuffle(&mut rows);
            rows.truncate(most);
            rows.sort_unstable();
        }
        let mut maps = Self::default();
        for (index, chunk) in rows.chunks(BATCH).enumerate() {
            preview.watch.at("the teacher's maps", index * BATCH, rows.len());
            let batch = preview.images.read(Split::Train, chunk)?;
            let out = preview.teacher.forward(&batch.images.to_device(preview.device)?, Mode::Eval)?;
            let map = view.of(out.said(view.place)?)?.detach();
            let (_, height, width, channels) = map.dims4()?;
            if index == 0 {
                maps.width = channels;
                maps.points.reserve_exact(rows.len() * height * width * channels);
            }
            maps.points.extend(map.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
            let labels = batch.labels.to_vec1::<u32>()?;
            maps.labels
                .extend(labels.into_iter().flat_map(|label| std::iter::repeat_n(label, height * width)));
        }
        Ok(maps)
    }
}
