use crate::backend::gpu_for;
use crate::gpu::{Gpu, share_out, weighted_means};
use crate::record::{Backward, record};
use crate::spent::named;
use candle::{DType, Tensor};
use sokd_core::{Result, Terms};

/// Terms that one operation adds up.
const TERMS: usize = 4;

/// The scalar to differentiate, [`Terms::total`]: on a GPU by one kernel, and another on the way back, in place of some for each term.
pub fn total(terms: &Terms) -> Result<Option<Tensor>> {
    let counting = terms.iter().filter(|term| term.weight != 0.0);
    let parts: Vec<_> = counting.map(|term| (term.value.clone(), term.weight)).collect();
    let values: Vec<_> = parts.iter().map(|(value, _)| value).collect();
    let fits = values.iter().all(|value| value.dtype() == DType::F32 && value.elem_count() > 0);
    match gpu_for(&values).filter(|_| fits) {
        Some(gpu) => Ok(Some(named("total", || added_up(&gpu, &parts))?)),
        None => terms.total(),
    }
}

/// Σ weight · mean of values, `()`.
fn added_up(gpu: &Gpu, parts: &[(Tensor, f64)]) -> candle::Result<Tensor> {
    if parts.len() > TERMS {
        let sums = parts.chunks(TERMS).map(|parts| Ok((added_up(gpu, parts)?, 1.0)));
        return added_up(gpu, &sums.collect::<candle::Result<Vec<_>>>()?);
    }
    let values = parts.iter().map(|(value, _)| value.contiguous()).collect::<candle::Result<Vec<_>>>()?;
    let weights: Vec<f64> = parts.iter().map(|&(_, weight)| weight).collect();
    let sum = weighted_means(gpu, &values, &weights)?;
    let back = WeightedMeans { weights };
    match &values[..] {
        [a] => record([a], sum, (), back),
        [a, b] => record([a, b], sum, (), back),
        [a, b, c] => record([a, b, c], sum, (), back),
        [a, b, c, d] => record([a, b, c, d], sum, (), back),
        _ => candle::bail!("a total of no terms"),
    }
}

/// Each number of a value has its share of the gradient.
struct WeightedMeans {
    weights: Vec<f64>,
}

impl<const N: usize> Backward<N> for WeightedMeans {
    const NAME: &'static str = "total";

    fn reads(&self) -> ([bool; N], bool) {
        ([false; N], false)
    }

    fn gradients(
        &self,
        values: [&Tensor; N],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; N]> {
        let Some(gpu) = Gpu::of(&[gradient]) else { candle::bail!("a total of a GPU goes back elsewhere") };
        let shares = share_out(&gpu, values, &self.weights, gradient)?;
        Ok(std::array::from_fn(|at| values[at].track_op().then(|| shares[at].clone())))
    }
}
