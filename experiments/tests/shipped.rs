//! Every recipe and table that comes with sokd resolves, to what its snapshot says, and every cell runs.

use sokd_core::{DatasetInfo, PixelNorm};
use sokd_experiments::shipped::{RECIPES, TABLES, trained};
use sokd_experiments::table::{Choice, Table};
use sokd_experiments::{Layers, Resolved};
use sokd_train::Schedule;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

fn settings(resolved: &Resolved) -> Vec<(String, String)> {
    let origins = resolved.origins().expect("a resolved recipe can be written");
    origins.into_iter().map(|(path, value, _)| (path, value.to_string())).collect()
}

#[test]
fn recipes_resolve() {
    // Those below `teachers` are fragments for `extends`, and stand in the recipes that use them.
    for (name, _) in RECIPES.iter().filter(|(name, _)| !name.starts_with("teachers/")) {
        let resolved =
            Layers::open(name).and_then(Layers::resolve).unwrap_or_else(|error| panic!("{name}: {error}"));
        insta::assert_snapshot!(format!("recipe-{name}"), resolved.toml().expect("it can be written"));
    }
}

#[test]
fn recipes_have_the_tiers_that_they_name() {
    for (name, text) in RECIPES.iter().filter(|(name, _)| !name.starts_with("teachers/")) {
        for tier in ["smoke", "full"] {
            Resolved::new(name, Some(tier), &[]).unwrap_or_else(|error| panic!("{name}, {tier}: {error}"));
        }
        if text.contains("[tier.short]") {
            let short = Resolved::new(name, Some("short"), &[]).expect("the tier that it names");
            assert!(
                short.recipe.epochs < Resolved::new(name, None, &[]).expect("as it is").recipe.epochs,
                "{name}"
            );
        }
    }
}

/// The first cell whole, the others by what differs from it: a changed default shows as the cells that it changes.
#[test]
fn tables_resolve() {
    for (name, _) in TABLES {
        let table = Table::open(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let choice = Choice { tier: "full".into(), seeds: Some(vec![0]), ..Choice::default() };
        let cells = table.cells(&choice).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut text = String::new();
        let mut first: Vec<(String, String)> = Vec::new();
        for cell in &cells {
            let own = settings(&cell.resolved);
            let _ = writeln!(text, "{} / {}", cell.row, cell.column);
            for (path, value) in own.iter().filter(|setting| !first.contains(setting)) {
                let _ = writeln!(text, "  {path} = {value}");
            }
            for (path, _) in first.iter().filter(|(path, _)| !own.iter().any(|(known, _)| known == path)) {
                let _ = writeln!(text, "  without {path}");
            }
            if first.is_empty() {
                first = own;
            }
        }
        insta::assert_snapshot!(format!("table-{name}"), text);
    }
}

/// Whatever a column brings, a student alone has the task at full weight, and nothing else counts.
#[test]
fn students_alone_are_alone() {
    let mut alone = 0;
    for (name, _) in TABLES {
        let table = Table::open(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let rows: Vec<String> =
            table.rows().into_iter().filter(|row| row.contains("alone")).map(str::to_owned).collect();
        if rows.is_empty() {
            continue;
        }
        for tier in ["smoke", "short", "full"] {
            let choice =
                Choice { tier: tier.into(), seeds: Some(vec![0]), rows: rows.clone(), ..Choice::default() };
            // Not every table has the tier `short`.
            for cell in table.cells(&choice).unwrap_or_default() {
                alone += 1;
                assert!(cell.resolved.recipe.teacher.is_none(), "{name}, {tier}: {}", cell.label);
                for (term, spec) in &cell.resolved.recipe.objective {
                    let weight = Schedule::Constant(if term == "task" { 1.0 } else { 0.0 });
                    assert_eq!(spec.weight, weight, "{name}, {tier}: {}, {term}", cell.label);
                }
            }
        }
    }
    assert!(alone > 50, "{alone}");
}

#[test]
fn a_cell_without_a_teacher_is_the_same_run_beside_any_teacher() {
    let table = Table::open("demo").expect("the demo");
    let alone = |overrides: &[&str]| {
        let overrides = overrides.iter().map(|&text| text.to_owned()).collect();
        let choice = Choice {
            tier: "full".into(),
            seeds: Some(vec![0]),
            rows: vec!["student alone".into()],
            overrides,
            ..Choice::default()
        };
        table.cells(&choice).expect("one cell").remove(0).resolved
    };
    assert!(alone(&[]).recipe.teacher.is_none());
    assert_eq!(alone(&[]).id, alone(&["teacher.model=resnet20"]).id);
    assert_ne!(alone(&[]).id, alone(&["epochs=3"]).id);
}

#[test]
fn what_does_not_exist_is_named_with_what_was_meant() {
    let message = |result: sokd_experiments::Result<Table>| match result {
        Err(error) => format!("{error} {}", error.remedy().unwrap_or_default()),
        Ok(_) => panic!("there is no such table"),
    };
    assert!(message(Table::open("dmo")).contains("did you mean `demo`?"));
    let table = Table::open("demo").expect("the demo");
    let choice = Choice { tier: "full".into(), rows: vec!["kd".into()], ..Choice::default() };
    let error = table.cells(&choice).expect_err("rows are called KD, in capitals");
    assert!(error.remedy().is_some_and(|remedy| remedy.contains("KD")), "{error}");
}

/// What runs below a folder said of SoKD's adapter where no term reaches it: a policy that is judged by it learns nothing
/// of use. A host that counts nothing has an adapter that rests, and may.
fn idle_adapters(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            lines.extend(idle_adapters(&path));
        } else if path.ends_with("train.log") {
            let log = std::fs::read_to_string(&path).expect("a log");
            let idle = log.lines().filter(|line| line.contains("no term reaches adapter.hint.1-deep3"));
            lines.extend(idle.map(|line| format!("{}: {line}", path.display())));
        }
    }
    lines
}

