//! What hf-hub alone gets wrong, and what else may go wrong between a hub and the cache, over real HTTP.

#![allow(clippy::disallowed_methods, reason = "a test that waits by the clock")]

use sokd_core::{Error, Watch};
use sokd_hub::mock::{Fault, Mock};
use sokd_hub::{Address, Hub, Patience};
use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

const WEIGHTS: &[u8] = b"weights of a network, as they should be";

/// Remembers what it is told.
#[derive(Default)]
struct Listener {
    seen: RefCell<Vec<usize>>,
    told: RefCell<Vec<String>>,
}

impl Watch for Listener {
    fn at(&self, _: &str, done: usize, _: usize) {
        self.seen.borrow_mut().push(done);
    }

    fn say(&self, line: &str) {
        self.told.borrow_mut().push(line.to_owned());
    }
}

fn address() -> Address {
    "owner/name/model.safetensors".parse().expect("an address")
}

fn hub(mock: &Mock, cache: &Path) -> Hub {
    let patience = Patience { attempts: 3, pause: Duration::from_millis(1), longest: Duration::from_secs(5) };
    Hub::new(&mock.endpoint(), cache).and_then(|hub| hub.with_patience(patience)).expect("an endpoint")
}

fn fetch(hub: &Hub) -> sokd_core::Result<Vec<u8>> {
    let fetched = hub.fetch(&address(), &Listener::default())?;
    Ok(std::fs::read(fetched.path).expect("the file"))
}

/// Everything in a folder that holds bytes, locks aside.
fn contents(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if let Some(length) = path.metadata().ok().map(|file| file.len()).filter(|length| *length > 0)
        {
            found.push((entry.file_name().to_string_lossy().into_owned(), length));
        }
    }
    found
}

#[test]
fn what_is_right_is_fetched_once() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    let hub = hub(&mock, cache.path());
    for _ in 0..3 {
        assert_eq!(fetch(&hub).expect("the file"), WEIGHTS);
    }
    assert_eq!(
        (mock.asked("GET"), mock.asked("HEAD")),
        (1, 3),
        "a branch is asked for each time, by its head"
    );
    let Address { repository, file } = address();
    let commit = hub.fetch(&address(), &Listener::default()).expect("the file").commit;
    let pinned = repository.at(&commit).file(&file).expect("an address");
    let before = mock.heard().len();
    hub.fetch(&pinned, &Listener::default()).expect("the file");
    assert_eq!(mock.heard().len(), before, "a commit is not asked for again");
}

#[test]
fn a_branch_that_moved_is_followed() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    let hub = hub(&mock, cache.path());
    fetch(&hub).expect("the file");
    mock.put("owner/name", "model.safetensors", b"newer weights");
    assert_eq!(fetch(&hub).expect("the file"), b"newer weights");
}

/// Defect 1: hf-hub keeps the page of an error as weights.
#[test]
fn a_refusal_after_a_friendly_head_is_an_error_and_leaves_nothing() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.fail(Fault::Status(403, r#"{"error":"not for you"}"#.into()), 2);
    let hub = hub(&mock, cache.path());
    for _ in 0..2 {
        let error = fetch(&hub).expect_err("403");
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("403") && error.to_string().contains("not for you"), "{error}");
        assert_eq!(contents(cache.path()), []);
    }
    assert_eq!(fetch(&hub).expect("the file"), WEIGHTS);
}

/// Defect 2: hf-hub takes whatever length comes.
#[test]
fn a_short_body_never_becomes_weights() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.fail(Fault::Short(10), 3);
    let hub = hub(&mock, cache.path());
    let error = fetch(&hub).expect_err("ten bytes").to_string();
    assert!(error.contains("10 bytes came") && error.contains(&WEIGHTS.len().to_string()), "{error}");
    assert_eq!(hub.offline().fetch(&address(), &Listener::default()).ok(), None);
}

#[test]
fn a_body_of_the_right_length_and_another_digest_is_not_kept() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.fail(Fault::Instead(WEIGHTS.to_ascii_uppercase()), 1);
    let hub = hub(&mock, cache.path());
    let error = fetch(&hub).expect_err("other bytes");
    assert!(matches!(error, Error::File { .. }) && error.to_string().contains("digest"), "{error}");
    assert_eq!(contents(cache.path()), []);
    assert_eq!(fetch(&hub).expect("the file"), WEIGHTS);
}

#[test]
fn a_longer_body_is_not_kept() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.fail(Fault::Instead([WEIGHTS, b"and more"].concat()), 3);
    let error = fetch(&hub(&mock, cache.path())).expect_err("more bytes").to_string();
    assert!(error.contains("more than the"), "{error}");
}

/// Defect 3: hf-hub does not read `HF_HUB_OFFLINE`.
#[test]
fn offline_asks_nobody() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    let error = fetch(&hub(&mock, cache.path()).offline()).expect_err("nothing is cached");
    assert!(matches!(error, Error::Unreachable { .. }) && error.to_string().contains("OFFLINE"), "{error}");
    assert!(mock.heard().is_empty());
    fetch(&hub(&mock, cache.path())).expect("the file");
    let before = mock.heard().len();
    assert_eq!(fetch(&hub(&mock, cache.path()).offline()).expect("the file"), WEIGHTS);
    assert_eq!(mock.heard().len(), before);
}

