//! The messages of `onnx.proto` that a graph is made of. Their fields go by number there, and here.

use crate::protobuf::Message;

/// Kinds of numbers, as `TensorProto.DataType` counts them.
const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// A constant of floats.
pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> Message {
    tensor(name, dims, FLOAT, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

/// A constant of whole numbers, along one axis.
pub fn wholes(name: &str, values: &[i64]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, &[values.len()], INT64, &bytes)
}

fn tensor(name: &str, dims: &[usize], kind: u64, bytes: &[u8]) -> Message {
    let dims = dims.iter().fold(Message::default(), |message, &length| message.whole(1, length as u64));
    dims.whole(2, kind).text(8, name).text(9, bytes)
}

/// What a node is told beside its inputs: `AttributeProto`.
pub fn int(name: &str, value: usize) -> Message {
    Message::default().text(1, name).whole(3, value as u64).whole(20, 2)
}

/// The same of a float.
pub fn float(name: &str, value: f32) -> Message {
    Message::default().text(1, name).float(2, value).whole(20, 1)
}

/// The same of whole numbers.
pub fn ints(name: &str, values: &[usize]) -> Message {
    let message = Message::default().text(1, name);
    values.iter().fold(message, |message, &value| message.whole(8, value as u64)).whole(20, 7)
}

/// A length along an axis.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// Always this.
    Fixed(usize),
    /// What the caller brings, by this name.
    Any(&'static str),
}

/// What goes in or comes out: `ValueInfoProto` of a tensor of floats.
pub fn value(name: &str, shape: &[Length], about: &str) -> Message {
    let shape = shape.iter().fold(Message::default(), |message, length| {
        message.message(
            1,
            match length {
                Length::Fixed(length) => Message::default().whole(1, *length as u64),
                Length::Any(name) => Message::default().text(2, name),
            },
        )
    });
    let tensor = Message::default().whole(1, FLOAT).message(2, shape);
    Message::default().text(1, name).message(2, Message::default().message(1, tensor)).text(3, about)
}
