use super::numbers::{PAGES, WORTH_SHARING, share_pieces};
use crate::gpu::{Arg, Gpu};
use crate::record;
use crate::{AdamStep, Moved, Rates, SgdStep};
use candle::{CpuStorage, Error, InplaceOp1, Layout, Result, Storage, Tensor};
use std::cell::RefCell;

/// With what stands at `by` for `a`, where a GPU knows it.
pub(crate) fn axpby_(moved: &[Moved<'_, 0>], by: Option<&Tensor>, a: f64, b: f64) -> Result<()> {
    let by_gpu = |gpu: &Gpu, moved: &[Moved<'_, 0>]| {
        gpu.change("axpby", moved, || vec![Arg::Read(by), Arg::Float(a), Arg::Float(b)])
    };
    let (a, b) = (a as f32, b as f32);
    write(moved, by_gpu, |y, [], x| {
        let pieces = y.chunks_mut(PAGES).zip(x.chunks(PAGES));
        share_pieces(pieces, x.len() >= WORTH_SHARING, |(y, x)| {
            for (y, x) in y.iter_mut().zip(x) {
                *y = if b == 0.0 { a * x } else { a * x + b * *y };
            }
        });
    })
}

pub(crate) fn sgd_(moved: &[Moved<'_, 1>], step: &SgdStep, rates: &mut Rates) -> Result<()> {
    let numbers = step.numbers();
    let ([lr, momentum, take, decay, ..], nesterov) = (numbers, step.nesterov);
    write(moved, paced("sgd", &numbers, rates), |weight, [velocity], grad| {
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

pub(crate) fn adam_(moved: &[Moved<'_, 2>], step: &AdamStep, rates: &mut Rates) -> Result<()> {
    let numbers = step.numbers();
    let [beta1, beta2, take1, take2, keep, decay, rate, root, eps] = numbers;
    write(moved, paced("adam", &numbers, rates), |weight, [first, second], grad| {
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

/// A kernel that reads its numbers where they were put.
fn paced<'a, const N: usize>(
    kernel: &'static str,
    numbers: &'a [f32],
    rates: &'a mut Rates,
) -> impl FnOnce(&Gpu, &[Moved<'_, N>]) -> Result<()> + 'a {
    move |gpu, moved| {
        let Some(first) = moved.first() else { return Ok(()) };
        rates.put(numbers, first.weight).map_err(Error::wrap)?;
        gpu.change(kernel, moved, || vec![Arg::Read(rates.place())])
    }
}

/// Runs `work` on the numbers of each weight, of its memory, whose storages others share, and of what it moves by; or what a GPU
/// that has them does instead.
fn write<const N: usize>(
    moved: &[Moved<'_, N>],
    by_gpu: impl FnOnce(&Gpu, &[Moved<'_, N>]) -> Result<()>,
    work: impl Fn(&mut [f32], [&mut [f32]; N], &[f32]),
) -> Result<()> {
    moved.iter().try_for_each(check)?;
    let by = moved.iter().map(|moved| moved.by.contiguous()).collect::<Result<Vec<_>>>()?;
    let moved: Vec<_> = moved.iter().zip(&by).map(|(moved, by)| Moved { by, ..*moved }).collect();
    if let Some(gpu) = by.first().and_then(|by| Gpu::of(&[by])) {
        return by_gpu(&gpu, &moved);
    }
    for Moved { weight, memory, by } in moved {
        record::read([by], |[by]| {
            let work = |mut all: Vec<&mut [f32]>| {
                let memory = all.split_off(1);
                if let (Some(weight), Ok(memory)) = (all.pop(), memory.try_into()) {
                    work(weight, memory, by);
                }
            };
            let written: Vec<_> = std::iter::once(weight).chain(memory).collect();
            open(&written, Vec::new(), &work)
        })??;
    }
    Ok(())
}

/// Whether a weight can move where it is.
fn check<const N: usize>(moved: &Moved<'_, N>) -> Result<()> {
    let written = || std::iter::once(moved.weight).chain(moved.memory);
    // Asking for a storage twice would wait forever.
    let keys = written()
        .chain([moved.by])
        .map(|tensor| std::ptr::from_ref::<Storage>(&tensor.storage_and_layout().0));
    let keys: Vec<_> = keys.collect();
    if (1..keys.len()).any(|i| keys[..i].contains(&keys[i])) {
        return Err(Error::Msg("an update in place of tensors that share their storage".into()).bt());
    }
    if let Some(odd) = written().find(|tensor| tensor.shape() != moved.by.shape()) {
        return Err(Error::ShapeMismatchBinaryOp {
            lhs: odd.shape().clone(),
            rhs: moved.by.shape().clone(),
            op: "an update in place",
        }
        .bt());
    }
    if !written().all(Tensor::is_contiguous) {
        return Err(Error::RequiresContiguous { op: "an update in place" }.bt());
    }
    Ok(())
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
