use super::complete::names;
use super::data::Wanted;
use super::entries::Kind;
use super::{Session, print};
use crate::environment::Environment;
use crate::stopwatch::Stopwatch;
use crate::{Error, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use sokd_baselines::tst::encoders::{read, released, write};
use sokd_baselines::tst::{LEVELS, Learned, Operation, Pretraining};
use sokd_core::{Batches, Key, LearnSplit};
use sokd_data::{Augment, Loader};
use sokd_models::weights;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Prepares what TST needs before a run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd tst pretrain-encoders --out encoders.safetensors
  sokd tst pretrain-encoders --data '{ type = \"image-folder\", path = \"photos\" }' --out encoders.safetensors
  sokd train cifar100-tst lens.encoders=encoders.safetensors
  sokd tst convert-encoders TST/SDAKD_FOR_BASELINE/checkpoints/Augmentation --out released.safetensors
  sokd train cifar100-tst lens.encoders=released.safetensors lens.gate=own")]
pub struct Tst {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Trains the eleven networks that imitate operations on images, one after the other. Beside the file, a page of JSON
    /// says how it was made and how well they imitate.
    ///
    /// Encoders that the file holds already are kept: a run that was interrupted goes on with the next.
    PretrainEncoders(Pretrain),
    /// Reads the eleven files of the networks that TST's authors released, `Brightness.pth` and so on, and writes them as
    /// one, by the names that they have here. Their repository has them in checkpoints/Augmentation.
    ConvertEncoders(Convert),
}

#[derive(Debug, Args)]
struct Convert {
    /// The folder of the eleven files.
    #[arg(value_name = "FOLDER")]
    released: PathBuf,
    /// The file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct Pretrain {
    /// The images to learn on: a name, or a table such as `{ type = "cifar100", first = 5000 }`.
    #[arg(long, default_value = "cifar100", add = names(&[Kind::Datasets]))]
    data: Wanted,
    /// The file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Passes for encoders of places.
    #[arg(long, value_name = "N", default_value_t = Pretraining::default().affine_epochs)]
    affine_epochs: usize,
    /// Passes for encoders of colours.
    #[arg(long, value_name = "N", default_value_t = Pretraining::default().color_epochs)]
    color_epochs: usize,
    /// Images in a step.
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch: usize,
    /// The root of all chance.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl Tst {
    pub fn run(&self, session: &Session) -> Result<()> {
        match &self.verb {
            Verb::PretrainEncoders(pretrain) => pretrain.run(session),
            Verb::ConvertEncoders(convert) => convert.run(),
        }
    }
}

impl Convert {
    fn run(&self) -> Result<()> {
        let mut all = BTreeMap::new();
        for &operation in &Operation::ALL[..LEVELS] {
            let path = self.released.join(format!("{operation:?}.pth"));
            let read = weights::read(&path).map_err(|error| match error {
                sokd_core::Error::Missing { path, .. } => sokd_core::Error::Missing {
                    path,
                    what: format!("the released encoder of {}", operation.name()),
                    remedy: "clone github.com/shaoshitong/TST: SDAKD_FOR_BASELINE/checkpoints/Augmentation has them".into(),
                },
                other => other,
            })?;
            all.extend(released(operation, &read.tensors)?);
        }
        write(&self.out, &all)?;
        print(self.out.display().to_string())
    }
}

/// What the page says of an encoder.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    learned: Learned,
    seconds: f64,
}

impl Pretrain {
    fn run(&self, session: &Session) -> Result<()> {
        let data = session.kept.open(&self.data.spec, &session.stage)?;
        let pixels = data.info().pixels;
        let key = Key::new(self.seed).fold("encoders");
        let images =
            Loader::new(data, LearnSplit::Train, self.batch, Augment::default(), key.fold("images"))?;

        let how = Pretraining {
            affine_epochs: self.affine_epochs,
            color_epochs: self.color_epochs,
            ..Pretraining::default()
        };
        let page = self.out.with_extension("json");
        let mut told: BTreeMap<String, serde_json::Value> = BTreeMap::new();
        let mut weights = if self.out.exists() { read(&self.out)? } else { BTreeMap::new() };
        if let Ok(text) = std::fs::read_to_string(&page)
            && let Ok(old) = serde_json::from_str::<serde_json::Value>(&text)
        {
            let known = old["encoders"].as_object().into_iter().flatten();
            told.extend(known.map(|(name, value)| (name.clone(), value.clone())));
        }
        let environment = Environment::here("cpu");
        let bar = session.stage.whole(1);
        for operation in &Operation::ALL[..LEVELS] {
            let name = operation.name();
            if weights.keys().any(|known| known.split('.').next() == Some(name)) {
                continue;
            }
            bar.set_message(format!("the encoder of {name}"));
            let clock = Stopwatch::start();
            let mut watch = |step, steps, _| {
                bar.set_length(steps);
                bar.set_position(step);
            };
            let (learned_weights, learned) =
                how.learn(*operation, &images, pixels, key.fold(name), &mut watch)?;
            session.stage.say(&format!(
                "{name}: error {:.5}, {:.5} if it did nothing, after {} steps and {:.0} s",
                learned.error,
                learned.idle,
                learned.steps,
                clock.seconds()
            ));
            weights.extend(learned_weights);
            let of = Told { learned, seconds: clock.seconds() };
            told.insert(name.to_owned(), serde_json::to_value(of).map_err(|error| unspeakable(&error))?);
            write(&self.out, &weights)?;
            let text = json!({
                "command": format!(
                    "sokd tst pretrain-encoders --data '{}' --affine-epochs {} --color-epochs {} --batch {} --seed {}",
                    self.data.text, self.affine_epochs, self.color_epochs, self.batch, self.seed
                ),
                "what": "Networks that imitate operations on images, for TST's search (crate sokd-baselines)",
                "error": "mean squared errors of normalised pixels over the last pass; `idle` is that of an encoder that does nothing",
                "data": self.data.spec,
                "images": images.examples(),
                "batch": self.batch,
                "seed": self.seed,
                "settings": how,
                "version": environment.version,
                "commit": environment.commit,
                "machine": environment.machine,
                "threads": environment.threads,
                "encoders": told,
            });
            let mut text = serde_json::to_vec_pretty(&text).map_err(|error| unspeakable(&error))?;
            text.push(b'\n');
            sokd_core::file::write(&page, &text)?;
        }
        bar.finish_and_clear();
        print(self.out.display().to_string())
    }
}

fn unspeakable(error: &serde_json::Error) -> Error {
    sokd_core::Error::setting("the page", error.to_string()).into()
}
