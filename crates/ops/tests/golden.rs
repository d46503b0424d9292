//! Both forms of every operation, and its gradients, against what PyTorch said in double precision.

#[allow(dead_code, reason = "shared with the workspace's tests, each of which uses a part")]
#[path = "../../../tests/src/close.rs"]
mod close;
#[allow(dead_code, reason = "as above")]
#[path = "../../../tests/src/wave.rs"]
mod wave;

use candle::{Tensor, Var};
use close::near;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sokd_core::{Mode, Result};
use sokd_ops::{
    Backend, Conv, GridPadding, GridSample, Norm, Pool, abs, adaptive_avg_pool2d, affine_grid, avg_pool2d,
    batch_norm, channel_shuffle, conv2d, global_avg_pool, grid_sample, linear, log_softmax, max_pool2d,
    normalize, relu, soft_cross_entropy, softmax, upsample_bilinear2d, upsample_nearest2d, with_backend,
};
use std::collections::BTreeMap;
use std::process::Command;
use wave::{Wave, wave};

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("../../../tests/golden/ops.json")).expect("a recording by ops.py")
}

#[derive(Deserialize)]
struct Case {
    op: String,
    settings: Value,
    inputs: BTreeMap<String, Input>,
    y: Vec<f64>,
    gradients: BTreeMap<String, Vec<f64>>,
    kept: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(flatten)]
    wave: Wave,
    #[serde(default)]
    steps: f64,
}

impl Input {
    fn draw(&self, name: &str) -> Result<Var> {
        let mut drawn = self.wave.draw(name)?;
        if self.steps > 0.0 {
            drawn = ((drawn * self.steps)?.floor()? / self.steps)?;
        }
        Ok(Var::from_tensor(&ours(name, &drawn)?)?)
    }
}

/// From PyTorch's order of axes to ours.
fn ours(name: &str, tensor: &Tensor) -> Result<Tensor> {
    Ok(match name {
        "kernel" => tensor.permute((2, 3, 1, 0))?.contiguous()?,
        "x" | "residual" | "y" if tensor.rank() == 4 => tensor.permute((0, 2, 3, 1))?.contiguous()?,
        _ => tensor.clone(),
    })
}

/// And back.
fn theirs(name: &str, tensor: &Tensor) -> Result<Tensor> {
    Ok(match name {
        "kernel" => tensor.permute((3, 2, 0, 1))?,
        "x" | "residual" | "y" if tensor.rank() == 4 => tensor.permute((0, 3, 1, 2))?,
        _ => tensor.clone(),
    })
}

