use super::complete::names;
use super::entries::Kind;
use super::{Session, print};
use crate::export::{self, Given, Leaving, Normalise};
use crate::{Misfit, Pixels, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;

/// Writes a network as files that other programs load: safetensors, timm, torchvision, mdistiller, ONNX.
///
/// SOURCE is the directory of a finished run, or of a student (`config.json` and `model.safetensors`); or a network by
/// name, table or recipe, whose weights --weights has.
#[derive(Debug, Args)]
#[command(after_help = after())]
pub struct Export {
    /// Whose network.
    #[arg(add = names(&[Kind::Models]))]
    source: String,
    /// For whom.
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    to: String,
    /// The folder for the files; NETWORK-FORMAT where nothing is said.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// A file of weights, `hub://owner/repository@revision/file`, or `run:<run directory>`, for a network by name.
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,
    /// What the weights were trained under, where nothing beside them says so: `imagenet`, `half`, `cifar10`, `cifar100`,
    /// or MEAN/STD (`0.5,0.5,0.5/0.25,0.25,0.25`).
    #[arg(long)]
    pixels: Option<Pixels>,
    /// The side of its images, where nothing beside the weights says so: 224 for networks for ImageNet, otherwise 32.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(1..))]
    size: Option<u16>,
    /// Where ONNX's images are normalised. All other formats hold weights alone, and leave it to the caller.
    #[arg(long, value_enum, default_value_t)]
    normalise: Normalise,
    /// Replaces files that are there.
    #[arg(long)]
    force: bool,
}

fn formats() -> PossibleValuesParser {
    export::ALL.iter().map(|format| format.name).collect::<Vec<_>>().into()
}

fn after() -> String {
    let wide = export::ALL.iter().map(|format| format.name.len()).max().unwrap_or(0);
    let lines = export::ALL.iter().map(|format| format!("\n  {:wide$}  {}", format.name, format.about));
    format!(
        "Formats:{}\n\nExamples:\n  sokd export runs/latest --to onnx\n  \
         sokd export runs/latest --to mdistiller -o teachers/mine\n  \
         sokd export imagenet_resnet18 --weights resnet18.pth --to timm",
        lines.collect::<String>()
    )
}

impl Export {
    pub fn run(&self, _: &Session) -> Result<()> {
        let format = export::named(&self.to)
            .ok_or_else(|| Misfit::new(format!("no format is called `{}`", self.to)))?;
        let leaving = Leaving::open(&Given {
            source: self.source.clone(),
            weights: self.weights.clone(),
            pixels: self.pixels.clone(),
            size: self.size.map(usize::from),
        })?;
        let usual = || PathBuf::from(format!("{}-{}", leaving.name(), format.name));
        let folder = self.output.clone().unwrap_or_else(usual);
        let (paths, export) = format.write(&leaving, self.normalise, &folder, self.force)?;
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        print(format!("{}\n\nIn Python, from that folder:\n\n{}", paths.join("\n"), export.python.trim_end()))
    }
}
