use crate::backend::gpu_for;
use crate::{
    Areas, Backend, Case, Change, Laid, PeakAreas, Pick, Pictures, Roll, cases, cases_in_mixed_precision,
    cases_of_candle, contrast, equalized, inverted, peak_areas, put_rows_, with_backend,
};
use candle::{DType, Device, Tensor, Var};
use sokd_core::{Error, Key, Result};

/// How far an operation on a device is from the truth: its composed form on this machine, in double precision.
#[derive(Clone, Copy, Debug)]
pub struct Parity {
    /// What it is called.
    pub operation: &'static str,
    /// Whether its maps were in bfloat16.
    pub mixed: bool,
    /// The largest error of the result, as a share of its largest number.
    pub result: f64,
    /// The largest error of a gradient, as a share of that gradient's largest number.
    pub gradients: f64,
}

/// Tries every operation on a device in single precision, ours and candle's, and those of networks in mixed precision too.
///
/// # Example
/// ```
/// for tried in sokd_ops::parity(&candle::Device::Cpu) {
///     let tried = tried?;
///     let within = if tried.mixed { 1e-2 } else { 1e-5 };
///     assert!(tried.result.max(tried.gradients) < within, "{tried:?}");
/// }
/// # Ok::<(), sokd_core::Error>(())
/// ```
pub fn parity(device: &Device) -> impl Iterator<Item = Result<Parity>> {
    let cases = cases().into_iter().chain(cases_of_candle()).chain(cases_in_mixed_precision());
    let of_gpus = [areas, bytes, changes, contrasts, others, rows]
        .into_iter()
        .map(|tried| tried(device))
        .filter_map(Result::transpose);
    cases.map(|case| held(&case, device)).chain(std::iter::once_with(|| crops(device))).chain(of_gpus)
}

/// Of images, which have no gradient.
fn crops(device: &Device) -> Result<Parity> {
    let pick = |image: u32| Pick { image, down: 2 - image as i32, right: 1, mirrored: image > 1 };
    let picks: Vec<Pick> = (0..4).map(pick).collect();
    let of = |device: &Device| {
        let bytes = (0..4 * 5 * 7 * 3).map(|at: usize| (at * 89 % 251) as u8).collect();
        Pictures::new(bytes, [5, 7], device)?.crops(&picks, false)
    };
    let exact = with_backend(Backend::Composed, || of(&Device::Cpu))?;
    Ok(Parity { operation: "crops", mixed: false, result: error(&of(device)?, &exact)?, gradients: 0.0 })
}

/// Of boxes, where a GPU finds them, against a hand's: one around the only peak, its centre half a cell lower, and two of a cell in
/// an image that is the same everywhere.
fn areas(device: &Device) -> Result<Option<Parity>> {
    let heat = [0.1f32, 0.2, 0.9, 0.1, 0.1, 0.3, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5];
    let (mut sizes, mut offsets) = ([0.0f32; 24], [0.0f32; 24]);
    (sizes[4], sizes[5], offsets[5]) = (1.0, 2.0, 0.5);
    let [heat, sizes, offsets] = [
        Tensor::new(&heat, device)?.reshape((2, 2, 3, 1))?,
        Tensor::new(&sizes, device)?.reshape((2, 2, 3, 2))?,
        Tensor::new(&offsets, device)?.reshape((2, 2, 3, 2))?,
    ];
    let how = PeakAreas { count: 2, window: 3, least: 0.0, power: 1, by_area: true };
    let Some(Areas { weights, readings }) = peak_areas(&heat, &sizes, &offsets, &how)? else {
        return Ok(None);
    };
    let exact = [0.0, 0.25, 0.25, 0.0, 0.25, 0.25, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0];
    let exact = Tensor::new(&exact, &Device::Cpu)?.reshape((2, 2, 3))?;
    let told = [0.142_643_7, 1.0, 1.0 / 3.0, 0.5, 0.5];
    let result = error(&weights, &exact)?.max(error(&readings, &Tensor::new(&told, &Device::Cpu)?)?);
    Ok(Some(Parity { operation: "areas around peaks", mixed: false, result, gradients: 0.0 }))
}

