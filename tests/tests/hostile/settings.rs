use crate::{alone, survives};
use sokd_experiments::overlay::Document;
use sokd_experiments::table::Table;
use sokd_experiments::{Layers, shipped};

/// As a file on the command line is read: bytes that are no text are an error of reading already.
fn text(bytes: &std::path::Path) -> Result<String, String> {
    String::from_utf8(std::fs::read(bytes).expect("the file")).map_err(|error| error.to_string())
}

#[test]
fn recipes() {
    for name in ["cifar100-sokd-ablation", "cifar100-tst"] {
        let Some(whole) = shipped::recipe(name) else { panic!("no recipe {name}") };
        let files = [("recipe.toml".to_owned(), whole.as_bytes().to_vec())];
        survives(name, 500, &files, |folder| {
            let document = Document::new("recipe.toml", text(&folder.join("recipe.toml"))?);
            Layers::of(&document).and_then(Layers::resolve).map_err(|error| error.to_string())
        });
    }
}

#[test]
fn tables() {
    let whole = shipped::table("cifar100-sokd-ablation").expect("a table that comes with the program");
    let files = [("table.toml".to_owned(), whole.as_bytes().to_vec())];
    survives("table", 300, &files, |folder| {
        let document = Document::new("table.toml", text(&folder.join("table.toml"))?);
        Table::read("table", &document).map_err(|error| error.to_string())
    });
}

/// What takes a parser that calls itself down.
#[test]
fn nesting_without_end_is_refused() {
    let _alone = alone();
    let deep = 200_000;
    for text in [
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}1{}", "{ b = ".repeat(deep), " }".repeat(deep)),
        format!("{}c = 1", "b.".repeat(deep)),
        format!("[{}c]", "b.".repeat(deep)),
    ] {
        let document = Document::new("recipe.toml", text);
        let error = Layers::of(&document).and_then(Layers::resolve).expect_err("no recipe is that deep");
        assert!(!error.to_string().is_empty());
    }
}
