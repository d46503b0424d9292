use crate::backend::has_kernels;
use crate::fast;
use crate::spent::named;
use candle::Tensor;
use sokd_core::Result;

/// A weight that moves in its storage, which it shares with whoever else holds it. All its tensors have one shape.
#[derive(Clone, Copy, Debug)]
pub struct Moved<'a, const N: usize> {
    /// What moves.
    pub weight: &'a Tensor,
    /// What is remembered of its way, and moves along.
    pub memory: [&'a Tensor; N],
    /// What it moves by: its gradient.
    pub by: &'a Tensor,
}

impl<'a> Moved<'a, 0> {
    /// One without a memory.
    pub fn new(weight: &'a Tensor, by: &'a Tensor) -> Self {
        Self { weight, memory: [], by }
    }
}

/// Whether all of them can move by kernels: together, those of one device.
fn by_kernels<const N: usize>(moved: &[Moved<'_, N>]) -> bool {
    let all = moved.iter().flat_map(|moved| [moved.weight, moved.by].into_iter().chain(moved.memory));
    let all: Vec<_> = all.collect();
    all.is_empty() || has_kernels(&all)
}

/// `y ← a · x + b · y` for each `y` that moves by its `x`.
///
/// # Errors
/// When the shapes differ, or a `y` is not contiguous.
pub fn axpby_(moved: &[Moved<'_, 0>], a: f64, b: f64) -> Result<()> {
    if by_kernels(moved) {
        return Ok(named("axpby", || fast::axpby_(moved, a, b))?);
    }
    moved.iter().try_for_each(|&Moved { weight: y, by: x, .. }| {
        let sum = ((x.detach() * a)? + (y.detach() * b)?)?;
        store(y, &sum)
    })
}

/// One step of stochastic gradient descent.
///
/// # Source
/// Sutskever et al., 2013, section 2, in PyTorch's form: the learning rate stands outside the velocity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// How much of the velocity stays.
    pub momentum: f64,
    /// How much of the gradient the velocity does *not* take; PyTorch takes all of the first.
    pub dampening: f64,
    /// Times the weight, added to its gradient.
    pub weight_decay: f64,
    /// Whether to look one step of the velocity ahead.
    pub nesterov: bool,
}

/// Each weight and its velocity take a step.
///
/// # Errors
/// When the shapes differ, or a tensor to be written is not contiguous.
pub fn sgd_(moved: &[Moved<'_, 1>], step: &SgdStep) -> Result<()> {
    if by_kernels(moved) {
        return Ok(named("sgd", || fast::sgd_(moved, step))?);
    }
    moved.iter().try_for_each(|&Moved { weight, memory: [velocity], by }| {
        let (old, grad) = (weight.detach(), by.detach());
        let grad = (&grad + (&old * step.weight_decay)?)?;
        let fast = ((velocity.detach() * step.momentum)? + (&grad * (1.0 - step.dampening))?)?;
        let way = if step.nesterov { (grad + (&fast * step.momentum)?)? } else { fast.clone() };
        store(velocity, &fast)?;
        store(weight, &(old - (way * step.lr)?)?)
    })
}

/// One step of Adam.
///
/// # Source
/// Kingma and Ba, 2015 (arXiv:1412.6980), algorithm 1; decoupled decay: Loshchilov and Hutter, 2019
/// (arXiv:1711.05101), algorithm 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// How much of the first and of the second moment stays.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Times the weight, added to its gradient.
    pub weight_decay: f64,
    /// Whether the decay acts on the weight beside the step (`AdamW`) instead of in the gradient.
    pub decoupled: bool,
    /// How many steps this one makes, from 1.
    pub count: u64,
}

/// Each weight and its two moments take a step.
///
/// # Errors
/// When the shapes differ, or a tensor to be written is not contiguous.
pub fn adam_(moved: &[Moved<'_, 2>], step: &AdamStep) -> Result<()> {
    if by_kernels(moved) {
        return Ok(named("adam", || fast::adam_(moved, step))?);
    }
    let [beta1, beta2] = step.betas;
    let unbiased = |beta: f64| 1.0 - beta.powf(step.count as f64);
    moved.iter().try_for_each(|&Moved { weight, memory: [first, second], by }| {
        let (mut old, mut grad) = (weight.detach(), by.detach());
        if step.decoupled {
            old = (old * (1.0 - step.lr * step.weight_decay))?;
        } else {
            grad = (grad + (&old * step.weight_decay)?)?;
        }
        let mean = ((first.detach() * beta1)? + (&grad * (1.0 - beta1))?)?;
        let square = ((second.detach() * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
        let scale = ((&square / unbiased(beta2))?.sqrt()? + step.eps)?;
        let way = ((&mean / scale)? * (step.lr / unbiased(beta1)))?;
        store(first, &mean)?;
        store(second, &square)?;
        store(weight, &(old - way)?)
    })
}

fn store(into: &Tensor, values: &Tensor) -> Result<()> {
    if !into.is_contiguous() {
        // Flattened, it would be a copy, and the step lost.
        return Err(candle::Error::RequiresContiguous { op: "an update in place" }.into());
    }
    Ok(into.flatten_all()?.slice_set(&values.flatten_all()?, 0, 0)?)
}
