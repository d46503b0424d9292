use blake3::Hash;
use candle::{Device, Tensor};
use sokd_core::graft::Grafts;
use sokd_core::{Backbone, BackboneInfo, Forward, Head, Mode, Result, Stage};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A network at rest that remembers what it said of an image, and is not asked about it again: a teacher that is shown the same
/// images in every epoch.
///
/// Images are told apart by their pixels, so that it is never wrong about one, wherever it comes from. It remembers the embedding
/// and the logits, and shows nothing else: maps of all images would take more room than they take time. At rest a network
/// says the same of an image to the bit, on a CPU, whatever stands beside it in a batch; the tests hold every family to that.
///
/// Asked for a gradient (images that a graph tracks) or in another mode, it is the network itself.
pub struct Remembered {
    net: Box<dyn Backbone>,
    said: Mutex<Said>,
}

/// Embeddings and logits, image behind image.
#[derive(Default)]
struct Said {
    of: HashMap<Hash, usize>,
    pooled: Vec<f32>,
    logits: Vec<f32>,
}

impl Remembered {
    /// Nothing is remembered yet.
    pub fn new(net: Box<dyn Backbone>) -> Self {
        Self { net, said: Mutex::default() }
    }

    /// What a thread that panicked left is whole: an image is known last.
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks about those of the images that are new, each once.
    fn ask(&self, images: &Tensor, hashes: &[Hash]) -> Result<()> {
        let mut said = self.said();
        let mut new: Vec<usize> = Vec::new();
        for (row, hash) in hashes.iter().enumerate() {
            if !said.of.contains_key(hash) && new.iter().all(|&other| hashes[other] != *hash) {
                new.push(row);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let rows: Vec<u32> = new.iter().map(|&row| row as u32).collect();
        let images = images.index_select(&Tensor::new(rows, images.device())?, 0)?;
        let out = self.net.forward(&images, Mode::Eval)?;
        let (pooled, logits) = (out.pooled.flatten_all()?.to_vec1()?, out.logits.flatten_all()?.to_vec1()?);
        said.pooled.extend::<Vec<f32>>(pooled);
        said.logits.extend::<Vec<f32>>(logits);
        for row in new {
            let place = said.of.len();
            said.of.insert(hashes[row], place);
        }
        Ok(())
    }
}

impl Backbone for Remembered {
    fn info(&self) -> &BackboneInfo {
        self.net.info()
    }

    fn stem(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.net.stem(images, mode)
    }

    fn stage(&self, index: usize, input: &Tensor, mode: Mode) -> Result<Stage> {
        self.net.stage(index, input, mode)
    }

    fn head(&self, map: &Tensor, mode: Mode) -> Result<Head> {
        self.net.head(map, mode)
    }

    fn grafts(&mut self) -> Option<&mut Grafts> {
        self.net.grafts()
    }

    fn preact(&self, index: usize, stage: &Stage, mode: Mode) -> Result<Tensor> {
        self.net.preact(index, stage, mode)
    }

    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Forward> {
        if mode != Mode::Eval || images.track_op() || images.rank() != 4 {
            return self.net.forward(images, mode);
        }
        let pixels = images.flatten_from(1)?.to_vec2::<f32>()?;
        let hashes: Vec<Hash> = pixels.iter().map(|image| hash(image)).collect();
        self.ask(images, &hashes)?;
        let (said, info) = (self.said(), self.net.info());
        let recall = |all: &[f32], width: usize| {
            let values: Vec<f32> =
                hashes.iter().flat_map(|hash| &all[said.of[hash] * width..][..width]).copied().collect();
            Tensor::from_vec(values, (hashes.len(), width), images.device())
        };
        Ok(Forward {
            // Whoever wants it anyway is told by the shape. On this side: not every GPU's driver grants memory of no bytes.
            stem: Tensor::zeros((hashes.len(), 0), images.dtype(), &Device::Cpu)?,
            stages: Vec::new(),
            pooled: recall(&said.pooled, info.features)?,
            logits: recall(&said.logits, info.classes)?,
            said: None,
        })
    }
}

fn hash(pixels: &[f32]) -> Hash {
    let bytes: Vec<u8> = pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
    blake3::hash(&bytes)
}
