//! What predictions are worth: found in double precision, where differences of nearly equal numbers keep their digits.

use crate::backend::gpu_for;
use crate::gpu::{Arg, Gpu};
use crate::log_softmax;
use crate::record::{Backward, record, tensor};
use crate::spent::named;
use candle::{D, DType, Device, Tensor};
use sokd_core::Result;

/// −(1 − ε) log q(label) − ε · mean over classes of log q, with q = softmax(scores).
///
/// # Shapes
/// `scores`: `(batch, classes)`; `labels`: `(batch,)`, integers → `(batch,)`, in the scores' type.
///
/// # Source
/// Szegedy et al., 2016 (arXiv:1512.00567), section 7, for the smoothing ε.
pub fn cross_entropy(scores: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    let (rows, width) = scores.dims2()?;
    named("cross-entropy", || {
        let Some(gpu) = gpu_of(&[scores]) else {
            let log = log_softmax(&precise(scores)?)?;
            return Ok(surprise(&log, labels, smoothing)?.to_dtype(scores.dtype())?);
        };
        let (scores, labels) = (scores.contiguous()?, labels.to_dtype(DType::U32)?.contiguous()?);
        let reads = [Some(&scores), Some(&labels)];
        let value = gpu.rows("cross_entropy", reads, (rows, width, rows), [Arg::Float(smoothing)])?;
        Ok(record(
            [&scores],
            value,
            rows,
            HeldAgainst { kernel: "cross_entropy_back", other: labels, number: smoothing },
        )?)
    })
}

/// −(1 − ε) log q(label) − ε · mean over classes of log q, of log-probabilities.
///
/// # Shapes
/// `log_q`: `(batch, classes)`; `labels`: `(batch,)`, integers → `(batch,)`.
pub fn surprise(log_q: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    let label = log_q.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?;
    if smoothing == 0.0 {
        return Ok(label.neg()?);
    }
    let even = log_q.mean(D::Minus1)?;
    Ok(((label * (smoothing - 1.0))? - (even * smoothing)?)?)
}

/// T² · KL(p ‖ q) in nats, with p = softmax(teacher / T) and q = softmax(student / T).
///
/// # Shapes
/// `teacher`, `student`: scores, `(batch, classes)` → `(batch,)`, in the student's type.
///
/// # Source
/// Hinton et al., 2015 (arXiv:1503.02531), section 2.
pub fn softened_divergence(teacher: &Tensor, student: &Tensor, temperature: f64) -> Result<Tensor> {
    let (rows, width) = student.dims2()?;
    named("softened-divergence", || {
        // Who learns through the teacher's scores has no kernel.
        let gpu = gpu_of(&[teacher, student]).filter(|_| !teacher.track_op());
        let Some(gpu) = gpu.filter(|_| teacher.dims() == student.dims()) else {
            let softened = |scores: &Tensor| log_softmax(&(precise(scores)? / temperature)?);
            let divergence = divergence(&softened(teacher)?, &softened(student)?)?;
            return Ok((divergence * temperature.powi(2))?.to_dtype(student.dtype())?);
        };
        let (teacher, student) = (teacher.contiguous()?, student.contiguous()?);
        let reads = [Some(&student), Some(&teacher)];
        let rest = [Arg::Float(temperature)];
        let value = gpu.rows("softened_divergence", reads, (rows, width, rows), rest)?;
        Ok(record(
            [&student],
            value,
            rows,
            HeldAgainst { kernel: "softened_divergence_back", other: teacher.detach(), number: temperature },
        )?)
    })
}

/// KL(p ‖ q) in nats, of log-probabilities.
///
/// # Shapes
/// `log_p`, `log_q`: `(batch, classes)` → `(batch,)`.
pub fn divergence(log_p: &Tensor, log_q: &Tensor) -> Result<Tensor> {
    Ok((log_p.exp()? * (log_p - log_q)?)?.sum(D::Minus1)?)
}

/// The same values in `f64`, but on Metal, which has none.
pub fn precise(values: &Tensor) -> Result<Tensor> {
    match values.device() {
        Device::Metal(_) => Ok(values.clone()),
        Device::Cpu | Device::Cuda(_) => Ok(values.to_dtype(DType::F64)?),
    }
}

/// Who has kernels for these scores. This machine takes the plain form: they are few.
fn gpu_of(scores: &[&Tensor]) -> Option<Gpu> {
    gpu_for(scores).filter(|_| scores.iter().all(|scores| scores.elem_count() > 0))
}

/// The way back to scores, by a kernel of what they were held against.
struct HeldAgainst {
    kernel: &'static str,
    other: Tensor,
    number: f64,
}

impl Backward<1> for HeldAgainst {
    const NAME: &'static str = "likelihood";

    fn reads(&self) -> ([bool; 1], bool) {
        ([true], false)
    }

    fn gradients(
        &self,
        [scores]: [&Tensor; 1],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 1]> {
        let Some(gpu) = Gpu::of(&[scores]) else { candle::bail!("the scores are on no GPU any more") };
        let (count, width) = (scores.elem_count(), scores.dim(D::Minus1)?);
        let gradient = gradient.contiguous()?;
        let reads = [Some(scores), Some(&self.other), Some(&gradient)];
        let sizes = (count, width, count / width);
        let of_scores = gpu.rows(self.kernel, reads, sizes, [Arg::Float(self.number)])?;
        Ok([Some(tensor(of_scores, scores.shape()))])
    }
}
