use crate::layout::{fit, from_torch, to_torch, torch_dims};
use candle::{Device, Tensor, Var, backprop::GradStore};
use sokd_core::Result;
use sokd_ops::{Moved, Rates, put_};
use std::collections::BTreeMap;

/// What an optimiser remembers of each of its weights: how many steps it took, and `N` tensors of its shape.
pub struct Memory<const N: usize> {
    names: [&'static str; N],
    vars: Vec<(String, Var)>,
    kept: Vec<Kept<N>>,
    /// What the last step went by, where a GPU reads it.
    rates: Rates,
}

struct Kept<const N: usize> {
    steps: u64,
    /// Whether the last step moved the weight.
    moved: bool,
    tensors: [Tensor; N],
}

/// How PyTorch calls the number of steps that a weight took.
const STEPS: &str = "step";

impl<const N: usize> Memory<N> {
    /// Zeros, under the names that PyTorch gives to such tensors.
    pub fn new(names: [&'static str; N], vars: Vec<(String, Var)>) -> Result<Self> {
        let mut memory = Self { names, vars, kept: Vec::new(), rates: Rates::default() };
        memory.forget()?;
        Ok(memory)
    }

    pub fn forget(&mut self) -> Result<()> {
        let blank = |(_, var): &(String, Var)| {
            let zeros: Vec<_> = self.names.iter().map(|_| var.zeros_like()).collect::<candle::Result<_>>()?;
            Ok(Kept { steps: 0, moved: false, tensors: zeros.try_into().expect("as many zeros as names") })
        };
        self.kept = self.vars.iter().map(blank).collect::<Result<_>>()?;
        Ok(())
    }

    pub fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// How many steps those took until now that the last one moved, where it is the same for all.
    pub fn alike(&self) -> Option<u64> {
        let mut steps = self.kept.iter().filter(|kept| kept.moved).map(|kept| kept.steps);
        let first = steps.next()?;
        steps.all(|steps| steps == first).then_some(first)
    }

    /// Puts the numbers of the next step where a GPU reads them, where all weights go by the same.
    pub fn put<const M: usize>(&mut self, numbers: impl Fn(u64) -> [f32; M]) -> Result<()> {
        let Some((steps, (_, like))) = self.alike().zip(self.vars.first()) else { return Ok(()) };
        self.rates.put(&numbers(steps), like)
    }

    /// Calls `step` for the weights that have a gradient, all that took as many steps until now at once.
    pub fn each(
        &mut self,
        grads: &GradStore,
        step: impl Fn(u64, &[Moved<'_, N>], &mut Rates) -> Result<()>,
    ) -> Result<()> {
        let mut alike: BTreeMap<u64, Vec<Moved<'_, N>>> = BTreeMap::new();
        for ((_, var), kept) in self.vars.iter().zip(&mut self.kept) {
            kept.moved = grads.get(var).is_some();
            if let Some(by) = grads.get(var) {
                let moved = Moved { weight: var, memory: kept.tensors.each_ref(), by };
                alike.entry(kept.steps).or_default().push(moved);
            }
        }
        alike.into_iter().try_for_each(|(steps, moved)| step(steps, &moved, &mut self.rates))
    }

    /// Counts a step of the weights that moved.
    pub fn count(&mut self) {
        for kept in &mut self.kept {
            kept.steps += u64::from(kept.moved);
        }
    }

    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for ((name, _), kept) in self.vars.iter().zip(&self.kept) {
            state.insert(format!("{STEPS}.{name}"), Tensor::new(kept.steps as i64, &Device::Cpu)?);
            for (kind, tensor) in self.names.iter().zip(&kept.tensors) {
                state.insert(format!("{kind}.{name}"), to_torch(tensor)?);
            }
        }
        Ok(state)
    }

    pub fn load(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut expected = BTreeMap::new();
        for (name, var) in &self.vars {
            expected.insert(format!("{STEPS}.{name}"), Vec::new());
            for kind in &self.names {
                expected.insert(format!("{kind}.{name}"), torch_dims(var.dims()));
            }
        }
        fit("the optimiser's state", &expected, state)?;
        for ((name, var), kept) in self.vars.iter().zip(&mut self.kept) {
            kept.steps = state[&format!("{STEPS}.{name}")].to_scalar::<i64>()? as u64;
            for (kind, tensor) in self.names.iter().zip(&kept.tensors) {
                put_(tensor, &from_torch(&state[&format!("{kind}.{name}")].to_device(var.device())?)?)?;
            }
        }
        Ok(())
    }
}
