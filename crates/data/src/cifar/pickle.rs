use super::push_planes;
use crate::Images;
use crate::content::{Content, Cursor};
use crate::manifest::Manifest;
use sokd_core::{Error, Result};
use std::collections::BTreeMap;

/// Appends one file of the python release: a dict with `data`, an array of `(images, 3072)` bytes in planes, and
/// `labels` (CIFAR-10) or `fine_labels` (CIFAR-100), a list of as many numbers.
///
/// # Errors
/// Anything else in the file. Nothing in it is executed: a pickle is a program, and this reader knows only the
/// instructions that build those two.
pub(super) fn read(content: &Content, manifest: &Manifest, images: &mut Images) -> Result<()> {
    let heap = Heap::load(content)?;
    let key = if manifest.classes.len() == 100 { "fine_labels" } else { "labels" };
    let (data, labels) = (heap.array(heap.entry("data")?)?, heap.list(heap.entry(key)?)?);
    if data.len() != labels.len() * images.stride() {
        let problem = format!(
            "{} bytes of pixels for {} labels of {} bytes",
            data.len(),
            labels.len(),
            images.stride()
        );
        return Err(content.wrong(None, problem));
    }
    for (index, (planes, &label)) in data.chunks_exact(images.stride()).zip(labels).enumerate() {
        match heap.values[label] {
            Value::Int(label) if (0..manifest.classes.len() as i64).contains(&label) => {
                push_planes(images, planes, label as u32);
            }
            _ => {
                return Err(content.wrong(None, format!("the label of image {index} is none of the classes")));
            }
        }
    }
    Ok(())
}

/// Where a value lies in the [`Heap`]: values refer to each other by place, so a file cannot nest them deeper than
/// our stack, nor a loop of references hang us.
type Place = usize;

/// What the instructions of protocol 2 can build, as far as these files use it.
enum Value<'a> {
    /// `None`, `True`, `False`: nothing here depends on them.
    Plain,
    Int(i64),
    Bytes(&'a [u8]),
    /// What would have been imported from a module; it stays a name.
    Global(&'a [u8]),
    List(Vec<Place>),
    Tuple(Vec<Place>),
    Dict(Vec<(Place, Place)>),
    /// What calling `function` with `arguments` would have given, and the state that it was then told.
    Called {
        function: Place,
        arguments: Place,
        state: Option<Place>,
    },
}

/// More than any of these files needs, and less than would hurt.
const MOST_VALUES: usize = 1 << 20;

struct Heap<'a> {
    content: &'a Content,
    values: Vec<Value<'a>>,
    root: Place,
}

