use crate::backend::has_kernels_for;
use crate::composed;
use crate::gpu::{Gpu, column_sums, scale_shift};
use crate::kernels::backward::{Given, Gradients, Wanted, backward};
use crate::kernels::forward::{Epilogue, forward};
use crate::kernels::geometry::Geometry;
use crate::macs;
use crate::mixed::{in_single, is_mixed};
use crate::narrow;
use crate::record::{Backward, compute, read, record, tensor};
use crate::simd::simd;
use crate::trace::{Operation, noted};
use candle::Tensor;
use sokd_core::{Error, Result};

/// How a convolution's window moves; height first in each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Input pixels per output pixel.
    pub stride: [usize; 2],
    /// Zeros on either side of the map.
    pub padding: [usize; 2],
    /// Input pixels between two places of the window.
    pub dilation: [usize; 2],
    /// Into how many independent convolutions the channels part.
    pub groups: usize,
    /// Whether a window of 3 × 3 that moves by single pixels may be done by fewer multiplications, which round a little
    /// more, where that is faster: for inference, and for training that does not ask for the last digits.
    pub winograd: bool,
}

impl Default for Conv {
    fn default() -> Self {
        Self { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1, winograd: false }
    }
}

impl Conv {
    /// A square window of odd side that keeps the map's size at stride 1.
    #[must_use]
    pub fn same(kernel: usize, stride: usize) -> Self {
        Self { stride: [stride; 2], padding: [kernel / 2; 2], ..Self::default() }
    }

    /// The sizes of a convolution of `x` with `kernel`.
    ///
    /// # Errors
    /// When the window moves by nothing, when the channels do not fit, when no window fits into the map.
    pub(crate) fn geometry(self, x: &Tensor, kernel: &Tensor) -> Result<Geometry> {
        let shape = |what, expected: String, tensor: &Tensor| {
            Err(Error::Shape { what, expected, got: tensor.dims().to_vec() })
        };
        if self.groups == 0 || [self.stride, self.dilation].concat().contains(&0) {
            return Err(Error::setting(
                "convolution",
                format!("stride, dilation and groups are at least 1: {self:?}"),
            ));
        }
        let &[batch, height, width, from] = x.dims() else {
            return shape("the map of a convolution", "(batch, height, width, channels)".into(), x);
        };
        let &[kernel_height, kernel_width, group_from, to] = kernel.dims() else {
            return shape("the kernel of a convolution", "(height, width, from / groups, to)".into(), kernel);
        };
        if x.elem_count() == 0 {
            return shape("the map of a convolution", "at least one of each".into(), x);
        }
        if kernel.elem_count() == 0 || group_from * self.groups != from || !to.is_multiple_of(self.groups) {
            let expected =
                format!("(height, width, {from} / {groups}, a multiple of {groups})", groups = self.groups);
            return shape("the kernel of a convolution", expected, kernel);
        }
        let (input, kernel_size) = ([height, width], [kernel_height, kernel_width]);
        let mut output = [0; 2];
        for axis in 0..2 {
            let (room, reach) =
                (input[axis] + 2 * self.padding[axis], self.dilation[axis] * (kernel_size[axis] - 1) + 1);
            if room < reach {
                let expected =
                    format!("a map in which a window of {reach} fits after padding, along axis {}", axis + 1);
                return shape("the map of a convolution", expected, x);
            }
            output[axis] = (room - reach) / self.stride[axis] + 1;
        }
        Ok(Geometry { batch, input, output, kernel: kernel_size, from, to, conv: self })
    }
}

impl Geometry {
    /// The shape of what the convolution makes.
    pub(crate) fn shape(&self) -> [usize; 4] {
        [self.batch, self.output[0], self.output[1], self.to]
    }

    /// Multiplications of weights with values.
    pub(crate) fn macs(&self) -> usize {
        let [height, width] = self.kernel;
        self.shape().iter().product::<usize>() * height * width * self.from / self.conv.groups
    }
}

/// Cross-correlation of a map with a kernel.
///
/// # Shapes
/// `x`: `(batch, height, width, from)`; `kernel`: `(height, width, from / groups, to)`; `bias`: `(to,)`.
///
/// # Errors
/// When the shapes do not fit together, or when no window fits into the map.
pub fn conv2d(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, conv: Conv) -> Result<Tensor> {
    let operation = || Operation::Conv { kernel: kernel.clone(), bias: bias.cloned(), conv };
    noted(&[x], operation, || convolve(x, kernel, bias, conv))
}

