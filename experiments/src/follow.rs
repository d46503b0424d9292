//! A process that trains along with the one that leads: it reads no run directory, writes none, and shows nothing.

use crate::assemble::{Parts, assemble};
use crate::cli::Session;
use crate::run::Learner;
use crate::{Error, Recipe, Result, signals};
use serde::{Deserialize, Serialize};
use sokd_train::{Outcome, Progress, fit};
use sokd_world::World;
use std::path::{Path, PathBuf};

/// What rank 0 tells the others before they begin.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Led {
    /// There is nothing left to do.
    Finished,
    /// What runs, where it is kept, and the digest of its images.
    Run { recipe: Box<Recipe>, dir: PathBuf, images: String },
}

impl Led {
    pub(crate) fn run(recipe: &Recipe, dir: &Path, images: &str) -> Self {
        Self::Run { recipe: Box::new(recipe.clone()), dir: dir.to_owned(), images: images.to_owned() }
    }

    pub(crate) fn tell(&self, world: &World) -> Result<()> {
        world.follow(&serde_json::to_vec(self).expect("a recipe is plain values"))?;
        Ok(())
    }
}

/// Does this process's share of the run that rank 0 leads, whose recipe is rank 0's too.
///
/// # Errors
/// [`Error::Stopped`] with the others, other images than rank 0 has, and whatever its parts meet.
pub fn follow(session: &Session, world: &World) -> Result<()> {
    let outcome = share(session, world);
    if let Err(error) = &outcome {
        world.leave(&error.to_string());
    }
    outcome
}

fn share(session: &Session, world: &World) -> Result<()> {
    let led = serde_json::from_slice(&world.follow(&[])?);
    let led = led.map_err(|error| sokd_core::Error::Parted { rank: 0, problem: error.to_string() })?;
    let Led::Run { recipe, dir, images } = led else { return Ok(()) };
    if session.kept.digest(&recipe.data, &session.stage)? != images {
        let (rank, name) = (world.rank(), recipe.data.name());
        return Err(Error::Unmet(format!("rank {rank} finds other images of {name} than rank 0")));
    }
    let Parts { info, params, distiller, phases, images, .. } = assemble(&recipe, session)?;
    let learner = Learner { params: &params, info: &info, guesses: None, session };
    let mut training = learner.training(&recipe, (distiller, phases), &images, world)?;
    match fit(&mut training, Progress::default(), None, &signals::heed(), &mut [])? {
        Outcome::Finished(_) => Ok(()),
        Outcome::Stopped(at) => Err(Error::Stopped { dir, step: at.steps }),
    }
}
