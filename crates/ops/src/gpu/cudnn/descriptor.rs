//! What cuDNN is told by its graph interface: descriptors, each with attributes of its kind, which end with being sealed.

use candle::cuda_backend::cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
    cudnnBackendDescriptor_t as Raw, cudnnBackendDescriptorType_t as Kind,
};
use candle::{Error, Result};
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{from_ref, null_mut};

/// A descriptor of cuDNN's.
pub(super) struct Descriptor(Raw);

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it was made, and nobody else has it.
        unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

/// An address on the device, or of a number on this machine.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Address(pub(super) u64);

/// What attributes are made of.
///
/// # Safety
/// It lies in memory as cuDNN has what it calls `TYPE`.
pub(super) unsafe trait Value: Copy {
    const TYPE: Type;
}

macro_rules! value {
    ($($value:ty => $name:ident),+ $(,)?) => {
        $(
            // SAFETY: so NVIDIA defines it.
            unsafe impl Value for $value {
                const TYPE: Type = Type::$name;
            }
        )+
    };
}

value! {
    i64 => CUDNN_TYPE_INT64,
    f32 => CUDNN_TYPE_FLOAT,
    bool => CUDNN_TYPE_BOOLEAN,
    u8 => CUDNN_TYPE_CHAR,
    Address => CUDNN_TYPE_VOID_PTR,
    sys::cudnnHandle_t => CUDNN_TYPE_HANDLE,
    sys::cudnnDataType_t => CUDNN_TYPE_DATA_TYPE,
    sys::cudnnConvolutionMode_t => CUDNN_TYPE_CONVOLUTION_MODE,
    sys::cudnnPointwiseMode_t => CUDNN_TYPE_POINTWISE_MODE,
    sys::cudnnBackendHeurMode_t => CUDNN_TYPE_HEUR_MODE,
}

impl Descriptor {
    pub(super) fn new(kind: Kind) -> Result<Self> {
        let mut raw = null_mut();
        // SAFETY: it writes an address.
        check(kind, unsafe { sys::cudnnBackendCreateDescriptor(kind, &raw mut raw) })?;
        Ok(Self(raw))
    }

    pub(super) fn with<V: Value>(self, name: Name, values: &[V]) -> Result<Self> {
        self.set(name, V::TYPE, values)
    }

    /// With others, which are sealed.
    pub(super) fn of(self, name: Name, others: &[&Self]) -> Result<Self> {
        let others: Vec<Raw> = others.iter().map(|other| other.0).collect();
        self.set(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &others)
    }

    fn set<V>(self, name: Name, of: Type, values: &[V]) -> Result<Self> {
        let at = values.as_ptr().cast::<c_void>();
        // SAFETY: there are so many values of this type, which cuDNN copies.
        let set = unsafe { sys::cudnnBackendSetAttribute(self.0, name, of, values.len() as i64, at) };
        check(name, set)?;
        Ok(self)
    }

    pub(super) fn sealed(self) -> Result<Self> {
        // SAFETY: a descriptor that lives.
        check("sealing", unsafe { sys::cudnnBackendFinalize(self.0) })?;
        Ok(self)
    }

    /// How many values an attribute has.
    fn count(&self, name: Name, of: Type) -> Result<usize> {
        let mut count = 0;
        // SAFETY: without room for values, it writes how many there are.
        let told = unsafe { sys::cudnnBackendGetAttribute(self.0, name, of, 0, &raw mut count, null_mut()) };
        check(name, told)?;
        Ok(count.try_into().unwrap_or(0))
    }

    /// An attribute with one number.
    pub(super) fn number(&self, name: Name) -> Result<i64> {
        let (mut number, mut count) = (0i64, 0);
        let (of, at) = (i64::TYPE, (&raw mut number).cast());
        // SAFETY: there is room for one.
        check(name, unsafe { sys::cudnnBackendGetAttribute(self.0, name, of, 1, &raw mut count, at) })?;
        Ok(number)
    }

    pub(super) fn text(&self, name: Name) -> Result<String> {
        let mut text = vec![0u8; self.count(name, u8::TYPE)?];
        let (mut count, at) = (0, text.as_mut_ptr().cast());
        let room = text.len() as i64;
        // SAFETY: there is room for so many.
        check(name, unsafe {
            sys::cudnnBackendGetAttribute(self.0, name, u8::TYPE, room, &raw mut count, at)
        })?;
        text.truncate(count.try_into().unwrap_or(0));
        while text.last() == Some(&0) {
            text.pop();
        }
        String::from_utf8(text).map_err(Error::wrap)
    }

    /// Numbers that stand for notes. Of an enumeration, one may come that this build does not know.
    pub(super) fn notes(&self, name: Name, of: Type) -> Result<Vec<i32>> {
        const ROOM: usize = 64;
        let (mut notes, mut count) = ([0i32; ROOM], 0);
        let at = notes.as_mut_ptr().cast();
        // SAFETY: there is room for so many; an enumeration is an `int`.
        check(name, unsafe {
            sys::cudnnBackendGetAttribute(self.0, name, of, ROOM as i64, &raw mut count, at)
        })?;
        Ok(notes.into_iter().take(count.try_into().unwrap_or(0)).collect())
    }

    /// Descriptors of this kind, which cuDNN makes known.
    pub(super) fn others(&self, name: Name, kind: Kind) -> Result<Vec<Self>> {
        let of = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
        let others = (0..self.count(name, of)?).map(|_| Self::new(kind)).collect::<Result<Vec<_>>>()?;
        let mut raw: Vec<Raw> = others.iter().map(|other| other.0).collect();
        let (mut count, at) = (0, raw.as_mut_ptr().cast());
        let room = raw.len() as i64;
        // SAFETY: it fills descriptors of this kind, of which there are so many.
        check(name, unsafe { sys::cudnnBackendGetAttribute(self.0, name, of, room, &raw mut count, at) })?;
        Ok(others.into_iter().take(count.try_into().unwrap_or(0)).collect())
    }

    /// Does what a plan says, with what this one binds to it.
    ///
    /// # Safety
    /// The addresses that this binds are those of as many numbers as the plan's tensors have, for as long as the stream takes.
    pub(super) unsafe fn execute(&self, handle: sys::cudnnHandle_t, plan: &Self) -> Result<()> {
        // SAFETY: as the caller has promised.
        check("a plan", unsafe { sys::cudnnBackendExecute(handle, plan.0, self.0) })
    }
}

/// The address of a number on this machine.
pub(super) fn here(number: &f32) -> Address {
    Address(from_ref(number) as u64)
}

fn check(what: impl std::fmt::Debug, status: sys::cudnnStatus_t) -> Result<()> {
    if status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    let mut why = [0 as c_char; 512];
    // SAFETY: it writes a text of at most so many letters, and the 0 at its end.
    unsafe { sys::cudnnGetLastErrorString(why.as_mut_ptr(), why.len()) };
    // SAFETY: the last letter is 0, whatever was written.
    let why = unsafe { CStr::from_ptr(why.as_ptr()) }.to_string_lossy();
    candle::bail!("cuDNN: {what:?}: {status:?} {why}")
}
