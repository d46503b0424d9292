use crate::{ResizedCrop, rotated};
use candle::{CpuStorage, Device, Storage, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Batch, Dataset, Error, Key, Result, Split};
use sokd_ops::Pick;

/// What happens to an image before it is learned from: a part of it resized, a turn, a crop out of the image with a black
/// margin, and a mirroring, in this order.
///
/// # Source
/// He et al., "Deep residual learning", 2015, section 4.2: a margin of 4 pixels on each side, a crop of the image's
/// own size, mirrored or not. Black margins are black in pixels, as torchvision pads before it normalises.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Augment {
    /// A random part of the whole picture, resized to the images' size; without it, the image as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resized_crop: Option<ResizedCrop>,
    /// How far images are turned about their centre, in degrees to either side: any angle is equally likely. The nearest
    /// pixel, black outside, as torchvision's `RandomRotation`; 0 turns nothing.
    #[serde(skip_serializing_if = "is_nothing")]
    pub rotation: f64,
    /// The margin from which the crop is taken, in pixels on each side; 0 crops nothing.
    pub crop: usize,
    /// Whether half of the images are mirrored left to right.
    pub flip: bool,
    /// What the margin shows.
    #[serde(skip_serializing_if = "Margin::is_black")]
    pub margin: Margin,
}

/// What the margin shows from which a crop is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Margin {
    /// Nothing.
    #[default]
    Black,
    /// The image, mirrored about its outermost pixels: torchvision's `padding_mode="reflect"`.
    Reflect,
}

impl Margin {
    // serde hands over a reference.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_black(&self) -> bool {
        *self == Self::Black
    }
}

// serde hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_nothing(number: &f64) -> bool {
    *number == 0.0
}

impl Default for Augment {
    fn default() -> Self {
        Self { resized_crop: None, rotation: 0.0, crop: 4, flip: true, margin: Margin::Black }
    }
}

impl Augment {
    /// Images as they are.
    pub fn none() -> Self {
        Self { resized_crop: None, rotation: 0.0, crop: 0, flip: false, margin: Margin::Black }
    }

    /// # Errors
    /// [`Error::Setting`] for a resized crop with bounds that are none, for a turn beyond upside down, and for a mirrored margin
    /// that is wider than images of such a height and width.
    pub(crate) fn check(&self, [height, width]: [usize; 2]) -> Result<()> {
        if self.margin == Margin::Reflect && self.crop >= height.min(width) {
            let problem =
                format!("{} pixels of an image of {height} × {width} cannot be mirrored", self.crop);
            return Err(Error::setting("augment.crop", problem));
        }
        if !(0.0..=180.0).contains(&self.rotation) {
            let problem = format!("{} is no angle from 0 to 180 degrees, to either side", self.rotation);
            return Err(Error::setting("augment.rotation", problem));
        }
        self.resized_crop.iter().try_for_each(ResizedCrop::check)
    }

    /// Whether it moves and mirrors whole images, and does nothing else.
    pub(crate) fn moves(self) -> bool {
        self.resized_crop.is_none() && self.rotation == 0.0
    }

    /// Which image goes where, and whether the margin is folded, of an augmentation that [moves](Self::moves) alone.
    pub(crate) fn picks(self, rows: &[u32], key: Key, epoch: u32) -> (Vec<Pick>, bool) {
        let pick = |&image: &u32| {
            let Shift { down, right, mirrored } = Shift::draw(self, key, epoch, image);
            Pick { image, down: down as i32, right: right as i32, mirrored }
        };
        (rows.iter().map(pick).collect(), self.margin == Margin::Reflect)
    }

    /// Rows of a split with every image changed as `key`, the epoch and the image's row decide.
    pub(crate) fn read(
        self,
        dataset: &dyn Dataset,
        split: Split,
        rows: &[u32],
        key: Key,
        epoch: u32,
    ) -> Result<Batch> {
        let batch = match self.resized_crop {
            None => dataset.read(split, rows)?,
            Some(crop) => {
                let part = |row, size| crop.draw(key.stream_at(RESIZED, epoch, row), size);
                dataset.cut(split, rows, &part)?
            }
        };
        self.apply(batch, rows, key, epoch)
    }

