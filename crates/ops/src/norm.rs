use crate::backend::has_kernels_for;
use crate::gpu::{self, Gpu};
use crate::kernels::affine::{Through, apply};
use crate::kernels::forward::Moments;
use crate::kernels::norm::{gated_gradient_sums, gradient_sums, moments};
use crate::mixed::in_single;
use crate::record::{Backward, Numbers, Remake, read, record, tensor};
use crate::simd::simd;
use crate::trace::{Operation, noted};
use crate::{Moved, axpby_, composed};
use candle::{DType, Tensor};
use sokd_core::{Error, Mode, Result};

/// What a batch normalisation knows, each `(channels,)`.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Scale.
    pub weight: &'a Tensor,
    /// Shift.
    pub bias: &'a Tensor,
    /// Running mean, updated in place in [`Mode::Train`].
    pub mean: &'a Tensor,
    /// Running variance without bias, updated in place in [`Mode::Train`].
    pub var: &'a Tensor,
    /// Added to variances.
    pub eps: f64,
    /// Weight of the newest batch in the running statistics.
    pub momentum: f64,
}

impl<'a> Norm<'a> {
    /// Its tensors.
    pub(crate) fn tensors(&self) -> [&'a Tensor; 4] {
        [self.weight, self.bias, self.mean, self.var]
    }

    /// Refuses what cannot be normalised.
    pub(crate) fn check(&self, shape: &[usize], residual: Option<&Tensor>, mode: Mode) -> Result<()> {
        let channels = shape.last().copied().unwrap_or(0);
        if shape.len() < 2 || shape.contains(&0) {
            let expected = "(batch, .., channels), none of them 0".into();
            return Err(Error::Shape { what: "the map of a batch norm", expected, got: shape.to_vec() });
        }
        for (what, tensor) in
            ["weight", "bias", "running mean", "running variance"].into_iter().zip(self.tensors())
        {
            if tensor.dims() != [channels] {
                let expected = format!("{:?}, as the map has channels: the {what}", [channels]);
                return Err(Error::Shape { what: "a batch norm", expected, got: tensor.dims().to_vec() });
            }
        }
        if let Some(residual) = residual.filter(|residual| residual.dims() != shape) {
            let expected = format!("{shape:?}, as the map it is added to");
            return Err(Error::Shape { what: "a residual", expected, got: residual.dims().to_vec() });
        }
        let values: usize = shape[..shape.len() - 1].iter().product();
        if mode != Mode::Eval && values == 1 {
            let expected = "more than one value per channel to train on: a larger batch or map".into();
            return Err(Error::Shape { what: "the map of a batch norm", expected, got: shape.to_vec() });
        }
        Ok(())
    }
}

