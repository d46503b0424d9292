//! How processes find each other: all come to rank 0, which tells each of them where the others are.

use crate::frame::{Kind, receive, send};
use crate::{Place, World};
use sokd_core::{Error, Result};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::Duration;

/// Between two looks whether someone has come.
const PAUSE: Duration = Duration::from_millis(20);
/// So long a stranger may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);

/// Who comes: its version, which must be the same, its rank, and where the others find it.
struct Hello {
    rank: usize,
    address: String,
}

const VERSION: &str = concat!("sokd ", env!("CARGO_PKG_VERSION"));

impl World {
    /// Meets the others, each of which calls this too; waits for them as long as `patience` says.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when not all have come; [`Error::Setting`] for a place where nobody can meet, and for two
    /// that take themselves for the same rank.
    pub fn join(place: &Place, patience: Duration) -> Result<Self> {
        let Place { rank, size, .. } = *place;
        let mut links: Vec<Option<TcpStream>> = (0..size).map(|_| None).collect();
        if rank == 0 {
            host(place, patience, &mut links)?;
        } else {
            visit(place, patience, &mut links)?;
        }
        links.iter().flatten().try_for_each(settle).map_err(|error| absent(place, &error.to_string()))?;
        Ok(Self::of(rank, links))
    }
}

/// Rank 0: waits for all, and tells each where the others are.
fn host(place: &Place, patience: Duration, links: &mut [Option<TcpStream>]) -> Result<()> {
    let listener = listen(place)?;
    let mut addresses = vec![String::new(); place.size];
    let mut left = patience;
    while let Some(missing) = missing(links, 0) {
        let Some((link, hello)) = greeted(&listener, place, &mut left)? else {
            return Err(absent(place, &format!("not all have come: rank {missing} is missing")));
        };
        seat(links, link, hello.rank)?;
        addresses[hello.rank] = hello.address;
    }
    let table = addresses.join("\n");
    for link in links.iter().flatten() {
        send(link, 0, Kind::Data, table.as_bytes()).map_err(|error| absent(place, &error.to_string()))?;
    }
    Ok(())
}

/// Everyone else: goes to rank 0, then to those of lower rank, and waits for those of higher rank.
fn visit(place: &Place, patience: Duration, links: &mut [Option<TcpStream>]) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| absent(place, &error.to_string());
    let mut left = patience;
    let first = loop {
        match TcpStream::connect((place.host.as_str(), place.port)) {
            Ok(link) => break link,
            // It may start later than this one, and so may its name.
            Err(error) if left.is_zero() => return Err(failed(&error)),
            Err(_) => rest(&mut left),
        }
    };
    let here = first.local_addr().map_err(|error| failed(&error))?.ip();
    let listener = TcpListener::bind((here, 0)).map_err(|error| failed(&error))?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    greet(&first, place.rank, &address.to_string()).map_err(|error| failed(&error))?;
    first.set_read_timeout(Some(patience.max(GREETING))).map_err(|error| failed(&error))?;
    let table = receive(&first, 0).map_err(|problem| failed(&format!("rank 0: {problem}")))?;
    links[0] = Some(first);

    let table = String::from_utf8_lossy(&table).into_owned();
    for (rank, address) in table.lines().enumerate().take(place.rank).skip(1) {
        let link = TcpStream::connect(address).map_err(|error| failed(&format!("rank {rank}: {error}")))?;
        greet(&link, place.rank, "").map_err(|error| failed(&error))?;
        links[rank] = Some(link);
    }
    listener.set_nonblocking(true).map_err(|error| failed(&error))?;
    while let Some(missing) = missing(links, place.rank) {
        let Some((link, hello)) = greeted(&listener, place, &mut left)? else {
            return Err(failed(&format!("rank {missing} has not come")));
        };
        seat(links, link, hello.rank)?;
    }
    Ok(())
}