impl<'a> Heap<'a> {
    /// Runs the instructions, up to the one that stops.
    fn load(content: &'a Content) -> Result<Self> {
        let mut machine = Machine {
            cursor: content.cursor(),
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
        };
        while machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { content, values: machine.values, root })
    }

    fn wrong(&self, problem: impl Into<String>) -> Error {
        self.content.wrong(None, problem)
    }

    /// The entry of the dict that the file is.
    fn entry(&self, key: &str) -> Result<Place> {
        let Value::Dict(entries) = &self.values[self.root] else {
            return Err(self.wrong("holds no dict"));
        };
        let named = |&&(name, _): &&(Place, Place)| matches!(self.values[name], Value::Bytes(name) if name == key.as_bytes());
        let found = entries.iter().find(named);
        found.map(|&(_, value)| value).ok_or_else(|| self.wrong(format!("its dict has no entry `{key}`")))
    }

    fn list(&self, place: Place) -> Result<&[Place]> {
        match &self.values[place] {
            Value::List(items) => Ok(items),
            _ => Err(self.wrong("its labels are no list")),
        }
    }

    fn tuple(&self, place: Place) -> Option<&[Place]> {
        match &self.values[place] {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    fn called(&self, place: Place, name: &[u8]) -> Option<(Place, Option<Place>)> {
        match self.values[place] {
            Value::Called { function, arguments, state } => match self.values[function] {
                Value::Global(called) if called == name => Some((arguments, state)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The bytes of a numpy array of unsigned bytes in C order.
    fn array(&self, place: Place) -> Result<&'a [u8]> {
        self.array_state(place)
            .ok_or_else(|| self.wrong("its data are no numpy array of unsigned bytes in C order"))
    }

    /// `ndarray.__setstate__` takes `(version, shape, dtype, is Fortran, bytes)`.
    fn array_state(&self, place: Place) -> Option<&'a [u8]> {
        let (_, state) = self.called(place, b"_reconstruct")?;
        let &[_, shape, dtype, _, bytes] = self.tuple(state?)? else { return None };
        let (dtype, _) = self.called(dtype, b"dtype")?;
        let Value::Bytes(b"u1") = self.values[*self.tuple(dtype)?.first()?] else { return None };
        let Value::Bytes(bytes) = self.values[bytes] else { return None };
        let size = |&side: &Place| match self.values[side] {
            Value::Int(side) => usize::try_from(side).ok(),
            _ => None,
        };
        let sides: Option<Vec<usize>> = self.tuple(shape)?.iter().map(size).collect();
        let [rows, columns] = sides?[..] else { return None };
        (rows.checked_mul(columns)? == bytes.len()).then_some(bytes)
    }
}

/// The stack machine that a pickle is written for.
struct Machine<'a> {
    cursor: Cursor<'a>,
    values: Vec<Value<'a>>,
    stack: Vec<Place>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, Place>,
}

impl<'a> Machine<'a> {
    /// One instruction; false after the last.
    fn step(&mut self) -> Result<bool> {
        let [code] = self.cursor.array("an instruction")?;
        match code {
            b'.' => return Ok(false),
            0x80 => match self.cursor.array("the protocol")? {
                [2] => {}
                [other] => {
                    return Err(self.cursor.wrong(format!("pickle protocol {other}; the release has 2")));
                }
            },
            b'N' | 0x88 | 0x89 => self.push(Value::Plain)?,
            b'K' => {
                let [byte] = self.cursor.array("a number")?;
                self.push(Value::Int(byte.into()))?;
            }
            b'M' => {
                let short = u16::from_le_bytes(self.cursor.array("a number")?);
                self.push(Value::Int(short.into()))?;
            }
            b'J' => {
                let int = i32::from_le_bytes(self.cursor.array("a number")?);
                self.push(Value::Int(int.into()))?;
            }
            b'U' => {
                let [length] = self.cursor.array("a length")?;
                self.text(length.into())?;
            }
            b'T' => {
                let length = u32::from_le_bytes(self.cursor.array("a length")?);
                self.text(length as usize)?;
            }
            b'c' => {
                self.cursor.line("a module")?;
                let name = self.cursor.line("a name")?;
                self.push(Value::Global(name))?;
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b'(' => self.marks.push(self.stack.len()),
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x85..=0x87 => {
                let length = usize::from(code - 0x84);
                let from = self.stack.len().checked_sub(length).ok_or_else(|| self.empty())?;
                let items = self.stack.split_off(from);
                self.push(Value::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.insert(&items)?;
            }
            b'R' => {
                let arguments = self.pop()?;
                let function = self.pop()?;
                self.push(Value::Called { function, arguments, state: None })?;
            }
            b'b' => {
                let told = self.pop()?;
                let place = self.top()?;
                match &mut self.values[place] {
                    Value::Called { state, .. } => *state = Some(told),
                    _ => return Err(self.cursor.wrong("state for something that takes none")),
                }
            }
            b'q' | b'r' => {
                let (index, place) = (self.index(code == b'r')?, self.top()?);
                self.memo.insert(index, place);
            }
            b'h' | b'j' => {
                let index = self.index(code == b'j')?;
                let Some(&place) = self.memo.get(&index) else {
                    return Err(self
                        .cursor
                        .wrong(format!("refers to {index}, which nothing was stored under")));
                };
                self.stack.push(place);
            }
            other => {
                let problem = format!("instruction {other:#04x}, which the CIFAR release does not use");
                return Err(self.cursor.wrong(problem));
            }
        }
        Ok(true)
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        if self.values.len() == MOST_VALUES {
            return Err(self.cursor.wrong(format!("more than {MOST_VALUES} values")));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let bytes = self.cursor.take(length, "a string")?;
        self.push(Value::Bytes(bytes))
    }

    fn index(&mut self, wide: bool) -> Result<u32> {
        if wide {
            return Ok(u32::from_le_bytes(self.cursor.array("an index")?));
        }
        let [index] = self.cursor.array("an index")?;
        Ok(index.into())
    }

    fn empty(&self) -> Error {
        self.cursor.wrong("takes from an empty stack")
    }

    fn pop(&mut self) -> Result<Place> {
        self.stack.pop().ok_or_else(|| self.empty())
    }

    fn top(&self) -> Result<Place> {
        self.stack.last().copied().ok_or_else(|| self.empty())
    }

    fn since_mark(&mut self) -> Result<Vec<Place>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err(self.cursor.wrong("closes what was never opened")),
        }
    }

    fn append(&mut self, added: &[Place]) -> Result<()> {
        let place = self.top()?;
        match &mut self.values[place] {
            Value::List(items) => items.extend_from_slice(added),
            _ => return Err(self.cursor.wrong("appends to something that is no list")),
        }
        Ok(())
    }

    fn insert(&mut self, added: &[Place]) -> Result<()> {
        let place = self.top()?;
        match &mut self.values[place] {
            Value::Dict(entries) => entries.extend(added.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err(self.cursor.wrong("inserts into something that is no dict")),
        }
        Ok(())
    }
}
