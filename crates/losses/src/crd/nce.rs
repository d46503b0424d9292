//! Noise-contrastive estimation against a memory that does not learn by gradients.

use crate::functional::precise;
use candle::{D, DType, Device, Tensor};
use sokd_core::Result;

/// Added to denominators, as RepDistiller does.
const EPS: f64 = 1e-7;

/// Floats of the largest tensor that is made at a time: 64 anchors before the 50,000 images of CIFAR are one piece.
const PIECE: usize = 1 << 22;

/// How surprising it is, in nats, that the first pick of each anchor is its own and the others are not; and the
/// normaliser that `known` is, or else that these anchors give.
///
/// The gradient reaches the anchors alone. It is a sum of rows of the bank, and is taken here and now: thousands of
/// products of each anchor need not stay in memory until the backward pass, the bank may change at once, and its own
/// gradient, which candle would compute too, is not.
///
/// # Shapes
/// `anchors`: `(batch, width)`; `bank`: `(rows, width)`; `picks`: `(batch, 1 + negatives)`, `u32` rows of the bank, the
/// positive first; `known`: `(1,)`, not above 0 where nothing is → `(batch,)` and `(1,)`.
pub fn contrast(
    anchors: &Tensor,
    bank: &Tensor,
    picks: &Tensor,
    temperature: f64,
    known: &Tensor,
) -> Result<(Tensor, Tensor)> {
    if let Some(found) = sokd_ops::contrast(anchors, bank, picks, temperature, known)? {
        return Ok(found);
    }
    let (fixed, bank) = (anchors.detach(), &bank.detach());
    let ((batch, width), (rows, picked)) = (anchors.dims2()?, (bank.dim(0)?, picks.dim(1)?));
    let floats = if dense(rows, picked) { rows } else { picked * width };
    let each = (PIECE / floats).clamp(1, batch.max(1));
    let pieces = (0..batch).step_by(each).map(|from| {
        let count = each.min(batch - from);
        let picks = picks.narrow(0, from, count)?.contiguous()?;
        Ok(Piece { anchors: fixed.narrow(0, from, count)?, bank, picks })
    });
    let pieces = pieces.collect::<Result<Vec<_>>>()?;
    let known = number(known)?;
    let normaliser = if known > 0.0 {
        known
    } else {
        let mut sum = 0.0;
        for piece in &pieces {
            sum += number(&piece.affinities(temperature)?.exp()?.sum_all()?)?;
        }
        sum / picks.elem_count() as f64 * rows as f64
    };
    let (mut values, mut slopes) = (Vec::new(), Vec::new());
    for piece in &pieces {
        let (value, slope) = surprise(&piece.affinities(temperature)?, normaliser, rows)?;
        values.push(value.to_dtype(anchors.dtype())?);
        slopes.push((piece.back(&slope.to_dtype(anchors.dtype())?)? / temperature)?);
    }
    // What is added to the values is 0, and has their slope.
    let along = (anchors * Tensor::cat(&slopes, 0)?)?.sum(D::Minus1)?;
    let values = (Tensor::cat(&values, 0)? + (&along - along.detach())?)?;
    Ok((values, Tensor::new(&[normaliser as f32], anchors.device())?))
}

fn number(one: &Tensor) -> Result<f64> {
    Ok(one.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.squeeze(0)?.to_scalar()?)
}

/// Whether products with all rows cost less than a copy of the picked ones.
fn dense(rows: usize, picked: usize) -> bool {
    rows <= 16 * picked
}

/// Some anchors and what was picked for them, on no graph.
struct Piece<'a> {
    anchors: Tensor,
    bank: &'a Tensor,
    picks: Tensor,
}

impl Piece<'_> {
    /// The products of anchors and picked rows, over the temperature, in `f64` where the device has it.
    fn affinities(&self, temperature: f64) -> Result<Tensor> {
        let products = if self.dense()? {
            self.anchors.matmul(&self.bank.t()?)?.gather(&self.picks, 1)?
        } else {
            self.picked()?.matmul(&self.anchors.unsqueeze(2)?)?.squeeze(2)?
        };
        Ok((precise(&products)? / temperature)?)
    }

    /// The gradient of the anchors from the slopes of the products, those of the positives less by 1.
    #[expect(clippy::disallowed_methods, reason = "no gradient passes through this scattering")]
    fn back(&self, slopes: &Tensor) -> Result<Tensor> {
        let sum = if self.dense()? {
            let all =
                Tensor::zeros((self.anchors.dim(0)?, self.bank.dim(0)?), slopes.dtype(), slopes.device())?;
            all.scatter_add(&self.picks, slopes, 1)?.matmul(self.bank)?
        } else {
            slopes.unsqueeze(1)?.matmul(&self.picked()?)?.squeeze(1)?
        };
        let own = self.picks.narrow(1, 0, 1)?.flatten_all()?.contiguous()?;
        Ok((sum - self.bank.index_select(&own, 0)?)?)
    }

    fn dense(&self) -> Result<bool> {
        Ok(dense(self.bank.dim(0)?, self.picks.dim(1)?))
    }

    /// `(batch, 1 + negatives, width)`.
    fn picked(&self) -> Result<Tensor> {
        let (batch, each) = self.picks.dims2()?;
        Ok(self.bank.index_select(&self.picks.flatten_all()?, 0)?.reshape((batch, each, ()))?)
    }
}

