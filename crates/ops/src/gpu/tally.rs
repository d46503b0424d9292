use super::launch::{Arg, Gpu};
use super::work::{Firsts, Floats, MANY};
use crate::Told;
use candle::{Result, Tensor};

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
