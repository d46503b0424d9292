//! Whether NVIDIA's own cuDNN takes what it is asked. It plans for a GPU that is not here as it does for one that is, down to compiling
//! kernels; `cargo xtask cuda --plans` has it at hand, and runs this.

use super::descriptor::Descriptor;
use super::plan::{Planner, engine};
use super::task::{Pass, Task};
use crate::Conv;
use crate::kernels::geometry::Geometry;
use candle::cuda_backend::cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as Name, cudnnBackendDescriptorType_t as Kind,
};
use candle::{DType, Result};

fn h200() -> Result<Planner> {
    let properties = Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, include_bytes!("h200.json"))?
        .sealed()?;
    Ok(Planner::Properties(properties))
}

/// Images, their sides, channels read and written, and how the window moves.
type Sizes = (usize, [usize; 2], usize, usize, Conv, usize);

/// Convolutions of the networks for 32 pixels and for 224, and odd ones.
fn sizes() -> Vec<Sizes> {
    let same = Conv::same;
    vec![
        (64, [32, 32], 3, 16, same(3, 1), 3),
        (64, [32, 32], 16, 16, same(3, 1), 3),
        (64, [32, 32], 16, 32, same(3, 2), 3),
        (64, [32, 32], 16, 32, same(1, 2), 1),
        (64, [16, 16], 32, 32, same(3, 1), 3),
        (64, [8, 8], 64, 64, same(3, 1), 3),
        (64, [32, 32], 32, 64, same(3, 1), 3),
        (64, [8, 8], 256, 256, same(3, 1), 3),
        (64, [8, 8], 256, 128, same(1, 1), 1),
        (64, [2, 2], 512, 512, same(3, 1), 3),
        (256, [224, 224], 3, 64, same(7, 2), 7),
        (256, [56, 56], 64, 64, same(1, 1), 1),
        (256, [56, 56], 64, 256, same(1, 1), 1),
        (256, [56, 56], 128, 128, same(3, 2), 3),
        (256, [56, 56], 256, 512, same(1, 2), 1),
        (256, [14, 14], 256, 256, same(3, 1), 3),
        (256, [7, 7], 2048, 512, same(1, 1), 1),
        (256, [7, 7], 512, 512, same(3, 1), 3),
        (64, [16, 16], 24, 240, Conv { groups: 3, ..same(1, 1) }, 1),
        (64, [16, 16], 240, 240, Conv { groups: 3, ..same(1, 1) }, 1),
        (32, [56, 56], 128, 128, Conv { groups: 32, ..same(3, 1) }, 3),
        (64, [8, 8], 58, 58, same(1, 1), 1),
        (4, [33, 65], 256, 256, Conv { dilation: [6, 6], padding: [6, 6], ..same(3, 1) }, 3),
        (2, [128, 256], 512, 19, same(1, 1), 1),
        (1, [25, 38], 256, 36, same(3, 1), 3),
        (16, [13, 7], 5, 7, Conv { stride: [2, 1], padding: [0, 2], ..same(3, 1) }, 3),
        (10, [1, 1], 100, 10, same(1, 1), 1),
    ]
}

fn geometry((batch, input, from, to, conv, side): Sizes) -> Geometry {
    let output = std::array::from_fn(|axis| {
        let seen = conv.dilation[axis] * (side - 1) + 1;
        (input[axis] + 2 * conv.padding[axis] - seen) / conv.stride[axis] + 1
    });
    Geometry { batch, input, output, kernel: [side; 2], from, to, conv }
}

/// A plan for each, which comes back from its text; none needed where two kernels do it.
#[test]
fn there_is_a_plan_for_every_task() -> Result<()> {
    let planner = h200()?;
    let rest = [(false, false), (false, true), (true, false), (true, true)];
    let rest = rest.map(|(residual, relu)| Pass::AtRest { residual, relu });
    let back = [false, true].map(|onto| Pass::ToMap { onto });
    let passes: Vec<Pass> = [Pass::Forward, Pass::ToKernel].into_iter().chain(back).chain(rest).collect();
    let unaligned = (64, [8, 8], 64, 64, Conv::same(3, 1), 3);
    for (sizes, alignment) in sizes().into_iter().map(|sizes| (sizes, 16)).chain([(unaligned, 4)]) {
        for (map, tf32) in [(DType::F32, false), (DType::F32, true), (DType::BF16, false)] {
            for &pass in &passes {
                let task = Task { pass, geometry: geometry(sizes), map, tf32, alignment };
                let ways = planner.ways(&task, pass.is_needed())?;
                let (count, mut refused) = (ways.len(), Vec::new());
                let mut plan = None;
                for way in ways {
                    let (engine, notes) = engine(&way)?;
                    match planner.by(way) {
                        Ok(by) => {
                            plan = Some((engine, notes, by));
                            break;
                        }
                        Err(error) => refused.push(error.to_string()),
                    }
                }
                let how = if tf32 { "TF32".to_owned() } else { format!("{map:?}") };
                let name = format!("{} of {}, {how}, {pass:?}", task.geometry.name(), task.geometry.batch);
                let Some((engine, notes, plan)) = plan else {
                    println!("{name}: none of {count} {refused:?}");
                    assert!(!pass.is_needed(), "{name}: {refused:?}");
                    continue;
                };
                println!("{name}: engine {engine} of {count}, notes {notes:?}, {} bytes", plan.bytes);
                assert_eq!(planner.read(&plan.written()?)?.bytes, plan.bytes, "{name}");
            }
        }
    }
    Ok(())
}
