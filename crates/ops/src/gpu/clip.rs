use super::launch::{Arg, Gpu};
use super::work::{Firsts, MANY};
use crate::{Moved, record};
use candle::{Result, Tensor};

/// Blocks that add up squares, each a part of them: as many on every GPU, so that the sum is the same.
const PARTS: usize = 64;

/// The norm of all gradients, and by what it becomes at most `max`: `(2,)`.
pub(crate) fn norm(gpu: &Gpu, grads: &[&Tensor], max: f64) -> Result<Tensor> {
    let grads = grads.iter().map(|grad| grad.contiguous()).collect::<Result<Vec<_>>>()?;
    let parts = grads.len().div_ceil(MANY) * PARTS;
    let mut squares = gpu.room(parts)?;
    for (launch, grads) in grads.chunks(MANY).enumerate() {
        let (firsts, count) = Firsts::of(grads.iter())?;
        let args = vec![
            Arg::ChangeAll(grads.iter().collect()),
            Arg::Firsts(Box::new(firsts)),
            Arg::Int(count),
            Arg::Write(&mut squares),
            Arg::Int(launch * PARTS),
        ];
        gpu.launch("parts_of_norm", PARTS, args)?;
    }
    let squares = record::tensor(squares, parts);
    let mut scale = gpu.room(2)?;
    let args = vec![Arg::from(&squares), Arg::Write(&mut scale), Arg::Int(parts), Arg::Float(max)];
    gpu.launch("norm_and_scale", 1, args)?;
    Ok(record::tensor(scale, 2))
}

/// Gradients scaled down until the norm of all is at most `max`, and the norm that they had, `()`.
pub(crate) fn clip(gpu: &Gpu, grads: &[&Tensor], max: f64) -> Result<(Vec<Tensor>, Tensor)> {
    let scale = norm(gpu, grads, max)?;
    let grads = grads.iter().map(|grad| grad.contiguous()).collect::<Result<Vec<_>>>()?;
    let room = |grad: &Tensor| Ok(record::tensor(gpu.room(grad.elem_count())?, grad.shape()));
    let scaled = grads.iter().map(room).collect::<Result<Vec<_>>>()?;
    let moved: Vec<_> = scaled.iter().zip(&grads).map(|(scaled, grad)| Moved::new(scaled, grad)).collect();
    gpu.change("scaled", &moved, || vec![Arg::from(&scale)])?;
    Ok((scaled, scale.narrow(0, 0, 1)?.squeeze(0)?))
}
