//! Files from elsewhere: from the Hub, from those who publish them, with a bar while they come.

use crate::coming::Coming;
use crate::progress::Stage;
use crate::{Misfit, Result};
use sokd_core::{Dataset, Error};
use sokd_data::{DataSpec, Entry, Locations, Manifest};
use sokd_hub::{Address, Fetched, Hub, Listing, Original, Patience, Repository};
use sokd_models::published::{Origin, Published};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an address of the Hub begins with.
pub const SCHEME: &str = "hub://";

/// A file of the Hub.
///
/// # Errors
/// What [`Hub::fetch`] meets.
pub fn fetch(address: &Address, stage: &Stage) -> Result<Fetched> {
    Ok(Hub::from_env()?.fetch(address, &Coming::new(stage))?)
}

/// A file of weights, and the `config.json` beside it where there is one: it may say for which pixels they are, and a cache
/// that happens to have it or not is not to make the difference.
///
/// # Errors
/// What [`Hub::fetch`] meets.
pub fn weights(address: &Address, stage: &Stage) -> Result<Fetched> {
    let (hub, watch) = (Hub::from_env()?, Coming::new(stage));
    let fetched = hub.fetch(address, &watch)?;
    let folder = address.file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let config = address.repository.at(&fetched.commit).file(&format!("{folder}config.json"))?;
    match hub.fetch(&config, &watch) {
        Err(error) if !matches!(error, Error::Missing { .. }) && !hub.is_offline() => Err(error.into()),
        _ => Ok(fetched),
    }
}

/// What a repository holds, and all of it that is wanted.
///
/// # Errors
/// What [`Hub::pull`] meets.
pub fn pull(
    repository: &Repository,
    wanted: impl FnOnce(Vec<String>) -> Vec<String>,
    stage: &Stage,
) -> Result<Listing> {
    Ok(Hub::from_env()?.pull(repository, wanted, &Coming::new(stage))?)
}

/// The images of a repository, and the folder that holds them: of one with parquet files theirs, else all of it.
///
/// # Errors
/// As [`pull`]; a repository whose parquet files lie in several folders.
pub fn images(repository: &Repository, stage: &Stage) -> Result<(Listing, PathBuf)> {
    let is_parquet = |file: &String| Path::new(file).extension().is_some_and(|end| end == "parquet");
    let parquet_if_any = |files: Vec<String>| {
        let (parquet, others): (Vec<_>, Vec<_>) = files.into_iter().partition(is_parquet);
        if parquet.is_empty() { others } else { parquet }
    };
    let listing = pull(repository, parquet_if_any, stage)?;
    if !listing.files.iter().any(is_parquet) {
        let folder = listing.folder.clone();
        return Ok((listing, folder));
    }
    let folder = |file: &String| Path::new(file).parent().map(Path::to_owned).unwrap_or_default();
    let mut folders: Vec<PathBuf> = listing.files.iter().map(folder).collect();
    folders.dedup();
    match &folders[..] {
        [one] => {
            let folder = listing.folder.join(one);
            Ok((listing, folder))
        }
        several => {
            let names: Vec<String> = several.iter().map(|folder| folder.display().to_string()).collect();
            let problem = format!("{SCHEME}{repository} has images in several folders: {}", names.join(", "));
            Err(Misfit::new(problem).help("fetch it with `sokd pull`, and name one of them as `path`").into())
        }
    }
}

/// The parquet files of a data set, in a folder where its reader finds them: links into the cache, so that Python's
/// libraries and this program share one copy.
///
/// # Errors
/// As [`images`]; a file with another digest than the one on record.
pub fn dataset(manifest: &Manifest, repository: &str, folder: &Path, stage: &Stage) -> Result<Vec<PathBuf>> {
    let repository: Repository = format!("datasets/{repository}").parse()?;
    let (listing, _) = images(&repository, stage)?;
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut paths = Vec::new();
    for file in &listing.files {
        let (from, name) = (listing.folder.join(file), file.rsplit('/').next().unwrap_or(file));
        let on_record = manifest.files.iter().find(|entry| entry.name == name);
        if let Some(sha256) = on_record.and_then(|entry| entry.sha256.as_ref()) {
            let found = sokd_hub::sha256(&from)?;
            if found != *sha256 {
                let problem = format!("its SHA-256 is {found}, and {sha256} is on record");
                let remedy =
                    "its publisher has changed it: name the repository at a commit, as `path` of the data";
                return Err(Error::file(&from, None, problem, remedy).into());
            }
        }
        let path = folder.join(name);
        link(&from, &path)?;
        paths.push(path);
    }
    Ok(paths)
}

