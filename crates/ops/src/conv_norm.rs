use crate::backend::{has_kernels_for, on_cpu};
use crate::fast::rectified;
use crate::gpu::{self, Gpu};
use crate::kernels::backward::{Gradients, Wanted, backward};
use crate::kernels::forward::{Epilogue, forward};
use crate::kernels::geometry::Geometry;
use crate::macs;
use crate::mixed::is_mixed;
use crate::norm::Statistics;
use crate::record::{Backward, Numbers, Onto, Remake, read, record, record_unseen, tensor};
use crate::simd::simd;
use crate::spent::named;
use crate::trace::{Normed, Operation, noted, traced};
use crate::{Conv, Norm, batch_norm, conv2d, narrow, relu};
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
    noted(reads, operation, || Pass { x, kernel, conv, norm, residual, mode }.together(relu))
}

/// `relu(norm(conv(x)) + residual?)`, and what it was before the ReLU: as [`conv_norm`] and [`relu()`] give them, but the latter is
/// made for who asks alone. On a GPU, a network at rest does all of it once more then; elsewhere it keeps it, since that takes less
/// memory to hold than what it is made of.
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
    let pass = Pass { x, kernel, conv, norm, residual, mode };
    if !traced() {
        if mode == Mode::Eval && !pass.is_tracked() && Gpu::of(&[x]).is_some() {
            return pass.with_before_at_rest();
        }
        if pass.is_tracked()
            && let Some(found) = named("conv-norm", || pass.with_before_on_gpu())?
        {
            return Ok(found);
        }
        if mode != Mode::Eval && pass.is_tracked() && pass.is_here() {
            return named("conv-norm", || pass.with_before());
        }
    }
    let before = conv_norm(x, kernel, conv, norm, residual, false, mode)?;
    Ok((relu(&before)?, before.into()))
}

/// What an operation is asked to do.
struct Pass<'a> {
    x: &'a Tensor,
    kernel: &'a Tensor,
    conv: Conv,
    norm: &'a Norm<'a>,
    residual: Option<&'a Tensor>,
    mode: Mode,
}

