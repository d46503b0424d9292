use candle::{DType, Device, Tensor, TensorId};
use sokd_core::{Error, Result, Step, Terms};
use sokd_ops::put_;
use std::collections::BTreeMap;

/// The objective's terms over the steps of an epoch, by phase, summed on the device that computed them: no number
/// travels before someone asks.
#[derive(Debug, Default)]
pub struct Tally {
    phases: BTreeMap<String, BTreeMap<String, Sum>>,
}

#[derive(Debug)]
struct Sum {
    images: u64,
    /// Σ value · images.
    value: Tensor,
}

/// A [`Tally`] in numbers: for each phase and term, images and their summed values.
pub type Sums = BTreeMap<String, BTreeMap<String, (u64, f64)>>;

/// The name of the weighted sum of all terms.
pub(crate) const LOSS: &str = "loss";

/// On an accelerator, the steps between two looks whether the sums are still finite.
const LOOK: u64 = 64;

impl Tally {
    /// The sums that [`Tally::sums`] gave.
    pub fn new(sums: &Sums) -> Result<Self> {
        let sum = |(name, &(images, value)): (&String, &(u64, f64))| {
            Ok((name.clone(), Sum { images, value: Tensor::new(value, &Device::Cpu)? }))
        };
        let phase = |(name, terms): (&String, &BTreeMap<_, _>)| {
            Ok((name.clone(), terms.iter().map(sum).collect::<Result<_>>()?))
        };
        Ok(Self { phases: sums.iter().map(phase).collect::<Result<_>>()? })
    }

    /// Whether a phase has acted.
    pub fn knows(&self, phase: &str) -> bool {
        self.phases.contains_key(phase)
    }

    /// Takes in the terms of a step.
    pub fn add(&mut self, phase: &str, images: usize, terms: &Terms) -> Result<()> {
        self.sum(phase, images, terms)?;
        self.count(phase, images, terms);
        Ok(())
    }

    /// Their values alone. A sum stays where it is, on the device too.
    pub(crate) fn sum(&mut self, phase: &str, images: usize, terms: &Terms) -> Result<()> {
        let sums = self.phases.entry(phase.to_owned()).or_default();
        let mut loss: Option<Tensor> = None;
        for term in terms {
            let value = term.mean()?.detach();
            // Metal knows no double precision.
            let dtype = if value.device().is_metal() { DType::F32 } else { DType::F64 };
            let value = (value.to_dtype(dtype)? * images as f64)?;
            let weighted = (&value * term.weight)?;
            loss = Some(match loss {
                None => weighted,
                // A reading may have been taken on this side.
                Some(loss) => (&loss + weighted.to_device(loss.device())?)?,
            });
            take(sums, &term.name, value)?;
        }
        loss.map_or(Ok(()), |loss| take(sums, LOSS, loss))
    }

    /// The images that their values are of.
    pub(crate) fn count(&mut self, phase: &str, images: usize, terms: &Terms) {
        let Some(sums) = self.phases.get_mut(phase) else { return };
        let loss = (!terms.is_empty()).then_some(LOSS);
        for name in terms.iter().map(|term| term.name.as_str()).chain(loss) {
            if let Some(sum) = sums.get_mut(name) {
                sum.images += images as u64;
            }
        }
    }

    /// The same sums in places of their own.
    pub(crate) fn copy(&self) -> Result<Self> {
        let sum = |(name, sum): (&String, &Sum)| {
            Ok((name.clone(), Sum { images: sum.images, value: sum.value.copy()? }))
        };
        let phase = |(name, sums): (&String, &BTreeMap<_, _>)| {
            Ok((name.clone(), sums.iter().map(sum).collect::<Result<_>>()?))
        };
        Ok(Self { phases: self.phases.iter().map(phase).collect::<Result<_>>()? })
    }

    /// Where the sums of a phase are.
    pub(crate) fn places(&self, phase: &str) -> Vec<TensorId> {
        self.phases.get(phase).into_iter().flat_map(BTreeMap::values).map(|sum| sum.value.id()).collect()
    }

    /// Whether all is finite so far: on the CPU after every step, elsewhere now and then, because asking waits.
    ///
    /// # Errors
    /// [`Error::Diverged`] with the term that is not, or the loss where only the sum is not.
    pub fn guard(&self, phase: &str, at: &Step) -> Result<()> {
        let Some(sums) = self.phases.get(phase) else { return Ok(()) };
        let Some(loss) = sums.get(LOSS) else { return Ok(()) };
        if !loss.value.device().is_cpu() && !at.index.is_multiple_of(LOOK) {
            return Ok(());
        }
        if number(&loss.value)?.is_finite() {
            return Ok(());
        }
        let mut faulty = (LOSS, number(&loss.value)?);
        for (name, sum) in sums.iter().filter(|(name, _)| *name != LOSS) {
            let value = number(&sum.value)?;
            if !value.is_finite() {
                faulty = (name, value);
                break;
            }
        }
        let (what, value) = faulty;
        Err(Error::Diverged { what: format!("{phase}/{what}"), value, epoch: at.epoch, step: at.index })
    }

    /// The sums in numbers.
    pub fn sums(&self) -> Result<Sums> {
        let number = |(name, sum): (&String, &Sum)| Ok((name.clone(), (sum.images, number(&sum.value)?)));
        let phase = |(name, sums): (&String, &BTreeMap<_, _>)| {
            Ok((name.clone(), sums.iter().map(number).collect::<Result<_>>()?))
        };
        self.phases.iter().map(phase).collect()
    }
}

fn take(sums: &mut BTreeMap<String, Sum>, name: &str, value: Tensor) -> Result<()> {
    let Some(sum) = sums.get_mut(name) else {
        sums.insert(name.to_owned(), Sum { images: 0, value });
        return Ok(());
    };
    if !sum.value.device().same_device(value.device()) {
        // After a resume the sum so far lies on the CPU.
        sum.value = sum.value.to_device(value.device())?.to_dtype(value.dtype())?;
    }
    put_(&sum.value, &(&sum.value + value)?)
}

fn number(value: &Tensor) -> Result<f64> {
    Ok(value.to_dtype(DType::F64)?.to_scalar()?)
}
