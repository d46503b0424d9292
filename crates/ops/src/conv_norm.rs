use crate::backend::on_cpu;
use crate::kernels::backward::{Gradients, Wanted, backward};
use crate::kernels::forward::{Epilogue, forward};
use crate::kernels::geometry::Geometry;
use crate::macs;
use crate::norm::Statistics;
use crate::record::{Backward, Numbers, Onto, Remake, read, record, tensor};
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
    let (weight, bias) = (&weight.contiguous()?, &bias.contiguous()?);
    let affine = read([weight, bias], |affine| statistics.scale_shift(affine))?;
    let shape = geometry.shape();
    let back = ConvolveNormalise { geometry, z, statistics, affine, relu };
    Ok(match &residual {
        None => {
            let y = back.apply(None);
            record([x, kernel, weight, bias], y, shape.as_slice(), back)?
        }
        Some(residual) => {
            let y = read([residual], |[residual]| back.apply(Some(residual)))?;
            record([x, kernel, weight, bias, residual], y, shape.as_slice(), back)?
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
    let (weight, bias) = (&norm.weight.contiguous()?, &norm.bias.contiguous()?);
    let statistics = Statistics::running(norm)?;
    let y = read([x, kernel, weight, bias, residual.unwrap_or(x)], |[x, kernel, weight, bias, other]| {
        let (scale, shift) = statistics.scale_shift([weight, bias]);
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
    /// What `z` was multiplied by, and what was added then.
    affine: (Vec<f32>, Vec<f32>),
    relu: bool,
}

impl ConvolveNormalise {
    /// What it makes of `z`.
    fn apply(&self, residual: Option<&[f32]>) -> Vec<f32> {
        let Self { z, affine: (scale, shift), relu, .. } = self;
        crate::kernels::affine::apply(simd(), z, scale, shift, residual, *relu)
    }
}

/// Gradients of what is convolved and with what, and of weight and bias of the norm.
type Four = [Option<Tensor>; 4];

impl ConvolveNormalise {
    fn back(
        &self,
        [x, kernel, weight]: [&Tensor; 3],
        y: &Tensor,
        gradient: &Tensor,
        onto: Option<&Tensor>,
    ) -> candle::Result<Four> {
        // What gates nothing is not kept.
        let (y, other) = (if self.relu { y } else { gradient }, onto.unwrap_or(gradient));
        let found = read(
            [x, kernel, weight, y, gradient, other],
            |[of_x, of_kernel, weight, y, gradient, other]| {
                let gate = self.relu.then_some(y);
                let back = self.statistics.back(&self.statistics.sums(gradient, gate, &self.z), weight);
                let through = back.through(gradient, gate, &self.z);
                let wanted =
                    Wanted { onto: onto.map(|_| other), ..Wanted::of([x.track_op(), kernel.track_op()]) };
                (backward(simd(), &self.geometry, of_x, of_kernel, &through, wanted), back.of_affine)
            },
        )?;
        Ok(Self::tensors(found, [x, kernel, weight]))
    }

    /// The same where a residual was added, whose gradient comes last.
    fn back_of_sum(
        &self,
        [x, kernel, weight, residual]: [&Tensor; 4],
        y: &Tensor,
        gradient: &Tensor,
        onto: Option<&Tensor>,
    ) -> candle::Result<(Four, Tensor)> {
        let Self { geometry, z, statistics, relu, .. } = self;
        let (y, other) = (if *relu { y } else { gradient }, onto.unwrap_or(gradient));
        let (found, kept) = read(
            [x, kernel, weight, y, gradient, other],
            |[of_x, of_kernel, weight, y, gradient, other]| {
                let (kept, sums) = statistics.kept_sums(gradient, relu.then_some(y), z);
                let back = statistics.back(&sums, weight);
                let through = back.through(kept.as_deref().unwrap_or(gradient), None, z);
                let wanted =
                    Wanted { onto: onto.map(|_| other), ..Wanted::of([x.track_op(), kernel.track_op()]) };
                ((backward(simd(), geometry, of_x, of_kernel, &through, wanted), back.of_affine), kept)
            },
        )?;
        let of_residual = kept.map_or_else(|| gradient.clone(), |kept| tensor(kept, residual.shape()));
        Ok((Self::tensors(found, [x, kernel, weight]), of_residual))
    }

    fn tensors((found, of_affine): (Gradients, [Vec<f32>; 2]), [x, kernel, weight]: [&Tensor; 3]) -> Four {
        let [of_x, of_kernel] = found.tensors(x, kernel);
        let [of_weight, of_bias] = of_affine.map(|gradient| Some(tensor(gradient, weight.shape())));
        [of_x, of_kernel, of_weight, of_bias]
    }
}

impl Backward<4> for ConvolveNormalise {
    const NAME: &'static str = "conv-norm";

    fn again(_: [bool; 4]) -> Option<Remake<Self, 4>> {
        Some(|back, _| Ok(back.apply(None).storage()))
    }

    fn onto() -> Option<Onto<Self, 4>> {
        Some(|back, [x, kernel, weight, _], y, [gradient, onto]| {
            back.back([x, kernel, weight], y, gradient, Some(onto))
        })
    }

    fn reads(&self, _: bool) -> ([bool; 4], bool) {
        ([true, true, true, false], self.relu)
    }

    fn gradients(
        &self,
        [x, kernel, weight, _]: [&Tensor; 4],
        y: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<Four> {
        self.back([x, kernel, weight], y, gradient, None)
    }
}

impl Backward<5> for ConvolveNormalise {
    const NAME: &'static str = "conv-norm";

    /// Where sums follow each other, every second is kept: else the last would be made of all before it.
    fn again([.., residual]: [bool; 5]) -> Option<Remake<Self, 5>> {
        let from = |back: &Self, [.., residual]: [&Tensor; 5]| {
            read([residual], |[residual]| back.apply(Some(residual)).storage())
        };
        (!residual).then_some(from)
    }

    fn onto() -> Option<Onto<Self, 5>> {
        Some(|back, [x, kernel, weight, _, residual], y, [gradient, onto]| {
            let (four, of_residual) =
                back.back_of_sum([x, kernel, weight, residual], y, gradient, Some(onto))?;
            Ok(five(four, residual, of_residual))
        })
    }

    fn reads(&self, again: bool) -> ([bool; 5], bool) {
        ([true, true, true, false, again], self.relu)
    }

    fn gradients(
        &self,
        [x, kernel, weight, _, residual]: [&Tensor; 5],
        y: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 5]> {
        let (four, of_residual) = self.back_of_sum([x, kernel, weight, residual], y, gradient, None)?;
        Ok(five(four, residual, of_residual))
    }
}

fn five(
    [of_x, of_kernel, of_weight, of_bias]: Four,
    residual: &Tensor,
    of_residual: Tensor,
) -> [Option<Tensor>; 5] {
    [of_x, of_kernel, of_weight, of_bias, residual.track_op().then_some(of_residual)]
}

#[cfg(test)]
mod tests;
