use crate::backend::{gpu_for, has_kernels};
use crate::fast;
use crate::gpu::Gpu;
use crate::spent::named;
use candle::{DType, Device, Tensor};
use sokd_core::{Error, Result};

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

/// `y ← a · x + b · y` for each `y` that moves by its `x`. Where `b` is 0, what `y` was is nothing to it, not even a NaN.
///
/// # Errors
/// When the shapes differ, or a `y` is not contiguous.
pub fn axpby_(moved: &[Moved<'_, 0>], a: f64, b: f64) -> Result<()> {
    if by_kernels(moved) {
        return Ok(named("axpby", || fast::axpby_(moved, None, a, b))?);
    }
    moved.iter().try_for_each(|&Moved { weight: y, by: x, .. }| {
        let way = (x.detach() * a)?;
        put_(y, &if b == 0.0 { way } else { (way + (y.detach() * b)?)? })
    })
}

/// `y ← a · x + y` for each `y` that moves by its `x`, with an `a` that is found on the way: a GPU that has found it is not waited
/// for.
///
/// # Shapes
/// `a`: `()`.
///
/// # Errors
/// As those of [`axpby_`].
pub fn lean_(moved: &[Moved<'_, 0>], a: &Tensor) -> Result<()> {
    if by_kernels(moved) && gpu_for(&[a]).is_some() {
        return Ok(named("axpby", || fast::axpby_(moved, Some(a), 1.0, 1.0))?);
    }
    // In double precision, which not every device knows.
    axpby_(moved, a.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar()?, 1.0)
}

/// The numbers that a step of an optimiser goes by, where a GPU reads them: told to do the step [again](crate::Replay), it goes
/// by those that were put there since. Elsewhere it is empty, and the step itself says them.
#[derive(Debug, Default)]
pub struct Rates {
    put: Vec<f32>,
    place: Option<Tensor>,
}

impl Rates {
    /// Puts numbers where the device that has `like` reads them, unless they are there already.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn put(&mut self, numbers: &[f32], like: &Tensor) -> Result<()> {
        if Gpu::of(&[like]).is_none() || self.put == numbers {
            return Ok(());
        }
        let sent = Tensor::new(numbers, like.device())?;
        match &self.place {
            Some(place) if place.dims() == sent.dims() => put_(place, &sent)?,
            _ => self.place = Some(sent),
        }
        self.put = numbers.to_vec();
        Ok(())
    }

    pub(crate) fn place(&self) -> Option<&Tensor> {
        self.place.as_ref()
    }
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

impl SgdStep {
    /// As the kernels have it: learning rate, momentum, what the velocity takes of the slope, decay; and how far a weight goes by
    /// the slope itself and by the velocity.
    pub fn numbers(&self) -> [f32; 6] {
        let [lr, momentum, decay] = [self.lr, self.momentum, self.weight_decay].map(|number| number as f32);
        let (now, then) = if self.nesterov { (1.0, momentum) } else { (0.0, 1.0) };
        [lr, momentum, (1.0 - self.dampening) as f32, decay, now, then]
    }
}

/// Each weight and its velocity take a step, by numbers that a GPU reads from `rates`.
///
/// # Errors
/// When the shapes differ, or a tensor to be written is not contiguous.
pub fn sgd_(moved: &[Moved<'_, 1>], step: &SgdStep, rates: &mut Rates) -> Result<()> {
    if by_kernels(moved) {
        return Ok(named("sgd", || fast::sgd_(moved, step, rates))?);
    }
    moved.iter().try_for_each(|&Moved { weight, memory: [velocity], by }| {
        let (old, grad) = (weight.detach(), by.detach());
        let grad = (&grad + (&old * step.weight_decay)?)?;
        let fast = ((velocity.detach() * step.momentum)? + (&grad * (1.0 - step.dampening))?)?;
        let way = if step.nesterov { (grad + (&fast * step.momentum)?)? } else { fast.clone() };
        put_(velocity, &fast)?;
        put_(weight, &(old - (way * step.lr)?)?)
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

impl AdamStep {
    /// As the kernels have it: what stays of each moment, what it takes, how much of the weight stays, the decay in its gradient,
    /// the rate, the root of what the second moment is short of, and what is added to its own.
    pub fn numbers(&self) -> [f32; 9] {
        let unbiased = |beta: f64| 1.0 - beta.powf(self.count as f64);
        let [beta1, beta2] = self.betas.map(|beta| beta as f32);
        // In double precision: 1 − 0.999 of single ones is off in the fifth digit.
        let [take1, take2] = self.betas.map(|beta| (1.0 - beta) as f32);
        let (rate, root) = (self.lr / unbiased(self.betas[0]), unbiased(self.betas[1]).sqrt());
        let decay = self.weight_decay;
        let (keep, decay) = if self.decoupled { (1.0 - self.lr * decay, 0.0) } else { (1.0, decay) };
        [beta1, beta2, take1, take2, keep as f32, decay as f32, rate as f32, root as f32, self.eps as f32]
    }
}

/// Each weight and its two moments take a step, by numbers that a GPU reads from `rates`.
///
/// # Errors
/// When the shapes differ, or a tensor to be written is not contiguous.
pub fn adam_(moved: &[Moved<'_, 2>], step: &AdamStep, rates: &mut Rates) -> Result<()> {
    if by_kernels(moved) {
        return Ok(named("adam", || fast::adam_(moved, step, rates))?);
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
        put_(first, &mean)?;
        put_(second, &square)?;
        put_(weight, &(old - way)?)
    })
}

/// Puts rows in the place of some of a tensor's own, for whoever shares its storage: of rows for one place the last.
///
/// # Shapes
/// `place`: `(all, width)` or `(all,)`; `rows`: `(some,)`, `u32`, each below `all`; `values`: `(some, width)` or `(some,)`.
///
/// # Errors
/// When the widths differ, or `place` is not contiguous; for a row that is not there, where this machine does it.
pub fn put_rows_(place: &Tensor, rows: &Tensor, values: &Tensor) -> Result<()> {
    let (place, values) = (place.detach(), values.detach().contiguous()?);
    let count = rows.dim(0)?;
    if place.dims()[1..] != values.dims()[1..] || values.dim(0)? != count || !place.is_contiguous() {
        let (expected, got) = (format!("({count}, ..) of {:?}", place.dims()), values.dims().to_vec());
        return Err(Error::Shape { what: "rows to be put", expected, got });
    }
    if let Some(gpu) = gpu_for(&[&place, &values]) {
        return Ok(named("put rows", || gpu.put_rows(&place, &rows.contiguous()?, &values))?);
    }
    for (at, row) in rows.to_vec1::<u32>()?.into_iter().enumerate() {
        place.slice_set(&values.narrow(0, at, 1)?, 0, row as usize)?;
    }
    Ok(())
}

/// Puts numbers in the place of a tensor's own, for whoever shares its storage.
///
/// # Errors
/// When the sizes differ, or `place` is not contiguous.
pub fn put_(place: &Tensor, numbers: &Tensor) -> Result<()> {
    if !place.is_contiguous() {
        // Flattened, it would be a copy, and the numbers lost.
        return Err(candle::Error::RequiresContiguous { op: "an update in place" }.into());
    }
    Ok(place.flatten_all()?.slice_set(&numbers.detach().flatten_all()?, 0, 0)?)
}
