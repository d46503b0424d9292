use super::Optimizer;
use crate::layout::fit;
use candle::{Tensor, Var, backprop::GradStore};
use sokd_core::Result;
use std::collections::BTreeMap;

/// Several optimisers as one, each in charge of weights of its own at its own multiple of the learning rate: PyTorch's
/// parameter groups.
pub struct Groups {
    groups: Vec<(f64, Box<dyn Optimizer>)>,
    vars: Vec<(String, Var)>,
}

impl Groups {
    /// Each with what the learning rate is multiplied by for it. No weight may be in two.
    pub fn new(groups: Vec<(f64, Box<dyn Optimizer>)>) -> Self {
        let vars = groups.iter().flat_map(|(_, group)| group.vars().to_vec()).collect();
        Self { groups, vars }
    }
}

impl Optimizer for Groups {
    fn aim(&mut self, lr: f64) -> Result<()> {
        self.groups.iter_mut().try_for_each(|(times, group)| group.aim(lr * *times))
    }

    fn advance(&mut self, grads: &GradStore) -> Result<()> {
        self.groups.iter_mut().try_for_each(|(_, group)| group.advance(grads))
    }

    fn count(&mut self) {
        self.groups.iter_mut().for_each(|(_, group)| group.count());
    }

    fn repeats(&self) -> bool {
        self.groups.iter().all(|(_, group)| group.repeats())
    }

    fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    fn groups(&self) -> Vec<&[(String, Var)]> {
        self.groups.iter().flat_map(|(_, group)| group.groups()).collect()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let states = self.groups.iter().map(|(_, group)| group.state());
        Ok(states.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        // All before the first: nothing changes where one of them does not fit.
        let expected =
            self.state()?.into_iter().map(|(name, tensor)| (name, tensor.dims().to_vec())).collect();
        fit("the optimiser's state", &expected, state)?;
        for (_, group) in &mut self.groups {
            let own = group.state()?.into_keys().map(|name| (name.clone(), state[&name].clone()));
            group.load_state(&own.collect())?;
        }
        Ok(())
    }

    fn forget(&mut self) -> Result<()> {
        self.groups.iter_mut().try_for_each(|(_, group)| group.forget())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Adam, Rule, Sgd};
    use candle::Device;

    fn weights() -> Result<Vec<(String, Var)>> {
        let var = |name: &str| Ok((name.to_owned(), Var::new(&[1f32, -2.0, 0.5], &Device::Cpu)?));
        ["student.fc", "adapter.fc"].into_iter().map(var).collect()
    }

    /// Half the square of all weights: the gradient is the weight.
    fn grads(vars: &[(String, Var)]) -> Result<GradStore> {
        let squares = vars.iter().map(|(_, var)| Ok((var.sqr()?.sum_all()? * 0.5)?));
        let squares = squares.collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&squares, 0)?.sum_all()?.backward()?)
    }

    fn values(vars: &[(String, Var)]) -> Result<Vec<Vec<f32>>> {
        vars.iter().map(|(_, var)| Ok(var.to_vec1()?)).collect()
    }

    fn grouped(vars: &[(String, Var)]) -> Result<Groups> {
        let plain = Sgd { weight_decay: 0.0, ..Sgd::default() };
        Ok(Groups::new(vec![
            (1.0, Sgd::default().start(vars[..1].to_vec())?),
            (0.1, plain.start(vars[1..].to_vec())?),
        ]))
    }

    #[test]
    fn each_group_goes_its_own_way() -> Result<()> {
        let (apart, together) = (weights()?, weights()?);
        let mut groups = grouped(&apart)?;
        let mut first = Sgd::default().start(together[..1].to_vec())?;
        let mut second = Sgd { weight_decay: 0.0, ..Sgd::default() }.start(together[1..].to_vec())?;
        for _ in 0..3 {
            groups.step(&grads(&apart)?, 0.1)?;
            let grads = grads(&together)?;
            first.step(&grads, 0.1)?;
            second.step(&grads, 0.1 * 0.1)?;
        }
        assert_eq!(values(&apart)?, values(&together)?);
        assert!(apart[0].1.to_vec1::<f32>()? != apart[1].1.to_vec1::<f32>()?);
        assert_eq!((groups.vars().len(), groups.groups().len()), (2, 2));
        Ok(())
    }

    #[test]
    fn what_groups_remember_is_one_state_and_strict() -> Result<()> {
        let (vars, twin) = (weights()?, weights()?);
        let (mut groups, mut resumed) = (grouped(&vars)?, grouped(&twin)?);
        groups.step(&grads(&vars)?, 0.1)?;
        for ((_, from), (_, to)) in vars.iter().zip(&twin) {
            to.set(from.as_tensor())?;
        }
        let state = groups.state()?;
        resumed.load_state(&state)?;
        groups.step(&grads(&vars)?, 0.1)?;
        resumed.step(&grads(&twin)?, 0.1)?;
        assert_eq!(values(&vars)?, values(&twin)?);

        let mut other = state.clone();
        other.remove("momentum_buffer.adapter.fc");
        other.insert("exp_avg.adapter.fc".into(), Tensor::zeros(3, candle::DType::F32, &Device::Cpu)?);
        let said = resumed.load_state(&other).expect_err("one is missing and one too many").to_string();
        assert!(said.contains("momentum_buffer.adapter.fc") && said.contains("exp_avg.adapter.fc"), "{said}");
        let mixed = Groups::new(vec![(1.0, Adam::default().start(vars)?)]);
        assert_eq!(mixed.state()?.len(), 6);
        Ok(())
    }
}
