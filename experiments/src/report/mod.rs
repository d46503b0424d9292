//! What was measured, for people: Markdown, and one HTML file that needs nothing else.

mod best;
mod chart;
mod compared;
mod confusion;
pub(crate) mod csv;
mod form;
mod gallery;
mod gap;
mod gather;
mod html;
mod images;
mod latex;
mod markdown;
mod measured;
mod paired;
mod plain;
mod plot;
mod sheet;
mod statistics;
mod studies;
mod tested;
mod tex;

pub use best::Standing;
pub use compared::{Compared, P};
pub use confusion::Confusion;
pub use form::Form;
pub(crate) use gallery::png;
pub use gallery::{Gallery, Picture};
pub use gap::Gap;
pub use images::{Brought, McNemar, bootstrap};
pub use measured::{Measured, Score};
pub use paired::{holm, t, t95, wilcoxon};
use statistics::signed;
pub use statistics::{Gain, Sample};

use crate::Epoch;
use crate::environment::Environment;
use crate::study::Study;
use serde::{Deserialize, Serialize};

/// A table and everything that was measured for it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How the command line calls the table, or the recipe of a single run.
    pub name: String,
    /// Whether it is a single run's.
    pub single: bool,
    /// What the table asks.
    pub title: String,
    /// What a reader must know to read it: who saw what.
    pub note: String,
    /// At which size it ran.
    pub tier: String,
    /// The table's rows.
    pub rows: Vec<String>,
    /// Which of them the others are compared with.
    pub against: usize,
    /// The table's columns.
    pub columns: Vec<String>,
    /// Every finished run.
    pub runs: Vec<Measured>,
    /// What the tests say of them, once [`Report::compare`] has asked.
    pub compared: Vec<Compared>,
    /// What others printed.
    pub published: Vec<Published>,
    /// Who saw what, and who taught, in a sentence each.
    pub facts: Vec<String>,
    /// What is not shown, and why.
    pub gaps: Vec<Gap>,
    /// The classes' names, by label.
    pub classes: Vec<String>,
    /// Which classes a single run took for each other.
    pub confusion: Option<Confusion>,
    /// Some of the images.
    pub gallery: Option<Gallery>,
    /// What plug-ins did, column by column, where there are any.
    pub studies: Vec<Study>,
    /// Resolved recipes, under a heading each.
    pub settings: Vec<(String, String)>,
}

/// A printed value, and how its authors came by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The table's row.
    pub row: String,
    /// The table's column.
    pub column: String,
    /// In per cent; `None` where the source prints a value that is not public.
    pub top1: Option<f64>,
    /// Which epoch the authors printed.
    pub score: Score,
    /// How many runs they averaged, and what else they say of it.
    pub protocol: String,
    /// Where it is printed.
    pub source: String,
}

/// The runs of one cell, and what they are compared with.
struct Arm<'a> {
    row: String,
    /// Position among the rows: which colour it has.
    series: usize,
    runs: Vec<&'a Measured>,
    /// The runs that it is compared with; `None` for the arm of the named row itself.
    base: Option<Vec<&'a Measured>>,
    published: Vec<&'a Published>,
}

impl Report {
    /// The arms of a column, in the order of the rows.
    fn arms(&self, column: &str) -> Vec<Arm<'_>> {
        let runs = |row: &str| -> Vec<&Measured> {
            self.runs.iter().filter(|run| run.row == row && run.column == column).collect()
        };
        let base = runs(self.base());
        let arm = |(series, row): (usize, &'_ String)| Arm {
            row: row.clone(),
            series,
            runs: runs(row),
            base: (series != self.against).then(|| base.clone()),
            published: self
                .published
                .iter()
                .filter(|value| value.row == *row && value.column == column)
                .collect(),
        };
        self.rows.iter().enumerate().map(arm).collect()
    }

    /// The row that the others are compared with.
    fn base(&self) -> &str {
        self.rows.get(self.against).map_or("", String::as_str)
    }

    /// What wrote it.
    fn command(&self) -> String {
        format!("sokd {} {}", if self.single { "train" } else { "report" }, self.name)
    }

    /// What as many seeds and arms as there are can show at best.
    fn reach(&self) -> String {
        let arms = self.columns.iter().map(|column| self.compared_in(column).count()).max().unwrap_or(0);
        statistics::reach(self.seeds(), arms)
    }

    /// The most seeds that any arm has.
    fn seeds(&self) -> usize {
        let of = |row: &String, column: &String| {
            self.runs.iter().filter(|run| run.row == *row && run.column == *column).count()
        };
        let counts = self.rows.iter().flat_map(|row| self.columns.iter().map(move |column| of(row, column)));
        counts.max().unwrap_or(0)
    }

    /// The different values of something about where the runs took place, in order of appearance.
    fn distinct(&self, of: impl Fn(&Environment) -> String) -> Vec<String> {
        let mut seen = Vec::new();
        for run in &self.runs {
            let value = of(&run.summary.environment);
            if !seen.contains(&value) {
                seen.push(value);
            }
        }
        seen
    }
}

