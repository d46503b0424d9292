use crate::Fabric;
use crate::frame::{Kind, ended, receive, send};
use sokd_core::{Error, Result};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// The processes that train together, seen from one of them.
///
/// All of them call the same methods in the same order; each call waits for the others.
#[derive(Debug)]
pub struct World {
    rank: usize,
    /// By rank; none to itself, and none at all for a process that is alone.
    links: Vec<Option<TcpStream>>,
    /// Exchanges so far.
    count: AtomicU32,
    fabric: Option<Box<dyn Fabric>>,
}

/// A process on its own: nothing is exchanged, and every mean is its own word, to the bit.
pub static ALONE: World = World::alone();

impl World {
    /// One process.
    pub const fn alone() -> Self {
        Self { rank: 0, links: Vec::new(), count: AtomicU32::new(0), fabric: None }
    }

    pub(crate) fn of(rank: usize, links: Vec<Option<TcpStream>>) -> Self {
        Self { rank, links, count: AtomicU32::new(0), fabric: None }
    }

    /// The same processes, whose devices have a way of their own.
    #[must_use]
    pub fn over(self, fabric: Box<dyn Fabric>) -> Self {
        Self { fabric: Some(fabric), ..self }
    }

    /// The way between their devices, where there is one.
    pub fn fabric(&self) -> Option<&dyn Fabric> {
        self.fabric.as_deref()
    }

    /// Whether all are still there: for who waits for something else than a word of theirs.
    ///
    /// # Errors
    /// [`Error::Parted`] when one of them is gone.
    pub fn check(&self) -> Result<()> {
        for (rank, link) in self.links.iter().enumerate() {
            if let Some(problem) = link.as_ref().and_then(ended) {
                return Err(Error::Parted { rank, problem });
            }
        }
        Ok(())
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.links.len().max(1)
    }

    /// Whether nobody else is there.
    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// Whether this is the process that speaks and writes for all: rank 0.
    pub fn leads(&self) -> bool {
        self.rank == 0
    }

    /// Which part of everything is this process's.
    pub fn share(&self) -> Share {
        Share::new(self.rank, self.size())
    }

    /// The weighted mean of a vector over all processes, in the order of their ranks, summed in double precision:
    /// the same bits everywhere. What it returns is the sum of the weights.
    ///
    /// # Errors
    /// [`Error::Parted`] when one of them is gone; the vector is then as it was.
    pub fn mean(&self, values: &mut [f32], weight: f64) -> Result<f64> {
        if self.is_alone() {
            return Ok(weight);
        }
        // Each process sums one part for all: so everything goes over each connection once, and once back.
        let part = |share: Share| {
            let own = values[share.of(values.len())].iter().flat_map(|value| value.to_le_bytes());
            weight.to_le_bytes().into_iter().chain(own).collect()
        };
        let parts: Vec<Vec<u8>> = self.share().all().map(part).collect();
        let given = self.swap(&parts)?;
        let mut sum = vec![0.0; self.share().of(values.len()).len()];
        let mut total = 0.0;
        for (rank, given) in given.iter().enumerate() {
            let Some((weight, theirs)) =
                given.split_first_chunk().filter(|(_, rest)| rest.len() == 4 * sum.len())
            else {
                let problem =
                    format!("it sends {} bytes of a vector of {} numbers", given.len(), values.len());
                return Err(Error::Parted { rank, problem });
            };
            let weight = f64::from_le_bytes(*weight);
            total += weight;
            sum.iter_mut().zip(floats(theirs)).for_each(|(sum, value)| *sum += weight * f64::from(value));
        }
        let own: Vec<u8> = sum.iter().flat_map(|sum| ((sum / total) as f32).to_le_bytes()).collect();
        let means = self.gather(&own)?;
        for (share, mean) in self.share().all().zip(&means) {
            let place = share.of(values.len());
            values[place].iter_mut().zip(floats(mean)).for_each(|(value, mean)| *value = mean);
        }
        Ok(total)
    }

    /// What each process has to say, by rank.
    ///
    /// # Errors
    /// [`Error::Parted`] when one of them is gone.
    pub fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.swap(&vec![own; self.size()])
    }

    /// What rank 0 has to say: what the others bring along does not count.
    ///
    /// # Errors
    /// [`Error::Parted`] when one of them is gone.
    pub fn follow(&self, own: &[u8]) -> Result<Vec<u8>> {
        let said = self.gather(if self.leads() { own } else { &[] })?;
        Ok(said.into_iter().next().unwrap_or_default())
    }

    /// Tells the others why this process ends: they end too, at the next word that they wait for.
    pub fn leave(&self, why: &str) {
        for link in self.links.iter().flatten() {
            // Who is gone already needs no farewell.
            send(link, 0, Kind::Farewell, why.as_bytes()).ok();
        }
    }

    /// Each process gives each other its part of `parts`, by rank, and gets what they have for it.
    fn swap<T: AsRef<[u8]> + Sync>(&self, parts: &[T]) -> Result<Vec<Vec<u8>>> {
        if self.is_alone() {
            return Ok(parts.iter().map(|part| part.as_ref().to_vec()).collect());
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        // Who reads while all write never waits in a circle.
        thread::scope(|scope| {
            for (link, part) in self.links.iter().zip(parts) {
                if let Some(link) = link {
                    // A connection that cannot be written to cannot be read from either, and is missed there.
                    scope.spawn(move || send(link, count, Kind::Data, part.as_ref()));
                }
            }
            let theirs = self.links.iter().zip(parts).enumerate();
            let theirs = theirs.map(|(rank, (link, own))| match link {
                None => Ok(own.as_ref().to_vec()),
                Some(link) => receive(link, count).map_err(|problem| Error::Parted { rank, problem }),
            });
            theirs.collect()
        })
    }
}

/// Which part of everything is a process's: parts follow each other in the order of ranks, and differ by one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    rank: usize,
    size: usize,
}

impl Share {
    /// Of a process that is alone.
    pub const WHOLE: Self = Self { rank: 0, size: 1 };

    pub(crate) fn new(rank: usize, size: usize) -> Self {
        Self { rank, size }
    }

    /// How many processes there are.
    pub fn size(self) -> usize {
        self.size
    }

    /// The part of so many things.
    pub fn of(self, things: usize) -> Range<usize> {
        things * self.rank / self.size..things * (self.rank + 1) / self.size
    }

    /// The parts of all processes, by rank.
    fn all(self) -> impl Iterator<Item = Self> {
        (0..self.size).map(move |rank| Self { rank, ..self })
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    let (floats, _) = bytes.as_chunks();
    floats.iter().map(|float| f32::from_le_bytes(*float))
}
