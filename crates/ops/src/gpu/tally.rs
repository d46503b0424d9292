use super::launch::{Arg, Gpu, LANES};
use super::work::{Firsts, Floats, MANY};
use crate::Told;
use crate::record::tensor;
use candle::{Result, Storage, Tensor};

/// Terms of a launch, behind whose sums the loss stands.
const TERMS: usize = MANY - 1;

/// Each term's mean, times `images`, to its sum, and all by weight to `loss`; the means to `means`.
pub(crate) fn tally(
    gpu: &Gpu,
    told: &[Told<'_>],
    loss: &Tensor,
    means: &Tensor,
    images: usize,
) -> Result<()> {
    let values = told.iter().map(|told| told.value.contiguous()).collect::<Result<Vec<_>>>()?;
    for (launch, (told, values)) in told.chunks(TERMS).zip(values.chunks(TERMS)).enumerate() {
        let (firsts, count) = Firsts::of(values.iter())?;
        let means = means.narrow(0, launch * TERMS, told.len())?;
        let args = vec![
            Arg::ChangeAll(told.iter().map(|told| told.sum).chain([loss]).collect()),
            Arg::ChangeAll(values.iter().collect()),
            Arg::Firsts(Box::new(firsts)),
            Arg::Int(count),
            Arg::Floats(Box::new(Floats::of(told.iter().map(|told| told.weight)))),
            Arg::Int(told.len()),
            Arg::Float(images as f64),
            Arg::Change(Some(&means)),
        ];
        gpu.launch("tally", 1, args)?;
    }
    Ok(())
}

/// Σ weight · mean of values, a number.
pub(crate) fn weighted_means(gpu: &Gpu, values: &[Tensor], weights: &[f64]) -> Result<Storage> {
    let (mut sum, (firsts, count)) = (gpu.room(1)?, Firsts::of(values.iter())?);
    let args = vec![
        Arg::ChangeAll(values.iter().collect()),
        Arg::Firsts(Box::new(firsts)),
        Arg::Int(count),
        Arg::Floats(Box::new(Floats::of(weights.iter().copied()))),
        Arg::Int(values.len()),
        Arg::Write(&mut sum),
    ];
    gpu.launch("weighted_means", 1, args)?;
    Ok(sum)
}

/// What each number of values has of the gradient of their weighted means, in tensors like them.
pub(crate) fn share_out<const N: usize>(
    gpu: &Gpu,
    values: [&Tensor; N],
    weights: &[f64],
    gradient: &Tensor,
) -> Result<Vec<Tensor>> {
    let like = |value: &&Tensor| Ok(tensor(gpu.room(value.elem_count())?, value.shape()));
    let shares = values.iter().map(like).collect::<Result<Vec<_>>>()?;
    let (firsts, count) = Firsts::of(shares.iter())?;
    let each = values.iter().zip(weights).map(|(value, weight)| weight / value.elem_count() as f64);
    let args = vec![
        Arg::ChangeAll(shares.iter().collect()),
        Arg::Firsts(Box::new(firsts)),
        Arg::Int(count),
        Arg::Floats(Box::new(Floats::of(each))),
        Arg::from(gradient),
    ];
    gpu.launch("share_out", Gpu::blocks(count, LANES), args)?;
    Ok(shares)
}
