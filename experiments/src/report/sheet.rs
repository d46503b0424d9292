//! A column of the table as lines of text: what Markdown and HTML both print.

use super::{Arm, Report, Score, Standing, duration, grouped, plot, short, signed};

/// One column of the table, its arms as lines.
pub(super) struct Sheet {
    /// What each entry is.
    pub head: Vec<String>,
    /// The arms.
    pub lines: Vec<Line>,
}

/// One arm.
pub(super) struct Line {
    /// Which of the page's series colours it has.
    pub series: usize,
    /// One entry for each of the heads.
    pub entries: Vec<String>,
    /// How it stands to the best of its column.
    pub standing: Standing,
    /// Its seeds as dots, for pages that can draw.
    pub strip: Option<String>,
}

impl Sheet {
    pub fn of(report: &Report, column: &str) -> Self {
        let arms = report.arms(column);
        let published = arms.iter().any(|arm| !arm.published.is_empty());
        let mut head: Vec<String> =
            ["arm", "n", Score::Last.name(), Score::Best.name()].map(str::to_owned).to_vec();
        head.push(format!("gain over {} (last)", report.base()));
        if published {
            head.push("published".to_owned());
        }
        head.extend(["parameters", "MACs", "images seen", "time a run"].map(str::to_owned));
        let timed = arms.iter().any(|arm| arm.processor_seconds().is_some());
        if timed {
            head.push("processor time".to_owned());
        }
        let scale = scale(&arms);
        let standings = report.standings(column);
        let lines = arms
            .iter()
            .zip(standings)
            .map(|(arm, standing)| Line { standing, ..line(arm, (published, timed), report, scale) })
            .collect();
        Self { head, lines }
    }

    /// Whether an arm is marked.
    pub fn marked(&self) -> bool {
        self.lines.iter().any(|line| line.standing != Standing::Behind)
    }
}

/// The entry that marks belong to: the last epoch's.
pub(super) const LAST: usize = 2;

impl Line {
    /// Its entries, with the best one's last epoch between `best` and a sign at those like it.
    pub fn marked(&self, best: [&str; 2]) -> Vec<String> {
        let mut entries = self.entries.clone();
        match self.standing {
            Standing::Best => entries[LAST] = format!("{}{}{}", best[0], entries[LAST], best[1]),
            Standing::Alike => entries[LAST] += " †",
            Standing::Behind => {}
        }
        entries
    }
}

pub(super) const NOTHING: &str = "—";

fn line(arm: &Arm<'_>, (published, timed): (bool, bool), report: &Report, scale: [f64; 2]) -> Line {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let score = |score: Score| or_nothing(arm.sample(score).map(|sample| sample.to_string()));
    let mut entries =
        vec![arm.row.clone(), arm.runs.len().to_string(), score(Score::Last), score(Score::Best)];
    entries.push(or_nothing(
        arm.gain(Score::Last)
            .map(|gain| format!("{} ({}/{} up)", gain.sample.signed(), gain.up, gain.sample.n)),
    ));
    if published {
        entries.push(or_nothing(printed(arm, report)));
    }
    entries.push(or_nothing(arm.runs.first().map(|run| grouped(run.summary.student.parameters as u64))));
    entries.push(or_nothing(arm.runs.first().map(|run| short(run.summary.student.macs as f64))));
    entries.push(or_nothing(arm.mean(|run| run.summary.images as f64).map(|images| grouped(images as u64))));
    entries.push(or_nothing(arm.mean(|run| run.summary.seconds).map(duration)));
    if timed {
        entries.push(or_nothing(arm.processor_seconds().map(duration)));
    }
    let values = arm.values(Score::Last);
    let strip = arm.sample(Score::Last).map(|sample| plot::strip(&values, sample.mean, scale, arm.series));
    Line { series: arm.series, entries, standing: Standing::Behind, strip }
}

/// The printed values; the difference only where the table ran at the length that they were printed for.
fn printed(arm: &Arm<'_>, report: &Report) -> Option<String> {
    let one = |value: &&super::Published| {
        let Some(top1) = value.top1 else { return "not public".to_owned() };
        let ours = arm.sample(value.score).filter(|_| report.tier == "full");
        let difference = ours.map_or(String::new(), |ours| format!(", ours {}", signed(ours.mean - top1)));
        format!("{top1:.2} ({}{difference})", value.score.name())
    };
    let all: Vec<String> = arm.published.iter().map(one).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// From the worst to the best run of the column.
fn scale(arms: &[Arm<'_>]) -> [f64; 2] {
    let values = || arms.iter().flat_map(|arm| arm.values(Score::Last));
    [values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max)]
}

impl Report {
    /// What each arm did against the named one, in a sentence, as far as the seeds carry it.
    pub(super) fn verdicts(&self, column: &str) -> Vec<(String, String)> {
        let arms = self.arms(column);
        let verdict = |arm: &Arm<'_>| Some((arm.row.clone(), arm.gain(Score::Last)?.verdict() + "."));
        arms.iter().filter_map(verdict).collect()
    }

    /// How to read the numbers: a term and what it means.
    pub(super) fn protocol(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("last", "after the last epoch. Nothing was chosen by looking at the test set.".to_owned()),
            (
                "best (test)",
                "the best epoch on the test set, as much of the field prints it: too high, by the looking."
                    .to_owned(),
            ),
            (
                "gain",
                format!(
                    "the difference to {} of the same seed; then the mean and deviation of the differences.",
                    self.base()
                ),
            ),
            (
                "images seen",
                "by the student, repetitions counted; parameters and MACs are the student’s, for one image."
                    .to_owned(),
            ),
        ];
        for value in &self.published {
            let line = (PUBLISHED, format!("{}: {}; {}.", value.score.name(), value.protocol, value.source));
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        if !self.published.is_empty() && self.tier != "full" {
            let text = "this tier is shorter than what the published values were measured with, so no difference to them is printed.";
            lines.push((PUBLISHED, text.to_owned()));
        }
        lines
    }
}

const PUBLISHED: &str = "published";
