//! Weights that stand apart from candle's graph.
//!
//! Candle adds the gradient of a weight to zeros that it makes for the purpose, three passes over memory and, on a GPU, two
//! operations for each weight; and as nodes of the graph weights ask for tokens of their own ([`super`]). No order among nodes
//! depends on them: so whoever goes back by [`backward`] may keep them out.

use super::graph::tokens_of;
use super::sum_of_gradients;
use crate::gpu::turn;
use candle::backprop::GradStore;
use candle::{Device, DeviceLocation, Result, Tensor, TensorId, Var};
use sokd_core::scope;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

type Gathered = HashMap<TensorId, (Tensor, Tensor)>;

thread_local! {
    static APART: Cell<bool> = const { Cell::new(false) };
    static GATHERED: Cell<Option<Gathered>> = const { Cell::new(None) };
    static ANCHORS: RefCell<HashMap<DeviceLocation, Var>> = RefCell::default();
}

/// Runs `work` with variables apart from the graph of our operations, in this thread: what `work` records is gone back through by
/// [`backward`] alone, without the passes over memory that candle spends on each weight. Meanwhile the kernels of convolutions stand
/// still: whatever a GPU makes of them once holds for all of `work`.
pub fn with_leaves_apart<R>(work: impl FnOnce() -> R) -> R {
    scope(&APART, true, || turn::pass(work))
}

/// The gradients that `work` finds, those of variables that stand [apart](with_leaves_apart) among them.
///
/// # Errors
/// Those of `work`.
pub fn backward(work: impl FnOnce() -> sokd_core::Result<GradStore>) -> sokd_core::Result<GradStore> {
    let back = || {
        let mut grads = work()?;
        turn::settle()?;
        for (leaf, gradient) in GATHERED.take().into_iter().flat_map(Gathered::into_values) {
            let gradient = match grads.remove(&leaf) {
                Some(other) => sum_of_gradients(&other, &gradient)?,
                None => gradient,
            };
            grads.insert(&leaf, gradient);
        }
        Ok(grads)
    };
    scope(&GATHERED, Some(Gathered::new()), || turn::way_back(back))
}

/// Whether an argument stands apart from what is recorded now.
pub(super) fn is_apart(argument: &Tensor) -> bool {
    APART.get() && argument.is_variable()
}

/// Takes in the gradient of a variable that stands apart.
pub(super) fn gather(leaf: &Tensor, gradient: Tensor) -> Result<()> {
    let Some(mut gathered) = GATHERED.take() else {
        candle::bail!(
            "the weights stand apart from this graph: go back through it by `sokd_ops::backward`, or record it without \
             `with_leaves_apart`"
        )
    };
    let gradient = match gathered.remove(&leaf.id()) {
        Some((_, other)) => {
            turn::settle()?;
            sum_of_gradients(&other, &gradient)?
        }
        None => gradient,
    };
    gathered.insert(leaf.id(), (leaf.clone(), gradient));
    GATHERED.set(Some(gathered));
    Ok(())
}

/// What an operation hangs on in the graph that is on nothing but weights.
pub(super) fn anchor(device: &Device) -> Result<Tensor> {
    ANCHORS.with_borrow_mut(|anchors| {
        let device = tokens_of(device)?;
        let known = anchors.get(&device.location()).filter(|known| known.device().same_device(&device));
        let anchor = match known {
            Some(anchor) => anchor.clone(),
            None => Var::zeros(1, candle::DType::F32, &device)?,
        };
        anchors.insert(device.location(), anchor.clone());
        Ok(anchor.into_inner())
    })
}
