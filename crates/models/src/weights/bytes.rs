//! A file's bytes, read in order.

use sokd_core::Error;
use std::path::Path;

/// What is wrong with a file, before it is known which file it is.
#[derive(Debug)]
pub(super) struct Fault {
    pub offset: Option<u64>,
    pub problem: String,
    pub remedy: &'static str,
}

impl Fault {
    /// The file is torn, altered, or nothing that a trainer wrote.
    pub fn broken(offset: impl Into<Option<u64>>, problem: impl Into<String>) -> Self {
        Self {
            offset: offset.into(),
            problem: problem.into(),
            remedy: "fetch the file again and compare its size and digest with the publisher's",
        }
    }

    /// The file is sound, but not what can be used here.
    pub fn unusable(problem: impl Into<String>, remedy: &'static str) -> Self {
        Self { offset: None, problem: problem.into(), remedy }
    }

    pub fn unknown_type() -> Self {
        Self::unusable(
            "a tensor of a type other than f64, f32, f16, bf16, i64, i32, i16, i8, u8 and bool",
            "convert it to f32 with PyTorch and save it again",
        )
    }

    /// The same, with the name of the weight.
    pub fn about(self, name: &str) -> Self {
        Self { problem: format!("{name}: {}", self.problem), ..self }
    }

    pub fn of(self, path: &Path) -> Error {
        Error::file(path, self.offset, self.problem, self.remedy)
    }
}

/// A place in a file's bytes; nothing beyond their end is ever believed.
#[derive(Clone)]
pub(super) struct Bytes<'f> {
    all: &'f [u8],
    at: usize,
    /// Where `all` begins in the file.
    base: u64,
}

impl<'f> Bytes<'f> {
    pub fn new(all: &'f [u8], base: u64) -> Self {
        Self { all, at: 0, base }
    }

    /// The place, from the start of the file.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    pub fn left(&self) -> usize {
        self.all.len() - self.at
    }

    pub fn broken(&self, problem: impl Into<String>) -> Fault {
        Fault::broken(self.offset(), problem)
    }

    /// The next `count` bytes. `count` is what the file claims, so it may be anything.
    pub fn take(&mut self, count: u64) -> Result<&'f [u8], Fault> {
        if count > self.left() as u64 {
            return Err(self.broken(format!("{count} bytes are announced and {} follow", self.left())));
        }
        let start = self.at;
        self.at += count as usize;
        Ok(&self.all[start..self.at])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    pub fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    /// Up to the next line break, which is dropped.
    pub fn line(&mut self) -> Result<&'f [u8], Fault> {
        let rest = &self.all[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(length.map_or(u64::MAX, |length| length as u64))?;
        self.at += 1;
        Ok(line)
    }
}

/// A name out of a file, fit to be shown: short, and without what a terminal would obey.
pub(super) fn shown(name: &str) -> String {
    const ENOUGH: usize = 80;
    let mut out: String = name.chars().take(ENOUGH).flat_map(char::escape_debug).collect();
    if name.chars().nth(ENOUGH).is_some() {
        out.push('…');
    }
    out
}
