//! What no compiler looks at: formatting, sizes, links, orphans, licences.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The files that git tracks, relative to the root; `None` outside a checkout.
fn tracked() -> Option<Vec<PathBuf>> {
    let answer = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().ok()?;
    let names = String::from_utf8(answer.stdout).ok()?;
    let files = names.split_terminator('\0').map(PathBuf::from).filter(|path| root().join(path).is_file());
    let files: Vec<_> = files.collect();
    if files.is_empty() {
        eprintln!("skipped, because this is not a git checkout");
        return None;
    }
    Some(files)
}

fn ends(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|own| own == extension)
}

/// The text of a file, if it is one.
fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(root().join(path)).ok()
}

/// rustfmt does not follow modules that `catalog!` declares, so `cargo fmt --check` passes over them.
#[test]
fn every_source_is_formatted() {
    let Some(files) = tracked() else { return };
    let sources = files.iter().filter(|path| ends(path, "rs"));
    let rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--check", "--color", "never", "-l"])
        .args(sources)
        .current_dir(root())
        .output();
    let Ok(answer) = rustfmt else {
        eprintln!("skipped, because there is no rustfmt");
        return;
    };
    let unformatted: BTreeSet<_> =
        String::from_utf8_lossy(&answer.stdout).lines().map(str::to_owned).collect();
    assert!(answer.status.success(), "{unformatted:#?}\n{}", String::from_utf8_lossy(&answer.stderr));
}

#[test]
fn no_file_is_large() {
    let size = |path: &PathBuf| std::fs::metadata(root().join(path)).map_or(0, |found| found.len());
    let large: Vec<_> = tracked().into_iter().flatten().filter(|path| size(path) > 1 << 20).collect();
    assert!(large.is_empty(), "above 1 MiB: {large:?}");
}

#[test]
fn long_sources_say_why() {
    for path in tracked().into_iter().flatten().filter(|path| ends(path, "rs")) {
        let source = text(&path).expect("sources are text");
        let long = source.lines().count() > 400;
        assert!(!long || source.starts_with("//"), "{} is long and does not say why", path.display());
    }
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    // In pieces, so that this file does not name them.
    let places =
        [("/ro", "ot/"), ("/ho", "me/"), ("/Us", "ers/"), ("/wo", "rk/")].map(|(a, b)| format!("{a}{b}"));
    for path in tracked().into_iter().flatten() {
        let Some(text) = text(&path) else { continue };
        for place in &places {
            let lines = text.lines().enumerate().filter(|(_, line)| line.contains(place.as_str()));
            let lines: Vec<_> = lines.map(|(number, _)| number + 1).collect();
            assert!(lines.is_empty(), "{} names {place} in line {lines:?}", path.display());
        }
    }
}

#[test]
fn every_crate_has_a_front_page_a_licence_and_the_lints() {
    let manifests = tracked().into_iter().flatten().filter(|path| path.ends_with("Cargo.toml"));
    for path in manifests.filter(|path| path.parent().is_some_and(|folder| folder != Path::new(""))) {
        let manifest = text(&path).expect("a manifest is text");
        for line in ["license.workspace = true", "[lints]\nworkspace = true", "description = "] {
            assert!(manifest.contains(line), "{} lacks {line:?}", path.display());
        }
        let folder = path.parent().expect("a manifest has a folder");
        assert!(text(&folder.join("README.md")).is_some(), "{} has no README.md", folder.display());
        if let Some(library) = text(&folder.join("src/lib.rs")) {
            let page = "#![doc = include_str!(\"../README.md\")]";
            assert!(
                library.contains(page),
                "{}: README.md is not the library's front page",
                folder.display()
            );
        }
    }
}

/// A module that nobody declares compiles for ever, because it never compiles.
#[test]
fn every_source_is_declared() {
    let sources = tracked().into_iter().flatten().filter(|path| ends(path, "rs"));
    for path in sources.filter(|path| path.components().any(|part| part.as_os_str() == "src")) {
        let (folder, stem) = (path.parent().expect("a folder"), path.file_stem().expect("a name"));
        let (folder, stem) = match stem.to_str().expect("names are ASCII") {
            "lib" | "main" => continue,
            "mod" => (folder.parent().expect("a folder"), folder.file_name().and_then(|name| name.to_str())),
            stem => (folder, Some(stem)),
        };
        let stem = stem.expect("names are ASCII");
        if folder.ends_with("src/bin") {
            continue;
        }
        let beside = folder.with_extension("rs");
        let parents = [folder.join("lib.rs"), folder.join("main.rs"), folder.join("mod.rs"), beside];
        // `mod name;`, or a catalogue's line `name::Type`.
        let declares = |parent: &PathBuf| {
            text(parent).is_some_and(|text| {
                text.contains(&format!("mod {stem};")) || text.contains(&format!("  {stem}::"))
            })
        };
        assert!(parents.iter().any(declares), "no module declares {}", path.display());
    }
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    for path in tracked().into_iter().flatten().filter(|path| ends(path, "md")) {
        let page = text(&path).expect("pages are text");
        for target in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            // Rustdoc resolves paths of items itself.
            let elsewhere = target.contains("://") || target.contains("::") || target.is_empty();
            let leads = root().join(path.parent().expect("a folder")).join(target).exists();
            assert!(elsewhere || leads, "{}: {target} leads nowhere", path.display());
        }
    }
}

#[test]
fn every_page_of_the_book_is_in_its_summary() {
    let Some(summary) = text(Path::new("docs/src/SUMMARY.md")) else { panic!("the book has no summary") };
    for path in tracked().into_iter().flatten().filter(|path| ends(path, "md")) {
        let Ok(page) = path.strip_prefix("docs/src") else { continue };
        let page = page.to_str().expect("names are ASCII");
        assert!(page == "SUMMARY.md" || summary.contains(&format!("]({page})")), "{page} is in no summary");
    }
}
