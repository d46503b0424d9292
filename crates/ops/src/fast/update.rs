use super::numbers::{PAGES, WORTH_SHARING, share_pieces};
use crate::gpu::{Arg, Gpu};
use crate::record;
use crate::{AdamStep, SgdStep};
use candle::{CpuStorage, Error, InplaceOp1, Layout, Result, Storage, Tensor};
use std::cell::RefCell;

pub(crate) fn axpby_(y: &Tensor, a: f64, x: &Tensor, b: f64) -> Result<()> {
    let there = |gpu: &Gpu, x: &Tensor| gpu.change("axpby", [y], x, [a, b].map(Arg::Float));
    let (a, b) = (a as f32, b as f32);
    write([y], x, there, |[y], x| {
        let pieces = y.chunks_mut(PAGES).zip(x.chunks(PAGES));
        share_pieces(pieces, x.len() >= WORTH_SHARING, |(y, x)| {
            for (y, x) in y.iter_mut().zip(x) {
                *y = a * x + b * *y;
            }
        });
    })
}

pub(crate) fn sgd_(weight: &Tensor, velocity: &Tensor, grad: &Tensor, step: &SgdStep) -> Result<()> {
    let (lr, momentum, decay) = (step.lr as f32, step.momentum as f32, step.weight_decay as f32);
    let (take, nesterov) = ((1.0 - step.dampening) as f32, step.nesterov);
    let there = |gpu: &Gpu, grad: &Tensor| {
        let [lr, momentum, take, decay] = [lr, momentum, take, decay].map(f64::from).map(Arg::Float);
        gpu.change("sgd", [weight, velocity], grad, [lr, momentum, take, decay, Arg::Int(nesterov.into())])
    };
    write([weight, velocity], grad, there, |[weight, velocity], grad| {
        let pieces = weight.chunks_mut(PAGES).zip(velocity.chunks_mut(PAGES)).zip(grad.chunks(PAGES));
        share_pieces(pieces, grad.len() >= WORTH_SHARING, |((weight, velocity), grad)| {
            for ((weight, velocity), grad) in weight.iter_mut().zip(velocity).zip(grad) {
                let grad = grad + decay * *weight;
                *velocity = momentum * *velocity + take * grad;
                *weight -= lr * if nesterov { grad + momentum * *velocity } else { *velocity };
            }
        });
    })
}

pub(crate) fn adam_(
    weight: &Tensor,
    first: &Tensor,
    second: &Tensor,
    grad: &Tensor,
    step: &AdamStep,
) -> Result<()> {
    let unbiased = |beta: f64| 1.0 - beta.powf(step.count as f64);
    let [beta1, beta2] = step.betas.map(|beta| beta as f32);
    // In double precision: 1 − 0.999 of single ones is off in the fifth digit.
    let [take1, take2] = step.betas.map(|beta| (1.0 - beta) as f32);
    let (rate, root) = ((step.lr / unbiased(step.betas[0])) as f32, unbiased(step.betas[1]).sqrt() as f32);
    let (eps, decay) = (step.eps as f32, step.weight_decay);
    let (keep, decay) = if step.decoupled { (1.0 - step.lr * decay, 0.0) } else { (1.0, decay) };
    let (keep, decay) = (keep as f32, decay as f32);
    let there = |gpu: &Gpu, grad: &Tensor| {
        let rates = [beta1, beta2, take1, take2, keep, decay, rate, root, eps].map(f64::from).map(Arg::Float);
        gpu.change("adam", [weight, first, second], grad, rates)
    };
    write([weight, first, second], grad, there, |[weight, first, second], grad| {
        let moments = first.chunks_mut(PAGES).zip(second.chunks_mut(PAGES));
        let pieces = weight.chunks_mut(PAGES).zip(moments).zip(grad.chunks(PAGES));
        share_pieces(pieces, grad.len() >= WORTH_SHARING, |((weight, (first, second)), grad)| {
            let moments = first.iter_mut().zip(second);
            for ((weight, (first, second)), grad) in weight.iter_mut().zip(moments).zip(grad) {
                let grad = grad + decay * *weight;
                *first = beta1 * *first + take1 * grad;
                *second = beta2 * *second + take2 * grad * grad;
                *weight = keep * *weight - rate * *first / (second.sqrt() / root + eps);
            }
        });
    })
}

/// Runs `work` on the numbers of `written`, whose storages others share, and on those of `read`; or `there`, where a GPU has
/// them.
fn write<const N: usize>(
    written: [&Tensor; N],
    read: &Tensor,
    there: impl FnOnce(&Gpu, &Tensor) -> Result<()>,
    work: impl Fn([&mut [f32]; N], &[f32]),
) -> Result<()> {
    // Asking for a storage twice would wait forever.
    let keys = written
        .iter()
        .chain([&read])
        .map(|tensor| std::ptr::from_ref::<Storage>(&tensor.storage_and_layout().0));
    let keys: Vec<_> = keys.collect();
    if (1..keys.len()).any(|i| keys[..i].contains(&keys[i])) {
        return Err(Error::Msg("an update in place of tensors that share their storage".into()).bt());
    }
    if let Some(odd) = written.iter().find(|tensor| tensor.shape() != read.shape()) {
        return Err(Error::ShapeMismatchBinaryOp {
            lhs: odd.shape().clone(),
            rhs: read.shape().clone(),
            op: "an update in place",
        }
        .bt());
    }
    if !written.iter().all(|tensor| tensor.is_contiguous()) {
        return Err(Error::RequiresContiguous { op: "an update in place" }.bt());
    }
    let read = &read.contiguous()?;
    if let Some(gpu) = Gpu::of(&[read]) {
        return there(&gpu, read);
    }
    record::read([read], |[read]| {
        let work = |all: Vec<&mut [f32]>| {
            if let Ok(all) = <[_; N]>::try_from(all) {
                work(all, read);
            }
        };
        open(&written, Vec::new(), &work)
    })?
}

/// candle lends one storage to be written at a time: each is opened inside the loan of the one before.
fn open(tensors: &[&Tensor], opened: Vec<&mut [f32]>, work: &dyn Fn(Vec<&mut [f32]>)) -> Result<()> {
    match tensors {
        [] => {
            work(opened);
            Ok(())
        }
        [first, rest @ ..] => first.inplace_op1(&Loan { rest, opened: RefCell::new(opened), work }),
    }
}

struct Loan<'a> {
    rest: &'a [&'a Tensor],
    opened: RefCell<Vec<&'a mut [f32]>>,
    work: &'a dyn Fn(Vec<&mut [f32]>),
}

impl InplaceOp1 for Loan<'_> {
    fn name(&self) -> &'static str {
        "update-in-place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(storage), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle::bail!("an update in place needs contiguous tensors in single precision");
        };
        let mut opened: Vec<&mut [f32]> = self.opened.take();
        opened.push(&mut storage[start..end]);
        open(self.rest, opened, self.work)
    }
}