/// −log h of the first and −Σ log(1 − h) of the others, where h = p / (p + m / rows) is the chance that a pick is an
/// anchor's own and none of m draws from all rows; p = exp(affinity) / normaliser. And its slope in each affinity, which
/// is h, and for the first h − 1: the 1 is left to the caller.
///
/// # Shapes
/// `affinities`: `(batch, 1 + negatives)` → `(batch,)` and `(batch, 1 + negatives)`.
///
/// # Source
/// Tian et al., 2020 (arXiv:1910.10699), equation (18), as RepDistiller computes it.
fn surprise(affinities: &Tensor, normaliser: f64, rows: usize) -> Result<(Tensor, Tensor)> {
    let noise = (affinities.dim(1)? - 1) as f64 / rows as f64;
    // Over the noise, so that a chance far below it keeps its digits beside the 1.
    let shift = normaliser.ln() + noise.ln();
    let odds = (affinities - shift)?.exp()?;
    let both = (&odds + (1.0 + EPS / noise))?;
    let own = (affinities.narrow(1, 0, 1)?.squeeze(1)? - shift)?;
    Ok(((both.log()?.sum(D::Minus1)? - own)?, (odds / both)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Var;

    fn wave(count: usize, shape: (usize, usize)) -> Result<Tensor> {
        let values = (0..count).map(|i| (i as f32 * 12.9898).sin());
        Ok(Tensor::from_iter(values, &Device::Cpu)?.reshape(shape)?)
    }

    /// By hand: one row that is the anchor's own and one that is not.
    #[test]
    fn a_surprise_is_what_the_formula_says() -> Result<()> {
        let affinities = Tensor::new(&[[1.0, 0.0]], &Device::Cpu)?;
        let (own, other, noise) = (1f64.exp() / 3.0, 1.0 / 3.0, 0.25);
        let expected = -(own / (own + noise + EPS)).ln() - (noise / (other + noise + EPS)).ln();
        let value = surprise(&affinities, 3.0, 4)?.0.to_vec1::<f64>()?;
        assert!((value[0] - expected).abs() < 1e-12, "{value:?} instead of {expected}");
        Ok(())
    }

    /// Products with all rows or copies of the picked ones, in one piece or several: the same values and gradients
    /// as candle's, from the formula written plainly.
    #[test]
    fn all_ways_are_one() -> Result<()> {
        for (rows, picked) in [(40, 2), (40, 30), (PIECE / 2, PIECE / 32 + 1)] {
            let bank = wave(rows * 2, (rows, 2))?;
            let anchors = Var::from_tensor(&wave(6, (3, 2))?)?;
            let picks = (0..3 * picked).map(|i| (i * 7 % rows) as u32);
            let picks = Tensor::from_iter(picks, &Device::Cpu)?.reshape((3, picked))?;
            let unknown = Tensor::new(&[-1f32], &Device::Cpu)?;
            let (values, normaliser) = contrast(&anchors, &bank, &picks, 0.5, &unknown)?;
            let normaliser = number(&normaliser)?;
            let gradient = values.sum_all()?.backward()?.remove(&anchors).expect("anchors learn");

            let products = anchors.matmul(&bank.t()?)?.gather(&picks, 1)?.to_dtype(DType::F64)?;
            let chances = (products / 0.5)?.exp()?;
            let mean = chances.mean_all()?.to_vec0::<f64>()? * rows as f64;
            assert!((mean / normaliser - 1.0).abs() < 1e-7, "{mean} {normaliser}");
            let chances = (chances / normaliser)?;
            let noise = (picked - 1) as f64 / rows as f64;
            let both = (&chances + (noise + EPS))?;
            let own = (chances.narrow(1, 0, 1)? / both.narrow(1, 0, 1)?)?.log()?.sum(1)?;
            let others = (both.recip()? * noise)?.narrow(1, 1, picked - 1)?.log()?.sum(1)?;
            let expected = (own + others)?.neg()?;
            let slope = expected.sum_all()?.backward()?.remove(&anchors).expect("anchors learn");
            // A sum over millions of rows keeps five digits; golden values say more of fewer.
            for (got, expected) in [(&values, &expected), (&gradient, &slope)] {
                let expected = expected.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                let largest = expected.iter().fold(0.0, |most: f64, one| most.max(one.abs()));
                for (got, expected) in got.flatten_all()?.to_vec1::<f32>()?.iter().zip(&expected) {
                    let off = (f64::from(*got) - expected).abs() / largest;
                    assert!(off < 5e-5, "{rows} rows: {got} instead of {expected}");
                }
            }
        }
        Ok(())
    }
}
