//! Noise-contrastive estimation against a memory that does not learn by gradients.

use crate::functional::precise;
use candle::{D, Tensor, Var};
use sokd_core::Result;

/// Added to denominators, as RepDistiller does.
const EPS: f64 = 1e-7;

/// Products that are computed before the next: two megabytes of them, so that what follows finds them in a cache.
const PIECE: usize = 1 << 19;

/// How surprising it is, in nats, that the first pick of each anchor is its own and the others are not; and the
/// normaliser that `known` is, or else that these anchors give.
///
/// The gradient reaches the anchors alone. It is taken here and now, a few examples at a time: what lies between an
/// anchor and its value, thousands of products each, need not stay in memory until the backward pass, and the bank may
/// change at once.
///
/// # Shapes
/// `anchors`: `(batch, width)`; `bank`: `(rows, width)`; `picks`: `(batch, 1 + negatives)`, `u32` rows of the bank, the
/// positive first → `(batch,)`.
pub fn contrast(
    anchors: &Tensor,
    bank: &Tensor,
    picks: &Tensor,
    temperature: f64,
    known: Option<f64>,
) -> Result<(Tensor, f64)> {
    let ((batch, width), (rows, picked)) = (anchors.dims2()?, (bank.dim(0)?, picks.dim(1)?));
    let bank = bank.detach();
    let floats = if dense(rows, picked) { rows } else { picked * width };
    let each = (PIECE / floats).clamp(1, batch.max(1));
    let pieces = || (0..batch).step_by(each).map(|from| (from, each.min(batch - from)));
    let normaliser = match known {
        Some(known) => known,
        None => {
            let mut sum = 0.0;
            for (from, count) in pieces() {
                let anchors = anchors.narrow(0, from, count)?.detach();
                let affinities = affinities(&anchors, &bank, &picks.narrow(0, from, count)?, temperature)?;
                sum += precise(&affinities.exp()?.sum_all()?)?.to_vec0::<f64>()?;
            }
            sum / picks.elem_count() as f64 * rows as f64
        }
    };
    let mut values = Vec::new();
    for (from, count) in pieces() {
        let picks = picks.narrow(0, from, count)?;
        values.push(at_once(&anchors.narrow(0, from, count)?, |anchors| {
            surprise(&affinities(anchors, &bank, &picks, temperature)?, normaliser, rows)
        })?);
    }
    Ok((Tensor::cat(&values, 0)?, normaliser))
}

/// Whether products with all rows cost less than a copy of the picked ones.
fn dense(rows: usize, picked: usize) -> bool {
    rows <= 16 * picked
}

/// The products of anchors and the rows picked for them, over the temperature, in `f64` where the device has it.
fn affinities(anchors: &Tensor, bank: &Tensor, picks: &Tensor, temperature: f64) -> Result<Tensor> {
    let ((batch, width), (_, each)) = (anchors.dims2()?, picks.dims2()?);
    let products = if dense(bank.dim(0)?, each) {
        anchors.matmul(&bank.t()?)?.gather(&picks.contiguous()?, 1)?
    } else {
        let picked = bank.index_select(&picks.flatten_all()?, 0)?.reshape((batch, each, width))?;
        picked.matmul(&anchors.unsqueeze(2)?)?.squeeze(2)?
    };
    Ok((precise(&products)? / temperature)?)
}

/// −log h of the first and −Σ log(1 − h) of the others, where h = p / (p + m / rows) is the chance that a pick is an
/// anchor's own and none of m draws from all rows; p = exp(affinity) / normaliser.
///
/// # Shapes
/// `affinities`: `(batch, 1 + negatives)` → `(batch,)`.
///
/// # Source
/// Tian et al., 2020 (arXiv:1910.10699), equation (18), as RepDistiller computes it.
pub fn surprise(affinities: &Tensor, normaliser: f64, rows: usize) -> Result<Tensor> {
    let negatives = affinities.dim(1)? - 1;
    let noise = negatives as f64 / rows as f64;
    // Over the noise, so that a chance far below it keeps its digits beside the 1.
    let shift = normaliser.ln() + noise.ln();
    let surprises = ((affinities - shift)?.exp()? + (1.0 + EPS / noise))?.log()?;
    let own = (affinities.narrow(1, 0, 1)?.squeeze(1)? - shift)?;
    Ok((surprises.sum(D::Minus1)? - own)?)
}

