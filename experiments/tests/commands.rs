//! Every command that the pages show is one that works: it parses, what it names is there, cheap ones are run, and what trains
//! does so for two steps, and tables name their cells.

use clap::Parser;
use sokd_data::DataSpec;
use sokd_experiments::shipped::TABLES;
use sokd_experiments::table::{Choice, Table};
use sokd_experiments::{Model, cli::Cli};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Verbs that read nothing but what comes with sokd.
const CHEAP: [&str; 6] = ["completions", "config", "describe", "doctor", "help", "list"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn pages(below: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(below).expect("the book").map(|entry| entry.expect("an entry").path());
    let pages = entries.flat_map(|path| if path.is_dir() { pages(&path) } else { vec![path] });
    pages.filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect()
}

/// The lines of a page's shell blocks, by number; a line that ends in `\` goes on in the next.
fn commands(page: &str) -> Vec<(usize, String)> {
    let (mut shell, mut begun, mut found) = (false, None, Vec::new());
    for (number, line) in (1..).zip(page.lines()) {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            shell = ["sh", "console"].contains(&language.trim());
        } else if shell {
            let line = line.split(" #").next().unwrap_or_default().trim().trim_start_matches("$ ");
            let (number, before) = begun.take().unwrap_or((number, String::new()));
            match line.strip_suffix('\\') {
                Some(part) => begun = Some((number, before + part)),
                None => found.push((number, before + line)),
            }
        }
    }
    found
}

/// As a shell splits them, up to a redirection.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for letter in line.chars() {
        let word = words.last_mut().expect("it begins with one");
        match letter {
            '>' | '|' if quote.is_none() => break,
            '"' | '\'' if quote.is_none() => quote = Some(letter),
            _ if quote == Some(letter) => quote = None,
            ' ' if quote.is_none() => words.push(String::new()),
            _ => word.push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn sokd(arguments: &[&str], folder: &Path) -> Result<(), String> {
    match Cli::try_parse_from([&["sokd"], arguments].concat()) {
        Err(error) if error.use_stderr() => return Err(error.to_string()),
        _ => {}
    }
    let data = |name: &str| match DataSpec::named(name) {
        None if !DataSpec::names().iter().any(|known| known == name) => Err(format!("no data `{name}`")),
        _ => Ok(()),
    };
    match arguments {
        ["table" | "report", table, ..] => drop(Table::open(table).map_err(|error| error.to_string())?),
        ["eval", model, ..] => drop(Model::named(model)?),
        ["data", _, name, ..] => data(name)?,
        _ => {}
    }
    for pair in arguments.windows(2).filter(|pair| pair[0] == "--data") {
        data(pair[1])?;
    }
    // Not every machine has the device that a page means.
    if arguments.contains(&"--device") {
        return Ok(());
    }
    let shown = arguments.iter().any(|word| ["--dry-run", "--help", "--version"].contains(word));
    let planned =
        arguments.starts_with(&["sweep", "plan"]) && !arguments.iter().any(|word| word.contains("mine.toml"));
    let smoke = smoked(arguments);
    let arguments = smoke.as_deref().unwrap_or(arguments);
    if !shown && !planned && smoke.is_none() && arguments.first().is_none_or(|verb| !CHEAP.contains(verb)) {
        return Ok(());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_sokd"));
    let command =
        command.args(arguments).current_dir(folder).env("XDG_CACHE_HOME", folder).env("COLUMNS", "400");
    let run = command.env_remove("SOKD_RUNS_DIR").output();
    let run = run.map_err(|error| error.to_string())?;
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned()) }
}

/// What trains, at the size of two steps, and a table as the list of its cells; none where a file is needed, or a server.
fn smoked<'a>(arguments: &[&'a str]) -> Option<Vec<&'a str>> {
    let more: &[&str] = match arguments.first() {
        Some(&"train") if !arguments.contains(&"--tier") => &["--tier", "smoke", "--no-studies"],
        Some(&"table") => &["--dry-run"],
        _ => return None,
    };
    let foreign = ["…", ".toml", ".pth", ".safetensors", "--track", "--dry-run"];
    let foreign = |word: &&str| foreign.iter().any(|of| word.contains(of));
    (!arguments.iter().any(foreign)).then(|| [arguments, more].concat())
}

fn check(command: &str, folder: &Path) -> Result<(), String> {
    let words = words(command);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap_or_default();
    let there = |what: bool| if what { Ok(()) } else { Err("there is no such command".to_owned()) };
    match &words[..] {
        ["sokd", arguments @ ..] | ["cargo", "run", "--release", "--", arguments @ ..] => {
            sokd(arguments, folder)
        }
        ["cargo", "xtask", task, ..] => {
            there(text("crates/xtask/src/main.rs").contains(&format!("Some(\"{task}\")")))
        }
        ["cargo", "install", "--path", path] => there(root().join(path).join("src/main.rs").exists()),
        ["cargo", "run" | "test" | "build" | "bench" | "doc" | "clippy", ..] => Ok(()),
        ["cargo", alias, ..] => there(text(".cargo/config.toml").contains(&format!("\n{alias} = "))),
        _ => Ok(()),
    }
}

#[test]
fn every_command_in_the_pages_works() {
    let folder = tempfile::tempdir().expect("a place for files");
    let (mut problems, mut count) = (Vec::new(), 0);
    let pages = pages(&root().join("docs/src")).into_iter();
    for page in pages.chain(["README.md", "CONTRIBUTING.md"].map(|name| root().join(name))) {
        let text = std::fs::read_to_string(&page).expect("pages are text");
        for (line, command) in commands(&text) {
            count += 1;
            if let Err(problem) = check(&command, folder.path()) {
                problems.push(format!("{}:{line}: {command}\n{problem}", page.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 10, "{count} commands: the pages show more");
}

#[test]
fn every_table_stands_on_the_page_that_tells_how_to_reproduce_it() {
    let page = std::fs::read_to_string(root().join("docs/src/reproducing.md")).expect("the page");
    for (name, _) in TABLES {
        let table = Table::open(name).expect("it is shipped");
        let cells = table.cells(&Choice { tier: "full".into(), ..Choice::default() }).expect("its cells");
        let (rows, columns) = (table.rows().len(), table.columns().len());
        let size = format!("| {rows} × {columns} × {} |", cells.len() / rows / columns);
        let line = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let line = line.unwrap_or_else(|| panic!("the page does not have {name}"));
        assert!(line.contains(&size), "{line}: {size}");
    }
}

#[test]
fn a_command_that_does_not_work_is_found() {
    let folder = tempfile::tempdir().expect("a place for files");
    for wrong in [
        "sokd trian x",
        "sokd train no-such-recipe",
        "sokd table no-such-table",
        "sokd describe no-such-part",
        "sokd bench resnet56 resnet21",
        "sokd eval resnet57 --weights x --data cifar10",
        "sokd eval resnet56 --weights x --data cifar11",
        "cargo run --release -- list --no-such-option",
        "cargo xtask no-such-task",
        "cargo no-such-alias",
    ] {
        assert!(check(wrong, folder.path()).is_err(), "{wrong}");
    }
    let page = "```sh\nsokd list \\\n  models # all\n```\n```text\nsokd nothing\n```";
    assert_eq!(commands(page), [(2, "sokd list models".to_owned())]);
    assert_eq!(words("sokd train x 'a.b=c d' > file"), ["sokd", "train", "x", "a.b=c d"]);
}
