use crate::Pick;
use candle::{DType, Result, Tensor};

/// Pixel by pixel out of all that there are, and black ones where there is none.
pub(crate) fn crops(bytes: &Tensor, picks: &[Pick], folded: bool) -> Result<Tensor> {
    let (images, height, width, colours) = bytes.dims4()?;
    let (mut places, mut inside) = (Vec::new(), Vec::new());
    for pick in picks {
        for line in 0..height {
            for column in 0..width {
                let column = if pick.mirrored { width - 1 - column } else { column };
                let line = place(line, pick.down, height, folded);
                let place = line.zip(place(column, pick.right, width, folded));
                let (line, column) = place.unwrap_or_default();
                places.push(((pick.image as usize * height + line) * width + column) as i64);
                inside.push(f32::from(u8::from(place.is_some())));
            }
        }
    }
    let shape = (picks.len(), height, width, colours);
    if picks.is_empty() {
        return Tensor::zeros(shape, DType::F32, bytes.device());
    }
    let (pixels, device) = (places.len(), bytes.device());
    let places = Tensor::from_vec(places, pixels, device)?;
    let seen = bytes.reshape((images * height * width, colours))?.index_select(&places, 0)?;
    // Divided, not multiplied by 1/255: the last bit is then torchvision's.
    let seen = seen.to_dtype(DType::F32)?.broadcast_div(&Tensor::new(255f32, device)?)?;
    seen.broadcast_mul(&Tensor::from_vec(inside, (pixels, 1), device)?)?.reshape(shape)
}

/// Where a crop's line or column lies in its image, if it does.
fn place(at: usize, shift: i32, side: usize, folded: bool) -> Option<usize> {
    let (place, last) = (at as i64 + i64::from(shift), side as i64 - 1);
    let place = match folded {
        true if place > last => 2 * last - place,
        true => place.abs(),
        false => place,
    };
    usize::try_from(place).ok().filter(|&place| place < side)
}