/// `relu?(norm(x) + residual?)`.
///
/// # Shapes
/// `x`, `residual`: `(batch, .., channels)`.
///
/// # Errors
/// When the shapes differ, or when there is but one value per channel to train on.
pub fn batch_norm(
    x: &Tensor,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<Tensor> {
    let reads: &[&Tensor] = match residual {
        Some(residual) => &[x, residual],
        None => &[x],
    };
    let operation = || Operation::Norm { norm: norm.into(), relu };
    noted(reads, operation, || normalise(x, norm, residual, relu, mode))
}

fn normalise(
    x: &Tensor,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<Tensor> {
    norm.check(x.dims(), residual, mode)?;
    let [weight, bias, mean, var] = norm.tensors();
    if !has_kernels_for(&[x, residual.unwrap_or(x)], &[weight, bias, mean, var]) {
        return match residual {
            Some(residual) if [x, residual].iter().any(|map| map.dtype() == DType::BF16) => {
                in_single([x, residual], |[x, residual]| normalise(x, norm, Some(residual), relu, mode))
            }
            None if x.dtype() == DType::BF16 => in_single([x], |[x]| normalise(x, norm, None, relu, mode)),
            _ => composed::batch_norm(x, norm, residual, relu, mode),
        };
    }
    let x = &x.contiguous()?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    if let Some(gpu) = Gpu::of(&[x]) {
        return Ok(gpu::batch_norm(&gpu, x, norm, residual.as_ref(), relu, mode)?);
    }
    let statistics = match mode {
        Mode::Eval => Statistics::running(norm)?,
        Mode::Train | Mode::Probe => {
            let (moments, pivot) =
                read([x, norm.mean], |[x, mean]| (moments(simd(), x, mean), mean.to_vec()))?;
            Statistics::of_batch(&moments, &pivot, x.elem_count() / pivot.len(), norm.eps)
        }
    };
    if mode == Mode::Train {
        statistics.learn(norm)?;
    }
    let (weight, bias) = (&weight.contiguous()?, &bias.contiguous()?);
    let affine = read([weight, bias], |affine| statistics.scale_shift(affine))?;
    let back = Normalise { statistics, affine, relu };
    Ok(match &residual {
        None => {
            let y = read([x], |[x]| back.apply(x, None))?;
            record([x, weight, bias], y, x.shape(), back)?
        }
        Some(residual) => {
            let y = read([x, residual], |[x, residual]| back.apply(x, Some(residual)))?;
            record([x, weight, bias, residual], y, x.shape(), back)?
        }
    })
}

/// What a map is normalised by.
pub(crate) struct Statistics {
    mean: Vec<f32>,
    /// With bias: what divides the batch's own values.
    var: Vec<f64>,
    /// One over the deviation.
    inverse: Vec<f64>,
    /// How many values of the batch stand behind them; `None` if they are the running ones.
    count: Option<usize>,
}

impl Statistics {
    /// Of a batch, from its moments about `pivot`.
    pub(crate) fn of_batch(moments: &Moments, pivot: &[f32], count: usize, eps: f64) -> Self {
        let n = count as f64;
        let var = moments.iter().map(|[sum, square]| (square / n - (sum / n).powi(2)).max(0.0)).collect();
        let mean =
            moments.iter().zip(pivot).map(|([sum, _], &pivot)| (f64::from(pivot) + sum / n) as f32).collect();
        Self::new(mean, var, eps, Some(count))
    }

    /// The running ones.
    pub(crate) fn running(norm: &Norm<'_>) -> Result<Self> {
        let (mean, var) = (norm.mean.contiguous()?, norm.var.contiguous()?);
        Ok(read([&mean, &var], |[mean, var]| {
            Self::new(mean.to_vec(), var.iter().map(|&var| f64::from(var)).collect(), norm.eps, None)
        })?)
    }

    fn new(mean: Vec<f32>, var: Vec<f64>, eps: f64, count: Option<usize>) -> Self {
        let inverse = var.iter().map(|var| 1.0 / (var + eps).sqrt()).collect();
        Self { mean, var, inverse, count }
    }

    /// Moves the running statistics towards these.
    pub(crate) fn learn(&self, norm: &Norm<'_>) -> Result<()> {
        let channels = self.mean.len();
        // What the statistics of unseen images will be is estimated without bias; the batch's own is not.
        let unbiased = self.count.map_or(1.0, |count| count as f64 / (count as f64 - 1.0));
        let var: Vec<f32> = self.var.iter().map(|var| (var * unbiased) as f32).collect();
        let (mean, var) = (tensor(self.mean.clone(), channels), tensor(var, channels));
        let moved = [Moved::new(norm.mean, &mean), Moved::new(norm.var, &var)];
        axpby_(&moved, norm.momentum, 1.0 - norm.momentum)
    }

    /// What a value is multiplied by, and what is added then.
    pub(crate) fn scale_shift(&self, [weight, bias]: [&[f32]; 2]) -> (Vec<f32>, Vec<f32>) {
        let scale = |channel: usize| f64::from(weight[channel]) * self.inverse[channel];
        let shift =
            |channel: usize| f64::from(bias[channel]) - f64::from(self.mean[channel]) * scale(channel);
        (0..weight.len()).map(|channel| (scale(channel) as f32, shift(channel) as f32)).unzip()
    }

    /// What [`back`](Self::back) asks for.
    pub(crate) fn sums(&self, gradient: &[f32], gate: Option<&[f32]>, x: &[f32]) -> Moments {
        gradient_sums(simd(), gradient, gate, x, &self.mean)
    }

    /// The same, and the gated gradient, which a residual takes as it is.
    pub(crate) fn kept_sums(
        &self,
        gradient: &[f32],
        gate: Option<&[f32]>,
        x: &[f32],
    ) -> (Option<Vec<f32>>, Moments) {
        let Some(gate) = gate else { return (None, self.sums(gradient, None, x)) };
        let (kept, sums) = gated_gradient_sums(simd(), gradient, gate, x, &self.mean);
        (Some(kept), sums)
    }

    /// How a gradient passes back through the normalisation, from [`gradient_sums`] about the mean.
    ///
    /// # Source
    /// Ioffe and Szegedy (arXiv:1502.03167), section 3, the gradients after algorithm 1, gathered by what they multiply.
    pub(crate) fn back(&self, sums: &Moments, weight: &[f32]) -> Back<'_> {
        let channels = self.mean.len();
        let (mut of_weight, mut of_bias) = (vec![0.0; channels], vec![0.0; channels]);
        let (mut slope, mut lean, mut shift) =
            (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
        for channel in 0..channels {
            let ([sum, product], inverse) = (sums[channel], self.inverse[channel]);
            of_weight[channel] = (product * inverse) as f32;
            of_bias[channel] = sum as f32;
            let scale = f64::from(weight[channel]) * inverse;
            slope[channel] = scale as f32;
            // Each value moved the batch's mean and variance a little; it did not move the running ones.
            if let Some(count) = self.count {
                lean[channel] = (-scale * inverse * inverse * product / count as f64) as f32;
                shift[channel] = (-scale * sum / count as f64) as f32;
            }
        }
        Back { mean: &self.mean, slope, lean, shift, of_affine: [of_weight, of_bias] }
    }
}

/// How a gradient passes back through a normalisation.
pub(crate) struct Back<'a> {
    mean: &'a [f32],
    slope: Vec<f32>,
    lean: Vec<f32>,
    shift: Vec<f32>,
    /// The gradients of weight and bias.
    pub of_affine: [Vec<f32>; 2],
}

impl Back<'_> {
    /// The gradient of `x`, from that of its normalisation.
    pub(crate) fn through<'a>(
        &'a self,
        gradient: &'a [f32],
        gate: Option<&'a [f32]>,
        x: &'a [f32],
    ) -> Through<'a> {
        let Self { mean, slope, lean, shift, .. } = self;
        Through::new(simd(), gradient, gate, x, [mean, slope, lean, shift])
    }
}

