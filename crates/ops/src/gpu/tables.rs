use crate::Axis;
use candle::{Device, DeviceLocation, Result, Tensor};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

type Tables = [Tensor; 3];
/// A device, and an axis to the bit.
type Key = (DeviceLocation, [Vec<u32>; 3]);

/// What was sent already: networks ask for the same few axes in every step.
static KNOWN: LazyLock<Mutex<HashMap<Key, Tables>>> = LazyLock::new(Mutex::default);

/// More are not kept: a day of maps of any size must not fill a GPU. Those that are stay where they are, for what was captured.
const KEPT: usize = 256;

/// An axis in a device's memory: where each line's taps start, their inputs, their weights.
pub(crate) fn tables(axis: &Axis, device: &Device) -> Result<Tables> {
    let (starts, inputs, weights) = axis.flat();
    let bits = weights.iter().map(|weight| weight.to_bits()).collect();
    let key = (device.location(), [starts, inputs, bits]);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(tables) = known.get(&key) {
        return Ok(tables.clone());
    }
    let [starts, inputs, _] = &key.1;
    let send = |numbers: &[u32]| Tensor::new(numbers, device);
    let tables = [send(starts)?, send(inputs)?, Tensor::new(weights.as_slice(), device)?];
    if known.len() < KEPT {
        known.insert(key, tables.clone());
    }
    Ok(tables)
}
