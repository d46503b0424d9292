//! Published settings, against the defaults of the losses that they set.

use sokd_baselines::{preset, presets};
use sokd_losses::LossSpec;
use toml::{Table, Value};

fn read(name: &str) -> Table {
    preset(name).expect("a preset").parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn presets_are_toml_and_their_names_differ() {
    let mut names: Vec<_> = presets().inspect(|name| drop(read(name))).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), presets().count());
}

/// What a paper fixed is the default of its loss, and what its preset says: one of the two would be wrong.
#[test]
fn the_preset_of_a_loss_says_its_defaults() {
    for spec in LossSpec::examples().into_iter().filter(|spec| preset(&spec.name()).is_some()) {
        let objective = read(&spec.name())["objective"].clone();
        let term = objective.get("distill").or(objective.get("task")).expect("a method asks something");
        let loss: LossSpec = term["loss"].clone().try_into().expect("a loss of the catalogue");
        assert_eq!(loss, spec);
        assert!(objective["task"]["loss"] == Value::Table("type = 'cross-entropy'".parse().expect("TOML")));
    }
}
