use super::relaxed::{logistic, relaxed_bit};
use super::{LEVELS, Operation, Policy, Probability, Tst};
use candle::{DType, Tensor};
use candle_nn::{Init, VarBuilder};
use sokd_core::{Key, Result};
use sokd_ops::sigmoid;

/// What TST learns: how probably each operation acts once it is drawn, and how strongly.
pub struct Theta {
    /// `(14,)`.
    probability: Tensor,
    /// `(11,)`.
    magnitude: Tensor,
}

/// What holds for a batch.
pub struct Drawn {
    /// Which operations, in the order in which they act.
    pub operations: Vec<Operation>,
    /// Nearly 0 or 1 for every operation, `(14,)`.
    pub bits: Tensor,
    /// Between 0 and 1, for every operation that has a strength, `(11,)`.
    pub levels: Tensor,
}

impl Theta {
    /// Zeros, or what was learned, under `augment.tst`; weights that no phase can move, where the policy is not learned.
    pub fn new(policy: Policy, vars: &VarBuilder<'_>) -> Result<Self> {
        let (every, some) = (Operation::ALL.len(), LEVELS);
        if policy == Policy::Learned {
            let (vars, zeros) = (vars.pp("augment.tst"), Init::Const(0.0));
            return Ok(Self {
                probability: vars.get_with_hints(every, "probability", zeros)?,
                magnitude: vars.get_with_hints(some, "magnitude", zeros)?,
            });
        }
        let zeros = |count| Tensor::zeros(count, DType::F32, vars.device());
        Ok(Self { probability: zeros(every)?, magnitude: zeros(some)? })
    }

    /// The logits of the bits, and the levels.
    fn squashed(&self, tst: &Tst, key: Key) -> Result<[Tensor; 2]> {
        let Self { probability, magnitude } = self;
        if tst.policy == Policy::Random {
            let even = |name: &str, of: &Tensor| {
                let mut stream = key.fold(name).stream();
                let even: Vec<f32> = (0..of.elem_count()).map(|_| stream.uniform() as f32).collect();
                Tensor::from_vec(even, of.dims(), of.device())
            };
            let share = even("probability", probability)?;
            let logit = match tst.probability {
                Probability::Released => share,
                Probability::Intent => (share.log()? - share.affine(-1.0, 1.0)?.log()?)?,
            };
            return Ok([logit, even("magnitude", magnitude)?]);
        }
        let logit = match tst.probability {
            Probability::Released => sigmoid(probability)?,
            Probability::Intent => probability.clone(),
        };
        Ok([logit, sigmoid(magnitude)?])
    }

    /// The draw for a batch: the same for the same key and weights. Gradients pass if it is to be `learned` from.
    pub fn draw(&self, tst: &Tst, key: Key, learned: bool) -> Result<Drawn> {
        let [logits, levels] = self.squashed(tst, key.fold("policy"))?;
        let mut operations = tst.operations.clone();
        key.fold("operations").stream().shuffle(&mut operations);
        operations.truncate(tst.drawn);
        // For every operation, drawn or not, so that what else is drawn changes no bit.
        let mut stream = key.fold("bits").stream();
        let noise: Vec<f32> = Operation::ALL.iter().map(|_| logistic(&mut stream) as f32).collect();
        let bits = relaxed_bit(&logits, &Tensor::new(noise, logits.device())?, tst.temperature)?;
        Ok(if learned {
            Drawn { operations, bits, levels }
        } else {
            Drawn { operations, bits: bits.detach(), levels: levels.detach() }
        })
    }

    /// With which probability each operation acts once it is drawn, and how strongly.
    ///
    /// # Shapes
    /// `(14,)` and `(11,)`.
    pub fn habits(&self, tst: &Tst, key: Key) -> Result<[Tensor; 2]> {
        let [logits, levels] = self.squashed(tst, key)?;
        Ok([sigmoid(&logits.detach())?, levels.detach()])
    }
}
