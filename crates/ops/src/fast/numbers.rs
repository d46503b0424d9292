//! From tensors to slices of numbers and back: what every kernel here stands on.

use crate::threads;
use candle::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Tensor};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use std::mem::MaybeUninit;

/// Below this many numbers, waking another thread costs more than it brings.
pub(super) const WORTH_SHARING: usize = 1 << 15;

/// Runs `work` on every chunk of `out`, sharing them among the threads.
///
/// A chunk is always the work of one thread, and chunks do not depend on how many threads there are; neither, then,
/// do the results.
pub(super) fn share<T: Send>(out: &mut [T], chunk: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let worth = out.len() >= WORTH_SHARING;
    let pieces = out.chunks_mut(chunk.max(1)).enumerate();
    share_pieces(pieces, worth, |(index, out)| work(index, out));
}

/// Runs `work` on every piece, sharing them among the threads where that is worth it.
pub(super) fn share_pieces<T: Send>(pieces: impl Iterator<Item = T>, worth: bool, work: impl Fn(T) + Sync) {
    if worth && threads() > 1 {
        pieces.collect::<Vec<_>>().into_par_iter().for_each(&work);
    } else {
        pieces.for_each(&work);
    }
}

/// `length` numbers that `work` writes, chunk by chunk. Big maps are bound by memory: to write zeros first would cost
/// a third of some operations.
///
/// # Safety
/// `work` must write all of each chunk.
pub(super) unsafe fn filled(
    length: usize,
    chunk: usize,
    work: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(length);
    share(&mut out.spare_capacity_mut()[..length], chunk, work);
    // SAFETY: `work` has written them.
    unsafe { out.set_len(length) };
    out
}

/// Chunks for work on single numbers: a few pages each.
pub(super) const PAGES: usize = 1 << 13;

/// `f` of each number.
pub(super) fn map(x: &[f32], f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
        for (out, &x) in out.iter_mut().zip(&x[index * PAGES..]) {
            out.write(f(x));
        }
    };
    // SAFETY: every chunk is as long as what is left of `x`, or `PAGES`.
    unsafe { filled(x.len(), PAGES, work) }
}

/// `f` of each pair of numbers.
pub(super) fn zip(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    assert_eq!(x.len(), y.len(), "pairs of numbers");
    let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
        for ((out, &x), &y) in out.iter_mut().zip(&x[index * PAGES..]).zip(&y[index * PAGES..]) {
            out.write(f(x, y));
        }
    };
    // SAFETY: as in `map`, and `y` is as long as `x`.
    unsafe { filled(x.len(), PAGES, work) }
}

/// The numbers of a contiguous tensor.
pub(super) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::RequiresContiguous { op: "a kernel on single precision" }.bt());
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// The numbers of a contiguous tensor, to be written.
pub(super) fn floats_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::RequiresContiguous { op: "a kernel that writes in place" }.bt());
    };
    match storage {
        CpuStorage::F32(all) => Ok(&mut all[start..end]),
        other => Err(Error::Msg(format!(
            "a kernel on single precision got {:?}",
            candle::backend::BackendStorage::dtype(other)
        ))
        .bt()),
    }
}

/// `N` numbers in a row.
#[inline(always)]
pub(super) fn row<const N: usize>(numbers: &[f32], start: usize) -> &[f32; N] {
    numbers[start..start + N].first_chunk().expect("a slice of N numbers")
}

/// Work on a few channels of a pixel, of a number that the compiler knows: sums stay in registers.
pub(super) trait Channels {
    /// The channels from `first` to `first + N`.
    fn visit<const N: usize>(&mut self, first: usize);
}

/// Visits all channels, many at once.
#[inline(always)]
pub(super) fn visit_channels(channels: usize, work: &mut impl Channels) {
    let mut first = 0;
    while first + 64 <= channels {
        work.visit::<64>(first);
        first += 64;
    }
    while first + 16 <= channels {
        work.visit::<16>(first);
        first += 16;
    }
    while first < channels {
        work.visit::<1>(first);
        first += 1;
    }
}

/// A function of numbers as a custom operation.
struct Function<F, B> {
    name: &'static str,
    shape: Shape,
    forward: F,
    backward: B,
}

impl<F, B> CustomOp1 for Function<F, B>
where
    F: Fn(&[f32]) -> Vec<f32>,
    B: Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32((self.forward)(floats(x, layout)?)), self.shape.clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        (self.backward)(x, y, &grad.contiguous()?).map(Some)
    }
}

impl<F> CustomOp2 for Function<F, ()>
where
    F: Fn(&[f32], &[f32]) -> Vec<f32>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32((self.forward)(floats(a, al)?, floats(b, bl)?)), self.shape.clone()))
    }
}

impl<F> CustomOp3 for Function<F, ()>
where
    F: Fn(&[f32], &[f32], &[f32]) -> Vec<f32>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
        c: &CpuStorage,
        cl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let numbers = (self.forward)(floats(a, al)?, floats(b, bl)?, floats(c, cl)?);
        Ok((CpuStorage::F32(numbers), self.shape.clone()))
    }
}

/// `forward` of `x`'s numbers; `backward` makes `x`'s gradient of `x`, the result and the result's gradient.
pub(super) fn differentiable(
    name: &'static str,
    x: &Tensor,
    shape: impl Into<Shape>,
    forward: impl Fn(&[f32]) -> Vec<f32> + Send + Sync + 'static,
    backward: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Function { name, shape: shape.into(), forward, backward })
}

/// A function of two tensors' numbers, outside any graph.
pub(super) fn of_two(
    name: &'static str,
    a: &Tensor,
    b: &Tensor,
    shape: impl Into<Shape>,
    forward: impl Fn(&[f32], &[f32]) -> Vec<f32>,
) -> Result<Tensor> {
    a.contiguous()?
        .apply_op2_no_bwd(&b.contiguous()?, &Function { name, shape: shape.into(), forward, backward: () })
}

/// A function of three tensors' numbers, outside any graph.
pub(super) fn of_three(
    name: &'static str,
    [a, b, c]: [&Tensor; 3],
    shape: impl Into<Shape>,
    forward: impl Fn(&[f32], &[f32], &[f32]) -> Vec<f32>,
) -> Result<Tensor> {
    a.contiguous()?.apply_op3_no_bwd(
        &b.contiguous()?,
        &c.contiguous()?,
        &Function { name, shape: shape.into(), forward, backward: () },
    )
}
