//! What goes over a connection: frames, each with its number, so that two processes which have parted ways in their
//! program notice it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Data = 0,
    /// The last one: why its sender ends.
    Farewell = 1,
}

/// Longer than any: who sends such a length speaks another language.
const LONGEST: u64 = 1 << 36;
/// Before its length is believed, so much is set aside for a frame.
const BELIEVED: usize = 1 << 20;

pub(crate) fn send(mut link: &TcpStream, count: u32, kind: Kind, body: &[u8]) -> io::Result<()> {
    let mut head = [0; 13];
    head[..4].copy_from_slice(&count.to_le_bytes());
    head[4] = kind as u8;
    head[5..].copy_from_slice(&(body.len() as u64).to_le_bytes());
    // One packet where it fits: two small writes would wait for each other.
    if body.len() < 1 << 10 {
        return link.write_all(&[&head, body].concat());
    }
    link.write_all(&head)?;
    link.write_all(body)
}

/// In words why nothing more comes from the other side.
fn lost(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            "it ended without a word: it was killed, or has failed".to_owned()
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            "it does not answer: its machine may be gone".to_owned()
        }
        _ => error.to_string(),
    }
}

/// In words why the other side has ended, if it has: without waiting for it, and without taking a word of it that waits.
pub(crate) fn ended(link: &TcpStream) -> Option<String> {
    let mut head = [0; 5];
    let mut look = || {
        link.set_nonblocking(true)?;
        let seen = link.peek(&mut head);
        link.set_nonblocking(false)?;
        seen
    };
    match look() {
        Ok(0) => Some(lost(&ErrorKind::UnexpectedEof.into())),
        Ok(5) if head[4] == Kind::Farewell as u8 => receive(link, 0).err(),
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => Some(lost(&error)),
    }
}

/// What the other side has sent as its frame of that number, or in words why there is none.
pub(crate) fn receive(link: &TcpStream, count: u32) -> Result<Vec<u8>, String> {
    let mut head = [0; 13];
    let mut from = link;
    from.read_exact(&mut head).map_err(|error| lost(&error))?;
    let [a, b, c, d, kind, length @ ..] = head;
    let (sent, length) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(length));
    if kind > Kind::Farewell as u8 || length > LONGEST {
        return Err("it says what no process of this training would".to_owned());
    }
    let mut body = Vec::with_capacity((length as usize).min(BELIEVED));
    from.take(length).read_to_end(&mut body).map_err(|error| lost(&error))?;
    if (body.len() as u64) < length {
        return Err(lost(&ErrorKind::UnexpectedEof.into()));
    }
    if kind == Kind::Farewell as u8 {
        return Err(format!("it has ended: {}", String::from_utf8_lossy(&body)));
    }
    if sent != count {
        return Err(format!(
            "it is at its word {sent} where this process is at {count}: they do not run the same"
        ));
    }
    Ok(body)
}
