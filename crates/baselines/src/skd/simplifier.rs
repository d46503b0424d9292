use super::{Axis, Form, Norm, OutInit, Skd, Softening};
use candle::{D, Tensor};
use candle_nn::VarBuilder;
use sokd_core::Result;
use sokd_nn::{LayerNorm, Linear, init};
use sokd_ops::{relu, softmax};

/// The simplifier of a [`Skd`], with its weights.
///
/// With Z the teacher's logits, S = Z / τ, and f the form at the width d, over tokens that are the rows of S:
///
/// ```text
/// (S1)  U  = S + f(S)
/// (S2)  f(S) = A (S Vᵀ) Oᵀ        A = softmax((S Qᵀ)(S Kᵀ)ᵀ / √d), over the keys; linear: A = 1
/// (S3)  Z′ = τ U                  what the host reads: softmax(Z′ / τ) is softmax(U)
/// ```
///
/// # Source
/// ours, after the abstract of arXiv:2305.10893.
pub struct Simplifier {
    skd: Skd,
    body: Option<Body>,
}

/// What a simplifier makes of a batch.
///
/// # Shapes
/// `logits`: `(batch, classes)`; `attention`: `(sets, heads, tokens, tokens)`, one set of all examples of a showing, or one
/// set of all classes an example.
pub struct Simple {
    /// What the host reads in place of the teacher's logits, Z′.
    pub logits: Tensor,
    /// What each token, a row, pays to the others, A.
    pub attention: Option<Tensor>,
}

impl Simplifier {
    pub(super) fn new(skd: &Skd, classes: usize, width: usize, vars: &VarBuilder<'_>) -> Result<Self> {
        let body = match skd.simplifier {
            Form::Identity => None,
            Form::Linear | Form::Mlp | Form::Attention => Some(Body::new(skd, classes, width, vars)?),
        };
        Ok(Self { skd: skd.clone(), body })
    }

    /// The host's logits, unsimplified.
    pub(super) fn nothing(&self, logits: &Tensor) -> Result<Simple> {
        // Times 1 where both temperatures are one: the bare host, to the bit.
        let logits = (logits * (self.skd.compared_at() / self.skd.temperature))?;
        Ok(Simple { logits, attention: None })
    }

    /// What the host reads of a batch that is shown so many times, one showing behind the other.
    ///
    /// # Shapes
    /// `logits`: `(batch, classes)`, all showings counted.
    pub fn forward(&self, logits: &Tensor, showings: usize) -> Result<Simple> {
        let Skd { temperature, softening, residual, .. } = self.skd;
        let plain = self.nothing(logits)?;
        let Some(body) = &self.body else { return Ok(plain) };
        let softened = (logits / temperature)?;
        let (read, unit) = match softening {
            Softening::Logits => (softened, self.skd.compared_at()),
            Softening::Probabilities => (softmax(&softened)?, self.skd.compared_at()),
            Softening::None => (logits.clone(), self.skd.compared_at() / temperature),
        };
        let (said, attention) = body.forward(&read, showings)?;
        // τ S + τ f in place of τ (S + f): while f is 0, the host reads the teacher's own bits.
        let mut simple = (said * unit)?;
        if residual {
            simple = (plain.logits + simple)?;
        }
        if let Some(after) = &body.after {
            simple = (after.forward(&(simple / unit)?)? * unit)?;
        }
        Ok(Simple { logits: simple, attention })
    }
}

/// What stands between what is read and what is said.
struct Body {
    axis: Axis,
    width: usize,
    before: Option<LayerNorm>,
    value: Linear,
    between: Between,
    out: Linear,
    after: Option<LayerNorm>,
}

/// What happens to the values.
enum Between {
    Nothing,
    Relu,
    Attention { query: Linear, key: Linear, heads: usize },
}

impl Body {
    fn new(skd: &Skd, classes: usize, width: usize, vars: &VarBuilder<'_>) -> Result<Self> {
        // What a token is: a row of scores, or a single score.
        let token = if skd.simplifier == Form::Attention && skd.axis == Axis::Class { 1 } else { classes };
        let inner =
            |name: &str| Linear::new(token, width, init::xavier_uniform(token, width), None, vars.pp(name));
        let out = match skd.out_init {
            OutInit::Zero => init::ZERO,
            OutInit::Xavier => init::xavier_uniform(width, token),
        };
        let norm = |at: Norm, name: &str| {
            (skd.norm == at).then(|| LayerNorm::new(classes, vars.pp(name))).transpose()
        };
        Ok(Self {
            axis: skd.axis,
            width,
            before: norm(Norm::Pre, "before")?,
            value: inner("value")?,
            between: match skd.simplifier {
                Form::Identity | Form::Linear => Between::Nothing,
                Form::Mlp => Between::Relu,
                Form::Attention => {
                    Between::Attention { query: inner("query")?, key: inner("key")?, heads: skd.heads }
                }
            },
            out: Linear::new(width, token, out, None, vars.pp("out"))?,
            after: norm(Norm::Post, "after")?,
        })
    }

    /// # Shapes
    /// `read`: `(batch, classes)` → the same, and the attention where there is one.
    fn forward(&self, read: &Tensor, showings: usize) -> Result<(Tensor, Option<Tensor>)> {
        let read = self.before.as_ref().map_or_else(|| Ok(read.clone()), |norm| norm.forward(read))?;
        let (inner, attention) = match &self.between {
            Between::Nothing => (self.value.forward(&read)?, None),
            Between::Relu => (relu(&self.value.forward(&read)?)?, None),
            Between::Attention { query, key, heads } => {
                let (mixed, attention) = self.attend(&read, [query, key], *heads, showings)?;
                (mixed, Some(attention))
            }
        };
        Ok((self.out.forward(&inner)?.reshape(read.dims())?, attention))
    }

    /// The values, mixed: `(sets · tokens, width)`, and `(sets, heads, tokens, tokens)`.
    fn attend(
        &self,
        read: &Tensor,
        [query, key]: [&Linear; 2],
        heads: usize,
        showings: usize,
    ) -> Result<(Tensor, Tensor)> {
        let (batch, classes) = read.dims2()?;
        let (sets, tokens, token) = match self.axis {
            Axis::Batch => (showings, batch / showings, classes),
            Axis::Class => (batch, classes, 1),
        };
        let read = read.reshape((sets * tokens, token))?;
        let width = self.width / heads;
        let headed = |layer: &Linear| -> Result<Tensor> {
            let all = layer.forward(&read)?.reshape((sets, tokens, heads, width))?;
            Ok(all.transpose(1, 2)?.contiguous()?)
        };
        let scores = headed(query)?.matmul(&headed(key)?.transpose(D::Minus2, D::Minus1)?.contiguous()?)?;
        let attention = softmax(&(scores / (width as f64).sqrt())?)?;
        let mixed = attention.matmul(&headed(&self.value)?)?.transpose(1, 2)?.contiguous()?;
        Ok((mixed.reshape((sets * tokens, self.width))?, attention))
    }
}