/// Defect 4: hf-hub gives up on another process's lock after ten seconds. Defect 4½: it fetches again once it has it.
#[test]
fn whoever_comes_second_waits_and_fetches_nothing() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.fail(Fault::Slow(Duration::from_secs(12)), 1);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        // Each with a lock of its own on the same file, as processes have.
        let one = || fetch(&hub(&mock, cache.path()));
        for done in [scope.spawn(one), scope.spawn(one), scope.spawn(one)] {
            assert_eq!(done.join().expect("no panic").expect("the file"), WEIGHTS);
        }
    });
    assert!(begun.elapsed() > Duration::from_secs(11), "the others waited");
    assert_eq!(mock.asked("GET"), 1);
}

/// Defect 5: to hf-hub everything that is not there is an entry.
#[test]
fn what_is_not_there_is_called_by_its_kind() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    let hub = hub(&mock, cache.path());
    for (text, said) in [
        ("owner/other/model.safetensors", "no repository owner/other"),
        ("owner/name@v9/model.safetensors", "no revision v9"),
        ("owner/name/other.safetensors", "no such file at main"),
        ("datasets/owner/name/model.safetensors", "no repository datasets/owner/name"),
    ] {
        let error = hub.fetch(&text.parse().expect(text), &Listener::default()).expect_err(text);
        assert!(matches!(error, Error::Missing { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(contents(cache.path()), []);
}

#[test]
fn a_cut_connection_is_gone_on_with() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.fail(Fault::Cut(10), 2);
    let listener = Listener::default();
    hub(&mock, cache.path()).fetch(&address(), &listener).expect("the file");
    let ranges: Vec<_> =
        mock.heard().iter().filter_map(|request| request.headers.get("range").cloned()).collect();
    assert_eq!(ranges, ["bytes=10-", "bytes=20-"]);
    assert_eq!(listener.seen.borrow().last(), Some(&WEIGHTS.len()));
}

#[test]
fn another_process_goes_on_where_one_was_killed() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.fail(Fault::Cut(7), 1);
    mock.fail(Fault::Cut(0), 3);
    fetch(&hub(&mock, cache.path())).expect_err("cut off three times");
    let partial = contents(cache.path());
    assert!(matches!(&partial[..], [(name, 7)] if name.ends_with(".incomplete")), "{partial:?}");
    assert_eq!(fetch(&hub(&mock, cache.path())).expect("the file"), WEIGHTS);
    let last = mock.heard().pop().expect("a request");
    assert_eq!(last.headers.get("range").map(String::as_str), Some("bytes=7-"));
}

#[test]
fn what_was_left_of_something_else_is_begun_again() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.fail(Fault::Cut(7), 1);
    mock.fail(Fault::Cut(0), 3);
    fetch(&hub(&mock, cache.path())).expect_err("cut off");
    let blobs = cache.path().join("models--owner--name/blobs");
    let partial = std::fs::read_dir(&blobs).expect("blobs").flatten().next().expect("a part").path();
    std::fs::write(&partial, "nonsense!").expect("a part of something else");
    assert_eq!(fetch(&hub(&mock, cache.path())).expect("the file"), WEIGHTS);
}

#[test]
fn a_busy_server_is_asked_again_after_as_long_as_it_says() {
    for status in [429, 500, 503] {
        let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
        mock.busy(status, Some("1"), 1);
        let (begun, listener) = (Instant::now(), Listener::default());
        hub(&mock, cache.path()).fetch(&address(), &listener).expect("the file");
        assert!(begun.elapsed() >= Duration::from_secs(1));
        assert!(listener.told.borrow()[0].contains(&status.to_string()), "{:?}", listener.told);
    }
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.busy(429, Some("3600"), 1);
    let error = fetch(&hub(&mock, cache.path())).expect_err("an hour is too long").to_string();
    assert!(error.contains("3600 s"), "{error}");
    mock.busy(502, None, 9);
    let error = fetch(&hub(&mock, cache.path())).expect_err("always busy").to_string();
    assert!(error.contains("502") && error.contains("3 times"), "{error}");
}

#[test]
fn what_is_cached_serves_while_nobody_answers() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    fetch(&hub(&mock, cache.path())).expect("the file");
    mock.busy(503, None, 99);
    let listener = Listener::default();
    hub(&mock, cache.path()).fetch(&address(), &listener).expect("the file");
    assert!(listener.told.borrow()[0].contains("the cache has it"), "{:?}", listener.told);
}

