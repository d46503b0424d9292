use crate::report::png;
use image::{GenericImage, RgbImage, imageops};
use sokd_core::{Dataset, Error, Result, Split};

/// Pictures of a sheet, side by side and below each other.
const ACROSS: usize = 8;
const DOWN: usize = 2;
/// The longest side of one.
const SIDE: usize = 64;

/// Some pictures as one.
#[derive(Debug)]
pub struct Sheet {
    /// As PNG.
    pub png: Vec<u8>,
    /// Height and width.
    pub size: [usize; 2],
}

/// Test images at equal distances, so that a set which is sorted by class shows several; none, where there are none.
///
/// # Errors
/// Images that cannot be read.
pub fn sheet(data: &dyn Dataset) -> Result<Option<Sheet>> {
    let count = data.info().test.min(ACROSS * DOWN);
    if count == 0 {
        return Ok(None);
    }
    let rows: Vec<u32> = (0..count).map(|index| (index * data.info().test / count) as u32).collect();
    let images = data.read(Split::Test, &rows)?.images;
    // (count, height, width, 3)
    let (_, height, width, _) = images.dims4()?;
    let longest = height.max(width);
    let fit = |side: usize| if longest > SIDE { (side * SIDE / longest).max(1) } else { side };
    let (high, wide) = (fit(height), fit(width));
    let size = [high * count.div_ceil(ACROSS), wide * count.min(ACROSS)];
    let mut sheet = RgbImage::new(size[1] as u32, size[0] as u32);
    let odd = || Error::setting("a picture of the data set", "not of three colours");
    for index in 0..count {
        let values = images.get(index)?.flatten_all()?.to_vec1::<f32>()?;
        let pixels = values.iter().map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8).collect();
        let image = RgbImage::from_raw(width as u32, height as u32, pixels).ok_or_else(odd)?;
        let image = imageops::thumbnail(&image, wide as u32, high as u32);
        let (left, top) = (index % ACROSS * wide, index / ACROSS * high);
        sheet.copy_from(&image, left as u32, top as u32).map_err(|_| odd())?;
    }
    Ok(Some(Sheet { png: png(&sheet)?, size }))
}
