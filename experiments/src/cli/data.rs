use super::complete::names;
use super::entries::Kind;
use super::{Session, print, print_json};
use crate::misfit::{closest, inline};
use crate::{Error, Misfit, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use sokd_core::{Dataset, Split};
use sokd_data::{DataSpec, Locations, Manifest, Verdict, verify};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Any data set, as the command line has it: by its name, or by a table such as `{ type = "image-folder", path = "..." }`.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// As it was typed.
    pub text: String,
    /// What it means.
    pub spec: DataSpec,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            let near = closest(text, DataSpec::known());
            let near = near.map_or_else(|| DataSpec::known().join(", "), |near| format!("perhaps `{near}`"));
            format!("no data set is called `{text}`: {near}")
        };
        let spec = if text.trim_start().starts_with('{') {
            inline(text)?
        } else {
            DataSpec::named(text).ok_or_else(unknown)?
        };
        Ok(Self { text: text.to_owned(), spec })
    }
}

/// Fetches, verifies and describes data sets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd data verify cifar10
  sokd data stats cifar100 --json
  SOKD_DATA_DIR=/data sokd data fetch cifar100
  sokd data fetch tiny-imagenet --from hub")]
pub struct Data {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fetches a data set from its makers or from the Hub, compares it with the digests on record, and goes on where an
    /// earlier try broke off.
    Fetch {
        /// Which.
        name: String,
        /// Where to, in place of the first folder of `SOKD_DATA_DIR`, or the cache.
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        /// From whom, where both have it: its makers, or the Hub.
        #[arg(long, value_enum, value_name = "WHOM")]
        from: Option<Whom>,
    },
    /// Compares the files of a data set with the digests on record, and reads them all. Ends with code 4 when one
    /// differs.
    Verify {
        /// Which.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Counts the images of each class, and measures their pixels.
    Stats {
        /// Which images: a name, or a table such as `{ type = "image-folder", path = "..." }`.
        #[arg(add = names(&[Kind::Datasets]))]
        data: Wanted,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Who has a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Whom {
    /// Those who made it.
    Makers,
    /// The Hugging Face Hub, as parquet.
    Hub,
}

impl Data {
    pub fn run(&self, session: &Session) -> Result<()> {
        match &self.verb {
            Verb::Fetch { name, into, from } => fetch(name, into.clone(), *from, session),
            Verb::Verify { name, json } => check(name, *json),
            Verb::Stats { data, json } => stats(&data.spec, *json, session),
        }
    }
}

fn unknown(name: &str, known: &[&str]) -> Error {
    let near = closest(name, known.iter().copied());
    let help = near
        .map_or_else(|| format!("there are: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
    Misfit::new(format!("no data set is called `{name}`")).help(help).into()
}

fn fetch(name: &str, into: Option<PathBuf>, from: Option<Whom>, session: &Session) -> Result<()> {
    let published: Vec<&str> = Manifest::all().iter().map(|manifest| manifest.name.as_str()).collect();
    let manifest = Manifest::named(name).ok_or_else(|| unknown(name, &published))?;
    let makers = manifest.to_fetch().next().is_some();
    let from = from.unwrap_or(if makers { Whom::Makers } else { Whom::Hub });
    let into = into.or_else(Locations::to_fetch_into).ok_or_else(|| {
        Misfit::new("there is no folder to fetch into").help("name one with --into, or in SOKD_DATA_DIR")
    })?;
    let folder = into.join(name);
    let paths = match (from, &manifest.hub) {
        (Whom::Hub, Some(repository)) => crate::hub::dataset(manifest, repository, &folder, &session.stage)?,
        (Whom::Makers, _) if makers => from_makers(manifest, &folder, session)?,
        (Whom::Hub, None) => {
            let problem = format!("no repository of {} on the Hub is on record", manifest.title);
            return Err(Misfit::new(problem).help(format!("sokd data fetch {name}")).into());
        }
        (Whom::Makers, _) => {
            let problem = format!("no digest of {} is on record, so it is not fetched", manifest.title);
            return Err(Misfit::new(problem).help(manifest.remedy()).into());
        }
    };
    paths.iter().try_for_each(|path| print(path.display().to_string()))
}

fn from_makers(manifest: &Manifest, folder: &Path, session: &Session) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in manifest.to_fetch() {
        let path = folder.join(&entry.name);
        crate::hub::download(entry, &path, &session.stage)?;
        paths.push(path);
    }
    Ok(paths)
}

fn check(name: &str, json: bool) -> Result<()> {
    let report = verify(name, &Locations::from_env())?;
    let verdict = |verdict: &Verdict| match verdict {
        Verdict::Right => "right".to_owned(),
        Verdict::Unknown => "not on record".to_owned(),
        Verdict::Wrong { expected } => format!("WRONG, expected {expected}"),
    };
    if json {
        let file = |check: &sokd_data::Check| json!({ "path": check.path, "sha256": check.sha256, "verdict": verdict(&check.verdict) });
        print_json(&json!({
            "name": report.name,
            "place": report.place,
            "right": report.is_right(),
            "train": report.train,
            "test": report.test,
            "files": report.checks.iter().map(file).collect::<Vec<_>>(),
        }))?;
    } else {
        for check in &report.checks {
            print(format!("{}  {}  {}", check.sha256, check.path.display(), verdict(&check.verdict)))?;
        }
        if report.checks.is_empty() {
            print("no digest is on record: the files are only read")?;
        }
        let place = report.place.display();
        print(format!(
            "{name} in {place}: {} training and {} test images can be read",
            report.train, report.test
        ))?;
    }
    if report.is_right() {
        return Ok(());
    }
    Err(Error::Unmet(format!(
        "{name} is not what its makers published; fetch it again: sokd data fetch {name}"
    )))
}

/// What a split holds.
#[derive(Debug, serde::Serialize)]
struct Measured {
    split: &'static str,
    images: usize,
    by_class: Vec<usize>,
    mean: [f64; 3],
    std: [f64; 3],
}

fn stats(spec: &DataSpec, json: bool, session: &Session) -> Result<()> {
    let dataset = session.kept.open(spec, &session.stage)?;
    let info = dataset.info();
    let splits = [(Split::Train, "train"), (Split::Search, "search"), (Split::Test, "test")];
    let present = splits.into_iter().filter(|(split, _)| info.len(*split) > 0);
    let measured =
        present.map(|(split, name)| measure(dataset.as_ref(), split, name)).collect::<Result<Vec<_>>>()?;
    if json {
        return print_json(&json!({
            "name": info.name,
            "size": info.size,
            "classes": info.classes,
            "pixels": info.pixels,
            "splits": measured,
        }));
    }
    let [height, width] = info.size;
    print(format!("{}: {height} x {width} pixels, {} classes", info.name, info.classes.len()))?;
    let three = |numbers: [f64; 3]| numbers.map(|number| format!("{number:.4}")).join(" ");
    for Measured { split, images, by_class, mean, std } in measured {
        let (fewest, most) = (by_class.iter().min().unwrap_or(&0), by_class.iter().max().unwrap_or(&0));
        let counts = if fewest == most { format!("{most}") } else { format!("{fewest} to {most}") };
        let pixels = format!("mean {}, deviation {}", three(mean), three(std));
        print(format!("{split:6} {images} images, {counts} a class; {pixels}"))?;
    }
    Ok(())
}

fn measure(dataset: &dyn Dataset, split: Split, name: &'static str) -> Result<Measured> {
    let images = dataset.info().len(split);
    let mut by_class = vec![0; dataset.info().classes.len()];
    let (mut sum, mut squares, mut pixels) = ([0f64; 3], [0f64; 3], 0usize);
    let rows: Vec<u32> = (0..images as u32).collect();
    for rows in rows.chunks(500) {
        let batch = dataset.read(split, rows)?;
        for label in batch.labels.to_vec1::<u32>().map_err(sokd_core::Error::from)? {
            by_class[label as usize] += 1;
        }
        let values = batch.images.flatten_all().and_then(|images| images.to_vec1::<f32>());
        let values = values.map_err(sokd_core::Error::from)?;
        for pixel in values.chunks_exact(3) {
            for (channel, value) in pixel.iter().enumerate() {
                sum[channel] += f64::from(*value);
                squares[channel] += f64::from(*value) * f64::from(*value);
            }
        }
        pixels += values.len() / 3;
    }
    let mean = sum.map(|sum| sum / pixels as f64);
    let std =
        std::array::from_fn(|channel| (squares[channel] / pixels as f64 - mean[channel].powi(2)).sqrt());
    Ok(Measured { split: name, images, by_class, mean, std })
}
