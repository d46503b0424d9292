use super::launch::Gpu;
use super::norm::{Normalise, normalised};
use crate::Norm;
use crate::kernels::geometry::Geometry;
use crate::record::{Backward, Onto, record, tensor};
use candle::{Result, Tensor};
use sokd_core::Mode;

/// A convolution and its normalisation, which are one operation to the graph: what stands between them has no place there.
pub(crate) fn conv_norm(
    gpu: &Gpu,
    geometry: Geometry,
    [x, kernel]: [&Tensor; 2],
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<Tensor> {
    let shape = geometry.shape();
    let turned = gpu.turned(&geometry, kernel, x.dtype())?;
    let (weight, bias) = (&norm.weight.contiguous()?, &norm.bias.contiguous()?);
    let tracked = [x, kernel, weight, bias].iter().any(|tensor| tensor.track_op());
    if mode == Mode::Eval && !tracked && !residual.is_some_and(Tensor::track_op) {
        let y = gpu.convolve_at_rest(&geometry, [x, &turned], norm, residual, relu)?;
        return Ok(tensor(y, shape.as_slice()));
    }
    let z = tensor(gpu.convolve(&geometry, x, &turned)?, shape.as_slice());
    let (y, norm_back) = normalised(gpu, (&z, tracked), norm, residual, relu, mode)?;
    let back = ConvolveNormalise { geometry, turned, z, norm: norm_back };
    match residual {
        None => record([x, kernel, weight, bias], y, shape.as_slice(), back),
        Some(residual) => record([x, kernel, weight, bias, residual], y, shape.as_slice(), back),
    }
}

/// The way back.
struct ConvolveNormalise {
    geometry: Geometry,
    /// The kernel as who convolves reads it.
    turned: Tensor,
    /// What the convolution made.
    z: Tensor,
    norm: Normalise,
}

impl ConvolveNormalise {
    /// The gradients of the map, the kernel, the norm's weight and its bias; and what passes to a residual.
    fn back(
        &self,
        [x, kernel, weight]: [&Tensor; 3],
        y: &Tensor,
        gradient: &Tensor,
        passed: bool,
        onto: Option<&Tensor>,
    ) -> Result<([Option<Tensor>; 4], Option<Tensor>)> {
        let Some(gpu) = Gpu::of(&[x]) else { candle::bail!("a convolution of a GPU goes back elsewhere") };
        let ([of_z, of_weight, of_bias], passed) = self.norm.back(&self.z, weight, y, gradient, passed)?;
        let wanted = [x.track_op(), kernel.track_op()];
        let [of_x, of_kernel] = gpu.convolve_back(&self.geometry, [x, &self.turned, &of_z], wanted, onto)?;
        let of_x = of_x.map(|of_x| of_x.reshape(x.shape())).transpose()?;
        let of_kernel = of_kernel.map(|of_kernel| of_kernel.reshape(kernel.shape())).transpose()?;
        Ok(([of_x, of_kernel, Some(of_weight), Some(of_bias)], passed))
    }
}

impl Backward<4> for ConvolveNormalise {
    const NAME: &'static str = "conv-norm";

    fn onto() -> Option<Onto<Self, 4>> {
        Some(|back, [x, kernel, weight, _], y, [gradient, onto]| {
            Ok(back.back([x, kernel, weight], y, gradient, false, Some(onto))?.0)
        })
    }

    fn reads(&self) -> ([bool; 4], bool) {
        ([true, false, true, false], self.norm.reads_result())
    }

    fn gradients(
        &self,
        [x, kernel, weight, _]: [&Tensor; 4],
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 4]> {
        Ok(self.back([x, kernel, weight], y, gradient, false, None)?.0)
    }
}

impl Backward<5> for ConvolveNormalise {
    const NAME: &'static str = "conv-norm";

    fn onto() -> Option<Onto<Self, 5>> {
        Some(|back, [x, kernel, weight, _, residual], y, [gradient, onto]| {
            let (four, passed) =
                back.back([x, kernel, weight], y, gradient, residual.track_op(), Some(onto))?;
            Ok(five(four, passed))
        })
    }

    fn reads(&self) -> ([bool; 5], bool) {
        ([true, false, true, false, false], self.norm.reads_result())
    }

    fn gradients(
        &self,
        [x, kernel, weight, _, residual]: [&Tensor; 5],
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 5]> {
        let (four, passed) = self.back([x, kernel, weight], y, gradient, residual.track_op(), None)?;
        Ok(five(four, passed))
    }
}

/// The gradients, and what passes to the residual.
fn five(
    [of_x, of_kernel, of_weight, of_bias]: [Option<Tensor>; 4],
    passed: Option<Tensor>,
) -> [Option<Tensor>; 5] {
    [of_x, of_kernel, of_weight, of_bias, passed]
}