impl Case {
    fn set<T: DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_value(self.settings[name].clone())
            .unwrap_or_else(|error| panic!("{}: {name}: {error}", self.op))
    }

    fn pool(&self) -> Pool {
        Pool {
            kernel: self.set("kernel"),
            stride: self.set("stride"),
            padding: self.set("padding"),
            ceil: self.set("ceil"),
        }
    }

    fn run(&self, inputs: &BTreeMap<String, Var>) -> Result<Tensor> {
        let [x, kernel, weight, bias, theta, grid, residual, targets] =
            ["x", "kernel", "weight", "bias", "theta", "grid", "residual", "targets"]
                .map(|name| inputs.get(name).map(Var::as_tensor));
        let given = |tensor: Option<&Tensor>| tensor.cloned().expect("an input of the recording");
        let x = || given(x);
        match self.op.as_str() {
            "conv2d" => {
                let conv = Conv {
                    stride: self.set("stride"),
                    padding: self.set("padding"),
                    dilation: self.set("dilation"),
                    groups: self.set("groups"),
                    ..Conv::default()
                };
                conv2d(&x(), &given(kernel), bias, conv)
            }
            "batch_norm" => {
                let weight = given(weight);
                let (mean, var) = (weight.detach().affine(0.0, 0.25)?, weight.detach().affine(0.0, 2.0)?);
                let bias = given(bias);
                let norm =
                    Norm { weight: &weight, bias: &bias, mean: &mean, var: &var, eps: 1e-5, momentum: 0.1 };
                let train = self.settings.get("train").is_none_or(|train| train == true);
                let relu = self.settings.get("relu").is_some_and(|relu| relu == true);
                let mode = if train { Mode::Train } else { Mode::Eval };
                let y = batch_norm(&x(), &norm, residual, relu, mode)?;
                near("the running mean", &mean, &self.kept["mean"], 1e-6)?;
                near("the running variance", &var, &self.kept["var"], 1e-6)?;
                Ok(y)
            }
            "relu" => relu(&x()),
            "abs" => abs(&x()),
            "max_pool2d" => max_pool2d(&x(), self.pool()),
            "avg_pool2d" => avg_pool2d(&x(), self.pool(), self.set("include")),
            "adaptive_avg_pool2d" => adaptive_avg_pool2d(&x(), self.set("size")),
            "global_avg_pool" => global_avg_pool(&x()),
            "upsample_nearest2d" => upsample_nearest2d(&x(), self.set("size")),
            "upsample_bilinear2d" => upsample_bilinear2d(&x(), self.set("size"), self.set("align_corners")),
            "affine_grid" => affine_grid(&given(theta), self.set("size"), self.set("align_corners")),
            "grid_sample" => {
                let padding = match self.set::<String>("padding").as_str() {
                    "zeros" => GridPadding::Zeros,
                    "border" => GridPadding::Border,
                    _ => GridPadding::Reflection,
                };
                let how = GridSample {
                    nearest: self.set("nearest"),
                    padding,
                    align_corners: self.set("align_corners"),
                };
                grid_sample(&x(), &given(grid), how)
            }
            "channel_shuffle" => channel_shuffle(&x(), self.set("groups")),
            "linear" => linear(&x(), &given(weight), bias),
            "log_softmax" => log_softmax(&x()),
            "softmax" => softmax(&x()),
            "soft_cross_entropy" => soft_cross_entropy(&given(targets), &x()),
            "normalize" => normalize(&x(), [0.5, 0.45, 0.4], [0.25, 0.2, 0.3]),
            other => panic!("an operation that nothing runs: {other}"),
        }
    }

    fn check(&self) -> Result<()> {
        let inputs: BTreeMap<String, Var> = self
            .inputs
            .iter()
            .map(|(name, input)| Ok((name.clone(), input.draw(name)?)))
            .collect::<Result<_>>()?;
        let y = self.run(&inputs)?;
        let name = if self.op == "affine_grid" { "grid" } else { "y" };
        let y = theirs(name, &y)?;
        let what = format!("{} {}", self.op, self.settings);
        near(&what, &y, &self.y, 1e-6)?;
        let grads = (&y * wave("grad", y.dims(), 1.0)?)?.sum_all()?.backward()?;
        for (name, recorded) in &self.gradients {
            let var = &inputs[name];
            let grad = match grads.get(var) {
                Some(grad) => theirs(name, grad)?,
                None => theirs(name, &var.zeros_like()?)?,
            };
            near(&format!("{what}, gradient of {name}"), &grad, recorded, 5e-6)?;
        }
        Ok(())
    }
}

#[test]
fn kernels_agree_with_pytorch() -> Result<()> {
    with_backend(Backend::Fast, || recorded().cases.iter().try_for_each(Case::check))
}

/// A GPU's kernels, as their mirror runs them here.
#[test]
fn kernels_of_a_gpu_agree_with_pytorch() -> Result<()> {
    with_backend(Backend::Mirror, || recorded().cases.iter().try_for_each(Case::check))
}

#[test]
fn composed_forms_agree_with_pytorch() -> Result<()> {
    with_backend(Backend::Composed, || recorded().cases.iter().try_for_each(Case::check))
}

/// This test again, in a process that may use less of the machine.
#[test]
fn lesser_instruction_sets_agree_with_pytorch() -> std::io::Result<()> {
    for level in ["avx2", "portable"] {
        let run = Command::new(std::env::current_exe()?)
            .args(["--exact", "kernels_agree_with_pytorch"])
            .env("SOKD_SIMD", level)
            .output()?;
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{level}: {said}");
    }
    Ok(())
}
