use crate::Space;
use candle::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder, ops::sigmoid};
use sokd_core::{Key, Result};
use sokd_ops::{Moved, axpby_, log_softmax, put_, softmax};

/// Where α begins: nothing is preferred.
const ALPHA: f64 = 1e-3;
/// Where β and m begin.
const MIDDLE: f64 = 0.5;

/// Where a probability stands before its logit is taken: 0 and 1 have none.
const OPEN: [f64; 2] = [1e-6, 1.0 - 1e-6];

/// What DAFA learns: which sub-policy, whether each of its two operations is executed, and how strongly.
///
/// # Shapes
/// α: `(pairs,)`, logits; β, `m`: `(pairs, 2)`, in [0, 1]. They live under `policy.dafa`.
///
/// # Source
/// SoKD (arXiv:2409.18785) after DADA (Li et al., 2020, arXiv:2003.03780), whose initial values they are.
pub struct Policy {
    alpha: Tensor,
    beta: Tensor,
    magnitude: Tensor,
    temperature: f64,
}

/// A policy in numbers.
pub(crate) struct Standing {
    alpha: Vec<f64>,
    /// In [0, 1].
    beta: Vec<f64>,
    /// In [0, 1].
    levels: Vec<f64>,
}

/// One draw of a policy, and the noise that decided it.
#[derive(Clone, Debug)]
pub struct Draw {
    /// The sub-policy.
    pub pair: usize,
    /// Which operations of every sub-policy would be executed.
    pub bits: Vec<[bool; 2]>,
    /// How strongly.
    pub levels: Vec<[f64; 2]>,
    /// What the operations draw from.
    pub key: Key,
    gumbel: Vec<f32>,
    logistic: [f32; 2],
}

/// A draw in numbers, where its policy is: whatever was drawn, its tensors come of them in the same way.
#[derive(Clone, Debug)]
pub struct Lots {
    /// Gumbel's noise and which sub-policy it is, for each of them; the logistic noise and the bits of that one; which operations are
    /// executed.
    all: Tensor,
    pairs: usize,
}

impl Lots {
    /// Those of a draw.
    pub fn new(space: &Space, draw: &Draw, device: &Device) -> Result<Self> {
        Ok(Self { all: Tensor::new(Self::numbers(space, draw), device)?, pairs: draw.gumbel.len() })
    }

    /// Puts those of another draw in their place.
    pub(crate) fn put(&self, space: &Space, draw: &Draw) -> Result<()> {
        put_(&self.all, &Tensor::new(Self::numbers(space, draw), self.all.device())?)
    }

    fn numbers(space: &Space, draw: &Draw) -> Vec<f32> {
        let set = |set: bool| f32::from(u8::from(set));
        let mut all = draw.gumbel.clone();
        all.extend((0..all.len()).map(|pair| set(pair == draw.pair)));
        all.extend(draw.logistic);
        all.extend(draw.bits[draw.pair].map(set));
        all.extend(space.executed(draw).map(set));
        all
    }

    fn gumbel(&self) -> Result<Tensor> {
        Ok(self.all.narrow(0, 0, self.pairs)?)
    }

    /// 1 for the sub-policy drawn, else 0: `(pairs,)`.
    fn which(&self) -> Result<Tensor> {
        Ok(self.all.narrow(0, self.pairs, self.pairs)?)
    }

    /// The row of the sub-policy drawn, `(2,)`, of `(pairs, 2)`.
    fn row(&self, weights: &Tensor) -> Result<Tensor> {
        Ok(weights.broadcast_mul(&self.which()?.unsqueeze(1)?)?.sum(0)?)
    }

    fn logistic(&self) -> Result<Tensor> {
        Ok(self.all.narrow(0, 2 * self.pairs, 2)?)
    }

    /// 1 for each of the two operations that is executed, else 0: `(2,)`.
    pub(crate) fn bits(&self) -> Result<Tensor> {
        Ok(self.all.narrow(0, 2 * self.pairs + 2, 2)?)
    }