/// Lets a name lead to a file of the cache; a file system without links keeps it twice.
fn link(from: &Path, path: &Path) -> Result<()> {
    let from = from.canonicalize().map_err(Error::io(from))?;
    if path.canonicalize().is_ok_and(|there| there == from) {
        return Ok(());
    }
    let aside = path.with_extension("unfinished");
    std::fs::remove_file(&aside).ok();
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(&from, &aside);
    #[cfg(not(unix))]
    let linked = std::fs::hard_link(&from, &aside);
    linked.or_else(|_| std::fs::copy(&from, &aside).map(drop)).map_err(Error::io(path))?;
    Ok(std::fs::rename(&aside, path).map_err(Error::io(path))?)
}

/// A data set, whose path may be an address of the Hub.
///
/// # Errors
/// As [`images`] and [`DataSpec::open`].
pub fn open(spec: &DataSpec, stage: &Stage) -> Result<Arc<dyn Dataset>> {
    let mut spec = spec.clone();
    if let Some((path, address)) = addressed(&mut spec) {
        *path = images(&address.parse()?, stage)?.1;
    }
    Ok(spec.open(&Locations::from_env())?)
}

/// The path of a data set and the address in it, if it is one.
pub fn addressed(spec: &mut DataSpec) -> Option<(&mut PathBuf, String)> {
    let path = spec.path_mut()?;
    let address = path.to_str()?.strip_prefix(SCHEME)?.to_owned();
    Some((path, address))
}

/// One file of a data set, from its publisher.
///
/// # Errors
/// What [`sokd_hub::download`] meets; a file of which no address or digest is on record.
pub fn download(entry: &Entry, path: &Path, stage: &Stage) -> Result<()> {
    let (Some(url), Some(sha256)) = (&entry.url, &entry.sha256) else {
        return Err(Misfit::new(format!("no address and digest of {} are on record", entry.name)).into());
    };
    let original = Original { url, sha256, bytes: entry.bytes };
    Ok(sokd_hub::download(original, path, Patience::default(), &Coming::new(stage))?)
}

/// The file of weights that timm or torchvision publish. Those of torchvision are looked for among the teachers and where
/// PyTorch keeps what it has fetched, before they are fetched.
///
/// # Errors
/// What [`Hub::fetch`] and [`sokd_hub::download`] meet.
pub fn published(known: &Published, stage: &Stage) -> Result<PathBuf> {
    match &known.origin {
        Origin::Hub(address) => Ok(weights(&address.parse()?, stage)?.path),
        Origin::Makers { url, file, sha256 } => {
            let here = Locations::from_env().teacher(Path::new(file)).ok().or_else(|| torch_keeps(file));
            if let Some(path) = here {
                return checked(path, sha256);
            }
            let folder = Locations::to_fetch_into().ok_or_else(|| {
                Misfit::new("there is no folder to fetch into").help("name one in SOKD_DATA_DIR")
            })?;
            let path = folder.join("teachers").join(file);
            let original = Original { url, sha256, bytes: None };
            sokd_hub::download(original, &path, Patience::default(), &Coming::new(stage))?;
            Ok(path)
        }
    }
}

/// Where PyTorch keeps what it has fetched.
fn torch_keeps(file: &str) -> Option<PathBuf> {
    let named = std::env::var_os("TORCH_HOME").filter(|named| !named.is_empty()).map(PathBuf::from);
    let home = named.or_else(|| Some(sokd_core::file::cache()?.join("torch")))?;
    Some(home.join("hub").join("checkpoints").join(file)).filter(|path| path.is_file())
}

fn checked(path: PathBuf, sha256: &str) -> Result<PathBuf> {
    let found = sokd_hub::sha256(&path)?;
    if found.starts_with(sha256) {
        return Ok(path);
    }
    let problem = format!("its SHA-256 is {found}, and its name says that it begins with {sha256}");
    Err(Error::file(&path, None, problem, "remove it, so that it is fetched again").into())
}
