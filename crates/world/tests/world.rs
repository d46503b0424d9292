//! Processes that meet, take means and lose each other; here they are threads, over real connections.

#![allow(clippy::float_cmp, reason = "what should be exact is compared exactly")]

use sokd_core::{Error, Result};
use sokd_world::{Place, World};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// One that no other test has asked for, and below those that a system gives to whoever asks for any: between the look whether it is
/// free and the first who waits there, nobody else comes by it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed));
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.take(1000).find(free).expect("a free port among a thousand")
}

fn place(rank: usize, size: usize, port: u16) -> Place {
    Place { rank, size, local: rank, sharing: size, host: "127.0.0.1".into(), port }
}

/// What each of so many makes of the world, by rank.
fn each<T: Send>(size: usize, make: impl Fn(World) -> T + Sync) -> Vec<T> {
    let port = free_port();
    thread::scope(|scope| {
        // The first comes last: the others wait for it.
        let join = |rank: usize| {
            thread::sleep(Duration::from_millis(if rank == 0 { 100 } else { 0 }));
            World::join(&place(rank, size, port), PATIENCE).expect("they meet")
        };
        let make = &make;
        let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || make(join(rank)))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

#[test]
fn a_mean_is_the_same_everywhere_and_right() {
    // More numbers than ranks, as many, fewer, none; weights that differ.
    for count in [10, 3, 2, 0] {
        let own =
            |rank: usize| -> Vec<f32> { (0..count).map(|at| (rank * 7 + at) as f32 * 0.1 + 1e-3).collect() };
        let weight = [1.0, 2.0, 5.0];
        let means = each(3, |world| {
            let mut values = own(world.rank());
            let total = world.mean(&mut values, weight[world.rank()]).expect("nobody is gone");
            assert_eq!(total, 8.0);
            values
        });
        for (at, mean) in means[0].iter().enumerate() {
            let sum: f64 = (0..3).map(|rank| weight[rank] * f64::from(own(rank)[at])).sum();
            assert_eq!(*mean, (sum / 8.0) as f32);
        }
        assert!(means.iter().all(|other| other == &means[0]), "{means:?}");
    }
}

#[test]
fn all_hear_all_and_follow_the_first() {
    let heard = each(4, |world| -> Result<_> {
        let own = vec![world.rank() as u8; 100_000 * world.rank()];
        let all = world.gather(&own)?;
        let sizes: Vec<_> = all.iter().map(|said| (said.len(), said.first().copied())).collect();
        Ok((sizes, world.follow(&[world.rank() as u8])?, world.share().of(10)))
    });
    let sizes = vec![(0, None), (100_000, Some(1)), (200_000, Some(2)), (300_000, Some(3))];
    for (heard, share) in heard.into_iter().zip([0..2, 2..5, 5..7, 7..10]) {
        assert_eq!(heard.expect("nobody is gone"), (sizes.clone(), vec![0], share));
    }
}

#[test]
fn who_leaves_says_why_and_who_is_dropped_is_missed() {
    let ends = each(3, |world| {
        world.gather(b"here").expect("nobody is gone");
        if world.rank() == 1 {
            world.leave("its disk is full");
            return String::new();
        }
        world.mean(&mut [1.0; 9], 1.0).expect_err("one is gone").to_string()
    });
    assert_eq!(ends[0], "rank 1 is gone: it has ended: its disk is full");
    let ends = each(2, |world| if world.rank() == 1 { String::new() } else { missed(&world) });
    assert!(ends[0].starts_with("rank 1 is gone: it ended without a word"), "{}", ends[0]);
}

fn missed(world: &World) -> String {
    world.gather(b"anyone?").expect_err("one is gone").to_string()
}

/// Who waits for something else asks now and then, and takes no word that is meant for later.
#[test]
fn who_waits_elsewhere_learns_who_has_gone() {
    let ends = each(3, |world| {
        world.check().expect("all are there");
        let said = world.gather(&[world.rank() as u8]).expect("nobody is gone");
        assert_eq!(said, [[0], [1], [2]]);
        if world.rank() == 1 {
            world.leave("its GPU is gone");
        }
        if world.rank() > 0 {
            return String::new();
        }
        loop {
            if let Err(error) = world.check() {
                return error.to_string();
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    let [left, dropped] =
        ["rank 1 is gone: it has ended: its GPU is gone", "rank 2 is gone: it ended without a word"];
    assert!(ends[0].starts_with(left) || ends[0].starts_with(dropped), "{}", ends[0]);
}

#[test]
fn who_runs_something_else_is_found_out() {
    let ends = each(2, |world| {
        let mut values = vec![1.0; 10 + world.rank()];
        world.mean(&mut values, 1.0).map(|_| values).expect_err("the vectors differ").to_string()
    });
    assert!(ends.iter().any(|end| end.contains("of a vector of")), "{ends:?}");
}

#[test]
fn strangers_are_sent_away() {
    let port = free_port();
    let worlds = thread::scope(|scope| {
        let first = scope.spawn(|| World::join(&place(0, 2, port), PATIENCE));
        let stranger = || TcpStream::connect(("127.0.0.1", port));
        let mut tried = stranger();
        while tried.is_err() {
            thread::sleep(Duration::from_millis(10));
            tried = stranger();
        }
        tried.expect("someone listens").write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is heard");
        drop(stranger());
        let second = World::join(&place(1, 2, port), PATIENCE);
        [first.join().expect("no thread panics"), second]
    });
    assert!(worlds.into_iter().all(|world| world.is_ok_and(|world| world.size() == 2)));
}

#[test]
fn who_waits_in_vain_is_told_for_whom() {
    let short = Duration::from_millis(200);
    for rank in [0, 1] {
        let said = World::join(&place(rank, 2, free_port()), short).expect_err("nobody comes");
        assert!(matches!(said, Error::Unreachable { .. }), "{said}");
        assert!(said.to_string().contains(&format!("rank {rank} of 2 does not find the others")), "{said}");
    }
    let port = free_port();
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("a port");
    let said = World::join(&place(0, 2, port), short).expect_err("the port is taken").to_string();
    assert!(said.contains("SOKD_MASTER_PORT"), "{said}");
    drop(taken);
}

#[test]
fn two_of_one_rank_are_refused() {
    let port = free_port();
    let said = thread::scope(|scope| {
        let first = scope.spawn(|| World::join(&place(0, 3, port), PATIENCE));
        let twins = [0, 1].map(|_| scope.spawn(|| World::join(&place(1, 3, port), PATIENCE)));
        let said = first.join().expect("no thread panics").expect_err("rank 2 is nobody").to_string();
        assert!(
            twins
                .map(|twin| twin.join().expect("no thread panics").is_err())
                .into_iter()
                .all(|failed| failed)
        );
        said
    });
    assert!(said.contains("two of them take themselves for rank 1"), "{said}");
}
