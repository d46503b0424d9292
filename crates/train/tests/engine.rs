//! What a step does, and to whom.

mod small;

use candle::{DType, Device, Tensor, Var};
use small::{Broken, Images, Small, phase, term};
use sokd_core::{Batches, Error, Key, Mode, Result, Step};
use sokd_nn::{Moment, Params};
use sokd_train::{
    Distiller, Hand, Observer, Outcome, Progress, Schedule, Shown, StepReport, Steps, Stop, Tally, evaluate,
    fit, metrics, predictions,
};
use std::sync::{Arc, Mutex};

const PLAIN: &str = r#"{ "type": "sgd", "momentum": 0.0, "weight-decay": 0.0 }"#;

fn numbers(params: &Params, prefix: &str) -> Result<Vec<Vec<f32>>> {
    params.tensors(prefix)?.values().map(|tensor| Ok(tensor.flatten_all()?.to_vec1()?)).collect()
}

/// Who acted in which step.
#[derive(Clone, Default)]
struct Roll(Arc<Mutex<Vec<(u64, String)>>>);

impl Observer for Roll {
    fn step(&mut self, report: &StepReport<'_>) -> Result<()> {
        assert!(report.images > 0 && report.lr > 0.0 && !report.terms.is_empty());
        self.0.lock().expect("no test panics here").push((report.at.index, report.phase.to_owned()));
        Ok(())
    }
}

#[test]
fn phases_act_when_they_are_due_and_in_their_order() -> Result<()> {
    let images = Images::new();
    let mut run = images.run()?;
    run.phases[1].epochs = 1..2;
    let roll = Roll::default();
    let outcome = fit(&mut run, Progress::default(), None, &Stop::default(), &mut [Box::new(roll.clone())])?;
    assert!(matches!(outcome, Outcome::Finished(at) if at.searched == 1));
    let acted = roll.0.lock().expect("no test panics here").clone();
    let expected: Vec<_> = (0..8)
        .flat_map(|index| ["student", "look"].map(|name| (index, name.to_owned())))
        .filter(|(index, name)| name == "student" || *index == 6)
        .collect();
    assert_eq!(acted, expected);
    Ok(())
}

/// Weights that no term reaches, by phase.
#[derive(Clone, Default)]
struct Idle(Arc<Mutex<Vec<String>>>);

impl Observer for Idle {
    fn unreached(&mut self, phase: &str, weights: &[&str]) -> Result<()> {
        self.0.lock().expect("no test panics here").push(format!("{phase}: {}", weights.join(" ")));
        Ok(())
    }
}

/// An adapter that nobody asks for stays as it was drawn, and the policy that it judges learns nothing of use.
#[test]
fn weights_that_no_term_reaches_are_named_once() -> Result<()> {
    let images = Images::new();
    let told = |at: Progress| -> Result<Vec<String>> {
        let mut run = images.run()?;
        let idle = run.params.builder(&Device::Cpu).pp("adapter.lone");
        idle.get_with_hints(2, "weight", candle_nn::Init::Const(0.0)).expect("a weight of its own");
        run.phases.push(phase("adapter", &run.params, "adapter", PLAIN)?);
        let watch = Idle::default();
        fit(&mut run, at, None, &Stop::default(), &mut [Box::new(watch.clone())])?;
        let told = watch.0.lock().expect("no test panics here").clone();
        Ok(told)
    };
    assert_eq!(told(Progress::default())?, ["adapter: adapter.lone.weight"]);
    assert_eq!(told(Progress { epoch: 1, steps: 4, ..Progress::default() })?, [""; 0]);
    Ok(())
}

#[test]
fn a_phase_moves_its_own_weights_and_a_look_teaches_no_statistics() -> Result<()> {
    let images = Images::new();
    let batch = images.train.epoch(0, 0).next().expect("a batch")?;
    let params = Params::new(Key::new(1));
    let student = Small::new(&params.builder(&Device::Cpu).pp("student"))?;
    let mut phases = [phase("idle", &params, "adapter", PLAIN)?];
    phases[0].mode = Mode::Probe;
    let distiller = Distiller {
        student: Box::new(student),
        teacher: None,
        lens: None,
        terms: vec![term("task", Schedule::default(), small::Task)],
    };
    let before = numbers(&params, "")?;
    let at = Step::first(Key::new(0));
    let now = Moment { epoch: 0, step: 0, steps: 4, epochs: 1 };
    let (hand, mut steps) = (Hand::alone(Shown::new(batch)), Steps::new(params.clone()));
    steps.take(&distiller, &mut phases, &hand, (at, now), &mut Tally::default(), &mut [])?;
    assert_eq!(numbers(&params, "")?, before);

    phases[0] = phase("student", &params, "student", PLAIN)?;
    steps.take(&distiller, &mut phases, &hand, (at, now), &mut Tally::default(), &mut [])?;
    let after = numbers(&params, "")?;
    let still: Vec<_> =
        params.names().into_iter().zip(before.iter().zip(&after)).filter(|(_, (a, b))| a == b).collect();
    assert!(still.is_empty(), "weights and statistics learn: {still:?}");
    Ok(())
}

#[test]
fn a_term_that_is_not_a_number_stops_training_before_it_spoils_a_weight() -> Result<()> {
    let images = Images::new();
    let mut run = images.run()?;
    run.distiller.terms.push(term("broken", Schedule::default(), Broken));
    let params = run.params.clone();
    let error = fit(&mut run, Progress::default(), None, &Stop::default(), &mut []).expect_err("it diverges");
    match error {
        Error::Diverged { what, value, epoch: 0, step: 2 } => {
            assert!(what == "student/broken/value" && value.is_nan(), "{what} is {value}");
        }
        other => panic!("{other}"),
    }
    assert!(numbers(&params, "")?.concat().iter().all(|weight| weight.is_finite()));
    Ok(())
}