/// `work`, whose slope is taken at once: the same values and first gradients, and no graph behind them.
fn at_once(x: &Tensor, work: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let here = Var::from_tensor(&x.detach())?;
    let value = work(here.as_tensor())?;
    let value_here = value.detach().to_dtype(x.dtype())?;
    let Some(slope) = value.sum_all()?.backward()?.remove(&here) else { return Ok(value_here) };
    let along = (x * slope.detach())?.sum(D::Minus1)?;
    // Exactly the value: what is added is 0.
    Ok((value_here + (&along - along.detach())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::{DType, Device};

    /// By hand: one row that is the anchor's own and one that is not, at right angles.
    #[test]
    fn a_surprise_is_what_the_formula_says() -> Result<()> {
        let affinities = Tensor::new(&[[1.0, 0.0]], &Device::Cpu)?;
        let (own, other, noise) = (1f64.exp() / 3.0, 1.0 / 3.0, 0.25);
        let expected = -(own / (own + noise + EPS)).ln() - (noise / (other + noise + EPS)).ln();
        let value = surprise(&affinities, 3.0, 4)?.to_vec1::<f64>()?;
        assert!((value[0] - expected).abs() < 1e-12, "{value:?} instead of {expected}");
        Ok(())
    }

    /// Whether all products are computed or the picked rows copied, and however many examples at a time.
    #[test]
    fn the_two_ways_to_the_products_agree() -> Result<()> {
        let wave = |len: usize, seed: f64| (0..len).map(move |i| ((i as f64 + seed) * 12.9898).sin());
        let rows = 40;
        let bank = Tensor::from_iter(wave(rows * 3, 0.5), &Device::Cpu)?.reshape((rows, 3))?;
        let anchors = Var::from_tensor(&Tensor::from_iter(wave(6, 0.1), &Device::Cpu)?.reshape((2, 3))?)?;
        let picks = Tensor::new(&[[3u32, 39], [7, 0]], &Device::Cpu)?;
        let (sparse, normaliser) = contrast(&anchors, &bank, &picks, 0.5, None)?;
        let gradient = sparse.sum_all()?.backward()?.remove(&anchors).expect("anchors learn");

        // Beside rows that nobody picks the dense way is the sparse one; here nothing is chosen but by hand.
        let products = (anchors.matmul(&bank.t()?)?.gather(&picks, 1)? / 0.5)?;
        let value = surprise(&products, normaliser, rows)?;
        let expected = value.sum_all()?.backward()?.remove(&anchors).expect("anchors learn");
        let mean = products.exp()?.mean_all()?.to_vec0::<f64>()? * rows as f64;
        assert!((mean - normaliser).abs() < 1e-12 * mean);
        for (a, b) in [(&sparse, &value), (&gradient, &expected)] {
            let gap = (a.to_dtype(DType::F64)? - b)?.sqr()?.sum_all()?.to_vec0::<f64>()?;
            assert!(gap < 1e-24, "{a} {b}");
        }
        Ok(())
    }

    #[test]
    fn pieces_make_the_whole() -> Result<()> {
        let rows = PIECE / 2;
        let wave = |len: usize| (0..len).map(|i| (i as f32 * 12.9898).sin());
        let bank = Tensor::from_iter(wave(rows * 2), &Device::Cpu)?.reshape((rows, 2))?;
        let anchors = Tensor::from_iter(wave(6), &Device::Cpu)?.reshape((3, 2))?;
        let picked = rows / 16;
        let picks: Vec<u32> = (0..3 * picked).map(|i| (i * 7 % rows) as u32).collect();
        let picks = Tensor::from_vec(picks, (3, picked), &Device::Cpu)?;
        let (values, normaliser) = contrast(&anchors, &bank, &picks, 0.5, None)?;
        let affinities = affinities(&anchors, &bank, &picks, 0.5)?;
        let mean = affinities.exp()?.mean_all()?.to_vec0::<f64>()? * rows as f64;
        assert!((mean / normaliser - 1.0).abs() < 1e-12, "{mean} {normaliser}");
        let whole = surprise(&affinities, normaliser, rows)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        for (piece, whole) in values.to_vec1::<f32>()?.iter().zip(&whole) {
            assert!((piece / whole - 1.0).abs() < 1e-6, "{values} {whole}");
        }
        Ok(())
    }
}