    /// The same batch with every image turned, cropped and mirrored.
    fn apply(self, batch: Batch, rows: &[u32], key: Key, epoch: u32) -> Result<Batch> {
        if self.crop == 0 && !self.flip && self.rotation == 0.0 {
            return Ok(batch);
        }
        let (count, height, width, channels) = batch.images.dims4()?;
        let reflects = self.margin == Margin::Reflect;
        let (storage, layout) = batch.images.storage_and_layout();
        let (Storage::Cpu(CpuStorage::F32(pixels)), Some((from, to))) =
            (&*storage, layout.contiguous_offsets())
        else {
            let expected = "contiguous f32 on the CPU".into();
            return Err(Error::Shape { what: "images to augment", expected, got: layout.dims().to_vec() });
        };
        let whole = &pixels[from..to];
        let row_length = width * channels;
        let mut out = vec![0.0; whole.len()];
        let images = whole.chunks_exact(height * row_length).zip(out.chunks_exact_mut(height * row_length));
        for ((from, to), &row) in images.zip(rows) {
            let shift = Shift::draw(self, key, epoch, row);
            let turned = (self.rotation > 0.0).then(|| {
                let degrees = key.stream_at(ROTATED, epoch, row).between(-self.rotation, self.rotation);
                rotated(from, [height, width], degrees)
            });
            let from = turned.as_deref().unwrap_or(from);
            for line in 0..height {
                if reflects {
                    let source = &from[folded(line, shift.down, height) * row_length..][..row_length];
                    shift.folded(source, &mut to[line * row_length..][..row_length], channels);
                    continue;
                }
                // The crop's line `line` is the image's `line + down`, unless that lies in the margin.
                let Some(source) = line.checked_add_signed(shift.down).filter(|&source| source < height)
                else {
                    continue;
                };
                let source = &from[source * row_length..][..row_length];
                shift.line(source, &mut to[line * row_length..][..row_length], channels);
            }
        }
        let images = Tensor::from_vec(out, (count, height, width, channels), &Device::Cpu)?;
        drop(storage);
        Ok(Batch { images, ..batch })
    }
}

/// Where the crop of one image lies, in pixels from the image's own corner, and whether it is mirrored.
struct Shift {
    down: isize,
    right: isize,
    mirrored: bool,
}

impl Shift {
    fn draw(augment: Augment, key: Key, epoch: u32, row: u32) -> Self {
        let mut stream = key.stream_at(AUGMENT, epoch, row);
        let reach = augment.crop as u32;
        let mut shift = || stream.below(2 * reach + 1) as isize - reach as isize;
        let (down, right) = (shift(), shift());
        Self { down, right, mirrored: augment.flip && stream.chance(0.5) }
    }

    /// One line of the crop: the image's, moved, and then mirrored.
    fn line(&self, from: &[f32], to: &mut [f32], channels: usize) {
        let moved = self.right.unsigned_abs() * channels;
        let Some(kept) = from.len().checked_sub(moved) else { return };
        let (from, at) = if self.right < 0 { (&from[..kept], moved) } else { (&from[moved..], 0) };
        if self.mirrored {
            let at = to.len() - at - kept;
            for (to, from) in to[at..at + kept].chunks_exact_mut(channels).zip(from.rchunks_exact(channels)) {
                to.copy_from_slice(from);
            }
        } else {
            to[at..at + kept].copy_from_slice(from);
        }
    }

    /// The same with a mirrored margin.
    fn folded(&self, from: &[f32], to: &mut [f32], channels: usize) {
        let width = from.len() / channels;
        for (column, to) in to.chunks_exact_mut(channels).enumerate() {
            let column = if self.mirrored { width - 1 - column } else { column };
            to.copy_from_slice(&from[folded(column, self.right, width) * channels..][..channels]);
        }
    }
}

/// Where a pixel of the crop comes from, along an axis of `length` pixels that goes on mirrored about its ends.
fn folded(place: usize, shift: isize, length: usize) -> usize {
    let (place, last) = ((place as isize + shift).unsigned_abs(), length - 1);
    if place > last { 2 * last - place } else { place }
}

