//! Feature operations: by hand, against PyTorch, and their gradients.

use candle::{DType, Device, Tensor, Var};
use serde::Deserialize;
use sokd_core::{Key, Result};
use sokd_dafa::ops::{
    FeatureOp, OperationSpec,
    channel_drop::{ChannelDrop, keep},
    channel_shuffle::{ChannelShuffle, Channels, order},
    cutout::{Rounding, cut},
    noise::Noise,
    shear_x::ShearX,
    translate_x::TranslateX,
};
use sokd_ops::permute_channels;
use sokd_tests::{gap, golden, near, same, wave};
use std::collections::BTreeSet;

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    operation: OperationSpec,
    given: Given,
    shape: Vec<usize>,
    level: f64,
    result: Vec<f64>,
    gradient: Vec<f64>,
}

/// What an operation would draw.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Given {
    centre: [f64; 2],
    order: Vec<u32>,
    kept: Vec<u8>,
}

impl Case {
    fn result(&self, map: &Tensor) -> Result<Tensor> {
        let value = |[low, high]: [f64; 2]| low + self.level * (high - low);
        let (_, height, width, _) = map.dims4()?;
        match &self.operation {
            OperationSpec::Cutout(cutout) => {
                let Given { centre: [row, column], .. } = self.given;
                let cells = |length, centre| cutout.rounding.cells(value(cutout.range), length, centre);
                cut([cells(height, row), cells(width, column)]).apply(map)
            }
            OperationSpec::ChannelShuffle(_) => permute_channels(map, &self.given.order),
            OperationSpec::ChannelDrop(drop) => {
                let kept: Vec<bool> = self.given.kept.iter().map(|&kept| kept == 1).collect();
                keep(&kept, if drop.rescale { 1.0 / (1.0 - value(drop.range)) } else { 1.0 }).apply(map)
            }
            operation => operation.as_ref().apply(map, self.level, Key::new(0)),
        }
    }
}

/// Channels last.
fn drawn(name: &str, shape: &[usize]) -> Result<Tensor> {
    Ok(wave(name, shape, 1.0)?.permute((0, 2, 3, 1))?.contiguous()?)
}

#[test]
fn operations_and_gradients_are_pytorchs() -> Result<()> {
    let recorded: Recorded = golden("dafa");
    for case in &recorded.cases {
        let name = format!("{:?} at {} of {:?}", case.operation, case.level, case.shape);
        let map = Var::from_tensor(&drawn("map", &case.shape)?)?;
        let result = case.result(&map)?;
        near(&name, &result, &case.result, 2e-6)?;
        let loss = (&result * drawn("weights", &case.shape)?)?.sum_all()?;
        let grads = loss.backward()?;
        near(&name, grads.get(&map).expect("a result of the map"), &case.gradient, 2e-6)?;
    }
    let named: BTreeSet<_> = recorded.cases.iter().map(|case| case.operation.name()).collect();
    let drawing = BTreeSet::from(["noise".to_owned()]);
    assert_eq!(OperationSpec::names().into_iter().collect::<BTreeSet<_>>(), &named | &drawing);
    Ok(())
}

/// A row of a map of one channel.
fn line(values: &[f32]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?.reshape((1, 1, values.len(), 1))?)
}

fn numbers(map: &Tensor) -> Result<Vec<f32>> {
    Ok(map.flatten_all()?.to_vec1()?)
}

#[test]
fn a_quarter_of_four_cells_is_one_cell() -> Result<()> {
    let shift = TranslateX { range: [0.0, 0.25], ..TranslateX::default() };
    let moved = numbers(&shift.apply(&line(&[1.0, 2.0, 3.0, 4.0])?, 1.0, Key::new(0))?)?;
    assert_eq!(moved, [2.0, 3.0, 4.0, 0.0]);
    let half = numbers(&shift.apply(&line(&[1.0, 2.0, 3.0, 4.0])?, 0.5, Key::new(0))?)?;
    assert_eq!(half, [1.5, 2.5, 3.5, 2.0]);
    Ok(())
}

