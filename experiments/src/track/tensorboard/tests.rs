use super::*;
use crate::Resolved;
use crate::environment::Environment;
use crate::protobuf::{Field, fields};
use sokd_data::DataSpec;

fn about(dir: &Path) -> About {
    let resolved = Resolved::new("shapes-alone", Some("smoke"), &[]).expect("a recipe of ours");
    let images = DataSpec::named("shapes")
        .map(|data| data.open(&sokd_data::Locations::default()).expect("procedural"));
    let environment = Environment::here("cpu");
    About { dir: dir.to_owned(), label: "a run".into(), resolved, environment, images }
}

fn line(at: u64) -> Line {
    Line { at, seconds: at as f64, values: vec![("test/top1".into(), at as f64), ("loss".into(), f64::NAN)] }
}

/// Every record of a run's files: its step, and whether it has values or begins a session.
fn told(dir: &Path) -> Vec<(u64, char)> {
    let mut told = Vec::new();
    for path in files(dir).expect("a directory") {
        let bytes = std::fs::read(path).expect("a file");
        for event in records(&bytes) {
            let find = |wanted| fields(event).find(|(field, _)| *field == wanted).map(|(_, value)| value);
            let Some(Field::Whole(at)) = find(2) else { continue };
            told.push((at, if find(7).is_some() { 'S' } else { 'v' }));
        }
    }
    told.retain(|(at, _)| *at > 0);
    told
}

fn begun(about: &About, from: Option<u64>) -> (Box<dyn Tracker>, u64) {
    let mut tracker = (TENSORBOARD.open)().expect("it needs nothing");
    let knows = tracker.begin(about, from).expect("a directory");
    (tracker, knows)
}

#[test]
fn a_run_that_goes_on_takes_back_what_was_beyond() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let about = about(dir.path());
    let (mut tracker, knows) = begun(&about, Some(0));
    assert_eq!(knows, 0);
    tracker.tell(&[line(10), line(20)])?;
    tracker.tell(&[line(30)])?;
    tracker.end(Ended::Stopped)?;
    assert_eq!(told(dir.path()), [(1, 'S'), (10, 'v'), (20, 'v'), (30, 'v')]);

    // From behind the second line.
    let (mut tracker, knows) = begun(&about, Some(20));
    assert_eq!(knows, 20);
    tracker.tell(&[line(30)])?;
    assert_eq!(told(dir.path())[4..], [(21, 'S'), (30, 'v')]);

    // What a machine that died has torn is told again, although the run goes on from behind it.
    let path = files(dir.path())?.pop().expect("two files");
    let size = path.metadata().expect("a file").len();
    File::options().write(true).open(&path).and_then(|file| file.set_len(size - 3)).expect("a file of ours");
    let (mut tracker, knows) = begun(&about, Some(30));
    assert_eq!(knows, 20);
    tracker.tell(&[line(30), line(40)])?;
    tracker.end(Ended::Finished)?;
    assert_eq!(told(dir.path())[4..], [(21, 'S'), (21, 'S'), (30, 'v'), (40, 'v')]);
    assert_eq!(files(dir.path())?.len(), 3);
    Ok(())
}

/// TensorBoard takes the first word about how a session ended: a run that failed and goes on begins anew.
#[test]
fn a_run_that_had_ended_is_told_anew() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let about = about(dir.path());
    for (from, knows) in [(Some(0), 0), (Some(20), 0), (None, 0)] {
        let (mut tracker, knew) = begun(&about, from);
        assert_eq!(knew, knows);
        tracker.tell(&[line(10), line(20)])?;
        tracker.end(Ended::Failed)?;
        assert_eq!((told(dir.path()), files(dir.path())?.len()), (vec![(1, 'S'), (10, 'v'), (20, 'v')], 1));
    }
    Ok(())
}

#[test]
fn files_sort_as_they_were_begun() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let about = about(dir.path());
    // A clock that went back.
    let later = dir.path().join(format!("{FILES}{}.host.1.0", now() as u64 + 1000));
    std::fs::write(&later, framed(&When { time: 0.0, at: 7 }.scalars(&[]))).expect("written");
    assert_eq!(begun(&about, Some(9)).1, 7);
    let files = files(dir.path())?;
    assert_eq!((files.len(), &files[0]), (2, &later));
    Ok(())
}

#[test]
fn a_directory_that_is_gone_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().expect("a folder");
    let about = about(&dir.path().join("gone"));
    let mut tracker = (TENSORBOARD.open)().expect("it needs nothing");
    assert!(tracker.begin(&about, Some(0)).is_err());
    assert!(tracker.tell(&[line(1)]).is_ok(), "nobody was told of the run");
}
