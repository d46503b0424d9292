use crate::backend::on_cpu;
use crate::kernels::backward::backward;
use crate::kernels::forward::{Epilogue, forward};
use crate::kernels::geometry::Geometry;
use crate::macs;
use crate::norm::{Statistics, join};
use crate::record::{Backward, read, record3, tensor};
use crate::simd::simd;
use crate::trace::{Operation, noted};
use crate::{Conv, Norm, batch_norm, conv2d};
use candle::Tensor;
use sokd_core::{Mode, Result};

/// `relu?(norm(conv(x)) + residual?)`: a convolution without bias, then [`batch_norm`].
///
/// As one operation it gathers the statistics while it convolves, and the gradient between convolution and norm
/// is never written to memory.
///
/// # Errors
/// Those of [`conv2d`] and [`batch_norm`].
pub fn conv_norm(
    x: &Tensor,
    kernel: &Tensor,
    conv: Conv,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<Tensor> {
    let reads: &[&Tensor] = match residual {
        Some(residual) => &[x, residual],
        None => &[x],
    };
    let operation = || Operation::ConvNorm { kernel: kernel.clone(), conv, norm: norm.into(), relu };
    noted(reads, operation, || together(x, kernel, conv, norm, residual, relu, mode))
}

fn together(
    x: &Tensor,
    kernel: &Tensor,
    conv: Conv,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<Tensor> {
    let geometry = conv.geometry(x, kernel)?;
    norm.check(&geometry.shape(), residual, mode)?;
    let [weight, bias, mean, var] = norm.tensors();
    let all = [x, kernel, weight, bias, mean, var, residual.unwrap_or(x)];
    let tracked = all.iter().any(|tensor| tensor.track_op());
    if !on_cpu(&all) || (mode == Mode::Eval && tracked) {
        return batch_norm(&conv2d(x, kernel, None, conv)?, norm, residual, relu, mode);
    }
    macs::count(geometry.macs());
    let (x, kernel) = (&x.contiguous()?, &kernel.contiguous()?);
    let residual = residual.map(Tensor::contiguous).transpose()?;
    if mode == Mode::Eval {
        return inference(geometry, x, kernel, norm, residual.as_ref(), relu);
    }
    let (z, statistics) = read([x, kernel, mean], |[x, kernel, mean]| {
        let epilogue = Epilogue { pivot: Some(mean), ..Epilogue::default() };
        let (z, moments) = forward(simd(), &geometry, x, kernel, &epilogue);
        let count = z.len() / geometry.to;
        (z, Statistics::of_batch(&moments, mean, count, norm.eps))
    })?;
    if mode == Mode::Train {
        statistics.learn(norm)?;
    }
    let affine = norm.affine()?;
    let shape = geometry.shape();
    let apply = |affine: &[f32], residual: Option<&[f32]>| {
        let (scale, shift) = statistics.scale_shift(affine);
        crate::kernels::norm::apply(simd(), &z, &scale, &shift, residual, relu)
    };
    Ok(match &residual {
        None => {
            let y = read([&affine], |[affine]| apply(affine, None))?;
            let back = ConvolveNormalise { geometry, z, statistics, relu };
            record3([x, kernel, &affine], y, shape.as_slice(), back)?
        }
        Some(residual) => {
            let y = read([&affine, residual], |[affine, residual]| apply(affine, Some(residual)))?;
            let back = WithResidual(ConvolveNormalise { geometry, z, statistics, relu });
            record3([x, &join(kernel, &affine)?, residual], y, shape.as_slice(), back)?
        }
    })
}

/// Nothing is to be learned: the norm is a scale and a shift, done while the sums are still in registers.
fn inference(
    geometry: Geometry,
    x: &Tensor,
    kernel: &Tensor,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let affine = norm.affine()?;
    let statistics = Statistics::running(norm)?;
    let y = read([x, kernel, &affine, residual.unwrap_or(x)], |[x, kernel, affine, other]| {
        let (scale, shift) = statistics.scale_shift(affine);
        let epilogue = Epilogue {
            scale: Some(&scale),
            shift: Some(&shift),
            residual: residual.map(|_| other),
            relu,
            pivot: None,
        };
        forward(simd(), &geometry, x, kernel, &epilogue).0
    })?;
    Ok(tensor(y, geometry.shape().as_slice()))
}

/// The way back through [`conv_norm`].
struct ConvolveNormalise {
    geometry: Geometry,
    /// What the convolution made.
    z: Vec<f32>,
    statistics: Statistics,
    relu: bool,
}

impl Backward<3> for ConvolveNormalise {
    const NAME: &'static str = "conv-norm";

    fn gradients(
        &self,
        [x, kernel, affine]: [&Tensor; 3],
        y: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 3]> {
        let wanted = [x.track_op(), kernel.track_op()];
        let (gradients, of_affine) =
            read([x, kernel, affine, y, gradient], |[x, kernel, affine, y, gradient]| {
                let gate = self.relu.then_some(y);
                let back = self.statistics.back(&self.statistics.sums(gradient, gate, &self.z), affine);
                let through = back.through(gradient, gate, &self.z);
                (backward(simd(), &self.geometry, x, kernel, &through, wanted), back.of_affine)
            })?;
        let [of_x, of_kernel] = gradients.tensors(x, kernel);
        Ok([of_x, of_kernel, Some(tensor(of_affine, affine.shape()))])
    }
}

/// The same where a residual is the third tensor: scale and shift lie behind the kernel.
struct WithResidual(ConvolveNormalise);

impl Backward<3> for WithResidual {
    const NAME: &'static str = "conv-norm";

    fn gradients(
        &self,
        [x, weights, residual]: [&Tensor; 3],
        y: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 3]> {
        let ConvolveNormalise { geometry, z, statistics, relu } = &self.0;
        let wanted = [x.track_op(), true];
        let (gradients, of_affine, kept) = read([x, weights, y, gradient], |[x, weights, y, gradient]| {
            let (kernel, affine) = weights.split_at(geometry.kernel_len());
            let (kept, sums) = statistics.kept_sums(gradient, relu.then_some(y), z);
            let back = statistics.back(&sums, affine);
            let through = back.through(kept.as_deref().unwrap_or(gradient), None, z);
            (backward(simd(), geometry, x, kernel, &through, wanted), back.of_affine, kept)
        })?;
        let of_residual = kept.map_or_else(|| gradient.clone(), |kept| tensor(kept, residual.shape()));
        let of_weights = [gradients.kernel.unwrap_or_default(), of_affine].concat();
        let of_x = gradients.input.map(|floats| tensor(floats, x.shape()));
        Ok([of_x, Some(tensor(of_weights, weights.shape())), residual.track_op().then_some(of_residual)])
    }
}

#[cfg(test)]
mod tests;
