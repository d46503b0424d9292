//! Kernels of convolutions as cuDNN reads them, and their gradients as we do: all of a pass at one launch, since on small networks a
//! launch each takes longer than the turning.

use super::launch::{Arg, Gpu, Kernel};
use super::work::{Firsts, Floats, MANY};
use crate::record::tensor;
use candle::{DType, Result, Storage, Tensor};
use sokd_core::scope;
use std::cell::{Cell, RefCell};

/// A matrix to be turned, and where it goes.
#[derive(Clone)]
pub(super) struct Turn {
    pub(super) from: Tensor,
    pub(super) to: Tensor,
    /// Rows and columns of `from`.
    pub(super) sizes: [usize; 2],
}

/// Turns matrices: to maps of this type from single precision, or the other way round.
pub(super) fn turn_all(gpu: &Gpu, kernel: &'static str, map: DType, turns: &[Turn]) -> Result<()> {
    for turns in turns.chunks(MANY) {
        let (firsts, count) = Firsts::of(turns.iter().map(|turn| &turn.from))?;
        let sizes = [0, 1].map(|axis| Floats::of(turns.iter().map(|turn| turn.sizes[axis] as f64)));
        let mut args = vec![
            Arg::ChangeAll(turns.iter().map(|turn| &turn.to).collect()),
            Arg::ChangeAll(turns.iter().map(|turn| &turn.from).collect()),
            Arg::Firsts(Box::new(firsts)),
            Arg::Int(count),
        ];
        args.extend(sizes.map(|sizes| Arg::Floats(Box::new(sizes))));
        gpu.launch(Kernel::over(map, kernel), Gpu::blocks(count, super::launch::LANES), args)?;
    }
    Ok(())
}

/// A kernel that a pass asks for, in the type of its maps.
#[derive(Clone)]
struct Wanted {
    kernel: Tensor,
    map: DType,
    sizes: [usize; 2],
}

/// A kernel that was turned in this pass, and whether the pass has asked for it.
struct Ready {
    wanted: Wanted,
    turned: Tensor,
    asked: bool,
}

thread_local! {
    /// While a pass goes on, through which weights stand still.
    static PASS: Cell<Option<Vec<Ready>>> = const { Cell::new(None) };
    /// By the last pass: the next will want the same.
    static WANTED: RefCell<Vec<Wanted>> = RefCell::default();
    /// Gradients that are turned when the way back is over.
    static LATER: Cell<Option<Vec<(DType, Turn)>>> = const { Cell::new(None) };
}

/// A pass in this thread, through which weights stand still.
pub(crate) fn pass<R>(work: impl FnOnce() -> R) -> R {
    scope(&PASS, Some(Vec::new()), || {
        let result = work();
        let asked = PASS.take().into_iter().flatten().filter(|ready| ready.asked);
        WANTED.set(asked.map(|ready| ready.wanted).collect());
        result
    })
}

/// `(rows, columns)` → `(columns, rows)`, in the type of maps: with all that the last pass wanted, if this is one of them.
pub(super) fn turned(gpu: &Gpu, kernel: &Tensor, map: DType, sizes: [usize; 2]) -> Result<Tensor> {
    let own = Wanted { kernel: kernel.contiguous()?, map, sizes };
    let Some(mut pass) = PASS.take() else { return Ok(turn(gpu, vec![own])?.remove(0).turned) };
    let turned = ask(gpu, &mut pass, &own);
    PASS.set(Some(pass));
    turned
}

fn ask(gpu: &Gpu, pass: &mut Vec<Ready>, own: &Wanted) -> Result<Tensor> {
    let is_own = |wanted: &Wanted| wanted.kernel.id() == own.kernel.id() && wanted.map == own.map;
    if !pass.iter().any(|ready| is_own(&ready.wanted)) {
        let mut wanted = WANTED.take();
        if !wanted.iter().any(is_own) {
            WANTED.set(std::mem::replace(&mut wanted, vec![own.clone()]));
        }
        pass.extend(turn(gpu, wanted)?);
    }
    let Some(ready) = pass.iter_mut().find(|ready| is_own(&ready.wanted)) else {
        candle::bail!("a kernel that was turned is not there")
    };
    ready.asked = true;
    Ok(ready.turned.clone())
}

fn turn(gpu: &Gpu, wanted: Vec<Wanted>) -> Result<Vec<Ready>> {
    let room = |wanted: Wanted| {
        let count = wanted.kernel.elem_count();
        let turned = tensor(gpu.room_of(wanted.map, count)?, count);
        Ok(Ready { wanted, turned, asked: false })
    };
    let all = wanted.into_iter().map(room).collect::<Result<Vec<_>>>()?;
    for map in [DType::F32, DType::BF16] {
        let of_map = all.iter().filter(|ready| ready.wanted.map == map);
        let turns = of_map.map(|Ready { wanted, turned, .. }| Turn {
            from: wanted.kernel.clone(),
            to: turned.clone(),
            sizes: wanted.sizes,
        });
        turn_all(gpu, "turn_to", map, &turns.collect::<Vec<_>>())?;
    }
    Ok(all)
}

