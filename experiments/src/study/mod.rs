//! What plug-ins did to a run: the pictures and numbers by which SoKD is judged beside its accuracy.

mod areas;
mod attention;
mod collapse;
mod compare;
mod distribution;
mod history;
mod layer;
mod principal;
mod reading;
mod seen;
mod trained;

pub use areas::{Areas, Overlap};
pub use attention::{Closeness, Heat};
pub use collapse::{DISTINCT, Monitor, SPREAD, Verdict};
pub use compare::{Compared, compare};
pub use distribution::{Spread, Versus};
pub use history::{Clock, Curve, History};
pub use layer::{FITTED, Layer};
pub use principal::Principal;
pub use seen::{Attention, MOST, Seen, Shown, TEACHER};

use crate::cli::Session;
use crate::table::{Choice, Table};
use crate::{Recipe, Resolved, Result, Summary, rundir};
use std::path::{Path, PathBuf};

/// How much is studied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Nothing.
    Nothing,
    /// What a run wrote down while it ran.
    Logs,
    /// That, and what its networks say of test images.
    Everything,
}

/// The studies of one column of a table, or of one run.
#[derive(Clone, Debug, Default)]
pub struct Study {
    /// The column's name.
    pub column: String,
    /// The seed that is shown: the first.
    pub seed: u64,
    /// What each learned policy did.
    pub policies: Vec<(String, History)>,
    /// What each detector's monitor said.
    pub monitors: Vec<Watched>,
    /// What the networks say.
    pub seen: Option<Seen>,
    /// What could not be shown, and why.
    pub problems: Vec<String>,
}

/// A detector's monitor.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The table's row.
    pub arm: String,
    /// Of the seed that is shown.
    pub monitor: Monitor,
    /// How it ended, by seed.
    pub verdicts: Vec<(u64, Verdict)>,
}

/// A run to be studied.
#[derive(Clone, Debug)]
pub struct Arm<'a> {
    /// The table's row.
    pub row: &'a str,
    /// The table's column.
    pub column: &'a str,
    /// What it ran.
    pub resolved: &'a Resolved,
    /// Where.
    pub dir: PathBuf,
}

/// A run whose networks are looked at.
#[derive(Clone, Copy, Debug)]
struct Run<'a> {
    row: &'a str,
    host: Option<&'a str>,
    /// Whether all that its networks say is looked at, or its layers alone.
    looked: bool,
    resolved: &'a Resolved,
    dir: &'a Path,
    started: &'a str,
}

/// The studies of a table: column by column, of those that have a row with something to study.
///
/// # Errors
/// A table that does not fit. Nothing that a run left behind is an error: the studies say what they could not show.
pub fn table(
    table: &Table,
    choice: &Choice,
    session: &Session,
    extent: Extent,
    folder: &Path,
) -> Result<Vec<Study>> {
    let cells = table.cells(choice)?;
    let arms: Vec<Arm<'_>> = cells
        .iter()
        .map(|cell| Arm {
            row: &cell.row,
            column: &cell.column,
            resolved: &cell.resolved,
            dir: rundir::default_dir(&table.name, &cell.resolved),
        })
        .collect();
    let tier = if choice.tier == "full" { String::new() } else { format!("-{}", choice.tier) };
    let path = |column: usize| folder.join(format!("studies{tier}-{column}.json"));
    Ok(of(&arms, session, extent, path))
}

