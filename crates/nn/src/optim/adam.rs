use super::{Optimizer, Rule, memory::Memory};
use candle::{Tensor, Var, backprop::GradStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::Result;
use sokd_ops::{AdamStep, adam_};
use std::collections::BTreeMap;

/// Adaptive moments, as `torch.optim.Adam`: weight decay is added to the gradient.
///
/// # Source
/// Kingma and Ba, 2015 (arXiv:1412.6980), algorithm 1, with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Adam {
    /// How much of the first and of the second moment stays from step to step.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Times the weight, added to its gradient.
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }
    }
}

/// Adaptive moments with decoupled weight decay, as `torch.optim.AdamW`: weights shrink beside the step.
///
/// # Source
/// Loshchilov and Hutter, 2019 (arXiv:1711.05101), algorithm 2; the decay of 0.01 is PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Adamw {
    /// How much of the first and of the second moment stays from step to step.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Times the learning rate, what each weight loses in a step.
    pub weight_decay: f64,
}

impl Default for Adamw {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 }
    }
}

impl Rule for Adam {
    fn start(&self, vars: Vec<(String, Var)>) -> Result<Box<dyn Optimizer>> {
        let Self { betas, eps, weight_decay } = *self;
        Moments::start(AdamStep { lr: 0.0, betas, eps, weight_decay, decoupled: false, count: 0 }, vars)
    }
}

impl Rule for Adamw {
    fn start(&self, vars: Vec<(String, Var)>) -> Result<Box<dyn Optimizer>> {
        let Self { betas, eps, weight_decay } = *self;
        Moments::start(AdamStep { lr: 0.0, betas, eps, weight_decay, decoupled: true, count: 0 }, vars)
    }
}

struct Moments {
    /// The step that each weight takes, but for the count.
    step: AdamStep,
    memory: Memory<2>,
}

impl Moments {
    fn start(step: AdamStep, vars: Vec<(String, Var)>) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Self { step, memory: Memory::new(["exp_avg", "exp_avg_sq"], vars)? }))
    }
}

impl Optimizer for Moments {
    fn aim(&mut self, lr: f64) -> Result<()> {
        self.step.lr = lr;
        let step = self.step;
        self.memory.put(|steps| AdamStep { count: steps + 1, ..step }.numbers())
    }

    fn advance(&mut self, grads: &GradStore) -> Result<()> {
        let step = self.step;
        self.memory
            .each(grads, |steps, moved, rates| adam_(moved, &AdamStep { count: steps + 1, ..step }, rates))
    }

    fn count(&mut self) {
        self.memory.count();
    }

    fn repeats(&self) -> bool {
        self.memory.alike().is_some()
    }

    fn vars(&self) -> &[(String, Var)] {
        self.memory.vars()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.memory.state()
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.memory.load(state)
    }

    fn forget(&mut self) -> Result<()> {
        self.memory.forget()
    }
}
