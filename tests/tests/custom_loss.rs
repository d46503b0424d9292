//! A loss that no crate of the workspace knows, in a training step.

use candle::{Device, Tensor};
use sokd_core::{Batch, Build as _, BuildCx, DistillLoss, Key, Mode, Pair, Result, Step, Terms};
use sokd_losses::{cross_entropy::CrossEntropy, functional::mse};
use sokd_nn::Params;
use sokd_nn::optim::{Rule as _, Sgd};
use sokd_tests::{data, first, wave};
use sokd_train::{Distiller, Schedule, Shown, TermOf};

/// The mean squared difference of logits, each example's own mean taken away.
///
/// # Source
/// After Ba and Caruana, 2014 (arXiv:1312.6184), section 2.2.
struct Logits;

impl DistillLoss for Logits {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let centred = |logits: &Tensor| logits.broadcast_sub(&logits.mean_keepdim(1)?);
        let teacher = centred(&pair.teacher("logits")?.out.logits)?;
        Ok(Terms::one("mse", mse(&centred(&pair.student.out.logits)?, &teacher)?))
    }
}

#[test]
fn a_loss_of_ones_own_goes_into_a_term_as_it_is() -> Result<()> {
    let (params, data) = (Params::new(Key::new(4)), data(5, [16, 12]));
    let spec = sokd_models::named("resnet8").expect("a network of the zoo");
    let build = |vars| spec.build(&BuildCx::alone(vars, &data));
    let distiller = Distiller {
        student: build(params.builder(&Device::Cpu).pp("student"))?,
        teacher: Some(build(params.frozen(&Device::Cpu).pp("teacher"))?),
        lens: None,
        terms: vec![
            TermOf {
                name: "task".into(),
                weight: Schedule::Constant(0.5),
                loss: Box::new(CrossEntropy::default()),
            },
            TermOf { name: "mine".into(), weight: Schedule::Constant(2.0), loss: Box::new(Logits) },
        ],
    };
    let shown = Shown::new(Batch {
        images: (wave("images", &[6, 16, 12, 3], 0.5)? + 0.5)?,
        labels: Tensor::new(&[0u32, 1, 2, 3, 4, 0], &Device::Cpu)?,
        rows: Tensor::arange(0u32, 6, &Device::Cpu)?,
    });
    let mut sgd = Sgd::default().start(params.group("student"))?;
    let mut distances = Vec::new();
    for _ in 0..10 {
        let terms = distiller.terms(&shown, Mode::Train, &None, &first())?;
        let named: Vec<_> = terms.iter().map(|term| (term.name.as_str(), term.weight)).collect();
        assert_eq!(named, [("task/ce", 0.5), ("mine/mse", 2.0)]);
        distances.extend(
            terms.iter().skip(1).map(|term| term.value.mean_all()).collect::<candle::Result<Vec<_>>>()?,
        );
        let grads = terms.total()?.expect("two terms").backward()?;
        assert!(params.group("teacher").iter().all(|(_, var)| grads.get(var).is_none()));
        sgd.step(&grads, 0.01)?;
    }
    let distances = distances.iter().map(Tensor::to_scalar).collect::<candle::Result<Vec<f32>>>()?;
    assert!(distances[9] < 0.5 * distances[0], "{distances:?}");
    Ok(())
}
