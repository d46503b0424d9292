use crate::gpu::{Arg, Gpu};
use crate::record::tensor;
use crate::spent::named;
use crate::{backend, composed};
use candle::{Device, Tensor};
use sokd_core::{Error, Result};

/// Images that wait on a device as bytes: what a batch needs of them is cropped, mirrored and made of numbers there.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// `(images, height, width, 3)`, `u8`.
    bytes: Tensor,
}

/// One of them, as a batch wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which.
    pub image: u32,
    /// Where its crop begins, in pixels below its own corner.
    pub down: i32,
    /// The same to the right.
    pub right: i32,
    /// Whether the crop is mirrored left to right.
    pub mirrored: bool,
}

impl Pictures {
    /// Whether a device has kernels that make batches of them faster than this machine.
    pub fn pay(device: &Device) -> bool {
        (cfg!(feature = "cuda") && device.is_cuda() && backend() == crate::Backend::Fast) || Gpu::mirrors()
    }

    /// Brings them to a device.
    ///
    /// # Shapes
    /// `pixels`: `(images, height, width, 3)`, red, green and blue of each pixel, row by row, image by image.
    ///
    /// # Errors
    /// [`Error::Shape`] for a part of an image; where the device has no room.
    pub fn new(pixels: Vec<u8>, [height, width]: [usize; 2], device: &Device) -> Result<Self> {
        let (len, image) = (pixels.len(), height * width * 3);
        if image == 0 || len == 0 || len % image != 0 {
            let expected = format!("(images ≥ 1, {height}, {width}, 3)");
            return Err(Error::Shape { what: "the bytes of images", expected, got: vec![len] });
        }
        Ok(Self { bytes: Tensor::from_vec(pixels, (len / image, height, width, 3), device)? })
    }

    /// A batch of crops as large as the images, in [0, 1]. What lies outside of an image is black or, with `folded`, the image
    /// mirrored about its outermost pixels.
    ///
    /// # Shapes
    /// `(batch, height, width, 3)`.
    ///
    /// # Errors
    /// [`Error::Setting`] for an image that is not there, and for a crop that begins so far away that no mirror image of one
    /// reaches it.
    pub fn crops(&self, picks: &[Pick], folded: bool) -> Result<Tensor> {
        let (images, height, width, _) = self.bytes.dims4()?;
        for Pick { image, down, right, .. } in picks {
            if *image as usize >= images {
                return Err(Error::setting("images", format!("there is no image {image} among {images}")));
            }
            let beyond = |shift: &i32, side: usize| shift.unsigned_abs() as usize >= side;
            if folded && (beyond(down, height) || beyond(right, width)) {
                let problem =
                    format!("{down}, {right} is beyond the mirror image of {height} × {width} pixels");
                return Err(Error::setting("crop", problem));
            }
        }
        named("crops", || match Gpu::of(&[&self.bytes]) {
            Some(gpu) if !picks.is_empty() => {
                // As far as that, all is black.
                let within = |shift: i32, side: usize| shift.clamp(-(side as i32), side as i32) as u32;
                let numbers = picks.iter().flat_map(|pick| {
                    let (down, right) = (within(pick.down, height), within(pick.right, width));
                    [pick.image, down, right, u32::from(pick.mirrored)]
                });
                let order = Tensor::from_iter(numbers, self.bytes.device())?;
                let sizes = [height, width, folded.into()].map(Arg::Int);
                let y = gpu.each("crops", [&self.bytes, &order], picks.len() * height * width * 3, sizes)?;
                Ok(tensor(y, (picks.len(), height, width, 3)))
            }
            _ => Ok(composed::crops(&self.bytes, picks, folded)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, with_backend};
    use sokd_core::Key;

    const SIZE: [usize; 2] = [5, 4];

    /// Bytes of six images, all different.
    fn pictures() -> Pictures {
        let pixels = (0..6 * 5 * 4 * 3).map(|at: usize| (at * 89 % 251) as u8).collect();
        Pictures::new(pixels, SIZE, &Device::Cpu).unwrap()
    }

    fn numbers(y: &Tensor) -> Vec<f32> {
        y.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Twenty of them, shifted by up to `reach` pixels.
    fn picks(reach: u32) -> Vec<Pick> {
        let mut stream = Key::new(3).stream();
        let mut pick = || Pick {
            image: stream.below(6),
            down: stream.below(2 * reach + 1) as i32 - reach as i32,
            right: stream.below(2 * reach + 1) as i32 - reach as i32,
            mirrored: stream.chance(0.5),
        };
        (0..20).map(|_| pick()).collect()
    }

    /// Number by number, from where each comes.
    fn by_definition(picks: &[Pick], folded: bool) -> Vec<f32> {
        let bytes: Vec<u8> = pictures().bytes.flatten_all().unwrap().to_vec1().unwrap();
        let fold = |place: i32, side: usize| {
            let last = side as i32 - 1;
            if !folded {
                (0..=last).contains(&place).then_some(place)
            } else if place < 0 {
                Some(-place)
            } else {
                Some(if place > last { 2 * last - place } else { place })
            }
        };
        let mut all = Vec::new();
        for Pick { image, down, right, mirrored } in picks {
            for line in 0..5 {
                for column in 0..4 {
                    let column = if *mirrored { 3 - column } else { column };
                    let place = fold(line + down, 5).zip(fold(column + right, 4));
                    for colour in 0..3 {
                        let byte = place.map(|(line, column)| {
                            bytes[((*image as i32 * 5 + line) * 4 + column) as usize * 3 + colour]
                        });
                        all.push(byte.map_or(0.0, |byte| f32::from(byte) / 255.0));
                    }
                }
            }
        }
        all
    }

    #[test]
    fn crops_are_those_of_the_definition_to_the_bit() {
        for (reach, folded) in [(0, false), (2, false), (9, false), (0, true), (3, true)] {
            let picks = picks(reach);
            let right = by_definition(&picks, folded);
            for backend in [Backend::Fast, Backend::Composed, Backend::Mirror] {
                let y = with_backend(backend, || pictures().crops(&picks, folded)).unwrap();
                assert_eq!(y.dims(), [20, 5, 4, 3]);
                assert_eq!(numbers(&y), right, "{backend:?}, reach {reach}, folded {folded}");
            }
        }
        let far = Pick { image: 0, down: i32::MAX, right: i32::MIN, mirrored: true };
        for backend in [Backend::Composed, Backend::Mirror] {
            let y = with_backend(backend, || pictures().crops(&[far], false)).unwrap();
            assert_eq!(numbers(&y), [0.0; 60]);
            assert_eq!(with_backend(backend, || pictures().crops(&[], false)).unwrap().dims(), [0, 5, 4, 3]);
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let pick = Pick { image: 5, down: 0, right: 0, mirrored: false };
        let error = |pick, folded| pictures().crops(&[pick], folded).unwrap_err().to_string();
        assert!(pictures().crops(&[pick], true).is_ok());
        assert!(error(Pick { image: 6, ..pick }, false).contains("no image 6 among 6"));
        assert!(error(Pick { down: -5, ..pick }, true).contains("beyond the mirror image of 5 × 4"));
        assert!(error(Pick { right: 4, ..pick }, true).contains("beyond the mirror image"));
        for bytes in [0, 59] {
            let error = Pictures::new(vec![0; bytes], SIZE, &Device::Cpu).unwrap_err().to_string();
            assert!(error.contains("the bytes of images"), "{error}");
        }
    }
}
