use candle::{DType, Device, Shape, Tensor, TensorId};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use sokd_core::{Backbone, BackboneInfo, Build, BuildCx, DatasetInfo, Error, Mode, Result};
use sokd_ops::{Operation, Step, trace};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// A network in evaluation as a list of operations, whatever family it is of: what it did to one image.
#[derive(Clone, Debug)]
pub struct Traced {
    /// What is known of it.
    pub info: BackboneInfo,
    /// Height and width of the image.
    pub size: [usize; 2],
    /// All that leads to its scores, in order.
    pub steps: Vec<Step>,
    /// The image.
    pub images: TensorId,
    /// The scores.
    pub logits: TensorId,
    names: HashMap<TensorId, String>,
}

impl Traced {
    /// The network with these weights, shown an image of the size that `data` has.
    ///
    /// # Errors
    /// What building and running it raises; [`Error::Setting`] for one that makes a map by an operation that is not traced.
    pub fn new(
        spec: &impl Build<dyn Backbone>,
        vars: VarBuilder<'static>,
        data: &DatasetInfo,
    ) -> Result<Self> {
        let names = Arc::<Mutex<HashMap<_, _>>>::default();
        let device = vars.device().clone();
        let roll = Roll { vars, names: Arc::clone(&names) };
        let vars = VarBuilder::from_backend(Box::new(roll), DType::F32, device.clone());
        let net = spec.build(&BuildCx::alone(vars, data))?;
        let images = Tensor::zeros((1, data.size[0], data.size[1], 3), DType::F32, &device)?;
        let (out, steps) = trace(|| net.forward(&images, Mode::Eval));
        let logits = out?.logits.id();
        let steps = needed(steps, images.id(), logits)?;
        let names = names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let info = net.info().clone();
        Ok(Self { info, size: data.size, steps, images: images.id(), logits, names })
    }

    /// The name of a weight; none for what was computed from weights.
    pub fn name(&self, weight: &Tensor) -> Option<&str> {
        self.names.get(&weight.id()).map(String::as_str)
    }

    /// The layer that meets the image first.
    pub fn first_conv(&self) -> Option<&str> {
        self.steps.iter().find_map(|step| match &step.operation {
            Operation::Conv { kernel, .. } | Operation::ConvNorm { kernel, .. } => self.layer(kernel),
            _ => None,
        })
    }

    /// The layer that gives the scores.
    pub fn classifier(&self) -> Option<&str> {
        self.steps.iter().rev().find_map(|step| match &step.operation {
            Operation::Linear { weight, .. } => self.layer(weight),
            _ => None,
        })
    }

    fn layer(&self, weight: &Tensor) -> Option<&str> {
        self.name(weight)?.strip_suffix(".weight")
    }
}

/// The steps that lead from the image to the scores: what a loss alone would read is left out.
fn needed(steps: Vec<Step>, images: TensorId, logits: TensorId) -> Result<Vec<Step>> {
    let mut wanted = HashSet::from([logits]);
    let mut kept = Vec::new();
    for step in steps.into_iter().rev() {
        if wanted.remove(&step.gives) {
            wanted.extend(step.reads.iter().copied());
            kept.push(step);
        }
    }
    wanted.remove(&images);
    if !wanted.is_empty() {
        let problem = "the network makes a map by an operation that is not traced, so it cannot be told on";
        return Err(Error::setting("model", problem));
    }
    kept.reverse();
    Ok(kept)
}

/// Weights, and by which name each was asked for.
struct Roll {
    vars: VarBuilder<'static>,
    names: Arc<Mutex<HashMap<TensorId, String>>>,
}

impl SimpleBackend for Roll {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, _: &Device) -> candle::Result<Tensor> {
        let weight = self.vars.get_with_hints_dtype(shape, name, init, dtype)?;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(weight.id(), name.to_owned());
        Ok(weight)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> candle::Result<Tensor> {
        self.vars.get_unchecked_dtype(name, dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.vars.contains_tensor(name)
    }
}