/// Of images that are changed as bytes, where a GPU does so: a channel of many greys, one of two, one all alike.
fn bytes(device: &Device) -> Result<Option<Parity>> {
    let image = |pixel: fn(usize) -> [usize; 3], device: &Device| -> Result<Tensor> {
        let numbers = (0..1024).flat_map(|at| pixel(at / 8).map(|byte| byte as f32 / 255.0));
        Ok(Tensor::from_iter(numbers, device)?.reshape((1, 32, 32, 3))?)
    };
    let images = image(|grey| [grey, if grey < 64 { 10 } else { 240 }, 77], device)?;
    let (Some(equal), Some(inverse)) = (equalized(&images)?, inverted(&images)?) else { return Ok(None) };
    let due = |pixel| image(pixel, &Device::Cpu);
    // Of greys, eight pixels each are worth three bytes; where all are alike, none is worth any.
    let of_equal = due(|grey| [((1 + 8 * grey) / 3).min(255), if grey < 64 { 0 } else { 255 }, 77])?;
    let of_inverse = due(|grey| [255 - grey, if grey < 64 { 245 } else { 15 }, 178])?;
    let result = error(&equal, &of_equal)?.max(error(&inverse, &of_inverse)?);
    Ok(Some(Parity { operation: "images as bytes", mixed: false, result, gradients: 0.0 }))
}

/// Of anchors and what each is told from, where a GPU does so: two rounds of picks and a half, the first of which says what chances are
/// divided by.
fn contrasts(device: &Device) -> Result<Option<Parity>> {
    const PICKED: usize = 640;
    let (batch, width, rows, temperature) = (2, 8, 700, 0.07);
    let wave = |count: usize, by: usize| (0..count).map(move |at| (at * by % 251) as f32 / 700.0 - 0.18);
    let (anchors, bank): (Vec<_>, Vec<_>) =
        (wave(batch * width, 89).collect(), wave(rows * width, 41).collect());
    let picks: Vec<u32> = (0..batch * PICKED).map(|at| (at * 37 % rows) as u32).collect();
    let number = |numbers: &[f32], at: usize| f64::from(numbers[at]);
    let affinity = |at: usize| -> f64 {
        let (one, row) = (at / PICKED, picks[at] as usize);
        let products =
            (0..width).map(|of| number(&anchors, one * width + of) * number(&bank, row * width + of));
        products.sum::<f64>() / temperature
    };
    let normaliser =
        (0..picks.len()).map(|at| affinity(at).exp()).sum::<f64>() / picks.len() as f64 * rows as f64;
    let (mut values, mut slopes) = (vec![0.0; batch], vec![0.0; batch * width]);
    for (at, &row) in picks.iter().enumerate() {
        let (one, own) = (at / PICKED, at % PICKED == 0);
        let (chance, noise) = (affinity(at).exp() / normaliser, (PICKED - 1) as f64 / rows as f64);
        let share = chance / (chance + noise + 1e-7);
        values[one] -= if own { share.ln() } else { (noise / (chance + noise + 1e-7)).ln() };
        let slope = (share - f64::from(u8::from(own))) / temperature;
        (0..width)
            .for_each(|of| slopes[one * width + of] += slope * number(&bank, row as usize * width + of));
    }
    let tensor = |numbers: Vec<f32>| Tensor::from_vec(numbers, ((), width), device);
    let (anchors, bank) = (Var::from_tensor(&tensor(anchors.clone())?)?, tensor(bank.clone())?);
    let (picks, known) = (Tensor::from_vec(picks, (batch, PICKED), device)?, Tensor::new(&[-1f32], device)?);
    let found = contrast(&anchors, &bank, &picks, temperature, &known)?;
    let Some((told, divided)) = found else { return Ok(None) };
    let exact = |numbers: Vec<f64>| Tensor::new(numbers, &Device::Cpu);
    let result = error(&told, &exact(values)?)?.max(error(&divided, &exact(vec![normaliser])?)?);
    let found = told.sum_all()?.backward()?;
    let slope = found.get(&anchors).ok_or_else(|| Error::setting("contrasts", "they have no gradient"))?;
    let gradients = error(&slope.flatten_all()?, &exact(slopes)?)?;
    Ok(Some(Parity { operation: "contrasts", mixed: false, result, gradients }))
}

/// Of rows that are drawn from those of other classes, where a GPU does so: of 50 images of three classes, against a row of draws.
fn others(device: &Device) -> Result<Option<Parity>> {
    let (class, key) = (|row: u32| row * row % 3, Key::new(6));
    let classes = Tensor::from_iter((0..50).map(|row| class(row) as f32), device)?;
    let (rows, labels) = (Tensor::new(&[7u32, 30], device)?, Tensor::new(&[class(7), class(30)], device)?);
    let roll = Roll::new(&classes)?;
    roll.lay(key)?;
    let Some(picks) = roll.others(&rows, &labels, 12, false)? else { return Ok(None) };
    let due = [7u32, 30].map(|row| {
        let (mut due, mut stream) = (vec![row], key.fold_in(u64::from(row)).stream());
        while due.len() < 13 {
            let other = stream.below(50);
            if class(other) != class(row) && !due.contains(&other) {
                due.push(other);
            }
        }
        due
    });
    let result = error(&picks, &Tensor::new(due.concat(), &Device::Cpu)?.reshape((2, 13))?)?;
    Ok(Some(Parity { operation: "rows of others", mixed: false, result, gradients: 0.0 }))
}

