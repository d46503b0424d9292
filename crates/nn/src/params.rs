use crate::layout::{fit, from_torch, to_torch, torch_dims};
use candle::{DType, Device, Shape, Tensor, Var};
use candle_nn::{Init, VarBuilder, init::NormalOrUniform, var_builder::SimpleBackend};
use sokd_core::{Key, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Named weights in name order, each drawn from a key of its own: adding a layer moves no other layer's initial
/// weights.
///
/// A name is a path of segments: the first is its group (`student`, `adapter`, `policy`), and a last one that begins
/// with `running_` makes it a buffer: saved and loaded like the rest, moved by its layer and by no optimiser.
#[derive(Clone)]
pub struct Params {
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
    key: Key,
}

impl Params {
    /// No weights yet; each will be drawn when first asked for.
    pub fn new(key: Key) -> Self {
        Self { vars: Arc::default(), key }
    }

    /// Weights for a network that learns: operations on them enter the graph.
    pub fn builder(&self, device: &Device) -> VarBuilder<'static> {
        self.backend(device, true)
    }

    /// The same storages, detached: a network built on them records no graph and always sees the current weights.
    pub fn frozen(&self, device: &Device) -> VarBuilder<'static> {
        self.backend(device, false)
    }

    fn backend(&self, device: &Device, tracked: bool) -> VarBuilder<'static> {
        let backend = Named { params: self.clone(), tracked };
        VarBuilder::from_backend(Box::new(backend), DType::F32, device.clone())
    }

    /// The weights that an optimiser may move under a first name segment, in name order.
    pub fn group(&self, name: &str) -> Vec<(String, Var)> {
        let inside = |path: &str| path.split('.').next() == Some(name) && !is_buffer(path);
        let vars = self.vars();
        vars.iter().filter(|(path, _)| inside(path)).map(|(path, var)| (path.clone(), var.clone())).collect()
    }

    /// What layers keep beside their weights, in name order.
    pub fn buffers(&self) -> Vec<(String, Var)> {
        let vars = self.vars();
        vars.iter()
            .filter(|(path, _)| is_buffer(path))
            .map(|(path, var)| (path.clone(), var.clone()))
            .collect()
    }

    /// All names, buffers among them, in order.
    pub fn names(&self) -> Vec<String> {
        self.vars().keys().cloned().collect()
    }

    /// What lies under a prefix (all, under an empty one), in PyTorch's layout and without the prefix: copies, which
    /// later steps do not change.
    pub fn tensors(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
        let write = |(name, var): (String, Var)| Ok((name, to_torch(&var.as_detached_tensor())?));
        self.under(prefix).into_iter().map(write).collect()
    }

    /// Fills what lies under a prefix from tensors in PyTorch's layout.
    ///
    /// # Errors
    /// [`sokd_core::Error::Unfit`] with every missing, unexpected and misshapen name; nothing is filled then. PyTorch's
    /// counters `num_batches_tracked` may be there: nothing here reads them.
    pub fn load(&self, prefix: &str, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let vars = self.under(prefix);
        let expected = vars.iter().map(|(name, var)| (name.clone(), torch_dims(var.dims()))).collect();
        fit(if prefix.is_empty() { "the weights" } else { prefix }, &expected, tensors)?;
        for (name, var) in vars {
            let value = tensors[&name].to_dtype(var.dtype())?.to_device(var.device())?;
            var.set(&from_torch(&value)?)?;
        }
        Ok(())
    }

    /// Weights of the same names and values in storages of their own.
    pub(crate) fn twin(&self, prefix: &str) -> Result<Self> {
        let inside = |path: &&String| strip(prefix, path).is_some();
        let vars = self.vars();
        let twins = vars.iter().filter(|(path, _)| inside(path));
        let twins = twins.map(|(path, var)| Ok((path.clone(), Var::from_tensor(&var.as_detached_tensor())?)));
        Ok(Self { vars: Arc::new(Mutex::new(twins.collect::<Result<_>>()?)), key: self.key })
    }

    /// What lies under a prefix, by the name below it.
    pub(crate) fn under(&self, prefix: &str) -> BTreeMap<String, Var> {
        let vars = self.vars();
        vars.iter().filter_map(|(path, var)| Some((strip(prefix, path)?.to_owned(), var.clone()))).collect()
    }

    fn vars(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        self.vars.lock().expect("no thread panics while it holds the weights")
    }
}

