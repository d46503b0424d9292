use crate::Result;
use candle::{Tensor, Var, backprop::GradStore};
use std::collections::BTreeMap;

/// One named part of an objective.
#[derive(Clone, Debug)]
pub struct Term {
    /// How logs call it: `distill/target`.
    pub name: String,
    /// What it counts for in the sum. A term of weight 0 is a reading: logged, and asked of nobody.
    pub weight: f64,
    /// One value per example, `(batch,)`, or one for the batch, `()`, where the method is about the batch.
    pub value: Tensor,
}

impl Term {
    /// Its value, `()`, for the whole batch.
    pub fn mean(&self) -> Result<Tensor> {
        // Of a single number candle asks a GPU for memory of no bytes, which not every driver grants.
        Ok(if self.value.rank() == 0 { self.value.clone() } else { self.value.mean_all()? })
    }
}

/// A place where a pass's graph is cut in two: what comes later hangs on `leaf`, and the gradient found there may go on
/// through `source`, once for several passes where `source` is linear in it and dear.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The value, on the graph that made it.
    pub source: Tensor,
    /// The same value, where a new graph begins.
    pub leaf: Var,
}

impl Cut {
    /// Cuts behind a value.
    pub fn behind(source: Tensor) -> Result<Self> {
        Ok(Self { leaf: Var::from_tensor(&source.detach())?, source })
    }

    /// What becomes behind some cuts of the gradients found at their leaves.
    pub fn across(cuts: &[Self], found: &[Option<Tensor>]) -> Result<GradStore> {
        let mut total: Option<Tensor> = None;
        for (cut, gradient) in cuts.iter().zip(found) {
            if let Some(gradient) = gradient {
                // A sum whose gradient at the source is the one that was found.
                let part = (&cut.source * gradient)?.sum_all()?;
                total = Some(total.map_or(Ok(part.clone()), |sum| sum + part)?);
            }
        }
        total.map_or(Ok(GradStore::default()), |total| Ok(total.backward()?))
    }
}

/// The terms of an objective, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    named: Vec<Term>,
    scores: Vec<Tensor>,
    cuts: Vec<Cut>,
}

impl Terms {
    /// A single term of weight 1.
    pub fn one(name: &str, value: Tensor) -> Self {
        Self::default().with(name, 1.0, value)
    }

    /// One term more.
    #[must_use]
    pub fn with(mut self, name: &str, weight: f64, value: Tensor) -> Self {
        self.named.push(Term { name: name.to_owned(), weight, value });
        self
    }

    /// One reading more: a number for the log, cut off from the graph.
    #[must_use]
    pub fn reading(self, name: &str, value: &Tensor) -> Self {
        self.with(name, 0.0, value.detach())
    }

    /// The log-probability, `()`, of a draw that no gradient passes through: who learns to draw is rewarded by it.
    #[must_use]
    pub fn score(mut self, log_probability: Tensor) -> Self {
        self.scores.push(log_probability);
        self
    }

    /// The log-probabilities of all draws.
    pub fn scores(&self) -> &[Tensor] {
        &self.scores
    }

    /// A place where the graph of these terms was cut: who descends them must carry the gradient across.
    #[must_use]
    pub fn cut(mut self, cut: Cut) -> Self {
        self.cuts.push(cut);
        self
    }

    /// All cuts, in the same order in every pass over the same draws.
    pub fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// Weights by name in place of their own: a name is a term's or the first segments of several. What is not named
    /// counts nothing.
    #[must_use]
    pub fn toward(mut self, weights: &BTreeMap<String, f64>) -> Self {
        for term in &mut self.named {
            let named = |(name, weight): (&String, &f64)| {
                let below = term.name.strip_prefix(name.as_str())?;
                // A term by its whole name counts for what is said, whatever it counted for.
                if below.is_empty() {
                    Some(*weight)
                } else {
                    below.starts_with('/').then_some(weight * term.weight)
                }
            };
            term.weight = weights.iter().rev().find_map(named).unwrap_or(0.0);
        }
        self
    }

    /// The same terms of other values: what `make` makes of theirs.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn each(mut self, mut make: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        for term in &mut self.named {
            term.value = make(&term.value)?;
        }
        Ok(self)
    }

    /// Prefixes every name and scales every weight: `distill` over `kd` gives `distill/kd`.
    #[must_use]
    pub fn under(mut self, prefix: &str, weight: f64) -> Self {
        for term in &mut self.named {
            term.name = format!("{prefix}/{}", term.name);
        }
        self.scaled(weight)
    }

    /// Scales every weight.
    #[must_use]
    pub fn scaled(mut self, weight: f64) -> Self {
        for term in &mut self.named {
            term.weight *= weight;
        }
        self
    }

    /// These terms, then the other's.
    pub fn extend(&mut self, other: Self) {
        self.named.extend(other.named);
        self.scores.extend(other.scores);
        self.cuts.extend(other.cuts);
    }

    /// The scalar to differentiate: `Σ weight · mean over the batch`; `None` where no term counts.
    pub fn total(&self) -> Result<Option<Tensor>> {
        let mut total: Option<Tensor> = None;
        for term in self.named.iter().filter(|term| term.weight != 0.0) {
            let part = (term.mean()? * term.weight)?;
            total = Some(match total {
                None => part,
                Some(sum) => (sum + part)?,
            });
        }
        Ok(total)
    }

    /// The terms in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Term> {
        self.named.iter()
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

impl<'a> IntoIterator for &'a Terms {
    type Item = &'a Term;
    type IntoIter = std::slice::Iter<'a, Term>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
