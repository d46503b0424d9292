//! A teacher that remembers what it said: never asked twice, never other bits.

use candle::{DType, Device, Tensor, Var};
use sokd_core::{Backbone, BackboneInfo, Build as _, BuildCx, Head, Key, Mode, Result, Stage};
use sokd_models::{Remembered, named};
use sokd_nn::{Params, with_winograd};
use sokd_tests::{Wave, data, fill};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

fn images(count: usize) -> Result<Tensor> {
    let wave = Wave { shape: vec![count, 32, 32, 3], scale: 0.5, shift: 0.5, dead: Vec::new() };
    Ok(wave.draw("images")?.to_dtype(DType::F32)?)
}

/// Logits and embedding of each of some images, asked about at once.
fn said(net: &dyn Backbone, images: &Tensor, rows: &[u32]) -> Result<Vec<[Vec<u32>; 2]>> {
    let out = net.forward(&images.index_select(&Tensor::new(rows, images.device())?, 0)?, Mode::Eval)?;
    (0..rows.len()).map(|at| Ok([bits(&out.logits.get(at)?)?, bits(&out.pooled.get(at)?)?])).collect()
}

/// What makes remembering exact: neither the neighbours of an image nor their number change a bit of what is said of it.
#[test]
fn a_network_at_rest_says_the_same_of_an_image_in_any_batch() -> Result<()> {
    let data = data(100, [32; 2]);
    // Of each family the smallest, and of those whose sizes decide between kernels a wide one.
    for name in [
        "resnet8",
        "resnet8x4",
        "resnet20_a",
        "wrn_16_2",
        "vgg8",
        "MobileNetV2",
        "ShuffleV1",
        "ShuffleV2",
        "imagenet_resnet18",
        "imagenet_mobilenetv1",
    ] {
        for winograd in [true, false] {
            let params = Params::new(Key::new(3));
            let cx = BuildCx::alone(params.frozen(&Device::Cpu), &data);
            let net = with_winograd(winograd, || named(name).unwrap().build(&cx))?;
            fill(&params, "")?;
            // More than the rows of a head that are multiplied at once, of one network.
            let all: Vec<u32> = (0..if name == "resnet8" { 66 } else { 9 }).collect();
            let images = images(all.len())?;
            let together = said(net.as_ref(), &images, &all)?;
            for rows in [&[4][..], &[3, 5], &[8, 4, 0], &all[1..]] {
                for (alone, &row) in said(net.as_ref(), &images, rows)?.iter().zip(rows) {
                    assert!(alone == &together[row as usize], "{name}, {winograd}: image {row} of {rows:?}");
                }
            }
        }
    }
    Ok(())
}

/// Counts the images that a network is shown.
struct Counted {
    net: Box<dyn Backbone>,
    shown: Arc<AtomicUsize>,
}

impl Backbone for Counted {
    fn info(&self) -> &BackboneInfo {
        self.net.info()
    }

    fn stem(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.shown.fetch_add(images.dim(0)?, Ordering::Relaxed);
        self.net.stem(images, mode)
    }

    fn stage(&self, index: usize, input: &Tensor, mode: Mode) -> Result<Stage> {
        self.net.stage(index, input, mode)
    }

    fn head(&self, map: &Tensor, mode: Mode) -> Result<Head> {
        self.net.head(map, mode)
    }
}

#[test]
fn no_image_is_asked_about_twice() -> Result<()> {
    let (data, images, shown) = (data(10, [32; 2]), images(6)?, Arc::new(AtomicUsize::new(0)));
    let build = || {
        named("resnet8").unwrap().build(&BuildCx::alone(Params::new(Key::new(1)).frozen(&Device::Cpu), &data))
    };
    let plain = build()?;
    let net = Remembered::new(Box::new(Counted { net: build()?, shown: shown.clone() }));
    // Some new, some known, one twice; and a gradient to the image is asked for anew.
    for (rows, all) in [(&[0, 1, 2][..], 3), (&[2, 0], 3), (&[5, 1, 5, 4], 5), (&[0, 1, 2, 4, 5], 5)] {
        assert_eq!(said(&net, &images, rows)?, said(plain.as_ref(), &images, rows)?, "{rows:?}");
        assert_eq!(shown.load(Ordering::Relaxed), all, "{rows:?}");
    }
    let tracked = Var::from_tensor(&images)?;
    assert_eq!(net.forward(&tracked, Mode::Eval)?.stages.len(), 3);
    assert_eq!(shown.load(Ordering::Relaxed), 11);
    // Maps are not remembered, whoever asks first.
    let out = net.forward(&images, Mode::Eval)?;
    assert!(out.stages.is_empty() && out.stage(0).is_err());
    Ok(())
}
