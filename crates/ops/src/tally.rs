use crate::backend::gpu_for;
use crate::gpu;
use crate::put_;
use candle::Tensor;
use sokd_core::Result;

/// What a term says of a batch, what it counts for, and where it is summed up.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// One value per example, `(batch,)`, or one for the batch, `()`.
    pub value: &'a Tensor,
    /// What its mean counts for in the loss.
    pub weight: f64,
    /// The sum, `()`: in double precision, where the device has that.
    pub sum: &'a Tensor,
}

/// Adds to the sum of each term its mean times `images`, and to `loss` all of these by weight; the means come to stand in `means`,
/// `(terms,)`. A term that is told on another device than the loss's, and counts nothing, is none of the loss's.
///
/// # Errors
/// When a sum is elsewhere than its value.
pub fn tally_(told: &[Told<'_>], loss: &Tensor, means: &Tensor, images: usize) -> Result<()> {
    let beside: Vec<bool> = told.iter().map(|told| told.value.device().same_device(loss.device())).collect();
    let values: Vec<&Tensor> = told.iter().map(|told| told.value).collect();
    // Two terms of one name have one sum, to which two lanes would add at once.
    let alone = |place: usize| told[..place].iter().all(|other| other.sum.id() != told[place].sum.id());
    let alone = (0..told.len()).all(alone);
    if alone
        && beside.iter().all(|&beside| beside)
        && let Some(gpu) = gpu_for(&values)
    {
        return Ok(gpu::tally(&gpu, told, loss, means, images)?);
    }
    let mut all: Option<Tensor> = None;
    for (place, (Told { value, weight, sum }, beside)) in told.iter().zip(beside).enumerate() {
        let value = value.detach();
        let mean = if value.rank() == 0 { value } else { value.mean_all()? };
        let here = mean.to_dtype(means.dtype())?.to_device(means.device())?;
        means.slice_set(&here.reshape(1)?, 0, place)?;
        let share = (mean.to_dtype(sum.dtype())? * images as f64)?;
        put_(sum, &(*sum + &share)?)?;
        if beside || *weight != 0.0 {
            let weighed = (share * *weight)?.to_device(loss.device())?.to_dtype(loss.dtype())?;
            all = Some(all.map_or(Ok(weighed.clone()), |all| all + weighed)?);
        }
    }
    all.map_or(Ok(()), |all| put_(loss, &(loss + all)?))
}
