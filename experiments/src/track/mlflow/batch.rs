//! What an MLflow server takes at once.

use crate::track::Line;
use serde_json::{Value, json};

/// Entries of a request, of all kinds together.
const ENTRIES: usize = 1000;
/// Settings of a request.
const PARAMS: usize = 100;
/// Letters of a setting: what servers before 2.8 take.
const LETTERS: usize = 500;

/// Lines as requests, none too large. A request that is sent twice says the same twice, and counts once.
pub fn metrics(run: &str, lines: &[Line], began: f64) -> Vec<Value> {
    let entry = |line: &Line, (name, value): &(String, f64)| {
        let timestamp = milliseconds(began + line.seconds);
        json!({ "key": fit(name), "value": number(*value), "timestamp": timestamp, "step": line.at })
    };
    let entries: Vec<Value> =
        lines.iter().flat_map(|line| line.values.iter().map(|value| entry(line, value))).collect();
    entries.chunks(ENTRIES).map(|some| json!({ "run_id": run, "metrics": some })).collect()
}

/// Settings as requests, none too large.
pub fn params(run: &str, settings: &[(String, toml::Value)]) -> Vec<Value> {
    let entry = |(name, value): &(String, toml::Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        json!({ "key": fit(name), "value": short(&text, LETTERS) })
    };
    let entries: Vec<Value> = settings.iter().map(entry).collect();
    entries.chunks(PARAMS).map(|some| json!({ "run_id": run, "params": some })).collect()
}

/// JSON has no number that is not finite; the server takes these words.
fn number(value: f64) -> Value {
    match value {
        value if value.is_finite() => value.into(),
        value if value.is_nan() => "NaN".into(),
        value if value > 0.0 => "Infinity".into(),
        _ => "-Infinity".into(),
    }
}

/// A name that the server takes: ours are such, but a recipe may call a term what it likes.
fn fit(name: &str) -> String {
    let taken = |letter: char| letter.is_ascii_alphanumeric() || "_-. :/".contains(letter);
    name.chars().map(|letter| if taken(letter) { letter } else { '_' }).collect()
}

/// A text of at most so many letters.
pub fn short(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        None => text.to_owned(),
        Some(_) => text.chars().take(letters - 1).chain(['…']).collect(),
    }
}

pub fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, count: usize) -> Line {
        let values = (0..count).map(|index| (format!("test/{index}"), index as f64)).collect();
        Line { at, seconds: 0.25, values }
    }

    #[test]
    fn no_request_is_too_large() {
        let lines: Vec<Line> = (1..=64).map(|at| line(at, 30)).collect();
        let requests = metrics("a", &lines, 1000.0);
        let sizes: Vec<_> =
            requests.iter().map(|one| one["metrics"].as_array().map_or(0, Vec::len)).collect();
        assert_eq!(sizes, [1000, 920]);
        let first = json!({ "key": "test/0", "value": 0.0, "timestamp": 1_000_250, "step": 1 });
        assert_eq!((&requests[0]["metrics"][0], &requests[0]["run_id"]), (&first, &json!("a")));
        let settings: Vec<_> = (0..230).map(|index| (format!("a.b{index}"), true.into())).collect();
        let sizes = params("a", &settings);
        let sizes: Vec<_> = sizes.iter().map(|one| one["params"].as_array().map_or(0, Vec::len)).collect();
        assert_eq!(sizes, [100, 100, 30]);
    }

    #[test]
    fn what_json_or_the_server_does_not_know_is_said_otherwise() {
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(number);
        assert_eq!(values, ["NaN", "Infinity", "-Infinity"].map(Value::from));
        assert_eq!(fit("eval/acc@1 %[ü]"), "eval/acc_1 ____");
        assert_eq!((short("äöü", 3), short("äöüx", 3)), ("äöü".to_owned(), "äö…".to_owned()));
        let settings = [("lr".to_owned(), 0.1.into()), ("model".to_owned(), "resnet20".into())];
        assert_eq!(params("a", &settings)[0]["params"][1], json!({ "key": "model", "value": "resnet20" }));
    }
}