/// The purposes of a loader's draws for an image; those for an epoch's order have another.
const AUGMENT: u32 = 1;
const RESIZED: u32 = 2;
const ROTATED: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// A crop by its definition: pad, cut, mirror.
    fn by_definition(image: &[[f32; 3]], side: usize, shift: &Shift, margin: Margin) -> Vec<[f32; 3]> {
        // 3 2 1 | 0 1 2 3 4 | 3 2 1
        let folded = |place: isize| [4isize, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0][(place + 4) as usize];
        let at = |line: isize, column: isize| {
            let inside = |place: isize| (0..side as isize).contains(&place);
            if margin == Margin::Reflect {
                image[folded(line) as usize * side + folded(column) as usize]
            } else if inside(line) && inside(column) {
                image[line as usize * side + column as usize]
            } else {
                [0.0; 3]
            }
        };
        let mut out = Vec::new();
        for line in 0..side as isize {
            for column in 0..side as isize {
                let column = if shift.mirrored { side as isize - 1 - column } else { column };
                out.push(at(line + shift.down, column + shift.right));
            }
        }
        out
    }

    #[test]
    fn crops_are_those_of_the_definition() {
        crops(Augment { crop: 6, flip: true, ..Augment::none() });
        crops(Augment { crop: 4, flip: true, margin: Margin::Reflect, ..Augment::none() });
    }

    #[test]
    fn a_margin_wider_than_the_image_cannot_be_mirrored() {
        let augment = Augment { crop: 5, margin: Margin::Reflect, ..Augment::none() };
        let error = augment.check([7, 5]).unwrap_err().to_string();
        assert!(error.contains("cannot be mirrored"), "{error}");
        assert!(augment.check([7, 6]).is_ok());
    }

    /// A turn has draws of its own: those of crops and flips are the same with it.
    #[test]
    fn images_are_turned_to_either_side_before_they_are_cropped() {
        let (side, count, key) = (9, 300u32, Key::new(2));
        let image: Vec<f32> = (1..=side * side * 3).map(|pixel| pixel as f32).collect();
        let rows: Vec<u32> = (0..count).collect();
        let numbers = Tensor::new(rows.as_slice(), &Device::Cpu).unwrap();
        let images =
            Tensor::from_vec(image.repeat(count as usize), (count as usize, side, side, 3), &Device::Cpu);
        let batch = Batch { images: images.unwrap(), labels: numbers.clone(), rows: numbers };
        let plain = Augment { crop: 2, flip: true, ..Augment::none() };
        let apply = |augment: Augment, batch: Batch| -> Vec<f32> {
            augment.apply(batch, &rows, key, 5).unwrap().images.flatten_all().unwrap().to_vec1().unwrap()
        };
        let got = apply(Augment { rotation: 20.0, ..plain }, batch.clone());
        let (mut turned, mut least, mut most) = (Vec::new(), 0.0f64, 0.0f64);
        for &row in &rows {
            let degrees = key.stream_at(ROTATED, 5, row).between(-20.0, 20.0);
            (least, most) = (least.min(degrees), most.max(degrees));
            turned.extend(rotated(&image, [side; 2], degrees));
        }
        let images = Tensor::from_vec(turned, (count as usize, side, side, 3), &Device::Cpu).unwrap();
        assert_eq!(got, apply(plain, Batch { images, ..batch }));
        assert!((-20.0..-18.0).contains(&least) && (18.0..20.0).contains(&most), "{least} {most}");
    }

    #[test]
    fn a_turn_is_an_angle() {
        for rotation in [-1.0, 181.0, f64::NAN] {
            let error = Augment { rotation, ..Augment::none() }.check([32; 2]).unwrap_err().to_string();
            assert!(error.contains("augment.rotation"), "{error}");
        }
    }

    fn crops(augment: Augment) {
        let (side, count) = (5, 400u32);
        let pixels: Vec<[f32; 3]> =
            (0..count as usize * side * side).map(|p| [p as f32, 0.5, -(p as f32)]).collect();
        let images =
            Tensor::from_vec(pixels.concat(), (count as usize, side, side, 3), &Device::Cpu).unwrap();
        let rows: Vec<u32> = (0..count).collect();
        let numbers = Tensor::new(rows.as_slice(), &Device::Cpu).unwrap();
        let batch = Batch { images, labels: numbers.clone(), rows: numbers };
        let cropped = augment.apply(batch, &rows, Key::new(1), 9).unwrap().images.flatten_all().unwrap();
        let cropped: Vec<f32> = cropped.to_vec1().unwrap();
        let (mut mirrored, mut seen) = (0, std::collections::BTreeSet::new());
        for (row, image) in pixels.chunks(side * side).enumerate() {
            let shift = Shift::draw(augment, Key::new(1), 9, row as u32);
            let expected = by_definition(image, side, &shift, augment.margin).concat();
            assert_eq!(cropped[row * side * side * 3..][..side * side * 3], expected);
            mirrored += u32::from(shift.mirrored);
            seen.insert((shift.down, shift.right));
        }
        assert!(
            (150..250).contains(&mirrored) && seen.len() > 12 * augment.crop,
            "{mirrored} {}",
            seen.len()
        );
    }
}
