//! The least of everything that training needs, with nothing left out: a network with normalisations, noise to learn
//! from, terms that draw.
#![allow(dead_code, reason = "each test file uses what it needs")]

use candle::{Device, Tensor};
use candle_nn::VarBuilder;
use sokd_core::{
    Backbone, BackboneInfo, Batch, Batches, DistillLoss, Head, Key, LearnSplit, Mode, Pair, PixelNorm,
    Result, Split, Stage, StageInfo, Step, Terms,
};
use sokd_nn::{BatchNorm, Conv2d, ConvNorm, Ema, Linear, OptimSpec, Params, init};
use sokd_ops::Conv;
use sokd_train::{Distiller, Exam, Phase, Schedule, TermOf, Training, predictions};
use sokd_world::{ALONE, Share};

pub const CLASSES: usize = 3;

/// A stem, a stage and a head, four channels wide.
pub struct Small {
    info: BackboneInfo,
    stem: ConvNorm,
    stage: ConvNorm,
    fc: Linear,
}

impl Small {
    pub fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let conv = |from, name: &str, stride| {
            let draw = init::kaiming_normal_fan_out(3, 4);
            let conv = Conv2d::new(from, 4, 3, Conv::same(3, stride), draw, None, vb.pp(name))?;
            Ok::<_, sokd_core::Error>(ConvNorm::new(conv, BatchNorm::new(4, vb.pp(format!("{name}_bn")))?))
        };
        let fan = init::kaiming_uniform(4);
        Ok(Self {
            info: BackboneInfo {
                stem: StageInfo { channels: 4, stride: 1 },
                stages: vec![StageInfo { channels: 4, stride: 2 }],
                features: 4,
                classes: CLASSES,
                pixels: PixelNorm { mean: [0.5; 3], std: [0.25; 3] },
            },
            stem: conv(3, "stem", 1)?,
            stage: conv(4, "stage", 2)?,
            fc: Linear::new(4, CLASSES, fan, Some(fan), vb.pp("fc"))?,
        })
    }
}

impl Backbone for Small {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn stem(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let images = sokd_ops::normalize(images, self.info.pixels.mean, self.info.pixels.std)?;
        self.stem.forward(&images, None, true, mode)
    }

    fn stage(&self, _: usize, input: &Tensor, mode: Mode) -> Result<Stage> {
        Ok(Stage::new(self.stage.forward(input, None, true, mode)?, None))
    }

    fn head(&self, map: &Tensor, _: Mode) -> Result<Head> {
        let pooled = sokd_ops::global_avg_pool(map)?;
        Ok(Head { logits: self.fc.forward(&pooled)?, pooled, said: None })
    }
}

/// Noise of three brightnesses, in an order that each epoch draws anew.
pub struct Noise {
    pub key: Key,
    pub count: u32,
    pub batch: usize,
    pub shuffled: bool,
    /// Which part of each batch is this process's.
    pub share: Share,
}

impl Noise {
    fn read(&self, rows: &[u32]) -> Result<Batch> {
        let labels: Vec<u32> = rows.iter().map(|row| row % CLASSES as u32).collect();
        let mut pixels = Vec::new();
        for (&row, &label) in rows.iter().zip(&labels) {
            let mut stream = self.key.stream_at(0, 0, row);
            pixels.extend((0..4 * 6 * 3).map(|_| (0.2 * f64::from(label) + 0.5 * stream.uniform()) as f32));
        }
        Ok(Batch {
            images: Tensor::from_vec(pixels, (rows.len(), 4, 6, 3), &Device::Cpu)?,
            labels: Tensor::new(labels, &Device::Cpu)?,
            rows: Tensor::new(rows, &Device::Cpu)?,
        })
    }
}

impl Batches for Noise {
    fn steps(&self) -> usize {
        self.examples().div_ceil(self.batch)
    }

    fn examples(&self) -> usize {
        self.count as usize
    }

    fn epoch(&self, epoch: usize, from: usize) -> Box<dyn Iterator<Item = Result<Batch>> + Send + '_> {
        let mut rows: Vec<u32> = (0..self.count).collect();
        if self.shuffled {
            self.key.fold_in(epoch as u64).stream().shuffle(&mut rows);
        }
        let batches: Vec<Vec<u32>> = rows.chunks(self.batch).map(<[u32]>::to_vec).collect();
        Box::new(batches.into_iter().skip(from).map(|rows| self.read(&rows[self.share.of(rows.len())])))
    }
}

/// Cross-entropy.
#[derive(Clone)]
pub struct Task;

