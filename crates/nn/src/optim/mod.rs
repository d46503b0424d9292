//! Optimisers: configurations that recipes name, and what they become once they know their weights.

mod adam;
mod groups;
mod memory;
mod sgd;

pub use adam::{Adam, Adamw};
use candle::{Tensor, Var, backprop::GradStore};
pub use groups::Groups;
pub use sgd::Sgd;
use sokd_core::Result;
use std::collections::BTreeMap;

/// Someone who moves weights down a gradient, and remembers.
pub trait Optimizer: Send {
    /// Moves every weight that has a gradient, in place; the others stay, and so does what is remembered of them.
    fn step(&mut self, grads: &GradStore, lr: f64) -> Result<()> {
        self.aim(lr)?;
        self.advance(grads)?;
        self.count();
        Ok(())
    }

    /// Says how far the next step goes. The first of a step's three parts: where a GPU does the second one
    /// [again](sokd_ops::Replay), it goes as far as was said since.
    ///
    /// # Errors
    /// Where the device has no room.
    fn aim(&mut self, lr: f64) -> Result<()>;

    /// Moves the weights.
    fn advance(&mut self, grads: &GradStore) -> Result<()>;

    /// Counts a step of the weights that moved.
    fn count(&mut self);

    /// Whether the last step could be done again as it was: all that moved went by the same numbers.
    fn repeats(&self) -> bool;

    /// The weights that move, by name.
    fn vars(&self) -> &[(String, Var)];

    /// The same, group by group: each has a gradient norm of its own.
    fn groups(&self) -> Vec<&[(String, Var)]> {
        vec![self.vars()]
    }

    /// All that is remembered, by PyTorch's name for it and the weight's (`momentum_buffer.student.fc.bias`), in
    /// PyTorch's layout.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Remembers what [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// [`sokd_core::Error::Unfit`] with every missing, unexpected and misshapen name; nothing changes then.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;

    /// Remembers nothing any more, as when it was made.
    fn forget(&mut self) -> Result<()>;
}

/// An optimiser before it knows its weights.
pub trait Rule {
    /// Takes charge of `vars`, remembering nothing yet.
    ///
    /// # Errors
    /// [`sokd_core::Error::Setting`] when its settings exclude each other.
    fn start(&self, vars: Vec<(String, Var)>) -> Result<Box<dyn Optimizer>>;
}

sokd_core::catalog! {
    /// An optimiser that a recipe may name. The learning rate is not its business: see [`crate::LrSchedule`].
    pub enum OptimSpec: AsRef<dyn Rule> {
        Sgd(Sgd),
        Adam(Adam),
        Adamw(Adamw),
    }
}

impl OptimSpec {
    /// Takes charge of `vars`, remembering nothing yet.
    ///
    /// # Errors
    /// [`sokd_core::Error::Setting`] when its settings exclude each other.
    pub fn build(&self, vars: Vec<(String, Var)>) -> Result<Box<dyn Optimizer>> {
        self.as_ref().start(vars)
    }
}
