use crate::backend::either;
use crate::spent::named;
use crate::{composed, fast};
use candle::Tensor;
use sokd_core::{Error, Result};

/// What stands outside a map that is sampled there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GridPadding {
    /// Zeros.
    Zeros,
    /// The nearest pixel of the border.
    Border,
    /// The map's mirror image, again and again.
    Reflection,
}

/// How a map is sampled between its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridSample {
    /// The nearest pixel, instead of a mixture of the four around.
    pub nearest: bool,
    /// What stands outside.
    pub padding: GridPadding,
    /// Whether -1 and 1 are the centres of the outermost pixels, rather than their outer edges.
    pub align_corners: bool,
}

/// Where each pixel of a map looks under an affine map of the plane, in coordinates from -1 to 1, x before y.
///
/// # Shapes
/// `theta`: `(batch, 2, 3)` → `(batch, height, width, 2)`.
pub fn affine_grid(theta: &Tensor, size: [usize; 2], align_corners: bool) -> Result<Tensor> {
    let (batch, 2, 3) = theta.dims3()? else {
        return Err(Error::Shape {
            what: "theta",
            expected: "(batch, 2, 3)".into(),
            got: theta.dims().to_vec(),
        });
    };
    let [height, width] = size;
    let at = |index: usize, length: usize| {
        let edge = if align_corners { 1.0 } else { (length as f64 - 1.0) / length as f64 };
        if length == 1 { 0.0 } else { edge * (2.0 * index as f64 / (length - 1) as f64 - 1.0) }
    };
    let plane: Vec<f64> = (0..height)
        .flat_map(|row| (0..width).flat_map(move |column| [at(column, width), at(row, height), 1.0]))
        .collect();
    let plane = Tensor::from_vec(plane, (1, height * width, 3), theta.device())?.to_dtype(theta.dtype())?;
    let grid = plane.broadcast_matmul(&theta.transpose(1, 2)?)?;
    Ok(grid.reshape((batch, height, width, 2))?)
}

/// A map's values at the places of a grid in coordinates from -1 to 1, x before y.
///
/// # Shapes
/// `x`: `(batch, height, width, channels)`; `grid`: `(batch, to_height, to_width, 2)` →
/// `(batch, to_height, to_width, channels)`.
pub fn grid_sample(x: &Tensor, grid: &Tensor, how: GridSample) -> Result<Tensor> {
    let (batch, ..) = x.dims4()?;
    let (grids, _, _, axes) = grid.dims4()?;
    if (grids, axes) != (batch, 2) {
        return Err(Error::Shape {
            what: "a grid",
            expected: format!("({batch}, height, width, 2)"),
            got: grid.dims().to_vec(),
        });
    }
    named("grid-sample", || {
        either(
            [x, grid],
            |[x, grid]| fast::grid_sample(x, grid, how),
            |[x, grid]| composed::grid_sample(x, grid, how),
        )
    })
}