#[test]
fn a_file_that_rots_in_the_cache_is_fetched_again() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    let path = hub(&mock, cache.path()).fetch(&address(), &Listener::default()).expect("the file").path;
    std::fs::write(&path, "rotten").expect("through the link");
    let error = fetch(&hub(&mock, cache.path()).offline()).expect_err("rotten");
    assert!(matches!(error, Error::File { .. }), "{error}");
    assert_eq!(fetch(&hub(&mock, cache.path())).expect("the file"), WEIGHTS);
}

#[test]
fn a_hostile_hub_writes_nowhere_else() {
    for (header, value) in [
        ("ETag", "\"../../../escaped\""),
        ("ETag", "\"/tmp/escaped\""),
        ("ETag", "\"\""),
        ("X-Repo-Commit", "../../escaped"),
        ("X-Repo-Commit", ""),
    ] {
        let (place, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
        mock.claim(header, value);
        let error = fetch(&hub(&mock, &place.path().join("a/b/cache"))).expect_err(value);
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert_eq!(contents(place.path()), [], "{header}: {value}");
    }
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.list("../../x");
    let repository = "owner/name".parse().expect("a repository");
    let error = hub(&mock, cache.path()).list(&repository, &Listener::default()).expect_err("a hostile name");
    assert!(error.to_string().contains("outside"), "{error}");
}

#[test]
fn a_token_goes_to_the_hub_and_into_no_message() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    mock.want("hf_secret");
    let error = fetch(&hub(&mock, cache.path())).expect_err("no token").to_string();
    assert!(error.contains("401") && error.contains("HF_TOKEN"), "{error}");
    let error = fetch(&hub(&mock, cache.path()).with_token("hf_wrong")).expect_err("a wrong one").to_string();
    assert!(!error.contains("hf_wrong"), "{error}");
    let known = hub(&mock, cache.path()).with_token("hf_secret");
    assert!(!format!("{known:?}").contains("hf_secret"));
    assert_eq!(fetch(&known).expect("the file"), WEIGHTS);
}

/// As Python's library notes it: a run that goes on asks for nothing that it has asked for before.
#[test]
fn what_a_commit_does_not_have_is_asked_for_once() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::start());
    let commit = mock.put("owner/name", "model.safetensors", WEIGHTS);
    let address: Address = format!("owner/name@{commit}/config.json").parse().expect("an address");
    for _ in 0..2 {
        let error = hub(&mock, cache.path()).fetch(&address, &Listener::default()).expect_err("no such file");
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    }
    assert_eq!(mock.heard().len(), 1);
    assert!(cache.path().join(format!("models--owner--name/.no_exist/{commit}/config.json")).is_file());
}

/// Large files lie on other machines, which are not to know who asks.
#[test]
fn a_large_file_comes_from_elsewhere_without_the_token() {
    let (cache, mock, store) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS), Mock::of(WEIGHTS));
    mock.want("hf_secret");
    mock.store(&store.endpoint());
    store.fail(Fault::Cut(9), 1);
    assert_eq!(fetch(&hub(&mock, cache.path()).with_token("hf_secret")).expect("the file"), WEIGHTS);
    assert_eq!((store.asked("HEAD"), store.asked("GET")), (0, 2));
    for request in store.heard() {
        assert!(!request.headers.contains_key("authorization"), "{request:?}");
    }
}

/// As root nothing is read-only: a file in the folder's place is refused to everyone.
#[test]
fn a_cache_that_cannot_be_written_says_so_and_can_be_read() {
    let (place, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    let cache = place.path().join("cache");
    std::fs::write(&cache, "a file").expect("a file");
    let error = fetch(&hub(&mock, &cache)).expect_err("no folder");
    assert!(matches!(error, Error::File { .. }) && error.to_string().contains("HF_HUB_CACHE"), "{error}");
}

#[test]
fn a_repository_is_listed_online_and_off() {
    let (cache, mock) = (tempfile::tempdir().expect("a folder"), Mock::of(WEIGHTS));
    let commit = mock.put("owner/name", "sub/config.json", b"{}");
    let repository: sokd_hub::Repository = "owner/name".parse().expect("a repository");
    let online = hub(&mock, cache.path());
    let listing = online.pull(&repository, |all| all, &Listener::default()).expect("all of it");
    assert_eq!((listing.commit.as_str(), listing.files.len()), (commit.as_str(), 2));
    assert!(listing.files.iter().all(|file| listing.folder.join(file).is_file()), "{listing:?}");
    let offline = hub(&mock, cache.path()).offline().list(&repository, &Listener::default());
    assert_eq!(offline.expect("the same list"), listing);

    // A mirror that lists in pages.
    mock.list_in_pages();
    assert_eq!(online.list(&repository, &Listener::default()).expect("page by page"), listing);

    // A newer commit that does not come whole leaves the older one to whoever is offline.
    mock.put("owner/name", "sub/config.json", b"{ }");
    mock.fail(Fault::Status(403, String::new()), 1);
    online.pull(&repository, |all| all, &Listener::default()).expect_err("a file is refused");
    let offline = hub(&mock, cache.path()).offline().list(&repository, &Listener::default());
    assert_eq!(offline.expect("the older list"), listing);
}
