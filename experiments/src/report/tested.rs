//! The tests as a table, and what each of them says in a sentence.

use super::paired::printed;
use super::sheet::{Line, NOTHING, Sheet};
use super::statistics::{between, brief, least};
use super::{Compared, P, Report, Standing};

/// Below it the sentences call a p small.
const SMALL: f64 = 0.05;

/// What is said of every test over images.
const NETWORKS: &str = "It speaks of these trained networks on other test images, not of other seeds.";

impl Sheet {
    /// What the tests say of a column's arms; `None` where there was nothing to compare.
    pub fn tests(report: &Report, column: &str) -> Option<Self> {
        let head = [
            &format!("{}, after the last epoch, against {}", "arm", report.base()),
            "n",
            "95 % interval",
            "paired t",
            "Wilcoxon",
            "McNemar, seed by seed",
            "bootstrap over images, 95 %",
        ];
        let lines: Vec<Line> = report.compared_in(column).map(|arm| line(arm, report)).collect();
        (!lines.is_empty()).then(|| Self { head: head.map(str::to_owned).to_vec(), lines })
    }
}

fn line(arm: &Compared, report: &Report) -> Line {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let one = |p: Option<P>| {
        or_nothing(p.map(|P { raw, holm }| format!("{} (Holm {})", printed(raw), printed(holm))))
    };
    let list = |of: fn(&P) -> f64| {
        let all: Vec<String> = arm.images.iter().map(|(.., p)| printed(of(p))).collect();
        all.join(", ")
    };
    let images = (!arm.images.is_empty()).then(|| format!("{} (Holm {})", list(|p| p.raw), list(|p| p.holm)));
    let entries = vec![
        arm.row.clone(),
        arm.gain.sample.n.to_string(),
        or_nothing(arm.gain.interval().map(between)),
        one(arm.t),
        one(arm.wilcoxon),
        or_nothing(images),
        or_nothing(arm.interval.map(between)),
    ];
    let series = report.rows.iter().position(|row| *row == arm.row).unwrap_or(0);
    Line { series, entries, standing: Standing::Behind, strip: None }
}

impl Report {
    /// What each test says of a column, in a sentence.
    pub(super) fn tests_say(&self, column: &str) -> Vec<(&'static str, String)> {
        let arms: Vec<&Compared> = self.compared_in(column).collect();
        if arms.is_empty() {
            return Vec::new();
        }
        let seeds = arms.iter().map(|arm| arm.gain.sample.n).max().unwrap_or(0);
        let mut said = Vec::new();
        if seeds > 1 {
            said.push(("paired t", self.small(&arms, |arm| arm.t)));
            let least = least(seeds);
            said.push((
                "Wilcoxon",
                if least < SMALL {
                    self.small(&arms, |arm| arm.wilcoxon)
                } else {
                    format!("{seeds} seeds cannot bring it below {}, whatever they came to.", brief(least))
                },
            ));
        }
        if arms.iter().all(|arm| arm.images.is_empty()) {
            let why = "there is no pair of runs that both kept what they said of each image; runs keep it since there is \
                       `predictions.json`.";
            said.push(("McNemar and bootstrap", why.to_owned()));
            return said;
        }
        said.push(("McNemar", self.apart(&arms)));
        said.push(("bootstrap", Self::drawn(&arms)));
        said
    }

    fn small(&self, arms: &[&Compared], of: fn(&Compared) -> Option<P>) -> String {
        let asked: Vec<(&str, P)> =
            arms.iter().filter_map(|arm| Some((arm.row.as_str(), of(arm)?))).collect();
        let names = |of: fn(&P) -> f64| {
            let small = asked.iter().filter(|(_, p)| of(p) < SMALL);
            named(&small.map(|(row, _)| *row).collect::<Vec<_>>())
        };
        let several = asked.len() > 1;
        let corrected = || format!("; corrected for {} arms, for {}", asked.len(), names(|p| p.holm));
        let corrected = if several { corrected() } else { String::new() };
        format!("against {}, p is below {SMALL} for {}{corrected}.", self.base(), names(|p| p.raw))
    }

    fn apart(&self, arms: &[&Compared]) -> String {
        let one = |arm: &&Compared| {
            let small = || arm.images.iter().filter(|(.., p)| p.holm < SMALL);
            let (better, of) =
                (small().filter(|(_, images, _)| images.won > images.lost).count(), arm.images.len());
            let worse = small().count() - better;
            (of > 0).then(|| format!("{} is better in {better} of {of} and worse in {worse}", arm.row))
        };
        let counts: Vec<String> = arms.iter().filter_map(one).collect();
        format!(
            "networks of the same seed that are told apart from those of {} (corrected p below {SMALL}): {}. {NETWORKS}",
            self.base(),
            counts.join("; ")
        )
    }

    fn drawn(arms: &[&Compared]) -> String {
        let beyond = |arm: &&&Compared| arm.interval.is_some_and(|[low, high]| low > 0.0 || high < 0.0);
        let names: Vec<&str> = arms.iter().filter(beyond).map(|arm| arm.row.as_str()).collect();
        let names = named(&names);
        format!(
            "10,000 draws of the test images, the same for all seeds and arms, mean over seeds: zero is outside the \
             interval of {names}. {NETWORKS}"
        )
    }
}

fn named(names: &[&str]) -> String {
    if names.is_empty() { "no arm".to_owned() } else { names.join(", ") }
}
