use crate::backend::either_of_maps;
use crate::resample::{Axis, resample, resample_to_one, sides};
use crate::trace::{Operation, noted};
use crate::{composed, fast, widen};
use candle::Tensor;
use sokd_core::{Error, Result};

/// How a pooling window moves; height first in each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Input pixels per output pixel.
    pub stride: [usize; 2],
    /// Pixels on either side of the map: minus infinity for maxima, 0 for averages.
    pub padding: [usize; 2],
    /// Whether a last window that begins inside the map but ends beyond it counts.
    pub ceil: bool,
}

impl Pool {
    /// A square window without padding.
    #[must_use]
    pub fn square(kernel: usize, stride: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [0; 2], ceil: false }
    }

    /// Positions along one axis of `length` pixels.
    pub(crate) fn positions(&self, length: usize, axis: usize) -> usize {
        let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
        let slack = length + 2 * padding - kernel;
        if !self.ceil {
            return slack / stride + 1;
        }
        let positions = slack.div_ceil(stride) + 1;
        // A window that would begin in the padding behind the map does not count.
        if (positions - 1) * stride >= length + padding { positions - 1 } else { positions }
    }

    /// How far the last window reaches beyond the map.
    pub(crate) fn beyond(&self, length: usize, axis: usize) -> usize {
        let end = (self.positions(length, axis) - 1) * self.stride[axis] + self.kernel[axis];
        end.saturating_sub(length + self.padding[axis])
    }

    fn check(&self, x: &Tensor) -> Result<[usize; 2]> {
        let (_, height, width, _) = x.dims4()?;
        for (axis, length) in [height, width].into_iter().enumerate() {
            if self.kernel[axis] == 0 || self.stride[axis] == 0 || self.padding[axis] > self.kernel[axis] / 2
            {
                return Err(Error::setting(
                    "pool",
                    format!("{self:?}: kernel and stride are at least 1, padding at most half the kernel"),
                ));
            }
            if length + 2 * self.padding[axis] < self.kernel[axis] {
                return Err(Error::Shape {
                    what: "a map to pool",
                    expected: format!(
                        "(batch, height, width, channels) not smaller than the window of {self:?}"
                    ),
                    got: x.dims().to_vec(),
                });
            }
        }
        Ok([height, width])
    }

    /// The window's mean along one axis.
    fn mean(&self, length: usize, axis: usize, count_include_pad: bool) -> Axis {
        let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
        Axis::new(length, self.positions(length, axis), |position, taps| {
            // Counted from the padding's first pixel; a window cut by the far end of the padding counts what is left.
            let start = position * stride;
            let end = (start + kernel).min(length + 2 * padding);
            let inside = start.max(padding) - padding..end.min(length + padding) - padding;
            let count = if count_include_pad { end - start } else { inside.len() };
            taps.extend(inside.map(|input| (input, 1.0 / count as f64)));
        })
    }
}

/// The largest value under a window; its gradient goes to the first of equals.
///
/// # Shapes
/// `(batch, height, width, channels)` → `(batch, positions, positions, channels)`.
pub fn max_pool2d(x: &Tensor, pool: Pool) -> Result<Tensor> {
    pool.check(x)?;
    noted(
        &[x],
        || Operation::MaxPool(pool),
        || either_of_maps([x], |[x]| fast::max_pool2d(x, pool), |[x]| composed::max_pool2d(x, pool)),
    )
}

/// The mean under a window. `count_include_pad`: whether the padding's zeros count.
///
/// # Shapes
/// `(batch, height, width, channels)` → `(batch, positions, positions, channels)`.
pub fn avg_pool2d(x: &Tensor, pool: Pool, count_include_pad: bool) -> Result<Tensor> {
    let [height, width] = pool.check(x)?;
    let [rows, columns] =
        [(height, 0), (width, 1)].map(|(length, axis)| pool.mean(length, axis, count_include_pad));
    noted(&[x], || Operation::AvgPool { pool, count_include_pad }, || resample(x, &rows, &columns))
}

/// Means over `size` windows that cover the map, whatever its size; they overlap where it does not divide.
///
/// # Shapes
/// `(batch, height, width, channels)` → `(batch, size, size, channels)`.
pub fn adaptive_avg_pool2d(x: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    let [height, width] = sides(x, size)?;
    resample(x, &means(height, size[0]), &means(width, size[1]))
}

/// Of the lines around each of so many positions.
fn means(length: usize, positions: usize) -> Axis {
    Axis::new(length, positions, |position, taps| {
        let window = position * length / positions..((position + 1) * length).div_ceil(positions);
        let weight = 1.0 / window.len() as f64;
        taps.extend(window.map(|input| (input, weight)));
    })
}

/// The mean of each channel, in single precision.
///
/// # Shapes
/// `(batch, height, width, channels)` → `(batch, channels)`.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    let mean = || {
        let [height, width] = sides(x, [1, 1])?;
        widen(&resample_to_one(x, &means(height, 1), &means(width, 1))?)
    };
    noted(&[x], || Operation::GlobalAvgPool, mean)
}
