//! Graphs of our operations and candle's, whose gradients are known.

use super::graph::{Known, table};
use super::{Backward, Numbers, Remake, backward, read, record, with_leaves_apart};
use crate::{abs, relu};
use candle::{Device, Tensor, Var};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn var(values: &[f32]) -> Var {
    Var::new(values, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec1().unwrap()
}

/// Through our operations and candle's, more than once each.
fn tangle(x: &Var) -> Tensor {
    let y = relu(x).unwrap();
    let ours = (abs(&y).unwrap() + relu(&y).unwrap()).unwrap();
    let candles = (y.sqr().unwrap() + y.reshape((1, ())).unwrap().flatten_all().unwrap()).unwrap();
    (ours + candles).unwrap().sum_all().unwrap()
}

#[test]
fn every_user_of_a_result_adds_to_its_gradient() {
    let x = var(&[-1.0, 2.0, 3.0]);
    let loss = tangle(&x);
    // abs + relu + square + itself
    let right = [0.0, 3.0 + 4.0, 3.0 + 6.0];
    assert_eq!(values(loss.backward().unwrap().get(&x).unwrap()), right);
}

#[test]
fn a_graph_is_gone_through_once() {
    let x = var(&[-1.0, 2.0]);
    let y = relu(&x).unwrap();
    let loss = (abs(&y).unwrap() * 3.0).unwrap().sum_all().unwrap();
    loss.backward().unwrap();
    let error = loss.backward().unwrap_err().to_string();
    assert!(error.contains("through this abs before"), "{error}");
    let error = relu(&y).unwrap().sum_all().unwrap().backward().unwrap_err().to_string();
    assert!(error.contains("through this relu before"), "{error}");
}

#[test]
fn a_result_that_candle_alone_uses_has_its_gradient() {
    let x = var(&[-1.0, 2.0]);
    let loss = relu(&x).unwrap().affine(3.0, 0.0).unwrap().sum_all().unwrap();
    assert_eq!(values(loss.backward().unwrap().get(&x).unwrap()), [0.0, 3.0]);
}

#[test]
fn a_result_that_is_cut_off_has_none() {
    let x = var(&[-1.0, 2.0]);
    let y = relu(&x).unwrap();
    assert!(!abs(&y.detach()).unwrap().track_op());
    let loss = (abs(&y.detach()).unwrap() + &y).unwrap().sum_all().unwrap();
    assert_eq!(values(loss.backward().unwrap().get(&x).unwrap()), [0.0, 1.0]);
}

/// Its gradients are 1, 2, 3, .. times that of the result.
struct Weighed;

impl<const N: usize> Backward<N> for Weighed {
    const NAME: &'static str = "weighed";

    fn reads(&self) -> ([bool; N], bool) {
        ([false; N], false)
    }

    fn gradients(
        &self,
        _: [&Tensor; N],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; N]> {
        let mut gradients = [const { None }; N];
        for (index, place) in gradients.iter_mut().enumerate() {
            *place = Some((gradient * (index + 1) as f64)?);
        }
        Ok(gradients)
    }
}

#[test]
fn an_operation_may_have_any_number_of_arguments() {
    let vars: [Var; 7] = std::array::from_fn(|index| var(&[index as f32, 1.0]));
    // Some of them results of ours, some on no graph.
    let results = vars.each_ref().map(|var| relu(var).unwrap());
    let fixed = vars[5].detach();
    let arguments = [&vars[0], &results[1], &results[2], &vars[3], &results[4], &fixed, &results[6]];
    let y = record(arguments, vec![1.0, 2.0], 2, Weighed).unwrap();
    let loss = (y + &results[4]).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let right = [1.0, 2.0, 3.0, 4.0, 5.0 + 1.0, 0.0, 7.0];
    for (index, (var, right)) in vars.iter().zip(right).enumerate() {
        let of_var = gradients.get(var).map_or(vec![0.0; 2], values);
        assert_eq!(of_var[1..], [right], "argument {index}");
    }
}

/// Twice its argument, whose result is made again and again; who counts how often?
struct Doubled(Arc<AtomicUsize>);

impl Backward<1> for Doubled {
    const NAME: &'static str = "doubled";

    fn again(_: [bool; 1]) -> Option<Remake<Self, 1>> {
        let make = |doubled: &Self, [x]: [&Tensor; 1]| {
            doubled.0.fetch_add(1, Ordering::Relaxed);
            read([x], |[x]| x.iter().map(|x| 2.0 * x).collect::<Vec<_>>().storage())
        };
        Some(Remake { reads: [true], make })
    }

    fn reads(&self) -> ([bool; 1], bool) {
        ([true], true)
    }

    fn gradients(
        &self,
        [x]: [&Tensor; 1],
        y: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 1]> {
        assert_eq!(values(y), values(&(x * 2.0)?));
        Ok([Some((gradient * 2.0)?)])
    }
}

/// Each of a chain is made again once, for all who ask, also where what it is made of is made again itself.
#[test]
fn what_is_not_kept_is_made_once_more() {
    let x = var(&[-1.0, 2.0]);
    let counts = [0; 2].map(|_| Arc::<AtomicUsize>::default());
    let double = |x: &Tensor, of: usize| {
        let twice: Vec<f32> = values(x).iter().map(|x| 2.0 * x).collect();
        record([x], twice, 2, Doubled(Arc::clone(&counts[of]))).unwrap()
    };
    let loss = {
        let y = double(&double(&x, 0), 1);
        // The one reads it, the other its own result.
        ((abs(&y).unwrap() + relu(&y).unwrap()).unwrap() + y.sqr().unwrap()).unwrap().sum_all().unwrap()
    };
    let gradients = loss.backward().unwrap();
    // |4x| + relu(4x) + 16x²
    assert_eq!(values(gradients.get(&x).unwrap()), [-4.0 - 32.0, 4.0 + 4.0 + 64.0]);
    assert_eq!(counts.each_ref().map(|count| count.load(Ordering::Relaxed)), [1, 1]);
    let y = double(&x, 0);
    abs(&y).unwrap().sum_all().unwrap().backward().unwrap();
    let error = abs(&y).unwrap().sum_all().unwrap().backward().unwrap_err().to_string();
    assert!(error.contains("went through this doubled before"), "{error}");
}

#[test]
fn nothing_stays_behind() {
    let x = var(&[-1.0, 2.0]);
    let y = relu(&x).unwrap();
    let id = y.id();
    assert!(Known::of(&y).is_some());
    let z = abs(&y).unwrap();
    drop(y);
    assert!(table().contains_key(&id), "z needs it");
    drop(z);
    assert!(!table().contains_key(&id));
}

/// Seven arguments: weights, one of them twice and one that candle uses too; a result of ours and one of candle's; and no graph.
fn of_seven(weights: &[Var; 3]) -> Tensor {
    let [a, b, c] = weights.each_ref().map(|weight| weight.as_tensor().clone());
    let (ours, candles, fixed) = (relu(&a).unwrap(), (&b * 2.0).unwrap(), b.detach());
    let y = record([&a, &ours, &b, &candles, &c, &a, &fixed], vec![1.0, 1.0], 2, Weighed).unwrap();
    (y + c).unwrap().sum_all().unwrap()
}

#[test]
fn weights_that_stand_apart_have_the_same_gradients() {
    let weights = [var(&[1.0, -2.0]), var(&[3.0, 4.0]), var(&[5.0, 6.0])];
    let gradients = |apart: bool| {
        let grads = if apart {
            let loss = with_leaves_apart(|| of_seven(&weights));
            backward(|| Ok(loss.backward()?)).unwrap()
        } else {
            of_seven(&weights).backward().unwrap()
        };
        weights.each_ref().map(|weight| values(grads.get(weight).unwrap()))
    };
    // Itself and again, and through the result of ours; itself, and twice through candle's; itself, and by candle.
    let right = [vec![1.0 + 6.0 + 2.0, 1.0 + 6.0], vec![3.0 + 8.0; 2], vec![5.0 + 1.0; 2]];
    assert_eq!(gradients(false), right);
    assert_eq!(gradients(true), right);
}

#[test]
fn who_goes_back_without_the_weights_that_stand_apart_hears_of_it() {
    let x = var(&[1.0, 2.0]);
    let recorded = || with_leaves_apart(|| relu(&x).unwrap().sum_all().unwrap());
    let error = recorded().backward().unwrap_err().to_string();
    assert!(error.contains("go back through it by `sokd_ops::backward`"), "{error}");
    // Nothing is left of an error, nor of a pass.
    let fault = || sokd_core::Error::setting("a pass", "fails");
    let failed = backward(|| {
        recorded().backward()?;
        Err(fault())
    });
    assert!(failed.is_err() && recorded().backward().is_err());
    let grads = backward(|| Ok(recorded().backward()?)).unwrap();
    assert_eq!(values(grads.get(&x).unwrap()), [1.0, 1.0]);
    // Outside, all is as ever.
    assert_eq!(values(relu(&x).unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap()), [1.0, 1.0]);
}
