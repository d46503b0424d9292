//! What the Hub's addresses of a recipe led to, so that a run that goes on means the same files: `hub.json`.

use crate::hub::{self, SCHEME};
use crate::model::Model;
use crate::progress::Stage;
use crate::{Misfit, Recipe, Result};
use serde::{Deserialize, Serialize};
use sokd_core::Error;
use sokd_hub::{Address, Repository};
use sokd_models::published::{Origin, Published};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Its name in a run's directory.
pub const FILE: &str = "hub.json";

/// What addresses led to, by how the recipe has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pins(BTreeMap<String, Pin>);

/// What an address led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The same address at the commit that its revision meant.
    pub address: String,
    /// The digest of each file, by its path in the repository.
    pub sha256: BTreeMap<String, String>,
}

impl Pins {
    /// Those of a run that goes on; none of one that begins.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io(&path)(error).into()),
        };
        serde_json::from_slice(&text).map_err(|error| {
            let problem = format!("what the Hub's addresses led to: {error}");
            Error::file(&path, None, problem, "run again with --force").into()
        })
    }

    /// Whether the recipe names nothing on the Hub.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The recipe with each address at a commit, all of whose files are here then; published weights of other places
    /// are fetched too.
    ///
    /// # Errors
    /// What fetching meets; published weights of another network than the recipe's.
    pub fn pin(&mut self, recipe: &Recipe, stage: &Stage) -> Result<Recipe> {
        let mut recipe = recipe.clone();
        if let Some(weights) = &mut recipe.student.weights {
            *weights = self.weights(&recipe.student.model, weights, stage)?;
        }
        if let Some(teacher) = &mut recipe.teacher {
            teacher.weights = self.weights(&teacher.model, &teacher.weights, stage)?;
        }
        if let Some((path, address)) = hub::addressed(&mut recipe.data) {
            *path = PathBuf::from(self.images(&address, stage)?);
        }
        Ok(recipe)
    }

    /// Weights as the command line or a recipe has them, for a network.
    ///
    /// # Errors
    /// As [`Pins::pin`].
    pub fn weights(&mut self, model: &Model, weights: &str, stage: &Stage) -> Result<String> {
        let published = Published::named(weights).map_err(Misfit::new)?;
        if let Some(known) = &published {
            let (theirs, ours) = (known.spec(), model.spec()?);
            if theirs.as_ref() != Some(&ours) {
                let problem =
                    format!("{} are weights of {}, and not of {}", known.name, known.model, model.label());
                return Err(Misfit::new(problem).help(format!("model = \"{}\"", known.model)).into());
            }
        }
        let address = match published.as_ref().map(|known| &known.origin) {
            Some(Origin::Hub(address)) => address,
            Some(Origin::Makers { .. }) => {
                published.map(|known| hub::published(&known, stage)).transpose()?;
                return Ok(weights.to_owned());
            }
            None => match weights.strip_prefix(SCHEME) {
                Some(address) => address,
                None => return Ok(weights.to_owned()),
            },
        };
        let wanted: Address = address.parse()?;
        let wanted = match self.0.get(weights) {
            Some(pin) => pin.address.parse()?,
            None => wanted,
        };
        let fetched = hub::weights(&wanted, stage)?;
        let pinned = wanted.repository.at(&fetched.commit).file(&wanted.file)?;
        let sha256 = BTreeMap::from([(pinned.file.clone(), sokd_hub::sha256(&fetched.path)?)]);
        self.keep(weights, format!("{SCHEME}{pinned}"), sha256)
    }

    fn images(&mut self, address: &str, stage: &Stage) -> Result<String> {
        let named = format!("{SCHEME}{address}");
        let wanted: Repository = self.0.get(&named).map_or(address, |pin| &pin.address).parse()?;
        let (listing, _) = hub::images(&wanted, stage)?;
        let digest = |file: &String| Ok((file.clone(), sokd_hub::sha256(&listing.folder.join(file))?));
        let sha256 = listing.files.iter().map(digest).collect::<Result<_>>()?;
        self.keep(&named, format!("{SCHEME}{}", wanted.at(&listing.commit)), sha256)
    }

    /// Notes what an address led to. A commit holds the same for ever, so what is noted already is not contradicted.
    fn keep(&mut self, named: &str, address: String, sha256: BTreeMap<String, String>) -> Result<String> {
        let pin = Pin { address: address.clone(), sha256 };
        if let Some(known) = self.0.get(named).filter(|known| **known != pin) {
            let problem = format!("{named} led to {} when the run began, with other digests", known.address);
            return Err(Misfit::new(problem)
                .help("begin again with --force, or with another --run-dir")
                .into());
        }
        self.0.insert(named.to_owned(), pin);
        Ok(address)
    }
}
