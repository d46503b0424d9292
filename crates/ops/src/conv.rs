use crate::{Norm, batch_norm, composed};
use candle::Tensor;
use sokd_core::{Mode, Result};

/// How a convolution's window moves; height first in each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Input pixels per output pixel.
    pub stride: [usize; 2],
    /// Zeros on either side of the map.
    pub padding: [usize; 2],
    /// Input pixels between two places of the window.
    pub dilation: [usize; 2],
    /// Into how many independent convolutions the channels part.
    pub groups: usize,
}

impl Default for Conv {
    fn default() -> Self {
        Self { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1 }
    }
}

impl Conv {
    /// A square window of odd side that keeps the map's size at stride 1.
    #[must_use]
    pub fn same(kernel: usize, stride: usize) -> Self {
        Self { stride: [stride; 2], padding: [kernel / 2; 2], ..Self::default() }
    }
}

/// Cross-correlation of a map with a kernel.
///
/// # Shapes
/// `x`: `(batch, height, width, from)`; `kernel`: `(height, width, from / groups, to)`; `bias`: `(to,)`.
pub fn conv2d(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, conv: Conv) -> Result<Tensor> {
    Ok(composed::conv2d(x, kernel, bias, conv)?)
}

/// A convolution without bias, then [`batch_norm`].
pub fn conv_norm(
    x: &Tensor,
    kernel: &Tensor,
    conv: Conv,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<Tensor> {
    batch_norm(&conv2d(x, kernel, None, conv)?, norm, residual, relu, mode)
}