    /// For each operation of the space whether it is executed, `()`.
    pub(crate) fn executed(&self) -> Result<Vec<Tensor>> {
        let of = 2 * self.pairs + 4..self.all.dim(0)?;
        of.map(|at| Ok(self.all.narrow(0, at, 1)?.squeeze(0)?)).collect()
    }
}

/// The same draw, softened: what gradients pass through.
///
/// # Shapes
/// `choice`: `(pairs,)`; `bits`, `levels`: `(2,)`, of the sub-policy drawn.
pub struct Relaxed {
    /// c of equation (E3a).
    pub choice: Tensor,
    /// b̃ of equation (E3b).
    pub bits: Tensor,
    /// m, in [0, 1].
    pub levels: Tensor,
}

/// What a policy does on average, by operation: `(operations,)`.
pub(crate) struct Habits {
    /// With which probability it is in the sub-policy drawn.
    pub probability: Tensor,
    /// With which probability it is then executed.
    pub execution: Tensor,
    /// And at which level.
    pub level: Tensor,
}

impl Policy {
    /// The policy over a space, drawn or found under `policy.dafa`.
    pub fn new(vars: &VarBuilder<'_>, space: &Space, temperature: f64) -> Result<Self> {
        let (vars, pairs) = (vars.pp("policy.dafa"), space.pairs().len());
        Ok(Self {
            alpha: vars.get_with_hints(pairs, "alpha", Init::Const(ALPHA))?,
            beta: vars.get_with_hints((pairs, 2), "beta", Init::Const(MIDDLE))?,
            magnitude: vars.get_with_hints((pairs, 2), "magnitude", Init::Const(MIDDLE))?,
            temperature,
        })
    }

    /// The policy that a learned one begins as, and that stays so: no weight of it can move, and a phase that would move
    /// it has nothing to do.
    pub fn at_random(space: &Space, temperature: f64, device: &Device) -> Result<Self> {
        let pairs = space.pairs().len();
        let middle = || Tensor::full(MIDDLE as f32, (pairs, 2), device);
        let alpha = Tensor::full(ALPHA as f32, pairs, device)?;
        Ok(Self { alpha, beta: middle()?, magnitude: middle()?, temperature })
    }

    /// α, `(pairs,)`: on the policy's device.
    pub(crate) fn alpha(&self) -> &Tensor {
        &self.alpha
    }

    /// A sub-policy and its bits, by Gumbel's trick: the same for the same key and weights.
    ///
    /// # Source
    /// Equations (E3a) and (E3b) of the book's page on DAFA, their hard values.
    pub fn draw(&self, key: Key) -> Result<Draw> {
        Ok(self.standing()?.draw(key))
    }

    /// How it stands now. Who asks a GPU waits for it.
    pub(crate) fn standing(&self) -> Result<Standing> {
        let flat = |weights: &Tensor| weights.detach().flatten_all();
        // In one journey.
        let all = Tensor::cat(&[flat(&self.alpha)?, flat(&self.beta)?, flat(&self.magnitude)?], 0)?;
        let all = all.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let mut alpha: Vec<f64> = all.into_iter().map(f64::from).collect();
        let mut beta = alpha.split_off(self.alpha.elem_count());
        let mut levels = beta.split_off(self.beta.elem_count());
        let clamp = |number: &mut f64| *number = number.clamp(0.0, 1.0);
        beta.iter_mut().chain(&mut levels).for_each(clamp);
        Ok(Standing { alpha, beta, levels })
    }

    /// The draw with gradients for α, β and m.
    ///
    /// # Source
    /// Equations (E3a), (E3b) and (E4).
    pub fn relaxed(&self, lots: &Lots) -> Result<Relaxed> {
        let scores = ((log_softmax(&self.alpha)? + lots.gumbel()?)? / self.temperature)?;
        let beta = within(&lots.row(&self.beta)?, OPEN)?;
        let logit = (beta.log()? - beta.affine(-1.0, 1.0)?.log()?)?;
        let bits = sigmoid(&((logit + lots.logistic()?)? / self.temperature)?)?;
        let levels = within(&lots.row(&self.magnitude)?, [0.0, 1.0])?;
        Ok(Relaxed { choice: softmax(&scores)?, bits, levels })
    }