impl Arm<'_> {
    fn values(&self, score: Score) -> Vec<f64> {
        self.runs.iter().map(|run| score.of(run)).collect()
    }

    fn sample(&self, score: Score) -> Option<Sample> {
        Sample::of(&self.values(score))
    }

    /// Over the named row, seed by seed; `None` for that row itself.
    fn gain(&self, score: Score) -> Option<Gain> {
        self.over(self.base.as_ref()?, score)
    }

    /// The named row's runs and this arm's of the same seed.
    fn pairs(&self) -> Vec<(&Measured, &Measured)> {
        self.base.as_ref().map_or_else(Vec::new, |base| paired_by_seed(base, &self.runs))
    }

    /// Mean recall of each class, in per cent.
    fn recall(&self) -> Option<Vec<f64>> {
        mean_recall(&self.runs)
    }

    /// Mean and deviation by epoch.
    fn curve(&self, of: impl Fn(&Epoch) -> Option<f64>) -> plot::Curve {
        let epochs = self.runs.iter().map(|run| run.summary.epochs.len()).max().unwrap_or(0);
        let point = |at: usize| {
            let values: Vec<f64> =
                self.runs.iter().filter_map(|run| run.summary.epochs.get(at)).filter_map(&of).collect();
            let sample = Sample::of(&values)?;
            Some(((at + 1) as f64, sample.mean, sample.deviation.unwrap_or(0.0)))
        };
        plot::Curve { colour: self.series, points: (0..epochs).filter_map(point).collect() }
    }

    fn mean(&self, of: impl Fn(&Measured) -> f64) -> Option<f64> {
        self.known(|run| Some(of(run)))
    }

    /// The mean of what all runs know.
    fn known(&self, of: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.runs.iter().map(|run| of(run)).collect::<Option<_>>()?;
        Sample::of(&values).map(|sample| sample.mean)
    }

    /// What a run costs, in seconds of processors, where all runs know it.
    fn processor_seconds(&self) -> Option<f64> {
        self.known(|run| run.summary.processor_seconds)
    }
}

/// Runs of the same seed.
fn paired_by_seed<'a>(base: &[&'a Measured], runs: &[&'a Measured]) -> Vec<(&'a Measured, &'a Measured)> {
    let seed = |run: &Measured| run.summary.seed;
    let pair = |run: &&'a Measured| {
        let base = base.iter().find(|base| seed(base) == seed(run))?;
        Some((*base, *run))
    };
    runs.iter().filter_map(pair).collect()
}

fn mean_recall(runs: &[&Measured]) -> Option<Vec<f64>> {
    let classes = runs.first()?.summary.recall.len();
    let mean = |class: usize| {
        runs.iter().filter_map(|run| run.summary.recall.get(class)).sum::<f64>() / runs.len() as f64
    };
    Some((0..classes).map(mean).collect())
}

/// `77754` → `77 754`, with narrow spaces that do not break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `12.3 M`, `850 k`: three digits are enough to compare costs.
fn short(number: f64) -> String {
    let (value, unit) = match number {
        n if n >= 1e9 => (n / 1e9, " G"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " k"),
        n => (n, ""),
    };
    let digits = if value >= 100.0 || unit.is_empty() {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}

/// `8 s`, `4 min 10 s`, `2 h 05 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The first letters of a recipe's digest: enough to tell recipes apart.
fn id(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// The commit, marked where the sources were not as it has them.
fn commit(place: &Environment) -> String {
    format!("{}{}", place.commit, if place.dirty { "+" } else { "" })
}
