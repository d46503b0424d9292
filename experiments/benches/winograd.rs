//! Winograd beside the plain sum, in turns: convolutions of the CIFAR networks one by one, what a teacher says of a batch,
//! and whole training steps.
//!
//! `cargo bench --package sokd-experiments --bench winograd [-- THREADS [PART OF A NAME]]` prints a line of JSON for each:
//! processor time of the fastest run of either, and how many times faster Winograd is. Batch 64; images are procedural, weights drawn.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

mod shared;

use candle::{Device, Tensor, Var};
use serde_json::json;
use shared::{Outcome, ROUNDS, once, start};
use sokd_core::{Backbone, Build as _, BuildCx, Key, Mode, Step};
use sokd_experiments::Resolved;
use sokd_experiments::assemble::{Parts, assemble};
use sokd_experiments::cli::Session;
use sokd_experiments::stopwatch::processor_ms;
use sokd_nn::{Params, with_winograd};
use sokd_ops::{Conv, conv2d};

/// Side of the map, channels read, channels written.
const LAYERS: [[usize; 3]; 10] = [
    [32, 16, 16],
    [32, 32, 32],
    [16, 32, 32],
    [32, 64, 64],
    [16, 64, 64],
    [8, 64, 64],
    [16, 128, 128],
    [8, 128, 128],
    [8, 256, 256],
    [4, 512, 512],
];
const TEACHERS: [&str; 3] = ["resnet32x4", "wrn_40_2", "vgg13"];
const STUDENTS: [&str; 4] = ["resnet20", "resnet8x4", "wrn_16_2", "vgg8"];
const BATCH: usize = 64;

fn main() -> Outcome<()> {
    let (session, _, part) = start()?;
    let wanted = |name: &&str| name.contains(&part);
    LAYERS.into_iter().filter(|shape| name(*shape).contains(&part)).try_for_each(layer)?;
    TEACHERS.into_iter().filter(wanted).try_for_each(|name| teacher(name, &session))?;
    STUDENTS.into_iter().filter(wanted).try_for_each(|name| student(name, &session))
}

/// Milliseconds of the fastest run without and with Winograd. The first rounds warm up.
fn fastest(mut run: impl FnMut(bool) -> Outcome<f64>) -> Outcome<[f64; 2]> {
    let mut best = [f64::INFINITY; 2];
    for round in 0..ROUNDS {
        for (best, winograd) in best.iter_mut().zip([false, true]) {
            let milliseconds = run(winograd)?;
            if round > 1 {
                *best = best.min(milliseconds);
            }
        }
    }
    Ok(best)
}

fn name([side, from, to]: [usize; 3]) -> String {
    format!("{side} x {side}, {from} -> {to}")
}

/// Forwards, the gradient of the map, and that of the kernel, in billions of the plain sum's operations a second.
fn layer([side, from, to]: [usize; 3]) -> Outcome<()> {
    let map = Var::from_tensor(&noise("map", &[BATCH, side, side, from])?)?;
    let kernel = Var::from_tensor(&noise("kernel", &[3, 3, from, to])?)?;
    let (frozen_map, frozen_kernel) = (map.detach(), kernel.detach());
    let conv = |winograd| Conv { winograd, ..Conv::same(3, 1) };
    let operations = 2.0 * (BATCH * side * side * 9 * from * to) as f64;
    let say = |what: &str, [plain, winograd]: [f64; 2]| {
        let rate = |milliseconds: f64| (operations / milliseconds / 1e6).round();
        println!(
            "{}",
            json!({
                "layer": name([side, from, to]), "what": what, "plain_gflops": rate(plain),
                "winograd_gflops": rate(winograd), "faster": plain / winograd,
            })
        );
    };
    let forward = fastest(|winograd| {
        let before = processor_ms();
        conv2d(&frozen_map, &frozen_kernel, None, conv(winograd))?;
        Ok(processor_ms() - before)
    })?;
    say("forward", forward);
    for (what, map, kernel) in
        [("of the map", map.as_tensor(), &frozen_kernel), ("of the kernel", &frozen_map, kernel.as_tensor())]
    {
        let gradient = fastest(|winograd| {
            let y = conv2d(map, kernel, None, conv(winograd))?;
            let before = processor_ms();
            y.backward()?;
            Ok(processor_ms() - before)
        })?;
        say(what, gradient);
    }
    Ok(())
}

fn noise(name: &str, shape: &[usize]) -> Outcome<Tensor> {
    let mut stream = Key::new(0).fold(name).stream();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// What a frozen network says of a batch.
fn teacher(name: &str, session: &Session) -> Outcome<()> {
    let parts = parts(name, false, session)?;
    let images = parts.images.train.epoch(0, 0).next().ok_or("no image")??.images;
    let spec = sokd_models::named(name).ok_or("no network of the zoo has that name")?;
    let params = Params::new(Key::new(0));
    let build = || {
        spec.build(&BuildCx::alone(params.frozen(&Device::Cpu), &parts.info))
            as sokd_core::Result<Box<dyn Backbone>>
    };
    let nets = [build()?, with_winograd(true, build)?];
    let best = fastest(|winograd| {
        let before = processor_ms();
        nets[usize::from(winograd)].forward(&images, Mode::Eval)?;
        Ok(processor_ms() - before)
    })?;
    say(name, "inference", best);
    Ok(())
}

/// A training step of a student alone.
fn student(name: &str, session: &Session) -> Outcome<()> {
    let mut both = [parts(name, false, session)?, parts(name, true, session)?];
    let best = fastest(|winograd| once(&mut both[usize::from(winograd)], Step::first(Key::new(0))))?;
    say(name, "training step", best);
    Ok(())
}

fn say(model: &str, what: &str, [plain, winograd]: [f64; 2]) {
    println!(
        "{}",
        json!({
            "model": model, "what": what, "plain_ms": plain, "winograd_ms": winograd, "faster": plain / winograd
        })
    );
}

fn parts(student: &str, winograd: bool, session: &Session) -> Outcome<Parts> {
    let said = [
        format!("student.model={student}"),
        format!("student.winograd={winograd}"),
        format!("batch={BATCH}"),
        "data={ type = \"shapes\", train = 64, test = 10 }".into(),
        // Maps of drawn weights are huge: one step on them would be the last.
        "phase.student.lr.base=0.0".into(),
    ];
    Ok(assemble(&Resolved::new("cifar100-alone", None, &said)?.recipe, session)?)
}