/// The path below `prefix`.
fn strip<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    if prefix.is_empty() { Some(path) } else { path.strip_prefix(prefix)?.strip_prefix('.') }
}

fn is_buffer(path: &str) -> bool {
    path.rsplit('.').next().is_some_and(|last| last.starts_with("running_"))
}

/// [`Params`] as candle-nn's layers ask for them.
struct Named {
    params: Params,
    tracked: bool,
}

impl SimpleBackend for Named {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle::Result<Tensor> {
        let mut vars = self.params.vars();
        let var = match vars.get(name) {
            Some(var) if var.shape() == &shape => var.clone(),
            Some(var) => candle::bail!("{name} is {:?} already and cannot be {shape:?} too", var.shape()),
            None => {
                let drawn = draw(init, &shape, self.params.key.fold(name))?;
                let var = Var::from_tensor(&drawn.to_dtype(dtype)?.to_device(device)?)?;
                vars.insert(name.to_owned(), var.clone());
                var
            }
        };
        Ok(if self.tracked && !is_buffer(name) { var.into_inner() } else { var.as_detached_tensor() })
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle::Result<Tensor> {
        candle::bail!("{name} cannot be drawn without a shape")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.params.vars().contains_key(name)
    }
}

/// Draws in the order of PyTorch's indices, whatever the order in memory.
fn draw(init: Init, shape: &Shape, key: Key) -> candle::Result<Tensor> {
    let mut stream = key.stream();
    let mut one: Box<dyn FnMut() -> f64> = match init {
        Init::Const(value) => Box::new(move || value),
        Init::Uniform { lo, up } => Box::new(move || stream.between(lo, up)),
        Init::Randn { mean, stdev } => Box::new(move || mean + stdev * stream.normal()),
        Init::Kaiming { dist, fan, non_linearity } => {
            let torch = Shape::from(torch_dims(shape.dims()));
            let deviation = non_linearity.gain() / (fan.for_shape(&torch) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => Box::new(move || deviation * stream.normal()),
                NormalOrUniform::Uniform => {
                    let bound = 3f64.sqrt() * deviation;
                    Box::new(move || stream.between(-bound, bound))
                }
            }
        }
    };
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| one() as f32).collect();
    let drawn = Tensor::from_vec(values, torch_dims(shape.dims()), &Device::Cpu)?;
    match shape.rank() {
        4 => drawn.permute((2, 3, 1, 0))?.contiguous(),
        _ => Ok(drawn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init;

    fn values(tensor: &Tensor) -> Result<Vec<f32>> {
        Ok(tensor.flatten_all()?.to_vec1()?)
    }

    #[test]
    fn another_layer_moves_no_other_weight() -> Result<()> {
        let (few, many) = (Params::new(Key::new(1)), Params::new(Key::new(1)));
        many.builder(&Device::Cpu).get_with_hints((4, 3), "student.extra", init::normal(1.0))?;
        let ask = |params: &Params| {
            params.builder(&Device::Cpu).pp("student").get_with_hints(
                (3, 3, 2, 4),
                "weight",
                init::normal(1.0),
            )
        };
        assert_eq!(values(&ask(&few)?)?, values(&ask(&many)?)?);
        Ok(())
    }

    /// The n-th draw of a kernel is the n-th weight that PyTorch would have drawn.
    #[test]
    fn kernels_are_drawn_in_pytorchs_order() -> Result<()> {
        let params = Params::new(Key::new(1));
        params.builder(&Device::Cpu).get_with_hints((3, 2, 4, 5), "weight", init::normal(1.0))?;
        let mut stream = Key::new(1).fold("weight").stream();
        let expected: Vec<f32> = (0..120).map(|_| stream.normal() as f32).collect();
        assert_eq!(values(&params.tensors("")?["weight"])?, expected);
        assert_eq!(params.tensors("")?["weight"].dims(), [5, 4, 3, 2]);
        Ok(())
    }

    #[test]
    fn draws_have_the_spread_they_should() -> Result<()> {
        let vb = Params::new(Key::new(1)).builder(&Device::Cpu);
        let spread = |name: &str, init: Init| -> Result<f64> {
            let drawn = values(&vb.get_with_hints((3, 3, 64, 64), name, init)?)?;
            Ok((drawn.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / drawn.len() as f64).sqrt())
        };
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 0.02;
        assert!(close(spread("normal", init::kaiming_normal_fan_out(3, 64))?, (2.0 / 576.0f64).sqrt()));
        assert!(close(spread("uniform", init::kaiming_uniform(576))?, (1.0 / 3.0 / 576.0f64).sqrt()));
        assert!(close(spread("candle's", candle_nn::init::DEFAULT_KAIMING_NORMAL)?, (2.0 / 576.0f64).sqrt()));
        Ok(())
    }

    #[test]
    fn a_frozen_weight_is_the_same_storage_without_a_graph() -> Result<()> {
        let params = Params::new(Key::new(1));
        let frozen = params.frozen(&Device::Cpu).get_with_hints(3, "student.weight", init::ONE)?;
        let tracked = params.builder(&Device::Cpu).get_with_hints(3, "student.weight", init::ONE)?;
        assert!(tracked.track_op() && !frozen.track_op());
        let [(_, var)] = &params.group("student")[..] else { panic!("one weight") };
        var.set(&Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)?)?;
        assert_eq!(values(&frozen)?, [1.0, 2.0, 3.0]);
        Ok(())
    }

    #[test]
    fn buffers_are_saved_but_belong_to_no_optimiser() -> Result<()> {
        let params = Params::new(Key::new(1));
        let vb = params.builder(&Device::Cpu);
        crate::BatchNorm::new(2, vb.pp("student.bn1"))?;
        crate::BatchNorm::new(2, vb.pp("students.bn1"))?;
        let group: Vec<_> = params.group("student").into_iter().map(|(name, _)| name).collect();
        assert_eq!(group, ["student.bn1.bias", "student.bn1.weight"]);
        let saved: Vec<_> = params.tensors("student")?.into_keys().collect();
        assert_eq!(saved, ["bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.weight"]);
        assert!(!vb.get(2, "student.bn1.running_mean")?.track_op());
        Ok(())
    }

    #[test]
    fn loading_is_strict_both_ways_and_says_all() -> Result<()> {
        let params = Params::new(Key::new(1));
        let vb = params.builder(&Device::Cpu).pp("student");
        crate::BatchNorm::new(2, vb.pp("bn1"))?;
        let before = params.tensors("student")?;

        let mut other = before.clone();
        let zeros = |count: usize| Tensor::zeros(count, DType::F32, &Device::Cpu);
        other.insert("bn1.num_batches_tracked".into(), zeros(1)?);
        for value in other.values_mut() {
            *value = (&*value + 1.0)?;
        }
        params.load("student", &other)?;
        assert_eq!(values(&params.tensors("student")?["bn1.running_var"])?, [2.0, 2.0]);

        other.remove("bn1.weight");
        other.insert("bn2.weight".into(), zeros(2)?);
        other.insert("bn1.bias".into(), zeros(3)?);
        let error = params.load("student", &other).expect_err("three things are wrong").to_string();
        for said in
            ["missing (1): bn1.weight", "unexpected (1): bn2.weight", "bn1.bias (expected [2], got [3])"]
        {
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(values(&params.tensors("student")?["bn1.running_var"])?, [2.0, 2.0]);
        Ok(())
    }

    #[test]
    fn one_name_has_one_shape() -> Result<()> {
        let vb = Params::new(Key::new(1)).builder(&Device::Cpu);
        vb.get((2, 3), "student.fc.weight")?;
        let error = vb.get((3, 2), "student.fc.weight").expect_err("two layers of one name");
        assert!(error.to_string().contains("student.fc.weight"), "{error}");
        Ok(())
    }
}
