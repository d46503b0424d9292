//! A tensor as files hold it: a type, a shape, and strides through a storage that it may share.

use super::bytes::Fault;
use candle::{Device, Tensor, WithDType};
use half::{bf16, f16};

/// How a number lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Scalar {
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// How many bytes a number takes in the tensor that is made of it.
    pub fn wide(self) -> usize {
        match self {
            Self::F64 | Self::F32 | Self::F16 | Self::Bf16 => 4,
            _ => 8,
        }
    }
}

/// Numbers of a storage, not yet read.
#[derive(Clone, Debug)]
pub(super) struct View<'f> {
    pub scalar: Scalar,
    pub storage: &'f [u8],
    /// In numbers, as the strides are.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

impl<'f> View<'f> {
    /// All of `storage`, in row-major order.
    pub fn whole(scalar: Scalar, storage: &'f [u8], shape: Vec<usize>) -> Self {
        let mut strides = vec![1usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
        }
        Self { scalar, storage, offset: 0, shape, strides }
    }

    /// How many numbers.
    ///
    /// # Errors
    /// Where that many cannot be counted, or where one of them would lie outside the storage.
    pub fn numbers(&self) -> Result<usize, Fault> {
        let View { scalar, storage, offset, shape, strides } = self;
        let leaves = || {
            let bytes = storage.len();
            let problem = format!(
                "a tensor of shape {shape:?}, strides {strides:?}, offset {offset} and type {scalar:?}"
            );
            Fault::broken(None, format!("{problem} leaves its storage of {bytes} bytes"))
        };
        let count = |count: usize, &size: &usize| count.checked_mul(size.max(1));
        let numbers = shape.iter().try_fold(1, count).ok_or_else(leaves)?;
        if shape.contains(&0) {
            return Ok(0);
        }
        let reach = |last: usize, (&size, &stride): (&usize, &usize)| {
            (size - 1).checked_mul(stride)?.checked_add(last)
        };
        let last = shape.iter().zip(strides).try_fold(*offset, reach);
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(scalar.bytes()));
        end.filter(|&end| end <= storage.len()).ok_or_else(leaves)?;
        Ok(numbers)
    }

    /// The tensor: floats as `f32`, everything else as `i64`.
    ///
    /// # Errors
    /// As of [`View::numbers`].
    pub fn read(&self) -> Result<Tensor, Fault> {
        match self.scalar {
            Scalar::F64 => self.gather(|bytes| f64::from_le_bytes(bytes) as f32),
            Scalar::F32 => self.gather(f32::from_le_bytes),
            Scalar::F16 => self.gather(|bytes| f16::from_le_bytes(bytes).to_f32()),
            Scalar::Bf16 => self.gather(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            Scalar::I64 => self.gather(i64::from_le_bytes),
            Scalar::I32 => self.gather(|bytes| i64::from(i32::from_le_bytes(bytes))),
            Scalar::I16 => self.gather(|bytes| i64::from(i16::from_le_bytes(bytes))),
            Scalar::I8 => self.gather(|bytes| i64::from(i8::from_le_bytes(bytes))),
            Scalar::U8 | Scalar::Bool => self.gather(|[byte]: [u8; 1]| i64::from(byte)),
        }
    }

    fn gather<const SIZE: usize, T: WithDType>(
        &self,
        decode: impl Fn([u8; SIZE]) -> T,
    ) -> Result<Tensor, Fault> {
        let total = self.numbers()?;
        let mut numbers = Vec::with_capacity(total);
        let (&row, outer) = self.shape.split_last().unwrap_or((&1, &[]));
        let step = self.strides.last().copied().unwrap_or(1);
        for index in 0..total.checked_div(row).unwrap_or(0) {
            let (mut start, mut rest) = (self.offset, index);
            for (size, stride) in outer.iter().zip(&self.strides).rev() {
                start += rest % size * stride;
                rest /= size;
            }
            for position in (0..row).map(|column| start + column * step) {
                let mut bytes = [0; SIZE];
                bytes.copy_from_slice(&self.storage[position * SIZE..][..SIZE]);
                numbers.push(decode(bytes));
            }
        }
        Tensor::from_vec(numbers, self.shape.as_slice(), &Device::Cpu)
            .map_err(|error| Fault::broken(None, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: impl IntoIterator<Item = f32>) -> Vec<u8> {
        numbers.into_iter().flat_map(f32::to_le_bytes).collect()
    }

    fn view(storage: &[u8], offset: usize, shape: [usize; 2], strides: [usize; 2]) -> View<'_> {
        View { scalar: Scalar::F32, storage, offset, shape: shape.into(), strides: strides.into() }
    }

    #[test]
    fn strides_are_walked() {
        let storage = bytes((0..12u8).map(f32::from));
        let transposed = view(&storage, 1, [3, 2], [1, 4]).read().unwrap();
        assert_eq!(transposed.to_vec2::<f32>().unwrap(), [[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]]);
        let whole = View::whole(Scalar::F32, &storage, vec![2, 3, 2]).read().unwrap();
        assert_eq!(whole.flatten_all().unwrap().to_vec1::<f32>().unwrap()[7..9], [7.0, 8.0]);
        let scalar = View::whole(Scalar::I64, &storage[..8], vec![]).read().unwrap();
        assert_eq!(scalar.dims(), [0; 0]);
        assert_eq!(View::whole(Scalar::F32, &[], vec![0, 3]).read().unwrap().dims(), [0, 3]);
    }

    #[test]
    fn nothing_outside_the_storage_is_read() {
        let storage = bytes([1.0; 6]);
        assert!(view(&storage, 0, [2, 3], [3, 1]).read().is_ok());
        for (offset, shape, strides) in [
            (1, [2, 3], [3, 1]),
            (0, [2, 3], [4, 1]),
            (0, [1, 7], [7, 1]),
            (usize::MAX, [1, 1], [1, 1]),
            (0, [2, 2], [usize::MAX, usize::MAX]),
            (0, [usize::MAX, 2], [0, 0]),
            (0, [usize::MAX, 0], [0, usize::MAX]),
        ] {
            let read = view(&storage, offset, shape, strides).read();
            assert_eq!(read.is_ok(), shape.contains(&0), "{offset} {shape:?} {strides:?}");
        }
    }
}
