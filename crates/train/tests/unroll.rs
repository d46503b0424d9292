//! The gradient after an imagined step, where it is known on paper.

mod small;

use candle::{DType, Device, Tensor};
use candle_nn::Init;
use small::{Images, Small, phase, term};
use sokd_core::{Batches, DistillLoss, Key, Mode, Pair, Result, Step, Terms};
use sokd_nn::Params;
use sokd_train::{Distiller, Hand, Schedule, Shown, Through, Unroll, UpdateSpec};
use std::collections::BTreeMap;

/// Three student weights w that a policy p of the same size pulls: Σ (w − p)² / 2; and two things to want of them.
struct Pull {
    weights: Tensor,
    policy: Tensor,
    scored: bool,
}

impl DistillLoss for Pull {
    fn terms(&self, _: &Pair<'_>, at: &Step) -> Result<Terms> {
        let (weights, steered) = (&self.weights, at.steers && !self.scored);
        let policy = if steered { self.policy.clone() } else { self.policy.detach() };
        let half = |difference: Tensor| -> Result<Tensor> { Ok((difference.sqr()?.sum_all()? * 0.5)?) };
        let terms = Terms::one("inner", half((weights - &policy)?)?)
            .with("outer", 0.0, half(((weights - 3.0)? * &policy)?)?)
            .reading("size", &weights.sqr()?.sum_all()?);
        // As if the draw had the log-probability Σ p.
        Ok(if at.steers && self.scored { terms.score(self.policy.sum_all()?) } else { terms })
    }
}

const W: [f64; 3] = [0.5, -1.0, 2.0];
const P: [f64; 3] = [1.5, 0.25, -0.75];
const AHEAD: f64 = 0.1;

/// The gradient for the policy, and the student's weights behind it.
fn gradient(through: Through, scored: bool) -> Result<(Vec<f32>, Vec<f32>)> {
    let params = Params::new(Key::new(1));
    let vars = params.builder(&Device::Cpu);
    let weights = vars.get_with_hints(3, "student.w", Init::Const(0.0))?;
    let policy = vars.get_with_hints(3, "policy.p", Init::Const(0.0))?;
    let set = |group: &str, values: [f64; 3]| -> Result<()> {
        let [(_, var)] = &params.group(group)[..] else { panic!("one weight") };
        Ok(var.set(&Tensor::new(&values, &Device::Cpu)?.to_dtype(DType::F32)?)?)
    };
    set("student", W)?;
    set("policy", P)?;

    let mut moves = phase("policy", &params, "policy", r#"{ "type": "sgd", "momentum": 0.0 }"#)?;
    let unroll = Unroll { lookahead: AHEAD, weight_decay: 0.0, through, ..Unroll::default() };
    moves.update = UpdateSpec::Unroll(unroll).as_ref().start(&params)?;
    moves.mode = Mode::Probe;
    moves.toward = Some(BTreeMap::from([("pull/outer".to_owned(), 1.0)]));

    let other = Params::new(Key::new(2));
    let distiller = Distiller {
        student: Box::new(Small::new(&other.builder(&Device::Cpu))?),
        teacher: None,
        lens: None,
        terms: vec![term("pull", Schedule::default(), Pull { weights: weights.clone(), policy, scored })],
    };
    let batch = Images::new().train.epoch(0, 0).next().expect("a batch")?;
    let hand = Hand::alone(Shown::new(batch));
    let (terms, grads) = moves.update.grads(&distiller, &moves, &hand, &Step::first(Key::new(0)))?;
    assert!(terms.iter().all(|term| (term.name == "pull/outer") == (term.weight != 0.0)));
    let [(_, policy)] = &params.group("policy")[..] else { panic!("one weight") };
    Ok((grads.get(policy).expect("it is steered").to_vec1()?, weights.to_vec1()?))
}

/// w' = w − ξ (w − p); outer = Σ ((w' − 3) p)² / 2: the direct part is (w' − 3)² p, the implicit one ξ (w' − 3) p².
fn on_paper() -> [[f64; 3]; 2] {
    let ahead = |at: usize| W[at] - AHEAD * (W[at] - P[at]) - 3.0;
    [
        std::array::from_fn(|at| ahead(at).powi(2) * P[at]),
        std::array::from_fn(|at| AHEAD * ahead(at) * P[at].powi(2)),
    ]
}

#[test]
fn both_parts_are_what_paper_and_pencil_give() -> Result<()> {
    let [direct, implicit] = on_paper();
    let both: Vec<f64> = direct.iter().zip(&implicit).map(|(a, b)| a + b).collect();
    for (through, expected) in
        [(Through::Direct, &direct[..]), (Through::Implicit, &implicit[..]), (Through::Both, &both[..])]
    {
        let (found, student) = gradient(through, false)?;
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 2e-3, "{through:?}: {found} for {expected}");
        }
        assert_eq!(student, W.map(|w| w as f32), "the student stands where it stood");
    }
    Ok(())
}

/// A score is rewarded by the outer objective (direct) and by what the imagined step gains of it (implicit).
#[test]
fn a_score_is_rewarded_by_the_same_parts() -> Result<()> {
    let ahead: [f64; 3] = std::array::from_fn(|at| W[at] - AHEAD * (W[at] - P[at]) - 3.0);
    let outer: f64 = (0..3).map(|at| (ahead[at] * P[at]).powi(2) / 2.0).sum();
    // −ξ ⟨∇ inner(θ), ∇ outer(θ')⟩
    let gain: f64 = (0..3).map(|at| -AHEAD * (W[at] - P[at]) * ahead[at] * P[at].powi(2)).sum();
    for (through, expected) in
        [(Through::Direct, outer), (Through::Implicit, gain), (Through::Both, outer + gain)]
    {
        for found in gradient(through, true)?.0 {
            assert!((f64::from(found) - expected).abs() < 2e-3, "{through:?}: {found} for {expected}");
        }
    }
    Ok(())
}