#[test]
fn wiring_that_cannot_work_is_refused_before_the_first_step() -> Result<()> {
    let images = Images::new();
    let refused = |change: fn(&mut sokd_train::Training<'_>)| -> Result<String> {
        let mut run = images.run()?;
        change(&mut run);
        let error =
            fit(&mut run, Progress::default(), None, &Stop::default(), &mut []).expect_err("it cannot work");
        Ok(error.to_string())
    };
    assert!(refused(|run| run.search = None)?.starts_with("look.split: no image is held out"));
    assert!(refused(|run| run.phases[0].every = 0)?.starts_with("student.every: counted from 1"));
    let toward = refused(|run| run.phases[1].toward = Some([("tusk".to_owned(), 1.0)].into()))?;
    assert!(toward.starts_with("look.toward.tusk: the objective has no such term"));
    Ok(())
}

#[test]
fn clipping_shortens_a_step() -> Result<()> {
    let images = Images::new();
    let moved = |clip| -> Result<f64> {
        let mut run = images.run()?;
        run.phases = vec![phase("student", &run.params, "student", PLAIN)?];
        (run.phases[0].clip, run.steps) = (clip, Some(1));
        let weights = |params: &Params| -> Result<Vec<f32>> {
            let flat = |(_, var): &(String, Var)| Ok(var.flatten_all()?.to_vec1::<f32>()?);
            Ok(params.group("student").iter().map(flat).collect::<Result<Vec<_>>>()?.concat())
        };
        let before = weights(&run.params)?;
        fit(&mut run, Progress::default(), None, &Stop::default(), &mut [])?;
        let square = |(a, b): (f32, &f32)| f64::from(a - b).powi(2);
        Ok(weights(&run.params)?.into_iter().zip(&before).map(square).sum::<f64>().sqrt())
    };
    let (free, held) = (moved(None)?, moved(Some(0.1))?);
    assert!(free > 0.01 && (held / (0.05 * 0.1) - 1.0).abs() < 1e-3, "{free}, then {held}");
    Ok(())
}

#[test]
fn a_student_at_rest_keeps_no_graph() -> Result<()> {
    let images = Images::new();
    let run = images.run()?;
    let batch = images.test.epoch(0, 0).next().expect("a batch")?;
    let judged = run.exams[0].net.forward(&batch.images, Mode::Eval)?;
    assert!(!judged.logits.track_op());
    let learning = run.distiller.student.forward(&batch.images, Mode::Eval)?;
    assert!(learning.logits.track_op());
    let numbers = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    assert_eq!(numbers(&judged.logits)?, numbers(&learning.logits)?);

    // A teacher's graph reaches the image, if the image wants a gradient.
    let teacher = run.distiller.teacher.as_ref().expect("there is one");
    let image = Var::from_tensor(&batch.images)?;
    let grads = teacher.forward(&image, Mode::Eval)?.logits.sum_all()?.backward()?;
    assert!(grads.get(&image).expect("a gradient").sqr()?.sum_all()?.to_scalar::<f32>()? > 0.0);
    Ok(())
}

#[test]
fn a_teacher_agrees_with_itself() -> Result<()> {
    let images = Images::new();
    let run = images.run()?;
    let teacher = run.distiller.teacher.as_deref().expect("there is one");
    let said = predictions(teacher, &images.test)?;
    assert_eq!(evaluate(teacher, &images.test, Some(&said))?.agreement, Some(100.0));
    assert_eq!(evaluate(teacher, &images.test, None)?.agreement, None);
    Ok(())
}

#[test]
fn a_torn_last_line_is_no_line_and_any_other_is_an_error() -> Result<()> {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("metrics.jsonl");
    assert!(metrics::read(&path)?.is_empty());
    std::fs::write(&path, "{\"a\": 1}\n{\"a\": 2}\n{\"a\":").expect("a file");
    assert_eq!(metrics::read(&path)?.len(), 2);
    std::fs::write(&path, "{\"a\": 1}\n{\"a\": 2}").expect("a file");
    assert_eq!(metrics::read(&path)?.len(), 1);
    std::fs::write(&path, "{\"a\": 1}\n{\"a\":\n{\"a\": 3}\n").expect("a file");
    let error = metrics::read(&path).expect_err("the second line is broken").to_string();
    assert!(error.contains("metrics.jsonl at byte 9"), "{error}");
    Ok(())
}

#[test]
fn sums_go_on_where_they_were() -> Result<()> {
    let terms = |value: f32| -> Result<_> {
        let value = Tensor::new(&[value, value], &Device::Cpu)?.to_dtype(DType::F32)?;
        Ok(sokd_core::Terms::default().with("kd", 0.3, value))
    };
    let (mut whole, mut parted) = (Tally::default(), Tally::default());
    for at in 0..10 {
        let value = 1.0 / (at as f32 + 3.0);
        whole.add("student", 2, &terms(value)?)?;
        parted.add("student", 2, &terms(value)?)?;
        let text = serde_json::to_string(&parted.sums()?).expect("numbers under text keys");
        parted = Tally::new(&serde_json::from_str(&text).expect("as it was"))?;
    }
    assert_eq!(whole.sums()?, parted.sums()?);
    let (images, sum) = whole.sums()?["student"]["kd"];
    assert_eq!(images, 20);
    let expected: f64 = (0..10).map(|at| f64::from(1.0 / (at as f32 + 3.0)) * 2.0).sum();
    assert!((sum - expected).abs() < 1e-12 * expected, "{sum} instead of {expected}");
    assert!((whole.sums()?["student"]["loss"].1 - 0.3 * expected).abs() < 1e-9);
    Ok(())
}
