use super::{Optimizer, Rule, memory::Memory};
use candle::{Tensor, Var, backprop::GradStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Error, Result};
use sokd_ops::{SgdStep, sgd_};
use std::collections::BTreeMap;

/// Stochastic gradient descent with momentum and coupled weight decay, as `torch.optim.SGD`.
///
/// # Source
/// Defaults: the CIFAR-100 recipe of Tian et al., 2020 (arXiv:1910.10699), section 4, which the field kept: the decay
/// acts on all weights, those of normalisations among them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Sgd {
    /// How much of the velocity stays from step to step.
    pub momentum: f64,
    /// Looks one step of the velocity ahead.
    pub nesterov: bool,
    /// How much of the gradient the velocity does not take, after the first step, which takes all of it.
    pub dampening: f64,
    /// Times the weight, added to its gradient.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: false, dampening: 0.0, weight_decay: 5e-4 }
    }
}

impl Rule for Sgd {
    fn start(&self, vars: Vec<(String, Var)>) -> Result<Box<dyn Optimizer>> {
        if self.nesterov && (self.momentum <= 0.0 || self.dampening != 0.0) {
            return Err(Error::setting("nesterov", "needs a momentum above 0 and no dampening"));
        }
        Ok(Box::new(Descent { rule: *self, lr: 0.0, memory: Memory::new(["momentum_buffer"], vars)? }))
    }
}

impl Sgd {
    /// What a weight does next that took so many steps.
    fn step(self, lr: f64, steps: u64) -> SgdStep {
        let Self { momentum, nesterov, dampening, weight_decay } = self;
        // PyTorch starts its buffer as the first gradient, undamped, and asks no dampening of plain descent.
        let dampening = if steps == 0 || momentum == 0.0 { 0.0 } else { dampening };
        SgdStep { lr, momentum, dampening, weight_decay, nesterov }
    }
}

struct Descent {
    rule: Sgd,
    lr: f64,
    memory: Memory<1>,
}

impl Optimizer for Descent {
    fn aim(&mut self, lr: f64) -> Result<()> {
        let rule = self.rule;
        self.lr = lr;
        self.memory.put(|steps| rule.step(lr, steps).numbers())
    }

    fn advance(&mut self, grads: &GradStore) -> Result<()> {
        let Self { rule, lr, .. } = *self;
        self.memory.each(grads, |steps, moved, rates| sgd_(moved, &rule.step(lr, steps), rates))
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
