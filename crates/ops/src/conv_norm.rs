use crate::backend::on_cpu;
use crate::fast::rectified;
use crate::kernels::backward::{Gradients, Wanted, backward};
use crate::kernels::forward::{Epilogue, forward};
use crate::kernels::geometry::Geometry;
use crate::macs;
use crate::norm::Statistics;
use crate::record::{Backward, Numbers, Onto, Remake, read, record, record_unseen, tensor};
use crate::simd::simd;
use crate::spent::named;
use crate::trace::{Operation, noted, traced};
use crate::{Conv, Norm, batch_norm, conv2d, relu};
use candle::Tensor;
use sokd_core::{Lazy, Mode, Result};

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
    let (tracked, here) = place([x, kernel], norm, residual);
    if !here || (mode == Mode::Eval && tracked) {
        return batch_norm(&conv2d(x, kernel, None, conv)?, norm, residual, relu, mode);
    }
    if mode == Mode::Eval {
        return inference(geometry, [x, kernel], norm, residual, relu);
    }
    let Normalised { four, residual, y, back } =
        Normalised::new(geometry, [x, kernel], norm, residual, [relu; 2], mode)?;
    let ([x, kernel, weight, bias], shape) = (four.each_ref(), back.geometry.shape());
    Ok(match &residual {
        None => record([x, kernel, weight, bias], y, shape.as_slice(), back)?,
        Some(residual) => record([x, kernel, weight, bias, residual], y, shape.as_slice(), back)?,
    })
}

/// `relu(norm(conv(x)) + residual?)`, and what it was before the ReLU: as [`conv_norm`] and [`relu()`] give them, but a
/// training pass writes the latter down for who asks alone.
///
/// # Errors
/// Those of [`conv_norm`].
pub fn conv_norm_relu(
    x: &Tensor,
    kernel: &Tensor,
    conv: Conv,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    mode: Mode,
) -> Result<(Tensor, Lazy)> {
    if mode == Mode::Eval || traced() || place([x, kernel], norm, residual) != (true, true) {
        let before = conv_norm(x, kernel, conv, norm, residual, false, mode)?;
        return Ok((relu(&before)?, before.into()));
    }
    named("conv-norm", || unseen(x, kernel, conv, norm, residual, mode))
}

fn unseen(
    x: &Tensor,
    kernel: &Tensor,
    conv: Conv,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    mode: Mode,
) -> Result<(Tensor, Lazy)> {
    let geometry = conv.geometry(x, kernel)?;
    norm.check(&geometry.shape(), residual, mode)?;
    let Normalised { four, residual, y, back } =
        Normalised::new(geometry, [x, kernel], norm, residual, [false, true], mode)?;
    let ([x, kernel, weight, bias], shape) = (four.each_ref(), back.geometry.shape());
    let before = match &residual {
        None => record_unseen([x, kernel, weight, bias], shape.as_slice(), back, PLAIN),
        Some(residual) => record_unseen([x, kernel, weight, bias, residual], shape.as_slice(), back, SUM),
    };
    Ok(rectified(before?, y)?)
}

/// Whether anything is tracked, and whether kernels of this machine do it.
fn place([x, kernel]: [&Tensor; 2], norm: &Norm<'_>, residual: Option<&Tensor>) -> (bool, bool) {
    let [weight, bias, mean, var] = norm.tensors();
    let all = [x, kernel, weight, bias, mean, var, residual.unwrap_or(x)];
    (all.iter().any(|tensor| tensor.track_op()), on_cpu(&all))
}

/// Nothing is to be learned: the norm is a scale and a shift, done while the sums are still in registers.
fn inference(
    geometry: Geometry,
    [x, kernel]: [&Tensor; 2],
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    macs::count(geometry.macs());
    let (x, kernel) = (&x.contiguous()?, &kernel.contiguous()?);
    let residual = &residual.map(Tensor::contiguous).transpose()?;
    let (weight, bias) = (&norm.weight.contiguous()?, &norm.bias.contiguous()?);
    let statistics = Statistics::running(norm)?;
    let other = residual.as_ref().unwrap_or(x);
    let y = read([x, kernel, weight, bias, other], |[x, kernel, weight, bias, other]| {
        let (scale, shift) = statistics.scale_shift([weight, bias]);
        let epilogue = Epilogue {
            scale: Some(&scale),
            shift: Some(&shift),
            residual: residual.as_ref().map(|_| other),
            relu,
            pivot: None,
        };
        forward(simd(), &geometry, x, kernel, &epilogue).0
    })?;
    Ok(tensor(y, geometry.shape().as_slice()))
}

/// A training pass.
struct Normalised {
    /// What is convolved and with what, and the norm's weight and bias; contiguous, as is the residual.
    four: [Tensor; 4],
    residual: Option<Tensor>,
    y: Vec<f32>,
    back: ConvolveNormalise,
}

impl Normalised {
    /// Convolves, normalises, and teaches the running statistics if the mode says so. `relu`: whether it is a part of the
    /// way back, and whether of the result.
    fn new(
        geometry: Geometry,
        [x, kernel]: [&Tensor; 2],
        norm: &Norm<'_>,
        residual: Option<&Tensor>,
        [relu, rectified]: [bool; 2],
        mode: Mode,
    ) -> Result<Self> {
        macs::count(geometry.macs());
        let (x, kernel) = (x.contiguous()?, kernel.contiguous()?);
        let (weight, bias) = (norm.weight.contiguous()?, norm.bias.contiguous()?);
        let residual = residual.map(Tensor::contiguous).transpose()?;
        let (z, statistics) = read([&x, &kernel, norm.mean], |[x, kernel, mean]| {
            let epilogue = Epilogue { pivot: Some(mean), ..Epilogue::default() };
            let (z, moments) = forward(simd(), &geometry, x, kernel, &epilogue);
            let count = z.len() / geometry.to;
            (z, Statistics::of_batch(&moments, mean, count, norm.eps))
        })?;
        if mode == Mode::Train {
            statistics.learn(norm)?;
        }
        let affine = read([&weight, &bias], |affine| statistics.scale_shift(affine))?;
        let back = ConvolveNormalise { geometry, z, statistics, affine, relu };
        let y = match &residual {
            None => back.apply(None, rectified),
            Some(residual) => read([residual], |[residual]| back.apply(Some(residual), rectified))?,
        };
        Ok(Self { four: [x, kernel, weight, bias], residual, y, back })
    }
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
    fn apply(&self, residual: Option<&[f32]>, relu: bool) -> Vec<f32> {
        let Self { z, affine: (scale, shift), .. } = self;
        crate::kernels::affine::apply(simd(), z, scale, shift, residual, relu)
    }
}

/// The result once more.
const PLAIN: Remake<ConvolveNormalise, 4> = |back, _| Ok(back.apply(None, back.relu).storage());

/// The same where a residual was added.
const SUM: Remake<ConvolveNormalise, 5> =
    |back, [.., residual]| read([residual], |[residual]| back.apply(Some(residual), back.relu).storage());

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
        Some(PLAIN)
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
        (!residual).then_some(SUM)
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
