use crate::backend::has_kernels;
use crate::fast;
use crate::spent::named;
use candle::Tensor;
use sokd_core::Result;

/// `y ← a · x + b · y`, in the storage that `y` shares with whoever else holds it.
///
/// # Errors
/// When the shapes differ, or `y` is not contiguous.
pub fn axpby_(y: &Tensor, a: f64, x: &Tensor, b: f64) -> Result<()> {
    if has_kernels(&[x, y]) {
        return Ok(named("axpby", || fast::axpby_(y, a, x, b))?);
    }
    let sum = ((x.detach() * a)? + (y.detach() * b)?)?;
    store(y, &sum)
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

/// `weight` and `velocity` take a step, both in place.
///
/// # Errors
/// When the shapes differ, or a tensor to be written is not contiguous.
pub fn sgd_(weight: &Tensor, velocity: &Tensor, grad: &Tensor, step: &SgdStep) -> Result<()> {
    if has_kernels(&[weight, velocity, grad]) {
        return Ok(named("sgd", || fast::sgd_(weight, velocity, grad, step))?);
    }
    let (old, grad) = (weight.detach(), grad.detach());
    let grad = (&grad + (&old * step.weight_decay)?)?;
    let fast = ((velocity.detach() * step.momentum)? + (&grad * (1.0 - step.dampening))?)?;
    let way = if step.nesterov { (grad + (&fast * step.momentum)?)? } else { fast.clone() };
    store(velocity, &fast)?;
    store(weight, &(old - (way * step.lr)?)?)
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

/// `weight` and its moments take a step, all in place.
///
/// # Errors
/// When the shapes differ, or a tensor to be written is not contiguous.
pub fn adam_(weight: &Tensor, first: &Tensor, second: &Tensor, grad: &Tensor, step: &AdamStep) -> Result<()> {
    if has_kernels(&[weight, first, second, grad]) {
        return Ok(named("adam", || fast::adam_(weight, first, second, grad, step))?);
    }
    let [beta1, beta2] = step.betas;
    let (mut old, mut grad) = (weight.detach(), grad.detach());
    if step.decoupled {
        old = (old * (1.0 - step.lr * step.weight_decay))?;
    } else {
        grad = (grad + (&old * step.weight_decay)?)?;
    }
    let mean = ((first.detach() * beta1)? + (&grad * (1.0 - beta1))?)?;
    let square = ((second.detach() * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
    let unbiased = |beta: f64| 1.0 - beta.powf(step.count as f64);
    let scale = ((&square / unbiased(beta2))?.sqrt()? + step.eps)?;
    let way = ((&mean / scale)? * (step.lr / unbiased(beta1)))?;
    store(first, &mean)?;
    store(second, &square)?;
    store(weight, &(old - way)?)
}

fn store(into: &Tensor, values: &Tensor) -> Result<()> {
    if !into.is_contiguous() {
        // Flattened, it would be a copy, and the step lost.
        return Err(candle::Error::RequiresContiguous { op: "an update in place" }.into());
    }
    Ok(into.flatten_all()?.slice_set(&values.flatten_all()?, 0, 0)?)
}