/// Of three rows the upper looks a third of the half-width to the left, the middle where it stands.
#[test]
fn a_shear_leaves_the_middle_where_it_is() -> Result<()> {
    let rows = Tensor::new(&[[0f32, 0.0, 1.0, 0.0]; 3], &Device::Cpu)?.reshape((1, 3, 4, 1))?;
    let shear = ShearX { range: [0.0, 0.75], ..ShearX::default() };
    // x − 2/3 · 0.75 = x − 1/2, which is one cell of four.
    let sheared = numbers(&shear.apply(&rows, 1.0, Key::new(0))?)?;
    for (found, expected) in sheared.iter().zip([0., 0., 0., 1., 0., 0., 1., 0., 0., 1., 0., 0.]) {
        assert!((found - expected).abs() < 1e-6, "{sheared:?}");
    }
    Ok(())
}

#[test]
fn a_coin_turns_the_sign() -> Result<()> {
    let map = line(&[1.0, 2.0, 3.0, 4.0])?;
    let shift = TranslateX { range: [0.0, 0.25], random_sign: true, ..TranslateX::default() };
    let seen: BTreeSet<_> = (0..20)
        .map(|seed| Ok(format!("{:?}", numbers(&shift.apply(&map, 1.0, Key::new(seed))?)?)))
        .collect::<Result<_>>()?;
    let both = ["[0.0, 1.0, 2.0, 3.0]", "[2.0, 3.0, 4.0, 0.0]"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), both);
    Ok(())
}

#[test]
fn boxes_lose_the_cells_that_they_should() {
    // The nearest number of cells, one at least; the last ends at the border.
    assert_eq!(Rounding::Nearest.cells(0.2, 16, 0.5), 7..10);
    assert_eq!(Rounding::Nearest.cells(0.01, 16, 0.5), 8..9);
    assert_eq!(Rounding::Nearest.cells(0.2, 16, 0.999), 14..16);
    assert_eq!(Rounding::Nearest.cells(0.2, 16, 0.0), 0..2);
    assert!(Rounding::Nearest.cells(0.0, 16, 0.5).is_empty());
    // The released code's: nothing of 8 cells, and of 16 nothing below an eighth.
    assert!((0..=10).all(|level| Rounding::Truncate.cells(0.02 * f64::from(level), 8, 0.5).is_empty()));
    assert!(Rounding::Truncate.cells(0.124, 16, 0.5).is_empty());
    assert_eq!(Rounding::Truncate.cells(0.125, 16, 0.5), 7..9);
}

#[test]
fn a_box_stands_at_the_same_place_of_maps_of_other_sizes() -> Result<()> {
    let cutout =
        &OperationSpec::Cutout(sokd_dafa::ops::cutout::Cutout { range: [0.25; 2], ..Default::default() });
    let middle = |side: usize, key: Key| -> Result<f64> {
        let map = Tensor::ones((1, side, side, 1), DType::F32, &Device::Cpu)?;
        let cut = numbers(&cutout.as_ref().apply(&map, 0.5, key)?)?;
        let lost = cut.iter().enumerate().filter(|(_, value)| **value == 0.0);
        let rows: Vec<f64> = lost.map(|(at, _)| (at / side) as f64 + 0.5).collect();
        assert!(!rows.is_empty(), "a box of a quarter");
        Ok(rows.iter().sum::<f64>() / rows.len() as f64 / side as f64)
    };
    for seed in 0..10 {
        let (small, large) = (middle(8, Key::new(seed))?, middle(32, Key::new(seed))?);
        assert!((small - large).abs() <= 1.0 / 8.0, "{small} {large}");
    }
    Ok(())
}

#[test]
fn an_order_moves_the_share_it_is_told() {
    for seed in 0..20 {
        let key = Key::new(seed);
        let moved = |share| {
            let order = order(40, share, key);
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 40, "nothing is lost");
            order.iter().enumerate().filter(|(place, channel)| *place != **channel as usize).count()
        };
        assert_eq!(moved(0.0), 0);
        assert!(moved(0.25) <= 10 && moved(0.25) > 0);
        assert!(moved(1.0) > 25);
    }
}

