//! `sokd push`, and what its card says.

use crate::{Machine, TOKEN, said};
use serde_json::Value;

/// The fields between the two rulers, each of which is a word or JSON.
fn matter(card: &str) -> Value {
    let (matter, text) = card.strip_prefix("---\n").unwrap().split_once("---\n").unwrap();
    assert!(text.contains("\n# ") || text.starts_with("\n# "), "{text}");
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        (name.to_owned(), value)
    };
    Value::Object(matter.lines().map(field).collect())
}

#[test]
fn a_dry_run_shows_everything_and_asks_nobody() {
    let machine = Machine::new();
    let run = machine.trained("run");
    let shown = machine.says(&["push", "run", "me/student", "--licence", "mit", "--dry-run"]);
    for part in ["model.safetensors", "config.json", "recipe.toml", "license: mit", "## Recipe", "depth = 8"]
    {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    let machine_folder = machine.folder.path().display().to_string();
    assert!(!shown.contains(&machine_folder), "{shown}");
    assert!(machine.hub.heard().is_empty());
    // The student's own folder stands for its run.
    let student = run.join("student").display().to_string();
    assert_eq!(machine.says(&["push", &student, "me/student", "--licence", "mit", "--dry-run"]), shown);
}

#[test]
fn what_is_pushed_is_pulled_and_judged_as_the_run_was() {
    let machine = Machine::new();
    machine.trained("run");
    machine.hub.want(TOKEN);
    let push = |token: Option<&str>| {
        let mut push = machine.sokd(&["push", "run", "me/student", "--licence", "apache-2.0", "--private"]);
        // As much as there is to be heard of it.
        push.env("SOKD_LOG", "trace").envs(token.map(|token| ("HF_TOKEN", token)));
        push.output().unwrap()
    };
    let (_, error) = said(push(None), 69);
    assert!(error.contains("HF_TOKEN"), "{error}");
    let (_, error) = said(push(Some("hf_another")), 69);
    assert!(error.contains("401") && !error.contains("hf_another"), "{error}");
    let (page, _) = said(push(Some(TOKEN)), 0);
    assert_eq!(page, format!("{}/me/student\n", machine.hub.endpoint()));

    let text = |name: &str| String::from_utf8(machine.hub.file("me/student", name).unwrap()).unwrap();
    let (card, summary) = (text("README.md"), machine.json("run/summary.json"));
    let matter = matter(&card);
    assert_eq!(matter["license"], "apache-2.0");
    let result = &matter["model-index"][0]["results"][0];
    let top1 = summary["last"]["top1"].as_f64().unwrap();
    assert!((result["metrics"][0]["value"].as_f64().unwrap() - top1).abs() < 0.005, "{result}");
    for part in [summary["environment"]["commit"].as_str().unwrap(), summary["recipe"].as_str().unwrap()] {
        assert!(card.contains(part), "{part} is not in\n{card}");
    }
    assert!(!card.contains(TOKEN));
    // The recipe that was sent is the run's.
    std::fs::write(machine.join("again.toml"), text("recipe.toml")).unwrap();
    machine.says(&["train", "again.toml", "--no-studies", "--run-dir", "again"]);
    assert_eq!(machine.json("again/summary.json")["recipe"], summary["recipe"]);

    // A token in the file that Python's library leaves, and an address where weights are named.
    std::fs::create_dir_all(machine.join("hf")).unwrap();
    std::fs::write(machine.join("hf/token"), format!("{TOKEN}\n")).unwrap();
    let model = r#"{ type = "cifar-resnet", depth = 8, widths = [4, 4, 4, 4] }"#;
    let data = r#"{ type = "shapes", train = 24, test = 20 }"#;
    let weights = "hub://me/student/model.safetensors";
    let judged = machine.says(&["eval", model, "--weights", weights, "--data", data, "--json"]);
    let judged: Value = serde_json::from_str(&judged).unwrap();
    assert_eq!(judged["correct"], summary["last"]["correct"]);
    let pinned = judged["weights"].as_str().unwrap();
    assert!(pinned.starts_with("hub://me/student@") && !pinned.contains("main"), "{pinned}");
}

#[test]
fn what_is_not_a_student_is_not_pushed() {
    let machine = Machine::new();
    for place in ["recipe.toml", "nowhere"] {
        let error = machine.complains(&["push", place, "me/student"], 66);
        assert!(error.contains("finished run"), "{error}");
    }
    std::fs::create_dir(machine.join("folder")).unwrap();
    std::fs::write(machine.join("folder/model.safetensors"), "no weights").unwrap();
    machine.complains(&["push", "folder", "me/student"], 1);
    machine.trained("run");
    machine.complains(&["push", "run", "student"], 2);
    machine.complains(&["push", "run", "me/student/file"], 2);
    // A token that stands in what would be sent is not sent.
    let student = machine.join("student");
    std::fs::create_dir(&student).unwrap();
    for name in ["model.safetensors", "config.json", "README.md"] {
        std::fs::copy(machine.join("run/student").join(name), student.join(name)).unwrap();
    }
    std::fs::write(student.join("README.md"), format!("my token is {TOKEN}")).unwrap();
    let push = machine.sokd(&["push", "student", "me/student"]).env("HF_TOKEN", TOKEN).output().unwrap();
    let (_, error) = said(push, 2);
    assert!(error.contains("the token itself"), "{error}");
    assert!(machine.hub.heard().is_empty());
}
