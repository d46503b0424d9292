use super::*;
use candle::Device;
use sokd_core::Key;
use sokd_ops::{Backend, with_backend};

/// A number of a heatmap, by its draw between -1 and 1 and the image it is of.
type Heat = fn(f64, usize) -> f64;

/// What a detector says of a batch, sizes and offsets beyond the map and below 0.
fn said(shape: [usize; 4], heat: Heat) -> Result<[Tensor; 3]> {
    let [batch, height, width, channels] = shape;
    let mut stream = Key::new((height * width + channels) as u64).stream();
    let mut tensor = |last: usize, number: &dyn Fn(f64, usize) -> f64| {
        let image = height * width * last;
        let numbers = (0..batch * image).map(|at| number(stream.between(-1.0, 1.0), at / image) as f32);
        Tensor::from_iter(numbers, &Device::Cpu)?.reshape((batch, height, width, last))
    };
    Ok([tensor(channels, &heat)?, tensor(2, &|drawn, _| 7.0 * drawn)?, tensor(2, &|drawn, _| 3.0 * drawn)?])
}

/// Whether both ways come to the same: the weights to the bit.
fn held(dam: &Dam, source: &[Tensor; 3], what: &str) -> Result<()> {
    let (heat, found) = dam.find(source)?;
    let here = dam.areas_here(&source[0], &heat, &found)?;
    let there = with_backend(Backend::Mirror, || dam.areas_there(source))?.expect("the mirror finds them");
    let bits = |tensor: &Tensor| -> Result<Vec<u32>> {
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    assert_eq!(there.weights.dims(), here.weights.dims(), "{what}");
    assert_eq!(bits(&there.weights)?, bits(&here.weights)?, "{what}: {dam:?}");
    let (there, here) = (there.readings.to_vec1::<f32>()?, here.readings.to_vec1::<f32>()?);
    for (there, here) in there.iter().zip(&here) {
        assert!((there - here).abs() < 1e-5, "{what}: {there} and {here} of {here:?}, {dam:?}");
    }
    assert_eq!((there.len(), here.len()), (5, 5));
    Ok(())
}

/// Batches with what is hard in them.
const HEATS: [(&str, Heat); 5] = [
    ("drawn", |drawn, _| 0.5 + 0.4 * drawn),
    ("ties", |drawn, _| (3.0 * drawn).round()),
    ("the same everywhere", |_, image| 0.5 + 0.1 * (image % 2) as f64),
    ("no numbers in one", |drawn, image| if image == 1 { f64::NAN } else { drawn }),
    ("some no numbers, some without end", |drawn, _| match (8.0 * drawn) as i32 {
        5 => f64::NAN,
        -5 => f64::NEG_INFINITY,
        _ => drawn.round(),
    }),
];

#[test]
fn a_gpu_finds_what_plain_numbers_find() -> Result<()> {
    for shape in [[3, 6, 5, 4], [5, 3, 4, 2], [4, 1, 1, 1], [2, 1, 7, 3], [2, 19, 17, 1], [2, 2, 3, 300]] {
        for (name, heat) in HEATS {
            let source = said(shape, heat)?;
            for (peaks, window, min_box) in
                [(8, 3, 0.0), (1, 5, 2.5), (40, 1, 0.0), (256, 3, 1.0), (3, 99, 0.5)]
            {
                let dam = Dam { peaks, window, min_box, ..Dam::default() };
                held(&dam, &source, &format!("{name}, {shape:?}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_gpu_counts_cells_as_plain_numbers_do() -> Result<()> {
    let source = said([4, 6, 5, 3], HEATS[0].1)?;
    for combine in [Combine::Sum, Combine::Union, Combine::CountSquared] {
        for over in [Over::Map, Over::Area] {
            held(&Dam { combine, over, ..Dam::default() }, &source, "drawn")?;
        }
    }
    Ok(())
}

/// More images and cells than a block has lanes.
#[test]
fn a_gpus_lanes_go_round() -> Result<()> {
    held(&Dam::default(), &said([300, 3, 3, 2], HEATS[1].1)?, "many images")?;
    held(&Dam { min_box: 4.0, ..Dam::default() }, &said([1, 40, 33, 2], HEATS[0].1)?, "many cells")
}

#[test]
fn sizes_that_are_no_numbers_are_those_of_the_least_box() -> Result<()> {
    let [heat, sizes, offsets] = said([2, 4, 4, 2], HEATS[0].1)?;
    let none = (&sizes * f64::NAN)?;
    let dam = Dam::default();
    let weights = |sizes: &Tensor, offsets: &Tensor| -> Result<Vec<f32>> {
        let source = [heat.clone(), sizes.clone(), offsets.clone()];
        let there = with_backend(Backend::Mirror, || dam.areas_there(&source))?.expect("areas");
        let (numbers, found) = dam.find(&source)?;
        let here = dam.areas_here(&heat, &numbers, &found)?.weights.flatten_all()?.to_vec1()?;
        assert_eq!(here, there.weights.flatten_all()?.to_vec1::<f32>()?);
        Ok(here)
    };
    assert_eq!(weights(&none, &offsets)?, weights(&sizes.zeros_like()?, &offsets)?);
    weights(&sizes, &(&offsets * f64::NAN)?)?;
    Ok(())
}
