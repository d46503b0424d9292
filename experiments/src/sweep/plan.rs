use super::asked::{Planned, Swept};
use super::task::written;
use super::{ASKED, Asked, GRID, Job, Prior, Sweep, TABLE, Task};
use crate::prerequisite::Teacher;
use crate::table::{Cell, Choice};
use crate::{Misfit, Resolved, Result, rundir};
use sokd_core::file;
use std::path::{Path, PathBuf};

/// What `sweep.toml` begins with.
const HEAD: &str = "# Planned by `sokd sweep plan`. Run it with: sokd sweep run <this folder>\n\n";

/// Plans a sweep in a folder. The same plan again changes nothing.
///
/// # Errors
/// Cells that do not fit; [`crate::Error::Locked`] while someone else plans there; another plan in the folder, unless `force`.
pub fn plan(asked: Asked, dir: &Path, force: bool) -> Result<Sweep> {
    let dir = std::path::absolute(dir).map_err(sokd_core::Error::io(dir))?;
    let swept = asked.swept()?;
    let cells = cells(&swept, &asked.choice())?;
    let tasks: Vec<Task> =
        cells.iter().enumerate().map(|(at, cell)| task(at, cell, &asked, &swept)).collect();
    let grid = written(&tasks)?;

    let recipes = dir.join("recipes");
    std::fs::create_dir_all(&recipes).map_err(sokd_core::Error::io(&recipes))?;
    let _lock = rundir::hold(&dir)?;
    let (path, there) = (dir.join(GRID), dir.join(ASKED).exists());
    let same = there && std::fs::read(&path).is_ok_and(|old| old == grid.as_bytes());
    if there && !same && !force {
        let problem = format!("{} holds another plan", dir.display());
        return Err(Misfit::new(problem)
            .help("plan in another folder with -o, or replace the plan with --force: finished cells stay finished")
            .into());
    }
    for folder in [&dir, &recipes] {
        file::sweep(folder)?;
    }
    if there && !same {
        // While the pieces change, there is no plan.
        std::fs::remove_file(dir.join(ASKED)).map_err(sokd_core::Error::io(&dir))?;
    }
    let teachers = cells.iter().filter_map(|cell| cell.teacher.as_ref()).map(|teacher| &teacher.resolved);
    for resolved in cells.iter().map(|cell| &cell.resolved).chain(teachers) {
        file::write(&dir.join(recipe(resolved)), resolved.toml()?.as_bytes())?;
    }
    file::write(&dir.join(TABLE), swept.text.as_bytes())?;
    file::write(&path, grid.as_bytes())?;
    let folder = std::env::current_dir().map_err(sokd_core::Error::io(Path::new(".")))?;
    let planned = Planned { folder, runs: rundir::root(), cells: tasks.len() };
    let asked = Asked { planned: Some(planned), ..asked };
    let text =
        toml::to_string(&asked).map_err(|error| sokd_core::Error::setting("sweep", error.to_string()))?;
    file::write(&dir.join(ASKED), format!("{HEAD}{text}").as_bytes())?;
    Ok(Sweep { dir, asked, tasks })
}

/// The cells of a table; of a recipe, what `sokd train` would make of its settings and a row's values. They are said as the
/// command line says them, above the tier, which would silence them otherwise.
fn cells(swept: &Swept, choice: &Choice) -> Result<Vec<Cell>> {
    let of = |cell: Cell| {
        let Some(point) = swept.varied.get(&cell.row) else { return Ok(cell) };
        let said = point.iter().map(|(key, value)| format!("{key}={value}"));
        let alone = Choice {
            rows: vec![cell.row.clone()],
            seeds: Some(vec![cell.seed]),
            overrides: said.chain(choice.overrides.iter().cloned()).collect(),
            against: None,
            ..choice.clone()
        };
        Ok(swept.table.cells(&alone)?.remove(0))
    };
    swept.table.cells(choice)?.into_iter().map(of).collect()
}

fn task(at: usize, cell: &Cell, asked: &Asked, swept: &Swept) -> Task {
    let prior = |teacher: &Teacher| Prior {
        name: teacher.name.clone(),
        label: teacher.label.clone(),
        job: job(&teacher.name, &teacher.resolved),
    };
    Task {
        cell: at,
        label: cell.label.clone(),
        row: cell.row.clone(),
        column: cell.column.clone(),
        seed: cell.seed,
        varied: swept.varied.get(&cell.row).cloned().unwrap_or_default(),
        overrides: asked.overrides.clone(),
        job: job(&swept.table.name, &cell.resolved),
        teacher: cell.teacher.as_ref().map(prior),
    }
}

/// The run that `sokd table` would make of it, in the same directory.
fn job(name: &str, resolved: &Resolved) -> Job {
    let run = rundir::default_dir(name, resolved);
    Job { digest: resolved.id.clone(), recipe: recipe(resolved), run }
}

/// A recipe's file, seen from the sweep's folder.
fn recipe(resolved: &Resolved) -> PathBuf {
    Path::new("recipes").join(format!("{}.toml", &resolved.id[..12]))
}