fn convolve(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, conv: Conv) -> Result<Tensor> {
    let geometry = conv.geometry(x, kernel)?;
    if let Some(bias) = bias.filter(|bias| bias.dims() != [geometry.to]) {
        let (what, expected) = ("the bias of a convolution", format!("({},)", geometry.to));
        return Err(Error::Shape { what, expected, got: bias.dims().to_vec() });
    }
    macs::count(geometry.macs());
    let x = if is_mixed(x) { &narrow(x)? } else { x };
    let weights = [kernel, bias.unwrap_or(kernel)];
    if has_kernels_for(&[x], &weights) {
        return by_kernels(geometry, x, kernel, bias);
    }
    in_single([x], |[x]| {
        if has_kernels_for(&[x], &weights) {
            return by_kernels(geometry, x, kernel, bias);
        }
        Ok(composed::conv2d(&x.contiguous()?, &kernel.contiguous()?, bias, conv)?)
    })
}

fn by_kernels(geometry: Geometry, x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (x, kernel, shape) = (&x.contiguous()?, &kernel.contiguous()?, geometry.shape());
    let turned = Gpu::of(&[x]).map(|gpu| gpu.turned(&geometry, kernel, x.dtype())).transpose()?;
    let as_read = turned.as_ref().unwrap_or(kernel);
    let here = |x: &[f32], kernel: &[f32], shift: Option<&[f32]>| {
        forward(simd(), &geometry, x, kernel, &Epilogue { shift, ..Epilogue::default() }).0
    };
    Ok(match bias {
        None => {
            let there = |gpu: &Gpu| gpu.convolve(&geometry, x, as_read);
            let y = compute([x, kernel], |[x, kernel]| here(x, kernel, None), there)?;
            record([x, kernel], y, shape.as_slice(), Convolve { geometry, turned })?
        }
        Some(bias) => {
            let bias = &bias.contiguous()?;
            let there = |gpu: &Gpu| {
                let y = tensor(gpu.convolve(&geometry, x, as_read)?, shape.as_slice());
                scale_shift(gpu, &y, None, bias, None, false)
            };
            let y = compute([x, kernel, bias], |[x, kernel, bias]| here(x, kernel, Some(bias)), there)?;
            record([x, kernel, bias], y, shape.as_slice(), Convolve { geometry, turned })?
        }
    })
}

/// The way back through [`conv2d`].
struct Convolve {
    geometry: Geometry,
    /// The kernel as a GPU's library reads it.
    turned: Option<Tensor>,
}

impl Backward<2> for Convolve {
    const NAME: &'static str = "conv2d";

    fn reads(&self) -> ([bool; 2], bool) {
        ([true, true], false)
    }

    fn gradients(
        &self,
        [x, kernel]: [&Tensor; 2],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 2]> {
        let wanted = [x.track_op(), kernel.track_op()];
        if let Some(gpu) = Gpu::of(&[x]) {
            let as_read = self.turned.as_ref().unwrap_or(kernel);
            let [of_x, of_kernel] =
                gpu.convolve_back(&self.geometry, [x, as_read, gradient], wanted, None)?;
            return Ok([
                of_x.map(|of_x| of_x.reshape(x.shape())).transpose()?,
                of_kernel.map(|of_kernel| of_kernel.reshape(kernel.shape())).transpose()?,
            ]);
        }
        let gradients = read([x, kernel, gradient], |[x, kernel, gradient]| {
            backward(simd(), &self.geometry, x, kernel, &Given(gradient), Wanted::of(wanted))
        })?;
        Ok(gradients.tensors(x, kernel))
    }
}

impl Backward<3> for Convolve {
    const NAME: &'static str = "conv2d";

    fn reads(&self) -> ([bool; 3], bool) {
        ([true, true, false], false)
    }

    fn gradients(
        &self,
        [x, kernel, bias]: [&Tensor; 3],
        y: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 3]> {
        let [of_x, of_kernel] = Backward::<2>::gradients(self, [x, kernel], y, gradient)?;
        let of_bias = bias.track_op().then(|| {
            let to = self.geometry.to;
            let here = |[gradient]: [&[f32]; 1]| {
                let sums = crate::kernels::norm::moments(simd(), gradient, &vec![0.0; to]);
                sums.iter().map(|[sum, _]| *sum as f32).collect()
            };
            compute([gradient], here, |gpu| column_sums(gpu, gradient, to)).map(|sums| tensor(sums, to))
        });
        Ok([of_x, of_kernel, of_bias.transpose()?])
    }
}

impl Gradients {
    /// As tensors of the shapes of what they are gradients of.
    pub(crate) fn tensors(self, x: &Tensor, kernel: &Tensor) -> [Option<Tensor>; 2] {
        [
            self.input.map(|floats| tensor(floats, x.shape())),
            self.kernel.map(|floats| tensor(floats, kernel.shape())),
        ]
    }
}
