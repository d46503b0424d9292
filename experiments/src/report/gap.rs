use super::Report;

/// A run that a report cannot show, or not as it would be today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The arm, as reports call it, or whatever else did not run.
    pub of: String,
    /// The run's seed, where it is one of several.
    pub seed: Option<u64>,
    /// Why.
    pub why: String,
}

impl Gap {
    /// How progress calls it.
    pub fn label(&self) -> String {
        self.seed.map_or_else(|| self.of.clone(), |seed| format!("{}, seed {seed}", self.of))
    }
}

impl Report {
    /// A line for all seeds of an arm that are missing for the same reason, in the order in which they were found.
    pub fn gaps(&self) -> Vec<String> {
        let mut lines: Vec<(&Gap, Vec<String>)> = Vec::new();
        for gap in &self.gaps {
            let seed = gap.seed.map(|seed| seed.to_string());
            match lines.iter_mut().find(|(first, _)| (&first.of, &first.why) == (&gap.of, &gap.why)) {
                Some((_, seeds)) => seeds.extend(seed),
                None => lines.push((gap, seed.into_iter().collect())),
            }
        }
        let line = |(Gap { of, why, .. }, seeds): (&Gap, Vec<String>)| match &seeds[..] {
            [] => format!("{of}: {why}"),
            [seed] => format!("{of}, seed {seed}: {why}"),
            [first @ .., last] => format!("{of}, seeds {} and {last}: {why}", first.join(", ")),
        };
        lines.into_iter().map(line).collect()
    }
}
