use candle::{DType, Device, Tensor, TensorId};
use sokd_core::{Error, Result, Step, Terms};
use sokd_ops::{Told, tally_};
use std::collections::BTreeMap;

/// The objective's terms over the steps of an epoch, by phase, summed on the device that computed them: no number
/// travels before someone asks.
#[derive(Debug, Default)]
pub struct Tally {
    phases: BTreeMap<String, BTreeMap<String, Sum>>,
    /// Where the terms of a phase leave their means, `(terms,)`, in every step.
    means: BTreeMap<String, Tensor>,
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
        Ok(Self { phases: sums.iter().map(phase).collect::<Result<_>>()?, ..Self::default() })
    }

    /// Whether a phase has acted.
    pub fn knows(&self, phase: &str) -> bool {
        self.phases.contains_key(phase)
    }

    /// Takes in the terms of a step.
    pub fn add(&mut self, phase: &str, images: usize, terms: &Terms) -> Result<()> {
        let said = self.sum(phase, images, terms)?;
        self.count(phase, images, &said);
        Ok(())
    }

    /// Their values alone; what stays of them for the log: their means, `()`. Sums and means stay where they are, on the device
    /// too, and means until the phase's next step.
    pub(crate) fn sum(&mut self, phase: &str, images: usize, terms: &Terms) -> Result<Terms> {
        let sums = self.phases.entry(phase.to_owned()).or_default();
        // A reading may have been taken on this side.
        let Some(first) = terms.iter().find(|term| term.weight != 0.0).or(terms.iter().next()) else {
            return Ok(Terms::default());
        };
        for term in terms {
            find(sums, &term.name, term.value.device())?;
        }
        let device = first.value.device();
        find(sums, LOSS, device)?;
        let count = terms.iter().count();
        let means = match self.means.get(phase) {
            Some(means) if means.dims() == [count] && means.device().same_device(device) => means.clone(),
            _ => Tensor::zeros(count, DType::F32, device)?,
        };
        let told: Vec<Told<'_>> = terms
            .iter()
            .map(|term| Told { value: &term.value, weight: term.weight, sum: &sums[&term.name].value })
            .collect();
        tally_(&told, &sums[LOSS].value, &means, images)?;
        self.means.insert(phase.to_owned(), means.clone());
        terms.iter().enumerate().try_fold(Terms::default(), |said, (place, term)| {
            Ok(said.with(&term.name, term.weight, means.narrow(0, place, 1)?.squeeze(0)?))
        })
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
        Ok(Self { phases: self.phases.iter().map(phase).collect::<Result<_>>()?, ..Self::default() })
    }

    /// Where the sums of a phase are, and its means.
    pub(crate) fn places(&self, phase: &str) -> Vec<TensorId> {
        let sums = self.phases.get(phase).into_iter().flat_map(BTreeMap::values).map(|sum| &sum.value);
        sums.chain(self.means.get(phase)).map(Tensor::id).collect()
    }

    /// Whether a phase sums all on a device: nothing of it on this side.
    pub(crate) fn is_on(&self, device: &Device, phase: &str) -> bool {
        let mut sums = self.phases.get(phase).into_iter().flat_map(BTreeMap::values);
        sums.all(|sum| sum.value.device().same_device(device))
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

/// Sees to it that there is a sum on a device.
fn find(sums: &mut BTreeMap<String, Sum>, name: &str, device: &Device) -> Result<()> {
    // Metal knows no double precision.
    let dtype = if device.is_metal() { DType::F32 } else { DType::F64 };
    match sums.get_mut(name) {
        None => {
            let value = Tensor::zeros((), dtype, device)?;
            sums.insert(name.to_owned(), Sum { images: 0, value });
        }
        // After a resume the sum so far lies on the CPU.
        Some(sum) if !sum.value.device().same_device(device) => {
            sum.value = sum.value.to_dtype(dtype)?.to_device(device)?;
        }
        Some(_) => {}
    }
    Ok(())
}

fn number(value: &Tensor) -> Result<f64> {
    Ok(value.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar()?)
}
