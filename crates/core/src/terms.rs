use crate::Result;
use candle::Tensor;

/// One named part of an objective.
#[derive(Clone, Debug)]
pub struct Term {
    /// How logs call it: `distill/target`.
    pub name: String,
    /// What it counts for in the sum.
    pub weight: f64,
    /// One value per example, `(batch,)`, or one for the batch, `()`, where the method is about the batch.
    pub value: Tensor,
}

/// The terms of an objective, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Terms(Vec<Term>);

impl Terms {
    /// A single term of weight 1.
    pub fn one(name: &str, value: Tensor) -> Self {
        Self::default().with(name, 1.0, value)
    }

    /// One term more.
    #[must_use]
    pub fn with(mut self, name: &str, weight: f64, value: Tensor) -> Self {
        self.0.push(Term { name: name.to_owned(), weight, value });
        self
    }

    /// Prefixes every name and scales every weight: `distill` over `kd` gives `distill/kd`.
    #[must_use]
    pub fn under(mut self, prefix: &str, weight: f64) -> Self {
        for term in &mut self.0 {
            term.name = format!("{prefix}/{}", term.name);
            term.weight *= weight;
        }
        self
    }

    /// These terms, then the other's.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The scalar to differentiate: `Σ weight · mean over the batch`; `None` without terms.
    pub fn total(&self) -> Result<Option<Tensor>> {
        let mut total: Option<Tensor> = None;
        for term in &self.0 {
            let part = (term.value.mean_all()? * term.weight)?;
            total = Some(match total {
                None => part,
                Some(sum) => (sum + part)?,
            });
        }
        Ok(total)
    }

    /// The terms in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Term> {
        self.0.iter()
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Terms {
    type Item = &'a Term;
    type IntoIter = std::slice::Iter<'a, Term>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
