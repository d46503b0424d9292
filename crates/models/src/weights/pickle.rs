//! Python's pickles as data: a stack machine that writes down every call and makes none.
//!
//! # Source
//! The opcodes: CPython's `Lib/pickletools.py`, protocols 0 to 5.

use super::bytes::{Bytes, Fault};
use super::graph::{Call, Graph, Node, Value};
use std::collections::HashMap;

/// Pickles empty their stack after a thousand entries of a list or dictionary; only a tuple needs it whole.
const STACK: usize = 1 << 20;

/// Reads one pickle, and leaves `file` behind it.
///
/// # Errors
/// Where a pickle is torn, asks for what no pickle of weights needs (extension codes, out-of-band buffers), or
/// holds more objects than its length explains.
pub(super) fn read<'f>(file: &mut Bytes<'f>) -> Result<(Graph<'f>, Value<'f>), Fault> {
    let objects = 4096 + file.left() / 2;
    let mut machine =
        Machine { file, graph: Graph::default(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let at = machine.file.offset();
        let op = machine.file.u8()?;
        if op == b'.' {
            let root = machine.pop()?;
            return Ok((machine.graph, root));
        }
        machine.step(op).map_err(|fault| Fault { offset: fault.offset.or(Some(at)), ..fault })?;
        if machine.stack.len() > STACK || machine.marks.len() > STACK {
            return Err(Fault::broken(at, "a pickle nested deeper than any that holds weights"));
        }
        if machine.graph.nodes.len() + machine.memo.len() > objects {
            return Err(Fault::broken(at, "a pickle of more objects than its length explains"));
        }
    }
}

struct Machine<'a, 'f> {
    file: &'a mut Bytes<'f>,
    graph: Graph<'f>,
    stack: Vec<Value<'f>>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value<'f>>,
}

impl<'f> Machine<'_, 'f> {
    fn step(&mut self, op: u8) -> Result<(), Fault> {
        let value = match self.literal(op)? {
            None => self.object(op)?,
            value => value,
        };
        match value {
            Some(value) => self.stack.push(value),
            None => self.act(op)?,
        }
        Ok(())
    }

    /// What stands in the file as it is.
    fn literal(&mut self, op: u8) -> Result<Option<Value<'f>>, Fault> {
        Ok(Some(match op {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i32::from_le_bytes(self.file.array()?).into()),
            b'K' => Value::Int(self.file.u8()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.file.array()?).into()),
            b'I' | b'L' => self.decimal()?,
            0x8a => long(self.counted::<1>()?),
            0x8b => long(self.counted::<4>()?),
            b'F' => Value::Float(self.number()?),
            b'G' => Value::Float(f64::from_be_bytes(self.file.array()?)),

            0x8c | b'U' => text(self.counted::<1>()?),
            b'X' | b'T' => text(self.counted::<4>()?),
            0x8d => text(self.counted::<8>()?),
            b'V' => text(self.file.line()?),
            b'S' => text(self.quoted()?),
            b'C' => Value::Bytes(self.counted::<1>()?),
            b'B' => Value::Bytes(self.counted::<4>()?),
            0x8e | 0x96 => Value::Bytes(self.counted::<8>()?),
            _ => return Ok(None),
        }))
    }

    /// What is made of other values, or is one of them again.
    fn object(&mut self, op: u8) -> Result<Option<Value<'f>>, Fault> {
        Ok(Some(match op {
            b')' | b']' | 0x8f => self.hold(Node::Sequence(Vec::new())),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' | b'l' | 0x91 => {
                let items = self.marked()?;
                self.hold(Node::Sequence(items))
            }
            b'}' => self.hold(Node::Dict(Vec::new())),
            b'd' => {
                let entries = pairs(&self.marked()?);
                self.hold(Node::Dict(entries))
            }

            b'c' => {
                let (module, name) = (self.name()?, self.name()?);
                self.hold(Node::Class(module, name))
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.hold(Node::Class(module, name)),
                _ => return Err(self.file.broken("a class without a name")),
            },
            b'i' => {
                let (module, name) = (self.name()?, self.name()?);
                let class = self.hold(Node::Class(module, name));
                let arguments = self.marked()?;
                self.write_down(class, arguments)
            }
            b'o' => {
                let mut arguments = self.marked()?;
                if arguments.is_empty() {
                    return Err(self.file.broken("an object without a class"));
                }
                let class = arguments.remove(0);
                self.write_down(class, arguments)
            }
            b'R' | 0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.write_down_with(class, arguments)
            }
            0x92 => {
                let (_, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.write_down_with(class, arguments)
            }
            b'P' => {
                let name = text(self.file.line()?);
                self.hold(Node::Persistent(name))
            }
            b'Q' => {
                let name = self.pop()?;
                self.hold(Node::Persistent(name))
            }

            b'2' => self.top()?,
            b'g' => {
                let slot = self.number()?;
                self.recall(slot)?
            }
            b'h' => {
                let slot = self.count::<1>()?;
                self.recall(slot)?
            }
            b'j' => {
                let slot = self.count::<4>()?;
                self.recall(slot)?
            }
            _ => return Ok(None),
        }))
    }

    /// What changes the stack, the memo or an object, and puts nothing down.
    fn act(&mut self, op: u8) -> Result<(), Fault> {
        match op {
            // Framing, which a reader of bytes in memory needs not.
            0x80 => self.file.u8().map(drop),
            0x95 => self.file.array::<8>().map(drop),

            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.discard(),
            b'1' => self.marked().map(drop),

            b'a' => {
                let item = self.pop()?;
                self.append(&[item])
            }
            b'e' | 0x90 => {
                let items = self.marked()?;
                self.append(&items)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])
            }
            b'u' => {
                let items = self.marked()?;
                self.set(&items)
            }
            b'b' => self.give_state(),

            b'p' => self.remember_at_line(),
            b'q' => self.remember::<1>(),
            b'r' => self.remember::<4>(),
            0x94 => self.memorize(self.memo.len() as u64),
            _ => Err(Fault::broken(None, format!("{op:#04x} is no pickle opcode that weights need"))),
        }
    }

    // The stack. Nothing below the last mark can be popped, as in CPython.

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value<'f>, Fault> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.floor() => Ok(value),
            _ => Err(Fault::broken(None, "a pickle that takes more than it put down")),
        }
    }

    fn pop(&mut self) -> Result<Value<'f>, Fault> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn marked(&mut self) -> Result<Vec<Value<'f>>, Fault> {
        let start = self
            .marks
            .pop()
            .ok_or_else(|| Fault::broken(None, "a pickle without the mark that it returns to"))?;
        Ok(self.stack.split_off(start))
    }

    fn discard(&mut self) -> Result<(), Fault> {
        if self.stack.len() == self.floor() && self.marks.pop().is_some() {
            Ok(())
        } else {
            self.pop().map(drop)
        }
    }

    // Numbers and names.

    fn count<const N: usize>(&mut self) -> Result<u64, Fault> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.file.array::<N>()?);
        Ok(u64::from_le_bytes(wide))
    }

    fn counted<const N: usize>(&mut self) -> Result<&'f [u8], Fault> {
        let count = self.count::<N>()?;
        self.file.take(count)
    }

    fn name(&mut self) -> Result<&'f str, Fault> {
        let line = self.file.line()?;
        std::str::from_utf8(line).map_err(|_| self.file.broken("a name that is not text"))
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, Fault> {
        let line = self.name()?.trim_end();
        line.parse().map_err(|_| self.file.broken("a number that is none"))
    }

    fn decimal(&mut self) -> Result<Value<'f>, Fault> {
        let line = self.name()?.trim_end();
        let digits = line.strip_suffix('L').unwrap_or(line);
        match (line, digits.parse()) {
            ("00", _) => Ok(Value::Bool(false)),
            ("01", _) => Ok(Value::Bool(true)),
            (_, Ok(number)) => Ok(Value::Int(number)),
            _ => Ok(Value::Text(digits)),
        }
    }

    fn quoted(&mut self) -> Result<&'f [u8], Fault> {
        match self.file.line()? {
            [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => Ok(inner),
            _ => Err(self.file.broken("a string without its quotes")),
        }
    }

    // The memo.

    fn memorize(&mut self, slot: u64) -> Result<(), Fault> {
        let value = self.top()?;
        self.memo.insert(slot, value);
        Ok(())
    }

    fn remember<const N: usize>(&mut self) -> Result<(), Fault> {
        let slot = self.count::<N>()?;
        self.memorize(slot)
    }

    fn remember_at_line(&mut self) -> Result<(), Fault> {
        let slot = self.number()?;
        self.memorize(slot)
    }

    fn recall(&self, slot: u64) -> Result<Value<'f>, Fault> {
        self.memo
            .get(&slot)
            .copied()
            .ok_or_else(|| Fault::broken(None, "a pickle that recalls what it never kept"))
    }

    // Nodes.

    fn hold(&mut self, node: Node<'f>) -> Value<'f> {
        self.graph.nodes.push(node);
        Value::Node(self.graph.nodes.len() - 1)
    }

    fn tuple(&mut self, count: usize) -> Result<Value<'f>, Fault> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        Ok(self.hold(Node::Sequence(items)))
    }

    fn write_down(&mut self, class: Value<'f>, arguments: Vec<Value<'f>>) -> Value<'f> {
        let arguments = self.hold(Node::Sequence(arguments));
        self.write_down_with(class, arguments)
    }

    fn write_down_with(&mut self, class: Value<'f>, arguments: Value<'f>) -> Value<'f> {
        self.hold(Node::Call(Box::new(Call { class, arguments, state: Value::None, entries: Vec::new() })))
    }

    fn target(&mut self) -> Result<Option<&mut Node<'f>>, Fault> {
        match self.top()? {
            Value::Node(index) => Ok(self.graph.nodes.get_mut(index)),
            _ => Ok(None),
        }
    }

    fn append(&mut self, more: &[Value<'f>]) -> Result<(), Fault> {
        match self.target()? {
            Some(Node::Sequence(items)) => items.extend(more),
            // A foreign kind of list: nobody will ask what it holds.
            Some(Node::Call(_)) => {}
            _ => return Err(Fault::broken(None, "a pickle that appends to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, more: &[Value<'f>]) -> Result<(), Fault> {
        match self.target()? {
            Some(Node::Dict(entries)) => entries.extend(pairs(more)),
            Some(Node::Call(call)) => call.entries.extend(pairs(more)),
            _ => return Err(Fault::broken(None, "a pickle that sets entries of what is no dictionary")),
        }
        Ok(())
    }

    fn give_state(&mut self) -> Result<(), Fault> {
        let state = self.pop()?;
        if let Some(Node::Call(call)) = self.target()? {
            call.state = state;
        }
        Ok(())
    }
}

fn pairs<'f>(items: &[Value<'f>]) -> Vec<(Value<'f>, Value<'f>)> {
    items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

fn text(bytes: &[u8]) -> Value<'_> {
    std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text)
}

/// Two's complement, little-endian.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Bytes(bytes);
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}