/// Of rows that are put in the place of others, two of them in one.
fn rows(device: &Device) -> Result<Option<Parity>> {
    let numbers = |from: usize, rows: usize| -> Result<Tensor> {
        let numbers = (from..from + rows * 3).map(|number| number as f32);
        Ok(Tensor::from_iter(numbers, device)?.reshape((rows, 3))?)
    };
    let (place, values) = (numbers(0, 5)?, numbers(100, 4)?);
    if gpu_for(&[&place]).is_none() {
        return Ok(None);
    }
    put_rows_(&place, &Tensor::new(&[3u32, 0, 3, 4], device)?, &values)?;
    let due = [[103., 104., 105.], [3., 4., 5.], [6., 7., 8.], [106., 107., 108.], [109., 110., 111.]];
    let result = error(&place, &Tensor::new(&due, &Device::Cpu)?)?;
    Ok(Some(Parity { operation: "rows in others' place", mixed: false, result, gradients: 0.0 }))
}

/// Of maps that are turned and have their channels in another order, and of what they come to beside others, where a GPU does so,
/// against one after the other.
fn changes(device: &Device) -> Result<Option<Parity>> {
    let shape = [2, 5, 6, 3];
    let numbers = (0..shape.iter().product()).map(|at: usize| (at * 89 % 251) as f32 / 125.0 - 1.0);
    let map = Tensor::from_iter(numbers, &Device::Cpu)?.reshape(&shape)?;
    let turn = Change::Look([[0.8, -0.6, 0.2], [0.6, 0.8, -0.1]]);
    let order = Change::Order(vec![2, 0, 1]);
    let there = map.to_device(device)?;
    let Some(place) = Laid::place(&there, 1)? else { return Ok(None) };
    let exact = map.to_dtype(DType::F64)?;
    let exact = with_backend(Backend::Composed, || order.apply(&turn.apply(&exact)?))?;
    place.lay(&[[turn, order]])?;
    let sum = place.inner(&there, &there)?;
    let due = (&exact * map.to_dtype(DType::F64)?)?.sum_all()?.reshape(1)?;
    let result = error(&place.change(&there)?, &exact)?.max(error(&sum, &due)?);
    Ok(Some(Parity { operation: "two changes", mixed: false, result, gradients: 0.0 }))
}

fn held(case: &Case, device: &Device) -> Result<Parity> {
    let (inputs, exact) = (case.inputs(DType::F32, device)?, case.inputs(DType::F64, &Device::Cpu)?);
    let result = error(&case.result(&inputs)?, &case.result(&exact)?)?;
    let mut gradients: f64 = 0.0;
    for (got, exact) in case.gradients(&inputs)?.iter().zip(&case.gradients(&exact)?) {
        gradients = gradients.max(error(got, exact)?);
    }
    Ok(Parity { operation: case.name, mixed: case.mixed, result, gradients })
}

/// Infinite where a shape is wrong or a number is none.
fn error(got: &Tensor, exact: &Tensor) -> Result<f64> {
    if got.dims() != exact.dims() {
        return Ok(f64::INFINITY);
    }
    let numbers = |tensor: &Tensor| -> Result<Vec<f64>> {
        Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let (got, exact) = (numbers(got)?, numbers(exact)?);
    let largest = exact.iter().fold(1e-3, |most: f64, number| most.max(number.abs()));
    let apart = |(got, exact): (&f64, &f64)| if got.is_nan() { f64::INFINITY } else { (got - exact).abs() };
    Ok(got.iter().zip(&exact).map(apart).fold(0.0, f64::max) / largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_gpus_do_is_right_in_the_mirror() -> Result<()> {
        for of_gpus in [areas, bytes, changes, contrasts, others, rows] {
            let tried = with_backend(Backend::Mirror, || of_gpus(&Device::Cpu))?.expect("the mirror does it");
            assert!(tried.result < 1e-6, "{tried:?}");
            assert!(of_gpus(&Device::Cpu)?.is_none());
        }
        Ok(())
    }
}