impl Pass<'_> {
    fn tensors(&self) -> [&Tensor; 7] {
        let [weight, bias, mean, var] = self.norm.tensors();
        [self.x, self.kernel, weight, bias, mean, var, self.residual.unwrap_or(self.x)]
    }

    fn is_tracked(&self) -> bool {
        self.tensors().iter().any(|tensor| tensor.track_op())
    }

    /// Whether kernels of this machine do it.
    fn is_here(&self) -> bool {
        on_cpu(&self.tensors()) && !is_mixed(self.x)
    }

    /// The GPU that has these tensors, where it has kernels for them, and the map as those read it.
    fn gpu(&self) -> Result<Option<(Gpu, Tensor)>> {
        let Some(gpu) = Gpu::of(&[self.x]) else { return Ok(None) };
        let x = if is_mixed(self.x) { narrow(self.x)? } else { self.x.clone() };
        let [weight, bias, mean, var] = self.norm.tensors();
        let maps = [&x, self.residual.unwrap_or(&x)];
        let has_kernels = has_kernels_for(&maps, &[self.kernel, weight, bias, mean, var]);
        Ok(has_kernels.then_some((gpu, x)))
    }

    /// By a GPU's kernels, where there are any for these tensors.
    fn on_gpu(&self, geometry: &Geometry, relu: bool) -> Result<Option<Tensor>> {
        let Some((gpu, x)) = self.gpu()? else { return Ok(None) };
        macs::count(geometry.macs());
        let (x, kernel) = (x.contiguous()?, self.kernel.contiguous()?);
        let residual = self.residual.map(Tensor::contiguous).transpose()?;
        let maps = [&x, &kernel];
        Ok(Some(gpu::conv_norm(&gpu, *geometry, maps, self.norm, residual.as_ref(), relu, self.mode)?))
    }

    fn geometry(&self) -> Result<Geometry> {
        let geometry = self.conv.geometry(self.x, self.kernel)?;
        self.norm.check(&geometry.shape(), self.residual, self.mode)?;
        Ok(geometry)
    }

    fn together(&self, relu: bool) -> Result<Tensor> {
        let (geometry, at_rest) = (self.geometry()?, self.mode == Mode::Eval);
        if let Some(y) = self.on_gpu(&geometry, relu)? {
            return Ok(y);
        }
        if !self.is_here() || (at_rest && self.is_tracked()) {
            let y = conv2d(self.x, self.kernel, None, self.conv)?;
            return batch_norm(&y, self.norm, self.residual, relu, self.mode);
        }
        if at_rest {
            return self.infer(geometry, relu);
        }
        let Learned { four: [x, kernel, weight, bias], residual, y, back } =
            self.learn(geometry, [relu; 2])?;
        let (four, shape) = ([&x, &kernel, &weight, &bias], back.geometry.shape());
        Ok(match &residual {
            None => record(four, y, shape.as_slice(), back)?,
            Some(residual) => record(with(four, residual), y, shape.as_slice(), back)?,
        })
    }

    /// A training pass behind a ReLU, and what it is before that for who asks.
    fn with_before(&self) -> Result<(Tensor, Lazy)> {
        let Learned { four: [x, kernel, weight, bias], residual, y, back } =
            self.learn(self.geometry()?, [false, true])?;
        let (four, shape) = ([&x, &kernel, &weight, &bias], back.geometry.shape());
        let before = match &residual {
            None => record_unseen(four, shape.as_slice(), back, PLAIN),
            Some(residual) => record_unseen(with(four, residual), shape.as_slice(), back, SUM),
        };
        Ok(rectified(before?, y)?)
    }

    /// The same by a GPU's kernels: both are made of what the convolution gave, which stands in the graph, so that nobody goes back
    /// through that twice.
    fn with_before_on_gpu(&self) -> Result<Option<(Tensor, Lazy)>> {
        let Some((gpu, x)) = self.gpu()? else { return Ok(None) };
        self.geometry()?;
        let z = conv2d(&x, self.kernel, None, self.conv)?;
        let residual = self.residual.map(Tensor::contiguous).transpose()?;
        Ok(Some(gpu::norm_relu(&gpu, &z, self.norm, residual.as_ref(), self.mode)?))
    }

    /// What nobody learns from.
    fn with_before_at_rest(&self) -> Result<(Tensor, Lazy)> {
        let &Self { x, kernel, conv, norm, residual, mode } = self;
        let y = conv_norm(x, kernel, conv, norm, residual, true, mode)?;
        let (x, kernel, norm, residual) = (x.clone(), kernel.clone(), Normed::from(norm), residual.cloned());
        let before = move || conv_norm(&x, &kernel, conv, &norm.norm(), residual.as_ref(), false, mode);
        Ok((y, Lazy::new(before)))
    }

    /// Nothing is to be learned: the norm is a scale and a shift, done while the sums are still in registers.
    fn infer(&self, geometry: Geometry, relu: bool) -> Result<Tensor> {
        macs::count(geometry.macs());
        let (x, kernel) = (&self.x.contiguous()?, &self.kernel.contiguous()?);
        let residual = &self.residual.map(Tensor::contiguous).transpose()?;
        let (weight, bias) = (&self.norm.weight.contiguous()?, &self.norm.bias.contiguous()?);
        let statistics = Statistics::running(self.norm)?;
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

    /// Convolves, normalises, and teaches the running statistics if the mode says so. `relu`: whether it is a part of the
    /// way back, and whether of the result.
    fn learn(&self, geometry: Geometry, [relu, rectified]: [bool; 2]) -> Result<Learned> {
        macs::count(geometry.macs());
        let (x, kernel) = (self.x.contiguous()?, self.kernel.contiguous()?);
        let (weight, bias) = (self.norm.weight.contiguous()?, self.norm.bias.contiguous()?);
        let residual = self.residual.map(Tensor::contiguous).transpose()?;
        let (z, statistics) = read([&x, &kernel, self.norm.mean], |[x, kernel, mean]| {
            let epilogue = Epilogue { pivot: Some(mean), ..Epilogue::default() };
            let (z, moments) = forward(simd(), &geometry, x, kernel, &epilogue);
            let count = z.len() / geometry.to;
            (z, Statistics::of_batch(&moments, mean, count, self.norm.eps))
        })?;
        if self.mode == Mode::Train {
            statistics.learn(self.norm)?;
        }
        let affine = read([&weight, &bias], |affine| statistics.scale_shift(affine))?;
        let back = ConvolveNormalise { geometry, z, statistics, affine, relu };
        let y = match &residual {
            None => back.apply(None, rectified),
            Some(residual) => read([residual], |[residual]| back.apply(Some(residual), rectified))?,
        };
        Ok(Learned { four: [x, kernel, weight, bias], residual, y, back })
    }
}

fn with<'a>([x, kernel, weight, bias]: [&'a Tensor; 4], residual: &'a Tensor) -> [&'a Tensor; 5] {
    [x, kernel, weight, bias, residual]
}

/// A training pass: its result, and the way back.
struct Learned {
    /// What is convolved and with what, and the norm's weight and bias; contiguous, as is the residual.
    four: [Tensor; 4],
    residual: Option<Tensor>,
    y: Vec<f32>,
    back: ConvolveNormalise,
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
const PLAIN: Remake<ConvolveNormalise, 4> =
    Remake { reads: [false; 4], make: |back, _| Ok(back.apply(None, back.relu).storage()) };

/// The same where a residual was added.
const SUM: Remake<ConvolveNormalise, 5> = Remake {
    reads: [false, false, false, false, true],
    make: |back, [.., residual]| {
        read([residual], |[residual]| back.apply(Some(residual), back.relu).storage())
    },
};

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

    fn reads(&self) -> ([bool; 4], bool) {
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

    fn reads(&self) -> ([bool; 5], bool) {
        ([true, true, true, false, false], self.relu)
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
