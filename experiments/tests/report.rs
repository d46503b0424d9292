//! What a report says and what it loads, on numbers that were chosen by hand.

use sokd_core::Area;
use sokd_experiments::environment::Environment;
use sokd_experiments::report::{Gallery, Measured, Picture, Published, Report, Score};
use sokd_experiments::{Best, Epoch, Network, Scores, Summary};

fn scores(top1: f64) -> Scores {
    Scores {
        correct: (top1 * 20.0) as usize,
        total: 2000,
        top1,
        top5: 95.0,
        loss: 2.0 - top1 / 100.0,
        ece: 0.1,
        agreement: None,
    }
}

/// Three epochs that end in `last`, the second of which is half a point better.
fn run(row: &str, seed: u64, last: f64) -> Measured {
    let epoch = |epoch: usize, top1| Epoch {
        epoch,
        train_loss: 2.0 - epoch as f64 * 0.5,
        seconds: 1.0,
        test: Some(scores(top1)),
    };
    let summary = Summary {
        recipe: "0123456789abcdef".into(),
        seed,
        data: "shapes".into(),
        student: Network { model: "resnet8".into(), parameters: 77_754, macs: 12_500_000 },
        teacher: None,
        steps: 30,
        images: 900,
        seconds: 3.25,
        last: scores(last),
        best: Best { epoch: 1, scores: scores(last + 0.5) },
        ema: None,
        recall: vec![last - 10.0, last + 10.0],
        epochs: vec![epoch(0, 30.0), epoch(1, last + 0.5), epoch(2, last)],
        environment: Environment {
            version: "0.1.0".into(),
            commit: "abcdef012345".into(),
            dirty: seed == 2,
            host: "bench".into(),
            machine: "a processor, 2 cores".into(),
            simd: "avx2".into(),
            device: "cpu".into(),
            threads: 2,
            command: vec!["sokd".into()],
            started: "2026-11-21T08:15:00Z".into(),
        },
    };
    Measured { row: row.into(), column: "pair".into(), tier: "full".into(), summary }
}

fn report() -> Report {
    let arms = [
        ("student alone", [50.0, 52.0, 54.0]),
        ("KD", [55.0, 57.5, 59.0]),
        ("<AT> & co", [49.0, 52.5, 53.0]),
    ];
    let runs = arms.iter().flat_map(|(row, tops)| (0..).zip(tops).map(|(seed, top)| run(row, seed, *top)));
    let picture = || Picture {
        png: vec![137, 80, 78, 71],
        size: [32, 32],
        area: Some(Area { top: 1.0, left: 2.0, bottom: 30.0, right: 31.0 }),
    };
    Report {
        name: "by-hand".into(),
        title: "Does it help?".into(),
        note: "Each student sees 300 images.".into(),
        tier: "full".into(),
        rows: arms.iter().map(|(row, _)| (*row).to_owned()).collect(),
        columns: vec!["pair".into()],
        runs: runs.collect(),
        published: vec![Published {
            row: "KD".into(),
            column: "pair".into(),
            top1: Some(58.0),
            score: Score::Best,
            protocol: "the best epoch of one run".into(),
            source: "A paper, table 1".into(),
        }],
        facts: vec!["Teacher: resnet56, 853\u{202f}018 parameters.".into()],
        problems: vec!["KD, seed 3: not measured yet".into()],
        classes: vec!["disc".into(), "ring".into()],
        studies: Vec::new(),
        single: false,
        gallery: Some(Gallery {
            caption: "The first images.".into(),
            classes: vec![("disc".into(), vec![picture(), picture()])],
        }),
        settings: vec![("KD".into(), "epochs = 3\n".into())],
    }
}

#[test]
fn markdown_says_both_scores_the_gain_and_the_protocol() {
    insta::assert_snapshot!("markdown", report().markdown());
}

#[test]
fn a_terminal_says_the_same() {
    insta::assert_snapshot!("plain", report().plain());
}

#[test]
fn the_page_loads_nothing() {
    let page = report().html();
    for loader in ["src=", "<script", "<link", "@import", "<iframe", "http-equiv"] {
        assert!(!page.contains(loader), "the page has {loader}");
    }
    let outside = |(at, _): &(usize, &str)| !page[at + 4..].starts_with('#');
    assert!(
        !page.match_indices("url(").any(|place| outside(&place)),
        "only parts of the page itself are referred to"
    );
    let links: Vec<&str> = page.match_indices("href=\"").map(|(at, _)| &page[at + 6..at + 16]).collect();
    assert!(!links.is_empty() && links.iter().all(|link| link.starts_with("data:image")), "{links:?}");
    // The one address in it names SVG's own grammar, and is never fetched.
    let addresses: Vec<&str> = page.match_indices("http").map(|(at, _)| &page[at - 7..at]).collect();
    assert!(addresses.iter().all(|before| before.starts_with("xmlns=\"")), "{addresses:?}");
}

#[test]
fn the_page_has_every_section_and_means_its_text() {
    let page = report().html();
    let sections = [
        "What it shows",
        "Recall by class",
        "How to read it",
        "The data",
        "What was run",
        "Settings",
        "Not measured",
    ];
    for section in sections {
        assert!(page.contains(section), "{section} is missing");
    }
    assert!(page.contains("&lt;AT&gt; &amp; co") && !page.contains("<AT>"), "names are text, not markup");
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
    // Three curves and the gains; the boxes are drawn over the pictures.
    assert_eq!(page.matches("<svg class=\"plot\"").count(), 4);
    assert!(page.contains(r#"<rect x="2.0" y="1.0" width="29.0" height="29.0"/>"#));
}

#[test]
fn a_result_is_kept_and_found_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = run("student alone", 4, 51.0);
    let path = kept.keep(folder.path(), "by-hand").expect("written");
    assert_eq!(path, folder.path().join("by-hand/full/student-alone-pair-seed-4.json"));
    assert_eq!(Measured::read(&path).expect("readable"), Some(kept));
    std::fs::write(&path, "{").expect("written");
    assert!(Measured::read(&path).is_err(), "a torn result is no result");
}
