use base64::Engine;
use candle::Tensor;
use image::{ExtendedColorType, ImageEncoder, RgbImage, codecs::png::PngEncoder, imageops};
use sokd_core::{Area, Dataset, Error, Result, Split};
use std::fmt::Write;

/// How many images of each class are shown.
const EACH: usize = 6;

/// Some images of each class, as a page can show them.
#[derive(Clone, Debug, Default)]
pub struct Gallery {
    /// Which images these are, in a sentence.
    pub caption: String,
    /// By class: its name and its pictures.
    pub classes: Vec<(String, Vec<Picture>)>,
}

/// One image, and where the thing in it is, for the sets that know.
#[derive(Clone, Debug)]
pub struct Picture {
    /// As PNG.
    pub png: Vec<u8>,
    /// Height and width.
    pub size: [usize; 2],
    /// The thing's true box.
    pub area: Option<Area>,
}

impl Gallery {
    /// The first images of each class of the training split: not chosen, only cut off. Sets of many classes show
    /// the first twelve.
    pub fn of(data: &dyn Dataset) -> Result<Self> {
        let info = data.info();
        let shown = info.classes.len().min(12);
        let mut classes: Vec<(String, Vec<Picture>)> =
            info.classes[..shown].iter().map(|name| (name.clone(), Vec::new())).collect();
        let areas = data.areas(Split::Train);
        for row in 0..info.train {
            if classes.iter().all(|(_, pictures)| pictures.len() == EACH) {
                break;
            }
            let batch = data.read(Split::Train, &[row as u32])?;
            let label = batch.labels.to_vec1::<u32>()?[0] as usize;
            let Some((_, pictures)) = classes.get_mut(label).filter(|(_, pictures)| pictures.len() < EACH)
            else {
                continue;
            };
            let area = areas.and_then(|areas| areas.get(row)).copied();
            pictures.push(Picture::of(&batch.images, area)?);
        }
        let boxes = if areas.is_some() { ", each with the true box of its shape" } else { "" };
        let kinds = if shown < info.classes.len() {
            format!("the first {shown} of {} classes", info.classes.len())
        } else {
            "each class".to_owned()
        };
        Ok(Self {
            caption: format!("The first {EACH} training images of {kinds} of {}{boxes}.", info.name),
            classes,
        })
    }
}

/// The longest side of a picture: a page shows them small.
const SIDE: u32 = 128;

impl Picture {
    /// The one image of a batch.
    ///
    /// # Shapes
    /// `image`: `(1, height, width, 3)`, in [0, 1].
    pub(crate) fn of(image: &Tensor, area: Option<Area>) -> Result<Self> {
        let (_, height, width, _) = image.dims4()?;
        let values = image.flatten_all()?.to_vec1::<f32>()?;
        let pixels = values.iter().map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8).collect();
        let mut pixels = RgbImage::from_raw(width as u32, height as u32, pixels)
            .ok_or_else(|| Error::setting("a picture of the data set", "not of three colours"))?;
        let longest = pixels.width().max(pixels.height());
        if longest > SIDE {
            let side = |side: u32| (side * SIDE / longest).max(1);
            pixels = imageops::thumbnail(&pixels, side(pixels.width()), side(pixels.height()));
        }
        Ok(Self { png: png(&pixels)?, size: [height, width], area })
    }

    /// As inline SVG, the box drawn over the pixels.
    pub fn svg(&self) -> String {
        let [height, width] = self.size;
        let data = base64::engine::general_purpose::STANDARD.encode(&self.png);
        let mut svg = format!(
            r#"<svg class="picture" viewBox="0 0 {width} {height}"><image width="{width}" height="{height}" href="data:image/png;base64,{data}"/>"#
        );
        if let Some(Area { top, left, bottom, right }) = self.area {
            let _ = write!(
                svg,
                r#"<rect x="{left:.1}" y="{top:.1}" width="{:.1}" height="{:.1}"/>"#,
                right - left,
                bottom - top
            );
        }
        svg + "</svg>"
    }
}

pub(crate) fn png(pixels: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(pixels, pixels.width(), pixels.height(), ExtendedColorType::Rgb8)
        .map_err(|error| Error::setting("a picture of the data set", error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_png_of_its_pixels_with_its_box() {
        let pixels: Vec<u8> = (0..2 * 3 * 3).collect();
        let png = png(&RgbImage::from_raw(3, 2, pixels.clone()).expect("six pixels")).expect("a PNG");
        let back = image::load_from_memory(&png).expect("a PNG").to_rgb8();
        assert_eq!((back.dimensions(), back.into_raw()), ((3, 2), pixels));
        let area = Area { top: 0.0, left: 1.0, bottom: 2.0, right: 3.0 };
        let svg = Picture { png, size: [2, 3], area: Some(area) }.svg();
        assert!(svg.contains(r#"<rect x="1.0" y="0.0" width="2.0" height="2.0"/>"#), "{svg}");
    }
}
