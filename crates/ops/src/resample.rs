use crate::backend::either_of_maps;
use crate::spent::named;
use crate::{composed, fast};
use candle::{Device, Tensor};
use sokd_core::{Error, Result};

/// A matrix along one axis of a map: each output line is a weighted sum of a few input lines.
///
/// Mean pooling and interpolation, and the gradients of both, are such a matrix per axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    inputs: usize,
    /// `taps[starts[i]..starts[i + 1]]` make output line `i`.
    starts: Vec<usize>,
    /// Input line and weight.
    taps: Vec<(usize, f64)>,
}

impl Axis {
    /// `line` appends what makes one output line.
    pub(crate) fn new(inputs: usize, outputs: usize, line: impl Fn(usize, &mut Vec<(usize, f64)>)) -> Self {
        let (mut starts, mut taps) = (vec![0], Vec::new());
        for output in 0..outputs {
            line(output, &mut taps);
            starts.push(taps.len());
        }
        Self { inputs, starts, taps }
    }

    /// How many input lines.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many output lines.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// What makes output line `output`.
    pub(crate) fn line(&self, output: usize) -> &[(usize, f64)] {
        &self.taps[self.starts[output]..self.starts[output + 1]]
    }

    /// The matrix of the gradient: each input line is a weighted sum of output lines.
    pub(crate) fn transpose(&self) -> Self {
        let mut lines = vec![Vec::new(); self.inputs];
        for output in 0..self.len() {
            for &(input, weight) in self.line(output) {
                lines[input].push((output, weight));
            }
        }
        Self::new(self.len(), self.inputs, |input, taps| taps.extend(&lines[input]))
    }

    /// Where each line's taps start, their inputs, their weights: as kernels of a GPU read it.
    pub(crate) fn flat(&self) -> (Vec<u32>, Vec<u32>, Vec<f32>) {
        let starts = self.starts.iter().map(|&start| start as u32).collect();
        let (inputs, weights) =
            self.taps.iter().map(|&(input, weight)| (input as u32, weight as f32)).unzip();
        (starts, inputs, weights)
    }

    /// `(outputs, inputs)`, in double precision.
    pub(crate) fn matrix(&self, device: &Device) -> candle::Result<Tensor> {
        let mut dense = vec![0.0; self.len() * self.inputs];
        for output in 0..self.len() {
            for &(input, weight) in self.line(output) {
                dense[output * self.inputs + input] += weight;
            }
        }
        Tensor::from_vec(dense, (self.len(), self.inputs), device)
    }
}

/// The height and width of a map, when it has a pixel and is to have some.
pub(crate) fn sides(x: &Tensor, size: [usize; 2]) -> Result<[usize; 2]> {
    let (_, height, width, _) = x.dims4()?;
    if [height, width].into_iter().chain(size).any(|side| side == 0) {
        return Err(Error::Shape {
            what: "a map to resample",
            expected: format!(
                "(batch, height, width, channels) with sides of at least 1, to become {size:?}"
            ),
            got: x.dims().to_vec(),
        });
    }
    Ok([height, width])
}

/// A map times a matrix along each of its axes.
pub(crate) fn resample(x: &Tensor, rows: &Axis, columns: &Axis) -> Result<Tensor> {
    named("resample", || {
        either_of_maps(
            [x],
            |[x]| fast::resample(x, rows, columns),
            |[x]| composed::resample(x, rows, columns),
        )
    })
}

/// The same, where one pixel is left: `(batch, channels)`.
pub(crate) fn resample_to_one(x: &Tensor, rows: &Axis, columns: &Axis) -> Result<Tensor> {
    named("resample", || {
        either_of_maps(
            [x],
            |[x]| fast::resample_as(x, rows, columns, (x.dim(0)?, x.dim(3)?)),
            |[x]| composed::resample(x, rows, columns)?.flatten_from(1),
        )
    })
}

/// Each output pixel takes the input pixel that it lies in.
///
/// # Shapes
/// `(batch, height, width, channels)` → `(batch, size, size, channels)`.
pub fn upsample_nearest2d(x: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    let [height, width] = sides(x, size)?;
    let nearest = |length: usize, to: usize| {
        // As PyTorch computes it, in single precision: at some sizes the rounding decides.
        let scale = length as f32 / to as f32;
        Axis::new(length, to, |output, taps| {
            taps.push((((output as f32 * scale) as usize).min(length - 1), 1.0));
        })
    };
    resample(x, &nearest(height, size[0]), &nearest(width, size[1]))
}

/// Each output pixel mixes the four input pixels around it. `align_corners`: whether the outermost pixels' centres,
/// rather than the outer edges, of input and output coincide.
///
/// # Shapes
/// `(batch, height, width, channels)` → `(batch, size, size, channels)`.
pub fn upsample_bilinear2d(x: &Tensor, size: [usize; 2], align_corners: bool) -> Result<Tensor> {
    let [height, width] = sides(x, size)?;
    let linear = |length: usize, to: usize| {
        Axis::new(length, to, |output, taps| {
            let at = if align_corners {
                output as f64 * (length - 1) as f64 / (to.max(2) - 1) as f64
            } else {
                ((output as f64 + 0.5) * length as f64 / to as f64 - 0.5).max(0.0)
            };
            let low = (at as usize).min(length - 1);
            let high = (low + 1).min(length - 1);
            let rest = at - low as f64;
            taps.push((low, 1.0 - rest));
            if rest > 0.0 {
                taps.push((high, rest));
            }
        })
    };
    resample(x, &linear(height, size[0]), &linear(width, size[1]))
}
