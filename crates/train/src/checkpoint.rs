use crate::Progress;
use candle::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sokd_core::file::{self, Folder};
use sokd_core::{Error, Result};
use sokd_world::World;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Tensors by name, as files hold them.
pub type Tensors = BTreeMap<String, Tensor>;

/// Everything a run needs to go on as if it had never stopped.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// How far it has come.
    pub progress: Progress,
    /// All weights that training may change, and buffers.
    pub weights: Tensors,
    /// What the optimisers remember, by phase.
    pub optimizers: BTreeMap<String, Tensors>,
    /// The moving average of the student, where one is kept.
    pub ema: Option<Tensors>,
}

/// The checkpoints of one run, in a folder: `last`, `last-1`, and `best` where the run selects.
///
/// Each is a folder of `model.safetensors`, `optimizer.safetensors`, `ema.safetensors`, `state.json`, and, written
/// last, `manifest.json` with every file's digest. It is filled aside and renamed into place, so that a crash, a full
/// disk or a pulled plug leaves the one before.
pub struct Checkpoints {
    dir: PathBuf,
    recipe: String,
}

/// A checkpoint that was found, and what was found wrong on the way to it.
#[derive(Debug)]
pub struct Found {
    /// The newest that is whole.
    pub checkpoint: Checkpoint,
    /// Why it is not `last`, for a person to read.
    pub warning: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct State {
    recipe: String,
    progress: Progress,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Digests by file.
    blake3: BTreeMap<String, String>,
}

const LAST: &str = "last";
const BEFORE: &str = "last-1";
const BEST: &str = "best";
const TORN: &str = "torn";

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const EMA: &str = "ema.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

impl Checkpoints {
    /// The checkpoints in `dir`, of the run whose recipe has the digest `recipe`. Creates the folder; removes what
    /// unfinished writes left in it.
    pub fn open(dir: &Path, recipe: &str) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        file::sweep(dir)?;
        Ok(Self { dir: dir.to_owned(), recipe: recipe.to_owned() })
    }

    /// Saves `last`; what it was becomes `last-1`.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.write(checkpoint, LAST)?.place(Some(&self.dir.join(BEFORE)))
    }

    /// Saves `best`.
    pub fn save_best(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.write(checkpoint, BEST)?.place(None)
    }

    /// The newest checkpoint that is whole; `None` where there is none at all. A torn `last` is moved to `torn`, so
    /// that it will not take the place of the good one before it.
    ///
    /// # Errors
    /// [`Error::File`] when all that is there is torn, or belongs to another recipe.
    pub fn load(&self) -> Result<Option<Found>> {
        let (last, before) = (self.dir.join(LAST), self.dir.join(BEFORE));
        let error = match read(&last) {
            Ok(Some(saved)) => return self.own(saved, &last, None).map(Some),
            // Between two renames `last-1` is the newest, and nothing is lost.
            Ok(None) => return read(&before)?.map(|saved| self.own(saved, &before, None)).transpose(),
            Err(error) => error,
        };
        let Ok(Some(saved)) = read(&before) else { return Err(error) };
        let warning = format!("{error}\n  going on from {} instead", before.display());
        let found = self.own(saved, &before, Some(warning))?;
        file::rename(&last, &self.dir.join(TORN))?;
        Ok(Some(found))
    }

    /// The best epoch's, where the run selects.
    ///
    /// # Errors
    /// [`Error::File`] when it is torn or another recipe's.
    pub fn load_best(&self) -> Result<Option<Checkpoint>> {
        let best = self.dir.join(BEST);
        let Some(saved) = read(&best)? else { return Ok(None) };
        self.own(saved, &best, None).map(|found| Some(found.checkpoint))
    }

    fn own(
        &self,
        (recipe, checkpoint): (String, Checkpoint),
        at: &Path,
        warning: Option<String>,
    ) -> Result<Found> {
        if recipe == self.recipe {
            return Ok(Found { checkpoint, warning });
        }
        let problem = format!("saved by the recipe {recipe}, and this one is {}", self.recipe);
        Err(Error::file(at, None, problem, "go on with the recipe that saved it, or start in another folder"))
    }

    fn write(&self, checkpoint: &Checkpoint, name: &str) -> Result<Folder> {
        let folder = Folder::new(&self.dir.join(name))?;
        let mut manifest = Manifest { blake3: BTreeMap::new() };
        for (name, bytes) in checkpoint.files(&self.recipe)? {
            folder.write(name, &bytes)?;
            manifest.blake3.insert(name.to_owned(), blake3::hash(&bytes).to_hex().to_string());
        }
        folder.write(MANIFEST, &serde_json::to_vec_pretty(&manifest).expect("text under text keys"))?;
        Ok(folder)
    }
}

