//! As much of protocol buffers as event files and ONNX need.

/// A message in the making: fields behind each other, each a number and a value.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

/// How a value lies in the bytes.
const VARINT: u64 = 0;
const EIGHT: u64 = 1;
const COUNTED: u64 = 2;
const FOUR: u64 = 5;

impl Message {
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(mut self, mut value: u64) -> Self {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A whole number, a truth value or one of an enumeration.
    pub fn whole(self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | VARINT).varint(value)
    }

    pub fn double(self, field: u64, value: f64) -> Self {
        self.varint(field << 3 | EIGHT).raw(&value.to_le_bytes())
    }

    pub fn float(self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | FOUR).raw(&value.to_le_bytes())
    }

    /// A text, or bytes.
    pub fn text(self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(field << 3 | COUNTED).varint(value.len() as u64).raw(value)
    }

    pub fn message(self, field: u64, value: Self) -> Self {
        self.text(field, value.0)
    }
}

/// A value as it lies in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// A whole number, or the bits of another.
    Whole(u64),
    /// A text, bytes or a message.
    Counted(&'a [u8]),
}

/// The fields of a message, up to the first that is none.
pub fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            VARINT => Field::Whole(varint(&mut bytes)?),
            EIGHT => Field::Whole(u64::from_le_bytes(taken(&mut bytes, 8)?.try_into().ok()?)),
            FOUR => Field::Whole(u64::from(u32::from_le_bytes(taken(&mut bytes, 4)?.try_into().ok()?))),
            COUNTED => {
                let size = varint(&mut bytes)?;
                Field::Counted(taken(&mut bytes, size)?)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    })
}

fn taken<'a>(bytes: &mut &'a [u8], count: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(count).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = taken(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the format's own description: 150 as field 1, `testing` as field 2, a message as field 3.
    #[test]
    fn fields_lie_as_the_format_has_them() {
        let inner = Message::default().whole(1, 150);
        let outer =
            Message::default().text(2, "testing").message(3, inner.clone()).double(4, 1.0).float(5, 1.0);
        assert_eq!(inner.clone().bytes(), [0x08, 0x96, 0x01]);
        let bytes = outer.bytes();
        assert_eq!(bytes[..14], *b"\x12\x07testing\x1a\x03\x08\x96\x01");
        let read: Vec<_> = fields(&bytes).collect();
        assert_eq!(read[0], (2, Field::Counted(b"testing")));
        assert_eq!(read[1], (3, Field::Counted(&inner.bytes())));
        assert_eq!(read[2], (4, Field::Whole(1.0_f64.to_bits())));
        assert_eq!(read[3], (5, Field::Whole(u64::from(1.0_f32.to_bits()))));
        assert_eq!(fields(&bytes[..11]).count(), 1, "the second is cut short");
    }

    #[test]
    fn numbers_of_any_size_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let bytes = Message::default().whole(15, value).bytes();
            assert_eq!(fields(&bytes).collect::<Vec<_>>(), [(15, Field::Whole(value))]);
        }
    }
}
