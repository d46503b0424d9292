use crate::areas::{Found, Grid};
use crate::heads::{Heads, Sight};
use crate::monitor::readings;
use crate::{Dam, Whose};
use candle::{D, Tensor};
use sokd_core::{BuildCx, Pair, Refiner, Result, Step, Terms};
use sokd_nn::Adapter;
use sokd_ops::{self as ops, Areas};

/// [`Dam`] with its weights.
pub struct Detector {
    dam: Dam,
    adapter: Adapter,
    heads: Heads,
}

/// What the detector says of a batch, for pictures and for scores.
///
/// # Shapes
/// `student`, `teacher`: `(batch, height, width, heatmaps)`, in (0, 1).
pub struct Look {
    /// The student's heatmaps.
    pub student: Tensor,
    /// The teacher's heatmaps.
    pub teacher: Tensor,
    /// The boxes in each image, the highest peak first.
    pub found: Vec<Vec<Found>>,
    /// What their cells stand for in the image.
    pub grid: Grid,
}

impl Detector {
    pub(crate) fn new(dam: Dam, heatmaps: usize, cx: &BuildCx<'_>) -> Result<Self> {
        let adapter = dam.hint.build(cx, "dam")?;
        let channels = cx.teacher("dam")?.stage(dam.hint.stage)?.channels;
        let vars = cx.vars.pp("adapter.dam").pp(dam.hint.stage.to_string());
        Ok(Self { heads: Heads::new(&dam, channels, heatmaps, &vars)?, adapter, dam })
    }

    /// The detector's heads, for a map in the teacher's shape.
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// What it finds in a pair, without asking anything of it. A student at rest is looked at as it is; one in training
    /// has its adapter learn from the look, so show it in `Mode::Eval` or `Mode::Probe`.
    pub fn look(&self, pair: &Pair<'_>, at: &Step) -> Result<Look> {
        let (map, other) = (self.adapter.adapted(pair)?, self.adapter.teachers(pair, "dam")?);
        let mode = pair.student.mode;
        let (student, teacher) = (self.heads.forward(&map, mode)?, self.heads.forward(&other, mode)?);
        let (_, height, width, _) = map.dims4()?;
        let (_, rows, columns, _) = pair.images.dims4()?;
        let (_, found) = self.find(&self.source(&student, &teacher)?, pair, at)?;
        Ok(Look {
            student: student.heatmap,
            teacher: teacher.heatmap,
            found,
            grid: Grid { map: [height, width], image: [rows, columns] },
        })
    }

    /// What boxes are read from: heatmap, size, offset.
    fn source(&self, student: &Sight, teacher: &Sight) -> Result<[Tensor; 3]> {
        Ok(match self.dam.boxes_from {
            Whose::Student | Whose::Random => student.shown(),
            Whose::Teacher => teacher.shown(),
            Whose::Both => {
                let ([heat, size, offset], [other_heat, other_size, other_offset]) =
                    (student.shown(), teacher.shown());
                let mean = |a: Tensor, b: Tensor| -> Result<Tensor> { Ok(((a + b)? * 0.5)?) };
                [mean(heat, other_heat)?, mean(size, other_size)?, mean(offset, other_offset)?]
            }
        })
    }

    /// The boxes in each image, and the heatmaps they were found in.
    fn find(&self, source: &[Tensor; 3], pair: &Pair<'_>, at: &Step) -> Result<(Vec<f32>, Vec<Vec<Found>>)> {
        let (_, height, width, _) = source[0].dims4()?;
        let (heat, mut found) = self.dam.find(source)?;
        if self.dam.boxes_from == Whose::Random {
            let rows: Vec<u32> = pair.rows.to_vec1()?;
            for (boxes, row) in found.iter_mut().zip(rows) {
                // By the example's place in the split: its boxes do not depend on its company.
                let mut stream = at.key.fold("dam").stream_at(0, 0, row);
                for found in boxes {
                    found.cells = found.cells.anywhere([height, width], &mut stream);
                }
            }
        }
        Ok((heat, found))
    }

    /// What the boxes come to: where the maps are, if there are kernels for it and no box is drawn here.
    fn areas(&self, source: &[Tensor; 3], pair: &Pair<'_>, at: &Step) -> Result<Areas> {
        if self.dam.boxes_from != Whose::Random
            && let Some(areas) = self.dam.areas_there(source)?
        {
            return Ok(areas);
        }
        let (heat, found) = self.find(source, pair, at)?;
        self.dam.areas_here(&source[0], &heat, &found)
    }
}

impl Refiner for Detector {
    fn refine<'a>(&self, pair: Pair<'a>, at: &Step) -> Result<(Pair<'a>, Terms)> {
        let dam = &self.dam;
        if !dam.asks() {
            return Ok((pair, Terms::default()));
        }
        let (map, pair) = self.adapter.share(pair, at)?;
        let other = self.adapter.teachers(&pair, "dam")?;
        // The teacher is at rest, but the detector learns on either side.
        let mode = pair.student.mode;
        let compared = dam.agreement != 0.0 || dam.anchored() != 0.0;
        let student = self.heads.forward(&map, mode)?;
        let student = if at.learns { student } else { student.detach() };
        let alone = !compared && matches!(dam.boxes_from, Whose::Student | Whose::Random);
        let teacher = if alone { student.clone() } else { self.heads.forward(&other, mode)? };

        let mut terms = Terms::default();
        if dam.agreement != 0.0 {
            let teacher = if dam.stop_teacher { teacher.detach() } else { teacher.clone() };
            terms = terms.with("agreement", dam.agreement, agreement(&student, &teacher)?);
        }
        if dam.anchored() != 0.0 {
            for (name, sight) in [("anchor/student", &student), ("anchor/teacher", &teacher)] {
                terms = terms.with(name, dam.anchored(), anchor(&sight.logits, &pair.labels)?);
            }
        }
        if dam.boxes() {
            let areas = self.areas(&self.source(&student, &teacher)?, &pair, at)?;
            if dam.area != 0.0 {
                let (weights, channels) = (areas.weights.to_dtype(map.dtype())?, map.dim(3)?);
                let value = (ops::squared_distance(&map, &other)? / channels as f64)?.mul(&weights)?;
                terms = terms.with("area", dam.area, value.sum(D::Minus1)?.sum(D::Minus1)?);
            }
            terms = readings(terms, &areas.readings)?;
        }
        Ok((pair, terms))
    }
}

/// How differently the detector sees two maps: the mean square over places, heatmaps, sizes and offsets alike.
///
/// # Source
/// SoKD, (E10), reduced as the development code does: one mean over the three branches' channels side by side.
fn agreement(student: &Sight, teacher: &Sight) -> Result<Tensor> {
    let heat = ops::squared_distance(&student.heatmap, &teacher.heatmap)?;
    let boxes = (ops::squared_distance(&student.size, &teacher.size)?
        + ops::squared_distance(&student.offset, &teacher.offset)?)?;
    let channels = student.logits.dim(3)? + 4;
    let places = ((heat + boxes)? / channels as f64)?;
    Ok(places.mean(D::Minus1)?.mean(D::Minus1)?)
}

/// The surprise at the label of a classifier that reads the heatmaps' means.
///
/// # Shapes
/// `logits`: `(batch, height, width, classes)`; `labels`: `(batch,)` → `(batch,)`.
fn anchor(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let scores = ops::log_softmax(&ops::global_avg_pool(logits)?)?;
    Ok(scores.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?.neg()?)
}