impl Checkpoint {
    /// What rank 0 has; what the others bring along does not count.
    pub(crate) fn follow(own: Option<&Self>, world: &World) -> Result<Self> {
        let own = own.map(|own| own.files("")).transpose()?.unwrap_or_default();
        let mut files = BTreeMap::new();
        for name in [MODEL, OPTIMIZER, EMA, STATE] {
            let mine = own.iter().find(|(file, _)| *file == name).map_or(&[][..], |(_, bytes)| bytes);
            let bytes = world.follow(mine)?;
            if !bytes.is_empty() {
                files.insert(name.to_owned(), bytes);
            }
        }
        Ok(Self::of(&files, Path::new("rank 0"))?.1)
    }

    /// As files, by name.
    fn files(&self, recipe: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let Self { progress, weights, optimizers, ema } = self;
        let state = State { recipe: recipe.to_owned(), progress: progress.clone() };
        let mut optimizer = Tensors::new();
        for (phase, tensors) in optimizers {
            optimizer
                .extend(tensors.iter().map(|(name, tensor)| (format!("{phase}/{name}"), tensor.clone())));
        }
        let mut files = vec![(MODEL, packed(weights)?), (OPTIMIZER, packed(&optimizer)?)];
        if let Some(ema) = ema {
            files.push((EMA, packed(ema)?));
        }
        files.push((STATE, serde_json::to_vec_pretty(&state).expect("numbers under text keys")));
        Ok(files)
    }

    /// Of such files, and the recipe that saved it.
    fn of(files: &BTreeMap<String, Vec<u8>>, dir: &Path) -> Result<(String, Self)> {
        let absent = |name: &str| torn(&dir.join(MANIFEST), &format!("it lists no {name}"));
        let needed = |name: &str| files.get(name).ok_or_else(|| absent(name));
        let state: State =
            serde_json::from_slice(needed(STATE)?).map_err(|error| torn(&dir.join(STATE), &error))?;
        let mut optimizers: BTreeMap<String, Tensors> = BTreeMap::new();
        for (name, tensor) in unpacked(needed(OPTIMIZER)?)? {
            let (phase, name) = name.split_once('/').unwrap_or_default();
            optimizers.entry(phase.to_owned()).or_default().insert(name.to_owned(), tensor);
        }
        let checkpoint = Self {
            progress: state.progress,
            weights: unpacked(needed(MODEL)?)?,
            optimizers,
            ema: files.get(EMA).map(|bytes| unpacked(bytes)).transpose()?,
        };
        Ok((state.recipe, checkpoint))
    }
}

/// A checkpoint and the recipe that saved it; `None` where there is no folder.
fn read(dir: &Path) -> Result<Option<(String, Checkpoint)>> {
    if !dir.exists() {
        return Ok(None);
    }
    let path = dir.join(MANIFEST);
    let bytes = std::fs::read(&path).map_err(|error| torn(&path, &error))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| torn(&path, &error))?;
    let mut files = BTreeMap::new();
    for (name, digest) in manifest.blake3 {
        let path = dir.join(&name);
        let bytes = std::fs::read(&path).map_err(|error| torn(&path, &error))?;
        if blake3::hash(&bytes).to_hex().as_str() != digest {
            return Err(torn(&path, &"it is not what was written: its digest differs from the manifest's"));
        }
        files.insert(name, bytes);
    }
    Checkpoint::of(&files, dir).map(Some)
}

fn torn(path: &Path, problem: &dyn std::fmt::Display) -> Error {
    Error::file(
        path,
        None,
        problem.to_string(),
        "delete this checkpoint; the run then goes on from the one before, or from the start",
    )
}

fn packed(tensors: &Tensors) -> Result<Vec<u8>> {
    // What PyTorch's own tools write, so that timm and transformers take the file for one of theirs.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(safetensors::serialize(tensors, Some(format)).map_err(candle::Error::from)?)
}

fn unpacked(bytes: &[u8]) -> Result<Tensors> {
    Ok(candle::safetensors::load_buffer(bytes, &Device::Cpu)?.into_iter().collect())
}
