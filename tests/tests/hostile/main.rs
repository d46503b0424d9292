//! Everything that reads files meets damaged ones, by the thousand: an error that names the file, or what was in it, and
//! nothing else. No panic, no hang, no more than twice the memory that the whole file takes.
//!
//! `SOKD_HOSTILE=333334 cargo test --workspace --test hostile` damages more than ten million files, so many a reader.

#![allow(clippy::print_stdout, reason = "a test that says how often damage went unnoticed")]
#![allow(clippy::disallowed_methods, reason = "who looks for a hang looks at the clock")]

mod damage;
mod data;
mod run;
mod settings;
mod weights;

use peak_alloc::PeakAlloc;
use sokd_core::Key;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The peak is the whole process's: readers are tried one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a reader may need beside the file's own: messages, tables of a decoder, threads.
const SLACK: usize = 4 << 20;

const PATIENCE: Duration = Duration::from_secs(10);

/// A file's name below the folder that is read, and what it holds when whole.
type Whole = (String, Vec<u8>);

fn rounds(few: usize) -> usize {
    std::env::var("SOKD_HOSTILE").map_or(few, |many| many.parse().expect("SOKD_HOSTILE is a number"))
}

fn peak<T>(read: impl FnOnce() -> T) -> (T, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let read = read();
    (read, MEMORY.peak_usage().saturating_sub(before))
}

/// A panic that a reader contains is told to nobody, as in the program: to tell it would cost the memory of a backtrace.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !sokd_core::is_contained() {
                usual(panic);
            }
        }));
    });
}

/// Reads a folder again and again, one of its files damaged, and says how often that went unnoticed.
fn survives<T, E: Display>(name: &str, few: usize, files: &[Whole], read: impl Fn(&Path) -> Result<T, E>) {
    let _alone = alone();
    quiet();
    let folder = tempfile::tempdir().expect("a scratch folder");
    let put = |(file, bytes): &Whole| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("room for a folder");
        std::fs::write(path, bytes).expect("room for a small file");
    };
    files.iter().for_each(put);
    // Once for what is made at the first use.
    if let Err(error) = read(folder.path()) {
        panic!("{name}, whole: {error}");
    }
    let (_, usual) = peak(|| read(folder.path()).map(drop));

    let mut draws = Key::new(7).fold(name).stream();
    let (mut refused, mut unnoticed) = (0, 0);
    for round in 0..rounds(few) {
        let file = &files[draws.below(files.len() as u32) as usize];
        let damaged = damage::damaged(&file.1, &mut draws);
        put(&(file.0.clone(), damaged.clone()));
        let begun = Instant::now();
        let (said, most) = peak(|| {
            catch_unwind(AssertUnwindSafe(|| {
                read(folder.path()).map(drop).map_err(|error| error.to_string())
            }))
        });
        let about = || {
            let kept = std::env::temp_dir().join(format!("sokd-hostile-{name}"));
            std::fs::write(&kept, &damaged).expect("room for a small file");
            format!("{name}, round {round}, {}: kept as {}", file.0, kept.display())
        };
        let Ok(said) = said else { panic!("a panic: {}", about()) };
        assert!(begun.elapsed() < PATIENCE, "a hang: {}", about());
        assert!(most <= 2 * usual + SLACK, "{most} bytes where {usual} are usual: {}", about());
        match said {
            Ok(()) => unnoticed += 1,
            Err(error) => {
                assert!(!error.trim().is_empty(), "{}", about());
                refused += 1;
            }
        }
        put(file);
    }
    println!("{name}: {refused} refused, {unnoticed} read");
    assert!(refused * 10 > unnoticed, "{name}: {refused} refused, {unnoticed} read: damage that nobody sees");
}