/// The zoo takes images of 64 pixels as it takes those of 32, and layers find their places there.
#[test]
fn networks_of_tiny_imagenet_take_64_pixels() {
    let table = Table::open("tiny-imagenet-letkd").expect("it is shipped");
    let rows = ["student alone", "letKD-2"].map(str::to_owned).to_vec();
    let choice = Choice { tier: "full".into(), seeds: Some(vec![0]), rows, ..Choice::default() };
    let info = |side| DatasetInfo {
        name: "tiny-imagenet".into(),
        classes: vec![String::new(); 200],
        size: [side; 2],
        pixels: PixelNorm { mean: [0.5; 3], std: [0.25; 3] },
        train: 100_000,
        search: 0,
        test: 10_000,
    };
    let macs = |recipe: &sokd_experiments::Recipe, side| {
        sokd_models::cost(&recipe.student, &info(side)).expect("it is built").macs
    };
    for cell in table.cells(&choice).expect("its cells") {
        let (small, large) = (macs(&cell.resolved.recipe, 32), macs(&cell.resolved.recipe, 64));
        // The classifier alone costs the same.
        assert!((3.8..=4.0).contains(&(large as f64 / small as f64)), "{}: {large} and {small}", cell.label);
    }
}

/// Some cells of a table: rows and columns as the program takes them.
struct Part {
    table: &'static str,
    rows: String,
    columns: String,
}

/// Every row and every column of every table, and how many cells they are. A cell that resolves to what a cell before it runs,
/// in whichever table, is the same run to the bit, and is not run again; but every table runs one of its own.
fn parts() -> (Vec<Part>, usize) {
    let (mut ran, mut parts) = (BTreeSet::new(), Vec::new());
    for (name, _) in TABLES {
        let table = Table::open(name).expect("it is shipped");
        let (rows, columns) = (table.rows(), table.columns());
        let (first, last) = (columns[0], rows[rows.len() - 1]);
        let mut fresh = |row: &str, column: &str| {
            let (rows, columns) = (vec![row.to_owned()], vec![column.to_owned()]);
            let choice =
                Choice { tier: "smoke".into(), seeds: Some(vec![0]), rows, columns, ..Choice::default() };
            ran.insert(table.cells(&choice).expect("one cell").remove(0).resolved.id)
        };
        let down: Vec<&str> = rows.iter().copied().filter(|row| fresh(row, first) || *row == last).collect();
        let across: Vec<&str> = columns[1..].iter().copied().filter(|column| fresh(last, column)).collect();
        for (rows, columns) in [(down, vec![first]), (vec![last], across)] {
            if !columns.is_empty() {
                parts.push(Part { table: name, rows: rows.join(","), columns: columns.join(",") });
            }
        }
    }
    (parts, ran.len())
}

impl Part {
    /// Two steps of each cell, through the program itself; then again, which finds them finished.
    fn runs(&self, folder: &Path) {
        let choice = ["--rows", &self.rows, "--columns", &self.columns];
        let sokd = |extra: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sokd"));
            command.args([
                "table",
                self.table,
                "--tier",
                "smoke",
                "--seeds",
                "0",
                "--quiet",
                "--threads",
                "1",
            ]);
            let output = command.args(choice).args(extra).env("SOKD_RUNS_DIR", folder).output();
            let output = output.expect("the program starts");
            let say = String::from_utf8_lossy(&output.stdout).into_owned();
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {say}\n{complaint}", self.table);
            say
        };
        let said = sokd(&[]);
        assert!(said.contains("report-smoke.html") && !said.contains("not measured"), "{said}");
        let plan = sokd(&["--dry-run"]);
        assert!(plan.contains("finished") && !plan.contains("to run"), "{plan}");
    }
}

/// That the cells between them are recipes too, `tables_resolve` shows. No policy is judged by an adapter that learns nothing.
/// Two of them run at a time, each on a thread and in a folder of its own.
#[test]
fn every_row_and_every_column_runs() {
    let (parts, runs) = parts();
    let parts = Mutex::new(parts.iter());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let folder = tempfile::tempdir().expect("a folder");
                let next = || parts.lock().expect("nobody panics with it").next();
                while let Some(part) = next() {
                    part.runs(folder.path());
                }
                assert_eq!(idle_adapters(folder.path()), [""; 0]);
            });
        }
    });
    assert!(runs > 100, "{runs}");
}

/// Whoever runs the ablation's short tier first does not train its teacher for half an hour: it comes with the program.
#[test]
fn the_short_ablation_brings_its_teacher() {
    let table = Table::open("cifar100-sokd-ablation").expect("it is shipped");
    let choice = Choice { tier: "short".into(), seeds: Some(vec![0]), ..Choice::default() };
    let cells = table.cells(&choice).expect("it resolves");
    let taught: Vec<_> = cells.iter().filter_map(|cell| cell.resolved.recipe.teacher.as_ref()).collect();
    assert!(taught.len() > 70, "{}", taught.len());
    for teacher in taught {
        let run = teacher.weights.strip_prefix("run:").expect("the run that a recipe stands for");
        assert!(
            trained(run).is_some(),
            "{run}: a changed recipe has another teacher; train it, and renew its page"
        );
    }
    assert!(cells.iter().all(|cell| cell.teacher.is_none()));
}
