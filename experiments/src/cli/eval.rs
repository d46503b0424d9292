use super::complete::names;
use super::data::Wanted;
use super::entries::Kind;
use super::{Session, print};
use crate::network::{Arithmetic, Frozen, Weights};
use crate::pins::Pins;
use crate::pixels::Pixels;
use crate::progress::Stage;
use crate::stopwatch::Stopwatch;
use crate::{Error, Misfit, Model, Result, hub, logits};
use clap::{Args, ValueEnum};
use serde::Serialize;
use sokd_core::{Key, Split};
use sokd_data::Sequential;
use sokd_models::Published;
use std::path::PathBuf;

/// Judges a network with weights from a file on a data set.
///
/// MODEL is one of the field's names (`resnet56`, `wrn_40_2`, `resnet20_a`; `sokd list models` has them all). Weights may
/// be safetensors or anything that `torch.save` wrote; no code in them is run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd eval resnet20_a --weights resnet20-12fca82f.th --data cifar10 --json
  sokd eval resnet56 --weights hub://owner/name@main/model.safetensors --data cifar100 --min 72
  sokd eval resnet8x4 --weights run:runs/latest --data cifar100 --logits logits.npy")]
pub struct Eval {
    /// Which network: a name, or a table such as `{ type = "cifar-resnet", depth = 20 }`.
    #[arg(add = names(&[Kind::Models]))]
    model: Model,
    /// A file, `hub://owner/repository@revision/file`, `timm:<name>`, `torchvision:<name>`, or `run:<run directory>`. Not
    /// needed where MODEL is such a name.
    #[arg(long, add = names(&[Kind::Teachers]))]
    weights: Option<String>,
    /// Which images: a name, or a table such as `{ type = "image-folder", path = "..." }`.
    #[arg(long, add = names(&[Kind::Datasets]))]
    data: Wanted,
    /// Which part of them.
    #[arg(long, value_enum, default_value_t = Part::Test)]
    split: Part,
    /// What the weights were trained under, where neither their file nor the network says: `imagenet`, `half`,
    /// `cifar10`, `cifar100`, or MEAN/STD (`0.5,0.5,0.5/0.25,0.25,0.25`).
    #[arg(long)]
    pixels: Option<Pixels>,
    /// The digest that the file must have.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Images at once; it changes the speed and nothing else.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Writes the scores of every image, in order: `.npy`, or `.safetensors` with the labels beside them.
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
    /// Ends with code 4 when top-1, in per cent, is below.
    #[arg(long, value_name = "TOP1")]
    min: Option<f64>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    Train,
    Test,
}

/// What there is to say of a network on a data set.
#[derive(Debug, Serialize)]
struct Judgement {
    model: String,
    weights: String,
    sha256: Option<String>,
    data: String,
    split: &'static str,
    correct: usize,
    total: usize,
    top1: f64,
    top5: f64,
    loss: f64,
    ece: f64,
    seconds: f64,
    parameters: usize,
    macs: u64,
    pixels: sokd_core::PixelNorm,
    threads: usize,
}

impl Eval {
    /// The weights, at a commit where they come from the Hub.
    fn weights(&self, stage: &Stage) -> Result<String> {
        let label = self.model.label();
        let own = || Published::named(&label).ok().flatten().map(|known| known.name);
        let missing = || {
            let problem = format!("{label} is a network, and which weights it has is not said");
            Misfit::new(problem)
                .help("name them by --weights; `sokd list teachers` has some that others publish")
        };
        let given = self.weights.clone().or_else(own).ok_or_else(missing)?;
        Pins::default().weights(&self.model, &given, stage)
    }

    pub fn run(&self, session: &Session) -> Result<()> {
        let from = self.weights(&session.stage)?;
        let dataset = hub::open(&self.data.spec, &session.stage)?;
        let info = dataset.info();
        let weights = Weights { from: &from, sha256: self.sha256.as_deref(), pixels: self.pixels.as_ref() };
        // As the weights' authors would: a judgement is cheap, and held against published numbers.
        let network =
            Frozen::load(&self.model, weights, info, Key::new(0), &session.device, Arithmetic::default())?;
        let (split, name) = match self.split {
            Part::Train => (Split::Train, "train"),
            Part::Test => (Split::Test, "test"),
        };
        let images = Sequential::new(dataset.clone(), split, self.batch as usize)?.on(&session.device)?;
        let watch = Stopwatch::start();
        let seen = logits::judge(network.net.as_ref(), &images, self.logits.as_deref())?;
        let seconds = watch.seconds();
        let cost = sokd_models::cost(&network.spec, info)?;
        let judgement = Judgement {
            model: self.model.label(),
            weights: from.clone(),
            sha256: network.sha256,
            data: info.name.clone(),
            split: name,
            correct: seen.correct,
            total: seen.total,
            top1: seen.top1,
            top5: seen.top5,
            loss: seen.loss,
            ece: seen.ece,
            seconds,
            parameters: cost.parameters,
            macs: cost.macs,
            pixels: network.net.info().pixels,
            threads: sokd_ops::threads(),
        };
        print(if self.json { json(&judgement)? } else { judgement.to_string() })?;
        match self.min {
            Some(min) if seen.top1 < min => {
                Err(Error::Unmet(format!("top-1 is {:.2} %, and at least {min} % was asked for", seen.top1)))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Judgement {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, data, split, correct, total, top1, top5, loss, ece, seconds, .. } = self;
        writeln!(
            out,
            "{model} on {data} ({split}): {correct} of {total} right, top-1 {top1:.2} %, top-5 {top5:.2} %"
        )?;
        write!(out, "cross-entropy {loss:.4}, calibration error {ece:.4}, {seconds:.1} s")
    }
}

fn json(judgement: &Judgement) -> Result<String> {
    let text = serde_json::to_string(judgement);
    Ok(text.map_err(|error| sokd_core::Error::setting("--json", error.to_string()))?)
}
