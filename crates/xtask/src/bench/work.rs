use super::Settings;
use crate::Outcome;

/// What is measured: something that `sokd bench` does, beside something else.
pub struct Work {
    /// Of which kind it is.
    pub what: String,
    /// A network; a teacher and a student; or those and a method, behind its host.
    pub model: String,
    /// PyTorch's.
    pub mode: String,
    /// What our program is asked to do.
    pub asked: Vec<String>,
    /// What our program is asked to do beside it, instead of PyTorch's.
    pub host: Option<Vec<String>>,
}

/// All that the settings name; kernels are measured by themselves.
pub fn works(settings: &Settings) -> Outcome<Vec<Work>> {
    let (none, mut works) = (vec![String::new()], Vec::new());
    for what in settings.what.iter().filter(|what| *what != "kernels") {
        let models = match what.strip_suffix("-mixed").unwrap_or(what) {
            "train" | "train-winograd" | "inference" => &settings.models,
            "kd" | "kd-winograd" => &settings.pairs,
            "methods" if what == "methods" => &settings.pairs,
            "images" if what == "images" => &none,
            _ => return Err(format!("--what: nothing is called {what}; `cargo xtask bench --help` has all")),
        };
        for model in models {
            if what == "methods" {
                for method in &settings.methods {
                    works.extend(methods(model, method)?);
                }
            } else {
                works.extend(settings.modes.iter().map(|mode| Work {
                    what: what.clone(),
                    model: model.clone(),
                    mode: mode.clone(),
                    asked: plain(what, model, settings),
                    host: None,
                }));
            }
        }
    }
    Ok(works)
}

fn plain(what: &str, model: &str, settings: &Settings) -> Vec<String> {
    let (batch, size) = (settings.batch.to_string(), settings.size.to_string());
    if what == "images" {
        return ["--images", "--batch", &batch].map(str::to_owned).into();
    }
    let (work, mixed) = what.strip_suffix("-mixed").map_or((what, None), |work| (work, Some("--mixed")));
    let how = match work {
        "inference" => Some("--inference"),
        "train-winograd" | "kd-winograd" => Some("--winograd"),
        _ => None,
    };
    let sizes = ["--batch", &batch, "--size", &size];
    let asked = model.split('+').chain(how).chain(mixed).chain(sizes);
    asked.map(str::to_owned).collect()
}

/// An epoch in which no method searches any more.
const AFTER: &str = "100";

/// Steps of a method around its host, `kd+tst@30`: in its search, if it has one, and after it.
fn methods(pair: &str, method: &str) -> Outcome<Vec<Work>> {
    let (name, search) = method.split_once('@').map_or((method, None), |(name, epoch)| (name, Some(epoch)));
    let (Some((teacher, student)), Some((host, preset))) = (pair.split_once('+'), name.split_once('+'))
    else {
        return Err(format!("methods want TEACHER+STUDENT and HOST+METHOD[@EPOCH], not {pair} and {method}"));
    };
    let asked = |presets: &str, epoch: &str| {
        let set = [
            format!("extends=[\"sokd:cifar100-240\", {presets}]"),
            format!("student.model={student}"),
            format!("teacher={{ model = \"{teacher}\", weights = \"drawn\" }}"),
            "data={ type = \"shapes\", train = 256, test = 10 }".into(),
            // Maps of drawn weights are huge: one step on them would be the last.
            "phase.student.lr.base=0.0".into(),
        ];
        let set = set.into_iter().flat_map(|setting| ["--set".to_owned(), setting]);
        ["--recipe", "cifar100-alone", "--epoch", epoch].map(str::to_owned).into_iter().chain(set).collect()
    };
    let of = |(what, epoch): (&str, &str)| Work {
        what: what.into(),
        model: format!("{pair} {name}"),
        mode: String::new(),
        asked: asked(&format!("\"sokd:{host}\", \"sokd:{preset}\""), epoch),
        host: Some(asked(&format!("\"sokd:{host}\""), AFTER)),
    };
    Ok(search.map(|epoch| ("search", epoch)).into_iter().chain([("after", AFTER)]).map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::methods;

    #[test]
    fn a_method_stands_beside_its_host() {
        let works = methods("resnet56+resnet20", "kd+tst@30").expect("it is of the form that is asked for");
        let [search, after] = &works[..] else { panic!("two works, not {}", works.len()) };
        assert_eq!([&search.what, &after.what], ["search", "after"]);
        assert!(search.asked.contains(&"30".into()) && after.asked.contains(&"100".into()));
        let presets = |asked: &[String]| asked.iter().any(|asked| asked.contains("sokd:tst"));
        for work in &works {
            assert!(presets(&work.asked) && !work.host.as_deref().is_none_or(presets));
        }
        assert_eq!(methods("resnet56+resnet20", "kd+skd").expect("it never searches").len(), 1);
        for [pair, method] in [["resnet20", "kd+tst@30"], ["resnet56+resnet20", "tst"]] {
            assert!(methods(pair, method).is_err());
        }
    }
}
