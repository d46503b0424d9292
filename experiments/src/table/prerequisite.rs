use super::Teacher;
use crate::{Layers, Recipe, Result, rundir, shipped};

/// What trains the teacher of a recipe whose teacher's weights are `recipe:<name>`; the recipe then names the run
/// instead, and so its own identity changes whenever its teacher's does. None where the teacher comes with the program
/// and has not been trained here.
pub(super) fn of(recipe: &mut Recipe, tier: &str) -> Result<Option<Teacher>> {
    let Some(teacher) = &mut recipe.teacher else { return Ok(None) };
    let Some(name) = teacher.weights.strip_prefix("recipe:").map(str::to_owned) else { return Ok(None) };
    let mut layers = Layers::open(&name)?;
    // A recipe that has no such tier is trained in full: a short table need not have a short teacher.
    if layers.clone().tier(tier).is_ok() {
        layers.tier(tier)?;
    }
    let resolved = layers.resolve()?;
    let run = rundir::default_dir(&name, &resolved);
    let below = run.strip_prefix(rundir::root()).unwrap_or(&run);
    teacher.weights = format!("run:{}", below.display());
    if shipped::trained(&below.to_string_lossy()).is_some() && !run.exists() {
        return Ok(None);
    }
    let label = format!("teacher {name}");
    Ok(Some(Teacher { name, resolved, label }))
}