#[test]
fn channels_are_dropped_as_often_as_told_and_made_up_for() -> Result<()> {
    let map = Tensor::ones((2, 2, 3, 2000), DType::F32, &Device::Cpu)?;
    for rescale in [false, true] {
        let drop = ChannelDrop { rescale, ..ChannelDrop::default() };
        let result = drop.apply(&map, 0.5, Key::new(4))?;
        let first = numbers(&result.narrow(0, 0, 1)?.narrow(1, 0, 1)?.narrow(2, 0, 1)?)?;
        let kept = first.iter().filter(|value| **value > 0.0).count();
        assert!(kept.abs_diff(1500) < 80, "{kept} of 2000 at a probability of a quarter");
        let expected = if rescale { 4.0 / 3.0 } else { 1.0 };
        assert!(first.iter().all(|value| *value == 0.0 || (value - expected).abs() < 1e-6));
        // The same channels everywhere.
        let all = result.flatten_to(2)?.broadcast_sub(&result.flatten_to(2)?.narrow(0, 0, 1)?)?;
        assert!(all.sqr()?.sum_all()?.to_scalar::<f32>()? <= 0.0);
    }
    Ok(())
}

#[test]
fn noise_is_its_own_everywhere_and_as_strong_as_told() -> Result<()> {
    let map = Tensor::ones((4, 16, 16, 8), DType::F32, &Device::Cpu)?;
    let noise = |level, seed| Noise::default().apply(&map, level, Key::new(seed));
    let deviation = |noisy: &Tensor| -> Result<f64> {
        let noise = numbers(&(noisy - &map)?)?;
        let distinct: BTreeSet<_> = noise.iter().map(|one| one.to_bits()).collect();
        assert!(distinct.len() > noise.len() / 2, "{} numbers of {}", distinct.len(), noise.len());
        Ok((noise.iter().map(|&one| f64::from(one).powi(2)).sum::<f64>() / noise.len() as f64).sqrt())
    };
    assert!((deviation(&noise(1.0, 1)?)? / 0.1 - 1.0).abs() < 0.05);
    assert!((deviation(&noise(0.25, 1)?)? / 0.025 - 1.0).abs() < 0.05);
    assert!(same(&noise(1.0, 1)?, &noise(1.0, 1)?)? && !same(&noise(1.0, 1)?, &noise(1.0, 2)?)?);
    Ok(())
}

/// At the middle of a symmetric range, and at the low end of one that begins with nothing.
#[test]
fn nothing_done_is_the_same_map_to_the_bit() -> Result<()> {
    let map = drawn("map", &[3, 5, 6, 7])?;
    for operation in OperationSpec::examples() {
        let level = match &operation {
            OperationSpec::Cutout(_) | OperationSpec::Noise(_) | OperationSpec::ChannelDrop(_) => 0.0,
            OperationSpec::ChannelShuffle(_) => continue,
            _ => 0.5,
        };
        assert!(same(&operation.as_ref().apply(&map, level, Key::new(3))?, &map)?, "{operation:?}");
    }
    let partial = ChannelShuffle { channels: Channels::Partial, ..ChannelShuffle::default() };
    assert!(same(&partial.apply(&map, 0.0, Key::new(3))?, &map)?);
    Ok(())
}

/// The gradient of every entry of the catalogue in the map, against differences, in double precision.
#[test]
fn operations_have_the_gradients_of_their_values() -> Result<()> {
    let shape = [2, 5, 6, 4];
    let weights = wave("weights", &shape, 1.0)?.to_dtype(DType::F64)?;
    let direction = wave("direction", &shape, 1.0)?.to_dtype(DType::F64)?;
    for operation in OperationSpec::examples() {
        for level in [0.0, 0.3, 0.9] {
            let value = |map: &Tensor| -> Result<Tensor> {
                let result = operation.as_ref().apply(map, level, Key::new(5))?;
                // Squared, so that the slope hangs on the place too.
                Ok((result.sqr()? * &weights)?.sum_all()?)
            };
            let map = Var::from_tensor(&wave("map", &shape, 1.0)?.to_dtype(DType::F64)?)?;
            let store = value(&map)?.backward()?;
            let slope = (store.get(&map).expect("a result of the map") * &direction)?.sum_all()?;
            let beside = |step: f64| value(&(map.as_tensor() + (&direction * step)?)?);
            let difference = ((beside(1e-5)? - beside(-1e-5)?)? / 2e-5)?;
            assert!(gap(&slope, &difference)? < 1e-7, "{operation:?} at {level}: {slope} {difference}");
        }
    }
    Ok(())
}
