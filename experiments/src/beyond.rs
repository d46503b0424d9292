//! What a recipe asks for and its epochs never come to: whoever shortens a run should know that it no longer decays, or
//! searches.

use crate::Recipe;
use sokd_nn::schedule::DecaySpec;

/// A line for each setting whose epochs lie behind the last. Nothing is said of a run that is cut after some steps: that is a
/// look at whether everything runs.
pub fn beyond(recipe: &Recipe) -> Vec<String> {
    if recipe.steps.is_some() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let mut look = |setting: String, epochs: &[usize]| {
        let late: Vec<String> =
            epochs.iter().filter(|&&epoch| epoch >= recipe.epochs).map(usize::to_string).collect();
        if !late.is_empty() {
            let (late, epochs) = (late.join(", "), recipe.epochs);
            lines.push(format!("{setting}: {late} not reached in {epochs} epochs, counted from 0"));
        }
    };
    for (name, phase) in &recipe.phase {
        // A phase that rests after some epochs may share the schedule of one that does not.
        if let (DecaySpec::MultiStep(decay), None) = (&phase.lr.decay, phase.epochs) {
            look(format!("phase.{name}.lr.decay.milestones"), &decay.milestones);
        }
        if let Some(interlude) = &phase.interlude {
            look(format!("phase.{name}.interlude.before"), &interlude.before);
        }
        if let Some([from, _]) = phase.epochs {
            look(format!("phase.{name}.epochs"), &[from]);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped::{RECIPES, TABLES};
    use crate::table::{Choice, Table};
    use crate::{Resolved, Result};

    #[test]
    fn a_shortened_run_is_told_what_it_never_comes_to() -> Result<()> {
        let told = |tier: &str, overrides: &[&str]| -> Result<Vec<String>> {
            let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
            Ok(beyond(&Resolved::new("cifar100-resnet56-resnet20", Some(tier), &overrides)?.recipe))
        };
        let tst = ["extends=sokd:tst"];
        assert_eq!(told("full", &tst)?, [""; 0]);
        assert_eq!(told("smoke", &tst)?, [""; 0]);
        assert_eq!(
            told("short", &tst)?,
            ["phase.search.interlude.before: 30, 90 not reached in 12 epochs, counted from 0"]
        );
        assert_eq!(
            told("full", &["epochs=180"])?,
            ["phase.student.lr.decay.milestones: 180, 210 not reached in 180 epochs, counted from 0"]
        );
        Ok(())
    }

    /// What is shipped comes to all that it asks for, at every size.
    #[test]
    fn nothing_shipped_asks_in_vain() -> Result<()> {
        let sizes =
            |text: &str| if text.contains("[tier.short]") { vec!["full", "short"] } else { vec!["full"] };
        for (name, text) in RECIPES.iter().filter(|(name, _)| !name.starts_with("teachers/")) {
            for tier in sizes(text) {
                let told = beyond(&Resolved::new(name, Some(tier), &[])?.recipe);
                assert!(told.is_empty(), "{name}, {tier}: {told:?}");
            }
        }
        for (name, _) in TABLES {
            let table = Table::open(name)?;
            for tier in ["full", "short"] {
                let choice = Choice { tier: tier.into(), seeds: Some(vec![0]), ..Choice::default() };
                // Not every table has a short tier.
                for cell in table.cells(&choice).unwrap_or_default() {
                    let told = beyond(&cell.resolved.recipe);
                    assert!(told.is_empty(), "{name}, {tier}, {}, {}: {told:?}", cell.row, cell.column);
                }
            }
        }
        Ok(())
    }
}
