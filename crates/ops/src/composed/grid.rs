use crate::{GridPadding, GridSample};
use candle::{DType, Result, Tensor};

/// Four gathered corners, weighed; what rounds and clips takes no part in the gradient.
pub(crate) fn grid_sample(x: &Tensor, grid: &Tensor, how: GridSample) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let (_, to_height, to_width, _) = grid.dims4()?;
    let flat = grid.reshape((batch, to_height * to_width, 2))?;
    let pixels = x.reshape((batch, height * width, channels))?;
    let column = place(&flat.narrow(2, 0, 1)?, width, how)?;
    let row = place(&flat.narrow(2, 1, 1)?, height, how)?;

    // `row` and `column` are whole numbers, maybe outside the map.
    let corner = |row: &Tensor, column: &Tensor| -> Result<Tensor> {
        let (row, row_inside) = inside(row, height)?;
        let (column, column_inside) = inside(column, width)?;
        let index = ((row * width as f64)? + column)?.to_dtype(DType::U32)?;
        let index = index.broadcast_as((batch, to_height * to_width, channels))?.contiguous()?;
        pixels.gather(&index, 1)?.broadcast_mul(&(row_inside * column_inside)?)
    };
    let sampled = if how.nearest {
        corner(&round(&row.detach())?, &round(&column.detach())?)?
    } else {
        let (top, left) = (row.detach().floor()?, column.detach().floor()?);
        let (bottom, right) = ((&top + 1.0)?, (&left + 1.0)?);
        let (to_bottom, to_right) = ((&row - &top)?, (&column - &left)?);
        let (to_top, to_left) = (to_bottom.affine(-1.0, 1.0)?, to_right.affine(-1.0, 1.0)?);
        let upper = (corner(&top, &left)?.broadcast_mul(&(&to_top * &to_left)?)?
            + corner(&top, &right)?.broadcast_mul(&(&to_top * &to_right)?)?)?;
        let lower = (corner(&bottom, &left)?.broadcast_mul(&(&to_bottom * &to_left)?)?
            + corner(&bottom, &right)?.broadcast_mul(&(&to_bottom * &to_right)?)?)?;
        (upper + lower)?
    };
    sampled.reshape((batch, to_height, to_width, channels))
}

/// From [-1, 1] to pixels, padding applied.
fn place(at: &Tensor, length: usize, how: GridSample) -> Result<Tensor> {
    let length = length as f64;
    let from_edge = (at + 1.0)?;
    let at = if how.align_corners {
        ((from_edge / 2.0)? * (length - 1.0))?
    } else {
        (from_edge.affine(length, -1.0)? / 2.0)?
    };
    match how.padding {
        GridPadding::Zeros => Ok(at),
        GridPadding::Border => clip(&at, length),
        GridPadding::Reflection if how.align_corners => clip(&reflect(&at, 0.0, length - 1.0)?, length),
        GridPadding::Reflection => clip(&reflect(&at, -0.5, length)?, length),
    }
}

/// No gradient where it clips, nor on the bound itself.
fn clip(at: &Tensor, length: f64) -> Result<Tensor> {
    let (fixed, zeros) = (at.detach(), at.detach().zeros_like()?);
    let last = zeros.affine(0.0, length - 1.0)?;
    let at = fixed.le(0.0)?.where_cond(&zeros, at)?;
    fixed.ge(length - 1.0)?.where_cond(&last, &at)
}

/// Back and forth between `low` and `low + span`.
fn reflect(at: &Tensor, low: f64, span: f64) -> Result<Tensor> {
    if span <= 0.0 {
        return at.detach().zeros_like();
    }
    let from_low = (at - low)?;
    let distance = super::abs(&from_low)?;
    let flips = (distance.detach() / span)?.floor()?;
    let odd = (&flips - ((&flips / 2.0)?.floor()? * 2.0)?)?;
    let rest = (distance - (flips * span)?)?;
    odd.gt(0.5)?.where_cond(&rest.affine(-1.0, span)?, &rest)? + low
}

/// The nearest whole number, halves to the even one, as PyTorch rounds.
fn round(at: &Tensor) -> Result<Tensor> {
    let floor = at.floor()?;
    let rest = (at - &floor)?;
    let odd = (&floor - ((&floor / 2.0)?.floor()? * 2.0)?)?;
    let up = (rest.gt(0.5)?.to_dtype(at.dtype())? + (rest.eq(0.5)?.to_dtype(at.dtype())? * odd)?)?;
    floor + up
}

/// `at` moved into the map, and 1 where it was there already, 0 elsewhere.
fn inside(at: &Tensor, length: usize) -> Result<(Tensor, Tensor)> {
    let last = length as f64 - 1.0;
    let within = (at.ge(0.0)? * at.le(last)?)?.to_dtype(at.dtype())?;
    Ok((at.clamp(0.0, last)?, within))
}