/// Where rank 0 waits: seen from this machine alone, where that is what the name says.
fn listen(place: &Place) -> Result<TcpListener> {
    let near =
        place.host == "localhost" || place.host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let address = if near { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let bound = TcpListener::bind((address, place.port)).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        let problem = format!("rank 0 cannot wait there: {error}; SOKD_MASTER_PORT chooses another port");
        Error::setting(format!("port {}", place.port), problem)
    })
}

/// The first rank behind `after` that has no connection yet.
fn missing(links: &[Option<TcpStream>], after: usize) -> Option<usize> {
    (after + 1..links.len()).find(|&rank| links[rank].is_none())
}

/// The next one that comes and says who it is; none within the time that is left.
fn greeted(listener: &TcpListener, place: &Place, left: &mut Duration) -> Result<Option<(TcpStream, Hello)>> {
    loop {
        match listener.accept() {
            Ok((link, _)) => match hello(&link, place) {
                Ok(Some(hello)) => return Ok(Some((link, hello))),
                // Someone who tries all ports is none of ours.
                Ok(None) => {}
                Err(problem) => return Err(Error::setting("the processes", problem)),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock && left.is_zero() => return Ok(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => rest(left),
            Err(error) => return Err(absent(place, &error.to_string())),
        }
    }
}

fn greet(link: &TcpStream, rank: usize, address: &str) -> std::io::Result<()> {
    send(link, 0, Kind::Data, format!("{VERSION}\n{rank}\n{address}").as_bytes())
}

/// Who has come: nobody of ours, one of ours, or one who does not belong here.
fn hello(link: &TcpStream, place: &Place) -> Result<Option<Hello>, String> {
    let ready = link.set_nonblocking(false).and_then(|()| link.set_read_timeout(Some(GREETING)));
    let Ok(said) = ready.map_err(|error| error.to_string()).and_then(|()| receive(link, 0)) else {
        return Ok(None);
    };
    let said = String::from_utf8_lossy(&said).into_owned();
    let mut words = said.split('\n');
    let version = words.next().unwrap_or_default();
    if !version.starts_with("sokd ") {
        return Ok(None);
    }
    if version != VERSION {
        return Err(format!("one of them is {version}, and rank {} is {VERSION}", place.rank));
    }
    let rank = words.next().and_then(|word| word.parse().ok()).filter(|&rank| rank < place.size);
    let (Some(rank), Some(address)) = (rank, words.next()) else {
        return Err(format!("one of them takes itself for none of the {}: {:?}", place.size, said));
    };
    Ok(Some(Hello { rank, address: address.to_owned() }))
}

fn seat(links: &mut [Option<TcpStream>], link: TcpStream, rank: usize) -> Result<()> {
    if rank == 0 || links[rank].is_some() {
        return Err(Error::setting("the processes", format!("two of them take themselves for rank {rank}")));
    }
    links[rank] = Some(link);
    Ok(())
}

/// Small frames go at once; and a machine that is gone without a word is missed within two minutes.
fn settle(link: &TcpStream) -> std::io::Result<()> {
    link.set_nodelay(true)?;
    link.set_read_timeout(None)?;
    #[cfg(unix)]
    {
        use rustix::net::sockopt::{
            set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
        };
        set_socket_keepalive(link, true)?;
        set_tcp_keepidle(link, Duration::from_mins(1))?;
        set_tcp_keepintvl(link, Duration::from_secs(10))?;
        set_tcp_keepcnt(link, 6)?;
    }
    Ok(())
}

fn rest(left: &mut Duration) {
    sleep(PAUSE.min(*left));
    *left = left.saturating_sub(PAUSE);
}

fn absent(place: &Place, problem: &str) -> Error {
    let Place { rank, size, ref host, port, .. } = *place;
    Error::Unreachable {
        url: format!("{host}:{port}"),
        problem: format!("rank {rank} of {size} does not find the others there: {problem}"),
        remedy: "start all of them together, and let MASTER_ADDR name the machine of rank 0 and MASTER_PORT a port \
                 below a free one there"
            .to_owned(),
    }
}