    /// The logarithm of the draw's probability, `()`.
    ///
    /// # Source
    /// Equation (E9) of the book's page on DAFA.
    pub fn log_probability(&self, lots: &Lots) -> Result<Tensor> {
        let choice = (log_softmax(&self.alpha)? * lots.which()?)?.sum_all()?;
        let (beta, bits) = (within(&lots.row(&self.beta)?, OPEN)?, lots.bits()?);
        // β where the bit is set, 1 − β where it is not.
        let likely = ((bits.affine(2.0, -1.0)? * &beta)? + bits.affine(-1.0, 1.0)?)?;
        Ok((choice + likely.log()?.sum_all()?)?)
    }

    /// The entropy of the choice among sub-policies, in nats, `()`.
    pub fn entropy(&self) -> Result<Tensor> {
        let log = log_softmax(&self.alpha)?;
        Ok((log.exp()? * log)?.sum_all()?.neg()?)
    }

    /// Brings β and m back into [0, 1], in place.
    pub fn project(&self) -> Result<()> {
        for weights in [&self.beta, &self.magnitude] {
            axpby_(&[Moved::new(weights, &weights.detach().clamp(0.0, 1.0)?)], 1.0, 0.0)?;
        }
        Ok(())
    }

    /// Of every operation; `places`: as [`Space::places`] says where it stands.
    pub(crate) fn habits(&self, places: &Tensor) -> Result<Habits> {
        let chances = softmax(&self.alpha.detach())?.unsqueeze(1)?.broadcast_as(self.beta.shape())?;
        let mean = |of: &Tensor| -> Result<Tensor> {
            Ok(places.broadcast_mul(&(&chances * of)?.flatten_all()?)?.sum(1)?)
        };
        let probability = mean(&chances.ones_like()?)?;
        let within = |weights: &Tensor| weights.detach().clamp(0.0, 1.0);
        Ok(Habits {
            execution: (mean(&within(&self.beta)?)? / &probability)?,
            level: (mean(&within(&self.magnitude)?)? / &probability)?,
            probability,
        })
    }
}

impl Standing {
    /// As [`Policy::draw`].
    pub(crate) fn draw(&self, key: Key) -> Draw {
        let Self { alpha, beta, levels } = self;
        let (mut choice, mut executed) = (key.fold("pair").stream(), key.fold("bits").stream());
        let gumbel: Vec<f64> = alpha.iter().map(|_| -(-open(choice.uniform()).ln()).ln()).collect();
        let best = |best: usize, at: usize| {
            if alpha[at] + gumbel[at] > alpha[best] + gumbel[best] { at } else { best }
        };
        let pair = (0..alpha.len()).fold(0, best);
        let logistic: Vec<f64> = beta.iter().map(|_| logit(open(executed.uniform()))).collect();
        let bits: Vec<bool> = beta
            .iter()
            .zip(&logistic)
            .map(|(&beta, logistic)| logit(beta.clamp(OPEN[0], OPEN[1])) + logistic > 0.0)
            .collect();
        Draw {
            pair,
            bits: bits.as_chunks().0.to_vec(),
            levels: levels.as_chunks().0.to_vec(),
            key: key.fold("operations"),
            gumbel: gumbel.into_iter().map(|one| one as f32).collect(),
            logistic: [logistic[2 * pair] as f32, logistic[2 * pair + 1] as f32],
        }
    }
}

/// The values inside an interval; gradients as if they had been there, or what once was driven to its end would stay.
fn within(values: &Tensor, [low, high]: [f64; 2]) -> Result<Tensor> {
    let fixed = values.detach();
    Ok((values + (fixed.clamp(low, high)? - &fixed)?)?)
}

/// A uniform number that is not 0.
fn open(uniform: f64) -> f64 {
    uniform.max(f64::MIN_POSITIVE)
}

fn logit(probability: f64) -> f64 {
    probability.ln() - (1.0 - probability).ln()
}