/// The studies of runs: column by column, of those that have a row with something to study. `path` says where what the
/// networks of a column say is kept.
pub fn of(
    arms: &[Arm<'_>],
    session: &Session,
    extent: Extent,
    path: impl Fn(usize) -> PathBuf,
) -> Vec<Study> {
    if extent == Extent::Nothing {
        return Vec::new();
    }
    let mut columns: Vec<&str> = Vec::new();
    for arm in arms {
        if !columns.contains(&arm.column) {
            columns.push(arm.column);
        }
    }
    let study = |(at, column): (usize, &&str)| {
        let own: Vec<&Arm<'_>> = arms.iter().filter(|arm| arm.column == *column).collect();
        let any = own.iter().any(|arm| studied(&arm.resolved.recipe));
        any.then(|| Study::of(column, &own, session, extent, &path(at))).filter(|study| !study.is_empty())
    };
    columns.iter().enumerate().filter_map(study).collect()
}

impl Study {
    fn of(column: &str, arms: &[&Arm<'_>], session: &Session, extent: Extent, path: &Path) -> Self {
        let seed = arms.iter().map(|arm| arm.resolved.recipe.seed).min().unwrap_or(0);
        let mut study = Self { column: column.to_owned(), seed, ..Self::default() };
        let shown = |arm: &&&Arm<'_>| arm.resolved.recipe.seed == seed;
        for arm in arms.iter().filter(|arm| spoken(&arm.resolved.recipe)).filter(shown) {
            if let Err(error) = study.logs(arm, arms) {
                study.problems.push(format!("{}: {error}", arm.row));
            }
        }
        if extent == Extent::Everything {
            let (mut finished, mut begun) = (Vec::new(), Vec::new());
            for &arm in arms.iter().filter(shown) {
                match Summary::read(&arm.dir) {
                    Ok(Some(summary)) => {
                        finished.push(arm);
                        begun.push(summary.environment.started);
                    }
                    Ok(None) if studied(&arm.resolved.recipe) => {
                        study.problems.push(format!("{}: no finished run of seed {seed} is here", arm.row));
                    }
                    Ok(None) => {}
                    Err(error) => study.problems.push(format!("{}: {error}", arm.row)),
                }
            }
            let runs = chosen(&finished, &begun);
            study.seen = (!runs.is_empty()).then(|| Seen::of(&runs, path, session));
        }
        study
    }

    /// Whether there is nothing to say.
    fn is_empty(&self) -> bool {
        self.policies.is_empty()
            && self.monitors.is_empty()
            && self.seen.is_none()
            && self.problems.is_empty()
    }

    /// What a row's runs wrote down while they ran.
    fn logs(&mut self, shown: &Arm<'_>, arms: &[&Arm<'_>]) -> Result<()> {
        let mut verdicts = Vec::new();
        for arm in arms.iter().filter(|arm| arm.row == shown.row) {
            let (lines, recipe) =
                (sokd_train::metrics::read(&arm.dir.join("metrics.jsonl"))?, &arm.resolved.recipe);
            let learner = recipe.learner();
            let monitor = Monitor::read(&lines, learner);
            verdicts.extend(monitor.as_ref().and_then(|monitor| Some((recipe.seed, monitor.verdict()?))));
            if recipe.seed != shown.resolved.recipe.seed {
                continue;
            }
            let histories = History::read(&lines, learner).into_iter();
            self.policies.extend(histories.map(|history| (arm.row.to_owned(), history)));
            let watched = |monitor| Watched { arm: arm.row.to_owned(), monitor, verdicts: Vec::new() };
            self.monitors.extend(monitor.map(watched));
        }
        if let Some(watched) = self.monitors.iter_mut().find(|watched| watched.arm == shown.row) {
            watched.verdicts = verdicts;
        }
        Ok(())
    }
}

/// Whether plug-ins stand in front of any of its losses.
fn plugged(recipe: &Recipe) -> bool {
    recipe.objective.values().any(|term| !term.refine.0.is_empty())
}

/// Whether a plug-in or a lens of its may have written down what it did.
fn spoken(recipe: &Recipe) -> bool {
    plugged(recipe) || recipe.lens.is_some()
}

/// Whether there is anything to study: a plug-in, a lens, or a layer inside the student.
fn studied(recipe: &Recipe) -> bool {
    spoken(recipe) || layer::inside(&recipe.student).next().is_some()
}

/// Whether one asks the same losses as the other, bare of plug-ins.
fn bare(host: &Recipe, recipe: &Recipe) -> bool {
    let losses = |recipe: &Recipe| -> Vec<String> {
        recipe.objective.iter().map(|(name, term)| format!("{name} {:?}", term.loss)).collect()
    };
    host.teacher.is_some() && !plugged(host) && losses(host) == losses(recipe)
}

/// The rows with plug-ins and their hosts, and those with layers inside the student, in the table's order.
fn chosen<'a>(arms: &[&'a Arm<'a>], begun: &'a [String]) -> Vec<Run<'a>> {
    let host = |arm: &Arm<'_>| arms.iter().position(|host| bare(&host.resolved.recipe, &arm.resolved.recipe));
    let plugged: Vec<bool> = arms.iter().map(|arm| plugged(&arm.resolved.recipe)).collect();
    let hosts: Vec<Option<usize>> =
        arms.iter().zip(&plugged).map(|(arm, plugged)| if *plugged { host(arm) } else { None }).collect();
    let looked = |at: usize| plugged[at] || hosts.contains(&Some(at));
    let layered = |at: usize| layer::inside(&arms[at].resolved.recipe.student).next().is_some();
    let wanted = (0..arms.len()).filter(|&at| looked(at) || layered(at));
    wanted
        .map(|at| Run {
            row: arms[at].row,
            host: hosts[at].map(|host| arms[host].row),
            looked: looked(at),
            resolved: arms[at].resolved,
            dir: &arms[at].dir,
            started: &begun[at],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The host of a row with plug-ins is the row of the same losses without, and no other row is looked at but for its layers.
    #[test]
    fn a_host_is_the_same_without_plug_ins() -> Result<()> {
        let resolve = |extends: &str| {
            Resolved::new("shapes-alone", None, &[]).and_then(|_| {
            let text = format!("extends = [\"shapes-alone\", {extends}]\nteacher = {{ model = \"resnet8\", weights = \"drawn\" }}");
            crate::Layers::of(&crate::overlay::Document::new("a test", text))?.resolve()
        })
        };
        let recipes = [
            ("alone", resolve("\"sokd:cross-entropy\"")?),
            ("KD", resolve("\"sokd:kd\"")?),
            ("FitNet", resolve("\"sokd:fitnet\"")?),
            ("FitNet + SoKD", resolve("\"sokd:fitnet\", \"sokd:sokd-robust\"")?),
        ];
        let arms: Vec<Arm<'_>> = recipes
            .iter()
            .map(|(row, resolved)| Arm { row, column: "", resolved, dir: PathBuf::from(row) })
            .collect();
        let begun = vec![String::new(); arms.len()];
        let all: Vec<&Arm<'_>> = arms.iter().collect();
        let runs: Vec<_> = chosen(&all, &begun).iter().map(|run| (run.row, run.host)).collect();
        assert_eq!(runs, [("FitNet", None), ("FitNet + SoKD", Some("FitNet"))]);
        let alone = chosen(&all[3..], &begun[3..]);
        assert_eq!((alone.len(), alone[0].host), (1, None), "a single run has none");
        Ok(())
    }
}
