//! Losses and their gradients against the peers' formulas, recorded from PyTorch in double precision.

use candle::{DType, Device, Tensor, Var};
use serde::Deserialize;
use sokd_core::{Build as _, BuildCx, Key, Result};
use sokd_losses::LossSpec;
use sokd_nn::{Params, to_torch};
use sokd_tests::{Said, Wave, data, first, golden, near, pair};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    loss: LossSpec,
    labels: Vec<u32>,
    student: Views,
    teacher: Views,
    weights: BTreeMap<String, Wave>,
    image: Option<usize>,
    total: f64,
    float32: String,
    gradients: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Views {
    logits: Wave,
    maps: Vec<Wave>,
}

impl Views {
    /// The network that said so, and what it said, by the name that the recording gives it.
    fn network(&self, who: &str, side: usize, leaves: &mut BTreeMap<String, Var>) -> Result<Said> {
        let mut leaf = |name: String, value| -> Result<_> {
            let var = Var::from_tensor(&value)?;
            leaves.insert(name, var.clone());
            Ok(var.into_inner())
        };
        let logits = format!("{who}.logits");
        let drawn = self.logits.draw(&logits)?;
        let logits = leaf(logits, drawn)?;
        let embedding = Tensor::zeros((self.logits.shape[0], 1), DType::F32, &Device::Cpu)?;
        // No recorded loss reads the stem or the embedding.
        let mut maps = vec![embedding.reshape(((), 1, 1, 1))?];
        for (index, map) in self.maps.iter().enumerate() {
            let name = format!("{who}.maps.{index}");
            let drawn = map.draw(&name)?.permute((0, 2, 3, 1))?.contiguous()?;
            maps.push(leaf(name, drawn)?);
        }
        Said::new(logits, embedding, maps, side)
    }
}

fn check(case: &Case) -> Result<()> {
    let side = case.image.unwrap_or(1);
    let mut leaves = BTreeMap::new();
    let student = case.student.network("student", side, &mut leaves)?;
    let teacher = case.teacher.network("teacher", side, &mut leaves)?;

    let params = Params::new(Key::new(0));
    let data = data(case.student.logits.shape[1], [side; 2]);
    let cx = BuildCx { vars: params.builder(&Device::Cpu), ..networks(&student, &teacher, &data) };
    let loss = case.loss.build(&cx)?;
    let drawn = case.weights.iter().map(|(name, wave)| Ok((name.clone(), wave.draw(name)?)));
    let mut weights = params.tensors("")?;
    weights.extend(drawn.collect::<Result<BTreeMap<_, _>>>()?);
    params.load("", &weights)?;
    leaves.extend(params.group("adapter"));

    let images = Tensor::zeros((case.labels.len(), side, side, 3), DType::F32, &Device::Cpu)?;
    let total = loss
        .terms(&pair(&student, &teacher, images, &case.labels)?, &first())?
        .total()?
        .expect("a loss has terms");
    near(&case.name, &total, &[case.total], 1e-5)?;
    let (ours, theirs) =
        (f64::from(total.to_scalar::<f32>()?), case.float32.parse::<f64>().expect("a number"));
    let allowed = (theirs - case.total).abs().max(3e-7 * case.total);
    assert!((ours - case.total).abs() <= allowed, "{}: the peers' own float32 is nearer", case.name);

    let grads = total.backward()?;
    for (name, recorded) in &case.gradients {
        let got = grads.get(&leaves[name]).unwrap_or_else(|| panic!("{}: {name} has no gradient", case.name));
        let got = if name.starts_with("adapter") { to_torch(got)? } else { got.clone() };
        near(&format!("{}: gradient of {name}", case.name), &got, recorded, 1e-5)?;
    }
    Ok(())
}

fn networks<'a>(student: &'a Said, teacher: &'a Said, data: &'a sokd_core::DatasetInfo) -> BuildCx<'a> {
    use sokd_core::Backbone as _;
    BuildCx {
        vars: Params::new(Key::new(0)).builder(&Device::Cpu),
        data: Some(data),
        student: Some(student.info()),
        teacher: Some(teacher.info()),
        preview: None,
    }
}

#[test]
fn losses_and_gradients_are_the_peers() -> Result<()> {
    let recorded: Recorded = golden("losses");
    recorded.cases.iter().try_for_each(check)
}