/// The way back through [`batch_norm`].
struct Normalise {
    statistics: Statistics,
    /// What a value was multiplied by, and what was added then.
    affine: (Vec<f32>, Vec<f32>),
    relu: bool,
}

impl Normalise {
    fn apply(&self, x: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
        let (scale, shift) = &self.affine;
        apply(simd(), x, scale, shift, residual, self.relu)
    }
}

impl Backward<3> for Normalise {
    const NAME: &'static str = "batch-norm";

    fn again(_: [bool; 3]) -> Option<Remake<Self, 3>> {
        let from = |back: &Self, [x, ..]: [&Tensor; 3]| read([x], |[x]| back.apply(x, None).storage());
        Some(Remake { reads: [true, false, false], make: from })
    }

    fn reads(&self) -> ([bool; 3], bool) {
        ([true, true, false], self.relu)
    }

    fn gradients(
        &self,
        [x, weight, _]: [&Tensor; 3],
        y: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 3]> {
        // What gates nothing is not kept.
        let y = if self.relu { y } else { gradient };
        let (of_x, of_affine) = read([x, weight, y, gradient], |[x, weight, y, gradient]| {
            let gate = self.relu.then_some(y);
            let back = self.statistics.back(&self.statistics.sums(gradient, gate, x), weight);
            (back.through(gradient, gate, x).all(), back.of_affine)
        })?;
        let [of_weight, of_bias] = of_affine.map(|gradient| Some(tensor(gradient, weight.shape())));
        Ok([Some(tensor(of_x, x.shape())), of_weight, of_bias])
    }
}

impl Backward<4> for Normalise {
    const NAME: &'static str = "batch-norm";

    /// Where sums follow each other, every second is kept: else the last would be made of all before it.
    fn again([.., residual]: [bool; 4]) -> Option<Remake<Self, 4>> {
        let from = |back: &Self, [x, .., residual]: [&Tensor; 4]| {
            read([x, residual], |[x, residual]| back.apply(x, Some(residual)).storage())
        };
        (!residual).then_some(Remake { reads: [true, false, false, true], make: from })
    }

    fn reads(&self) -> ([bool; 4], bool) {
        ([true, true, false, false], self.relu)
    }

    fn gradients(
        &self,
        [x, weight, ..]: [&Tensor; 4],
        y: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 4]> {
        let y = if self.relu { y } else { gradient };
        let (of_x, of_affine, kept) = read([x, weight, y, gradient], |[x, weight, y, gradient]| {
            let (kept, sums) = self.statistics.kept_sums(gradient, self.relu.then_some(y), x);
            let back = self.statistics.back(&sums, weight);
            (back.through(kept.as_deref().unwrap_or(gradient), None, x).all(), back.of_affine, kept)
        })?;
        let of_residual = kept.map_or_else(|| gradient.clone(), |kept| tensor(kept, x.shape()));
        let [of_weight, of_bias] = of_affine.map(|gradient| Some(tensor(gradient, weight.shape())));
        Ok([Some(tensor(of_x, x.shape())), of_weight, of_bias, Some(of_residual)])
    }
}
