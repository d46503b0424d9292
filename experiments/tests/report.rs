//! What a report says and what it loads, on numbers that were chosen by hand.

use sokd_core::Area;
use sokd_experiments::environment::Environment;
use sokd_experiments::predictions::Answers;
use sokd_experiments::report::{Gallery, Gap, Measured, Picture, Published, Report, Score};
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
        data_blake3: None,
        student: Network { model: "resnet8".into(), parameters: 77_754, macs: 12_500_000 },
        teacher: None,
        steps: 30,
        images: 900,
        seconds: 3.25,
        processor_seconds: Some(3.0),
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
            processes: 1,
            command: vec!["sokd".into()],
            started: "2026-11-21T08:15:00Z".into(),
        },
    };
    // Of as many images as per cents: every image that the worse of two networks recognises, the better one does too.
    let right = (0..100).map(|image| f64::from((image * 37 + seed as u32 * 11) % 100) < last).collect();
    let answers = Some(Answers { of: "fedcba".into(), right });
    Measured { row: row.into(), column: "pair".into(), tier: "full".into(), summary, answers }
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
    let mut report = Report {
        name: "by-hand".into(),
        title: "Does it help?".into(),
        note: "Each student sees 300 images.".into(),
        tier: "full".into(),
        rows: arms.iter().map(|(row, _)| (*row).to_owned()).collect(),
        against: 0,
        columns: vec!["pair".into()],
        runs: runs.collect(),
        compared: Vec::new(),
        published: vec![Published {
            row: "KD".into(),
            column: "pair".into(),
            top1: Some(58.0),
            score: Score::Best,
            protocol: "the best epoch of one run".into(),
            source: "A paper, table 1".into(),
        }],
        facts: vec!["Teacher: resnet56, 853\u{202f}018 parameters.".into()],
        gaps: [3, 4, 6]
            .map(|seed| Gap { of: "KD".into(), seed: Some(seed), why: "not measured yet".into() })
            .into(),
        classes: vec!["disc".into(), "ring".into()],
        studies: Vec::new(),
        single: false,
        confusion: None,
        gallery: Some(Gallery {
            caption: "The first images.".into(),
            classes: vec![("disc".into(), vec![picture(), picture()])],
        }),
        settings: vec![("KD".into(), "epochs = 3\n".into())],
    };
    report.compare();
    report
}

/// The same in two columns, the second with a run less.
fn two_columns() -> Report {
    let mut report = report();
    let columns = ["wrn_40_2 → wrn_16_2", "pair"].map(str::to_owned);
    let mut again = report.runs.clone();
    again.pop();
    for run in &mut report.runs {
        run.column.clone_from(&columns[0]);
    }
    report.runs.extend(again);
    report.columns = columns.to_vec();
    report.compare();
    report
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
fn a_paper_takes_the_tables_as_they_are() {
    insta::assert_snapshot!("latex", two_columns().latex());
}

#[test]
fn a_spreadsheet_has_every_run_and_every_arm() {
    insta::assert_snapshot!("csv", report().runs_as_csv());
    insta::assert_snapshot!("csv-arms", report().arms_as_csv());
}

#[test]
fn any_row_may_be_the_one_that_others_are_compared_with() {
    let mut report = Report { against: 1, ..report() };
    report.compare();
    let text = report.markdown();
    assert!(text.contains("gain over KD (last)"), "{text}");
    assert!(
        text.contains("| student alone | 3 | 52.00 ± 2.00 | 52.50 ± 2.00 | −5.17 ± 0.29 (0/3 up) |"),
        "{text}"
    );
    assert_eq!(report.compared.len(), 2);
}

/// KD is told apart from both others. Once it is close to one of them, that one is marked as such; where nothing can be
/// told apart, or with a seed alone, nothing is marked.
#[test]
fn bold_is_what_the_seeds_tell_apart() {
    let marked = |report: &Report| {
        let text = report.markdown();
        (text.contains("| **57.17 ± 2.02** |"), text.matches(" † |").count())
    };
    let report = report();
    assert_eq!(marked(&report), (true, 0));

    let mut close = report.clone();
    for (run, top1) in close.runs.iter_mut().zip([56.0, 57.0, 58.0]) {
        run.summary.last.top1 = top1;
    }
    assert_eq!(marked(&close), (true, 1));

    close.runs.retain(|run| run.row != "<AT> & co");
    assert_eq!(marked(&close), (false, 0));

    let single = report.runs.iter().filter(|run| run.summary.seed == 0).cloned().collect();
    let text = Report { runs: single, ..report }.markdown();
    assert!(!text.contains("| **") && !text.contains('†'), "{text}");
}

#[test]
fn runs_without_predictions_are_compared_by_seed_alone() {
    let mut report = report();
    for run in &mut report.runs {
        run.answers = None;
    }
    report.compare();
    assert!(
        report.compared.iter().all(|arm| arm.images.is_empty() && arm.interval.is_none() && arm.t.is_some())
    );
    assert!(report.plain().contains("no pair of runs that both kept"), "{}", report.plain());
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
        "Tests",
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
    assert_eq!(Measured::read(&path).expect("readable").as_ref(), Some(&kept));
    let mut elsewhere = kept.clone();
    let command = ["sokd", "--keep", "/mnt/somewhere/results", "data.path=/mnt/somewhere/cifar100", "a/b=c"];
    elsewhere.summary.environment.command = command.map(String::from).into();
    elsewhere.keep(folder.path(), "by-hand").expect("written");
    let read = Measured::read(&path).expect("readable").expect("there");
    assert_eq!(
        read.summary.environment.command,
        ["sokd", "--keep", "results", "data.path=cifar100", "a/b=c"]
    );
    std::fs::write(&path, "{").expect("written");
    assert!(Measured::read(&path).is_err(), "a torn result is no result");
}