/// A way back in this thread, at whose end what was put off is done.
pub(crate) fn way_back<R>(work: impl FnOnce() -> R) -> R {
    scope(&LATER, Some(Vec::new()), work)
}

/// `(columns, rows)` → `(rows, columns)` in single precision, of the gradient of a kernel: now, or, on a way back, when it is
/// [settled](settle).
pub(super) fn turned_back(gpu: &Gpu, gradient: Tensor, [rows, columns]: [usize; 2]) -> Result<Tensor> {
    let to = tensor(gpu.room(rows * columns)?, rows * columns);
    let (map, turn) = (gradient.dtype(), Turn { from: gradient, to: to.clone(), sizes: [columns, rows] });
    match LATER.take() {
        Some(mut later) => {
            later.push((map, turn));
            LATER.set(Some(later));
        }
        None => turn_all(gpu, "turn_back", map, &[turn])?,
    }
    Ok(to)
}

/// Turns what was put off, before anyone reads it.
pub(crate) fn settle() -> Result<()> {
    let Some(later) = LATER.take() else { return Ok(()) };
    LATER.set(Some(Vec::new()));
    let Some(gpu) = later.first().and_then(|(_, turn)| Gpu::of(&[&turn.to])) else { return Ok(()) };
    for map in [DType::F32, DType::BF16] {
        let turns: Vec<Turn> =
            later.iter().filter(|(of, _)| *of == map).map(|(_, turn)| turn.clone()).collect();
        turn_all(&gpu, "turn_back", map, &turns)?;
    }
    Ok(())
}

/// Whether a gradient is one that was put off.
pub(crate) fn is_put_off(gradient: &Tensor) -> bool {
    let place = |tensor: &Tensor| std::ptr::from_ref::<Storage>(&tensor.storage_and_layout().0);
    let later = LATER.take();
    let found = later.iter().flatten().any(|(_, turn)| place(&turn.to) == place(gradient));
    LATER.set(later);
    found
}

#[cfg(all(test, feature = "mirror"))]
mod tests {
    use super::*;
    use crate::{Backend, with_backend};
    use candle::Device;

    fn matrix(rows: usize, columns: usize) -> Result<Tensor> {
        Tensor::arange(0f32, (rows * columns) as f32, &Device::Cpu)?.reshape((rows, columns))
    }

    fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
        Ok(a.flatten_all()?.to_vec1::<f32>()? == b.flatten_all()?.to_vec1::<f32>()?)
    }

    /// More than one launch takes, of many sizes; by the second pass, all at the first word.
    #[test]
    fn kernels_are_turned_with_those_of_the_last_pass() -> Result<()> {
        let kernels = (0..70).map(|at| matrix(1 + at % 7, 3 + at)).collect::<Result<Vec<_>>>()?;
        with_backend(Backend::Mirror, || {
            let gpu = Gpu::of(&[&kernels[0]]).expect("the mirror");
            let ask = |kernel: &Tensor| turned(&gpu, kernel, DType::F32, kernel.dims2()?.into());
            let look = |asked: &[Tensor]| -> Result<()> {
                for kernel in asked {
                    assert!(same(&ask(kernel)?, &kernel.t()?.contiguous()?)?);
                }
                Ok(())
            };
            look(&kernels[..3])?;
            assert!(PASS.take().is_none(), "outside of a pass nothing is kept");
            pass(|| look(&kernels))?;
            pass(|| {
                look(&kernels[..1])?;
                let all = PASS.take().expect("a pass");
                assert_eq!(all.len(), 70);
                PASS.set(Some(all));
                look(&kernels[60..])
            })?;
            // What the last pass did not ask for is turned by itself.
            pass(|| {
                look(&kernels[..1])?;
                let some = PASS.take().expect("a pass");
                assert_eq!(some.len(), 11);
                PASS.set(Some(some));
                look(&kernels)
            })
        })
    }

    #[test]
    fn gradients_are_turned_when_someone_reads_them() -> Result<()> {
        with_backend(Backend::Mirror, || {
            let gradient = matrix(4, 6)?;
            let gpu = Gpu::of(&[&gradient]).expect("the mirror");
            let due = gradient.t()?.contiguous()?;
            assert!(same(&turned_back(&gpu, gradient.clone(), [6, 4])?, &due)?, "at once");
            way_back(|| {
                let later = turned_back(&gpu, gradient.clone(), [6, 4])?;
                assert!(
                    is_put_off(&later.reshape((6, 4))?) && !is_put_off(&gradient) && !same(&later, &due)?
                );
                settle()?;
                assert!(same(&later, &due)? && !is_put_off(&later));
                Ok(())
            })
        })
    }
}
