//! The book's formulas as `MathML`, which browsers set without scripts or fonts: a preprocessor of mdbook's.

use crate::Outcome;
use pulldown_cmark::{Event, Options, Parser};
use pulldown_latex::config::DisplayMode;
use pulldown_latex::{RenderConfig, Storage, mathml::push_mathml};
use serde_json::Value;

/// mdbook asks first whether a kind of output is known here, and then gives `[context, book]` to standard input.
pub fn run(args: &[String]) -> Outcome {
    if let [asked, kind] = args
        && asked == "supports"
    {
        return if kind == "html" { Ok(()) } else { Err(format!("formulas are for html, not {kind}")) };
    }
    let given = serde_json::from_reader(std::io::stdin());
    let [_, mut book]: [Value; 2] =
        given.map_err(|error| format!("mdbook calls this, with the book on standard input: {error}"))?;
    chapters(&mut book)?;
    println!("{book}");
    Ok(())
}

/// Goes through all chapters, however they are nested.
fn chapters(value: &mut Value) -> Outcome {
    match value {
        Value::Array(all) => all.iter_mut().try_for_each(chapters),
        Value::Object(fields) => {
            if let Some(Value::String(content)) = fields.get_mut("content") {
                *content = set(content)?;
            }
            fields.values_mut().try_for_each(chapters)
        }
        _ => Ok(()),
    }
}

/// A page with its formulas set; code is left alone.
fn set(page: &str) -> Outcome<String> {
    let (mut out, mut done) = (String::new(), 0);
    let options = Options::ENABLE_MATH | Options::ENABLE_TABLES;
    for (event, place) in Parser::new_ext(page, options).into_offset_iter() {
        let (formula, mode) = match event {
            Event::InlineMath(formula) => (formula, DisplayMode::Inline),
            Event::DisplayMath(formula) => (formula, DisplayMode::Block),
            _ => continue,
        };
        out.push_str(&page[done..place.start]);
        out.push_str(&mathml(&formula, mode)?);
        done = place.end;
    }
    Ok(out + &page[done..])
}

fn mathml(formula: &str, display_mode: DisplayMode) -> Outcome<String> {
    let wrong = |error: &dyn std::fmt::Display| format!("the formula `{}`: {error}", formula.trim());
    let storage = Storage::new();
    let events: Result<Vec<_>, _> = pulldown_latex::Parser::new(formula, &storage).collect();
    let events = events.map_err(|error| wrong(&error))?;
    let mut set = String::new();
    let config = RenderConfig { display_mode, ..RenderConfig::default() };
    let known = events.into_iter().map(Ok::<_, std::convert::Infallible>);
    push_mathml(&mut set, known, config).map_err(|error| wrong(&error))?;
    // pulldown-latex 0.8 forgets a space where brackets are `\big`, and names a blank as mdbook does not know it.
    let set = set.replace("\"minsize", "\" minsize").replace("&amp;nbsp;", "\u{a0}");
    // Between tags, Markdown would read these as its own.
    let plain = |letter: char| match letter {
        '*' | '_' | '|' | '`' | '~' | '[' | '\\' => format!("&#{};", u32::from(letter)),
        '\n' => " ".to_owned(),
        other => other.to_string(),
    };
    Ok(set.chars().map(plain).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Whatever mdbook calls its lists of chapters, formulas of all of them are set, and code keeps its dollars.
    #[test]
    fn formulas_are_set_and_code_is_not() {
        let inner = json!({ "Chapter": { "content": "| $a_1 \\mid b$ |\n|---|\n", "sub_items": [] } });
        let outer = json!({ "Chapter": { "content": "`$x$` and\n\n$$\nx^2\n$$\n", "sub_items": [inner] } });
        let mut book = json!({ "sections": [outer, "Separator"] });
        chapters(&mut book).unwrap();
        let chapter = &book["sections"][0]["Chapter"];
        let content = chapter["content"].as_str().unwrap();
        assert!(content.starts_with("`$x$` and\n\n<math display=\"block\">"), "{content}");
        assert!(content.contains("<msup><mi>x</mi><mn>2</mn></msup>"), "{content}");
        let cell = chapter["sub_items"][0]["Chapter"]["content"].as_str().unwrap();
        assert_eq!(cell.lines().next().unwrap().matches('|').count(), 2, "{cell}");
    }

    #[test]
    fn a_formula_that_is_none_is_named() {
        let said = set("see $\\frac{1}$").unwrap_err();
        assert!(said.contains("\\frac{1}"), "{said}");
    }

    #[test]
    fn all_formulas_of_the_book_can_be_set() {
        let mut formulas = 0;
        for page in std::fs::read_dir(crate::root().join("docs/src")).unwrap() {
            let path = page.unwrap().path();
            let page = set(&std::fs::read_to_string(&path).unwrap());
            let page = page.unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
            formulas += page.matches("<math").count();
            assert!(!page.contains("merror") && !page.contains("nbsp"), "{}", path.display());
            let tags = page.split("<math").skip(1).filter_map(|rest| rest.split("</math>").next());
            for formula in tags {
                let values = formula.split('"').skip(2).step_by(2);
                let apart = |between: &str| between.starts_with([' ', '>', '/']);
                assert!(values.clone().all(apart), "{}: <math{formula}", path.display());
            }
        }
        assert!(formulas > 50, "{formulas}");
    }
}
