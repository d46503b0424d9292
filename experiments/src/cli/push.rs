use super::{Session, print, print_json};
use crate::card::{Card, public_recipe};
use crate::coming::Coming;
use crate::overlay::Document;
use crate::{Layers, Misfit, Result, Summary, pixels, rundir};
use clap::Args;
use serde_json::json;
use sokd_core::Error;
use sokd_hub::{Hub, Parcel, Repository};
use std::path::{Path, PathBuf};

/// Publishes a student on the Hugging Face Hub: its weights, what they are, and a card with recipe, numbers and licence.
///
/// The token comes from `HF_TOKEN`, or from the file that Python's `hf auth login` leaves; it is never printed. All files go
/// in one commit: they are published together, or nothing is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd push runs/latest me/resnet8x4-cifar100 --licence apache-2.0 --dry-run     what would be sent
  sokd push runs/latest me/resnet8x4-cifar100 --licence apache-2.0 --private")]
pub struct Push {
    /// The directory of a finished run, or one with model.safetensors, config.json and README.md.
    #[arg(value_name = "RUN|DIR")]
    from: PathBuf,
    /// OWNER/REPO[@BRANCH]; the repository is made if it is not there.
    #[arg(value_name = "OWNER/REPO")]
    to: String,
    /// What others may do with the weights, by its name on the Hub: `apache-2.0`, `mit`, `cc-by-nc-4.0`.
    #[arg(long, alias = "license", value_name = "NAME")]
    licence: Option<String>,
    /// Shows a new repository to its owner only.
    #[arg(long)]
    private: bool,
    /// Prints what would be sent, and sends nothing.
    #[arg(long)]
    dry_run: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

const REMEDY: &str = "name the directory of a finished run, or of a student";

impl Push {
    pub fn run(&self, session: &Session) -> Result<()> {
        let repository: Repository = self.to.parse()?;
        let parcel = self.pack()?;
        if self.dry_run {
            return self.show(&repository, &parcel);
        }
        if self.licence.is_none() {
            session
                .stage
                .say("no licence is named, so nobody may use the weights: --licence apache-2.0 names one");
        }
        let pushed = Hub::from_env()?.push(&repository, &parcel, &Coming::new(&session.stage))?;
        if self.json {
            return print_json(&json!({ "page": pushed.page, "commit": pushed.commit }));
        }
        print(pushed.page)
    }

    /// The files of a run's student with a card of their own, or those of a folder as they are.
    fn pack(&self) -> Result<Parcel> {
        let given = [self.from.clone(), rundir::root().join(&self.from)];
        let nowhere = || Error::Missing {
            path: self.from.clone(),
            what: "it is no directory".into(),
            remedy: REMEDY.into(),
        };
        let from = given.iter().find(|place| place.is_dir()).ok_or_else(nowhere)?;
        // The student's own folder stands for its run.
        let from = if from.join("summary.json").exists() { from.clone() } else { run_of(from) };
        let summary = Summary::read(&from)?;
        let folder = if summary.is_some() { from.join("student") } else { from.clone() };
        let file = |name: &str| {
            let path = folder.join(name);
            let what = "what is published has weights, a config.json and a card".to_owned();
            let remedy = REMEDY.to_owned();
            let there = path.is_file().then_some((name.to_owned(), path.clone()));
            there.ok_or_else(|| crate::Error::from(Error::Missing { path, what, remedy }))
        };
        let weights = file("model.safetensors")?;
        sokd_models::weights::read(&weights.1)?;
        let mut files = vec![weights, file("config.json")?];
        let mut texts = Vec::new();
        let message = match &summary {
            Some(summary) => {
                let (card, recipe) = self.describe(&from, summary, &files[0].1)?;
                texts.extend([("README.md".to_owned(), card), ("recipe.toml".to_owned(), recipe)]);
                format!("{}, {:.2} % top-1 on {}", summary.student.model, summary.last.top1, summary.data)
            }
            None if self.licence.is_some() => {
                let problem =
                    format!("{} holds no run, and its README.md says its own licence", from.display());
                return Err(Misfit::new(problem)
                    .help("write `license: ...` there, and leave out --licence")
                    .into());
            }
            None => {
                files.push(file("README.md")?);
                "A student".to_owned()
            }
        };
        Ok(Parcel { files, texts, message, private: self.private })
    }

    /// The card, and the recipe that trained it.
    fn describe(&self, run: &Path, summary: &Summary, weights: &Path) -> Result<(String, String)> {
        let resolved = Layers::of(&Document::file(&run.join("config.toml"))?)?.resolve()?;
        let problem = "neither it nor config.json beside it says for which pixels it was trained";
        let pixels = pixels::noted(weights)
            .ok_or_else(|| Error::file(weights, None, problem, "run again with --force"))?;
        let recipe = &resolved.recipe;
        let card = Card { recipe, summary, pixels, licence: self.licence.as_deref() };
        Ok((card.markdown()?, public_recipe(recipe)?))
    }

    fn show(&self, repository: &Repository, parcel: &Parcel) -> Result<()> {
        let mut files = Vec::new();
        for (name, path) in &parcel.files {
            let bytes = path.metadata().map_err(Error::io(path))?.len();
            files.push((name, bytes, Some(sokd_hub::sha256(path)?)));
        }
        files.extend(parcel.texts.iter().map(|(name, text)| (name, text.len() as u64, None)));
        if self.json {
            let file = |(name, bytes, sha256): &(&String, u64, Option<String>)| json!({ "name": name, "bytes": bytes, "sha256": sha256 });
            let files: Vec<_> = files.iter().map(file).collect();
            let texts: serde_json::Map<_, _> =
                parcel.texts.iter().map(|(name, text)| (name.clone(), text.clone().into())).collect();
            return print_json(&json!({
                "to": repository.to_string(), "private": self.private, "message": parcel.message, "files": files, "texts": texts,
            }));
        }
        let private = if self.private { ", private" } else { "" };
        print(format!("would be sent to {repository}{private}: {}", parcel.message))?;
        for (name, bytes, sha256) in files {
            print(format!("{bytes:>12}  {name}  {}", sha256.unwrap_or_default()).trim_end())?;
        }
        for (name, text) in parcel.texts.iter().filter(|(name, _)| name == "README.md") {
            print(format!("\n{name}:\n{text}"))?;
        }
        Ok(())
    }
}

/// The run that a student's folder belongs to, if it is one's.
fn run_of(folder: &Path) -> PathBuf {
    let above =
        folder.parent().filter(|above| folder.ends_with("student") && above.join("summary.json").exists());
    above.unwrap_or(folder).to_owned()
}