impl DistillLoss for Task {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let likelihood = sokd_ops::log_softmax(&pair.student.out.logits)?;
        let own = likelihood.gather(&pair.labels.unsqueeze(1)?, 1)?.squeeze(1)?;
        Ok(Terms::one("likelihood", own.neg()?))
    }
}

/// The distance of the logits, each example weighed by chance: a wrong key shows.
#[derive(Clone)]
pub struct Near;

impl DistillLoss for Near {
    fn terms(&self, pair: &Pair<'_>, at: &Step) -> Result<Terms> {
        let teacher = &pair.teacher("near")?.out.logits;
        let distance = (&pair.student.out.logits - teacher)?.sqr()?.mean(1)?;
        let mut stream = at.key.stream();
        let chance: Vec<f32> = (0..distance.dim(0)?).map(|_| stream.uniform() as f32).collect();
        Ok(Terms::one("distance", (distance * Tensor::new(chance, &Device::Cpu)?)?))
    }
}

/// Not a number from the third step on.
#[derive(Clone)]
pub struct Broken;

impl DistillLoss for Broken {
    fn terms(&self, pair: &Pair<'_>, at: &Step) -> Result<Terms> {
        let value = if at.index < 2 { 1.0 } else { f64::NAN };
        Ok(Terms::one("value", (pair.student.out.logits.mean(1)? * value)?))
    }
}

pub fn term(name: &str, weight: Schedule, loss: impl DistillLoss + 'static) -> TermOf {
    TermOf { name: name.to_owned(), weight, loss: Box::new(loss) }
}

/// A phase that moves the weights of a group.
pub fn phase(name: &str, params: &Params, group: &str, optim: &str) -> Result<Phase> {
    let optim: OptimSpec = serde_json::from_str(optim).expect("an optimiser");
    Ok(Phase::new(name, optim.build(params.group(group))?))
}

/// The images of a small run.
pub struct Images {
    pub train: Noise,
    pub search: Noise,
    pub held_out: Noise,
    pub test: Noise,
}

impl Images {
    pub fn new() -> Self {
        let noise = |name: &str, count, batch, shuffled| Noise {
            key: Key::new(7).fold(name),
            count,
            batch,
            shuffled,
            share: Share::WHOLE,
        };
        Self {
            train: noise("train", 20, 6, true),
            search: noise("search", 9, 4, true),
            held_out: noise("search", 9, 5, false),
            test: noise("test", 11, 5, false),
        }
    }

    /// Two epochs of four steps: SGD on all terms; Adam toward one, on held-out images in every third step; a moving
    /// average; examinations on both splits.
    pub fn run(&self) -> Result<Training<'_>> {
        let teacher = Params::new(Key::new(2));
        let taught = |net: &Params| Small::new(&net.frozen(&Device::Cpu).pp("teacher"));
        let params = Params::new(Key::new(1));
        let student = Small::new(&params.builder(&Device::Cpu).pp("student"))?;
        let ema = Ema::new(&params, "student", 0.8)?;

        let mut learn = phase("student", &params, "student", r#"{ "type": "sgd", "nesterov": true }"#)?;
        learn.clip = Some(2.0);
        learn.lr.warmup_epochs = 1;
        let mut look = phase("look", &params, "student", r#"{ "type": "adam" }"#)?;
        look.split = LearnSplit::Search;
        look.mode = Mode::Probe;
        look.every = 3;
        look.toward = Some([("task".to_owned(), 1.0)].into());

        let frozen = |params: &Params| Small::new(&params.frozen(&Device::Cpu).pp("student"));
        let exam = |name: &str, split, net, images| -> Result<Exam<'_>> {
            let teacher = Some(predictions(&taught(&teacher)?, images)?);
            Ok(Exam { name: name.to_owned(), split, net: Box::new(net), batches: images, teacher, every: 1 })
        };
        Ok(Training {
            exams: vec![
                exam("test", Split::Test, frozen(&params)?, &self.test)?,
                exam("search", Split::Search, frozen(&params)?, &self.held_out)?,
                exam("ema-test", Split::Test, frozen(ema.params())?, &self.test)?,
            ],
            distiller: Distiller {
                student: Box::new(student),
                teacher: Some(Box::new(taught(&teacher)?)),
                lens: None,
                terms: vec![
                    term("task", Schedule::Constant(1.0), Task),
                    term("distill", serde_json::from_str(r#"{ "ramp": 4 }"#).expect("a schedule"), Near),
                ],
            },
            phases: vec![learn, look],
            ema: Some(ema),
            params,
            train: &self.train,
            search: Some(&self.search),
            epochs: 2,
            steps: None,
            key: Key::new(3),
            world: &ALONE,
        })
    }
}
