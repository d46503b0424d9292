//! Draws, and the gradients that a policy gets from them.

use candle::{DType, Device, Tensor, Var};
use sokd_core::{Key, Result};
use sokd_dafa::{Chosen, Draw, Drawn, Lots, Policy, Relaxed, Space, ops::OperationSpec};
use sokd_nn::Params;
use sokd_tests::{gap, near, same, wave};
use std::sync::Arc;

/// Cutout, noise and a rotation, whose level ½ is not the middle: no pair is nothing.
fn three() -> Arc<Space> {
    let operations = r#"[
        { "type": "rotate", "range": [0.0, 60.0] },
        { "type": "cutout", "range": [0.2, 0.8] },
        { "type": "channel-drop" }
    ]"#;
    let operations: Vec<OperationSpec> = serde_json::from_str(operations).expect("operations");
    Arc::new(Space::new(operations).expect("three pairs"))
}

/// A policy whose weights are neither equal nor at their ends.
fn learned(space: &Space) -> Result<(Policy, Params)> {
    let params = Params::new(Key::new(0));
    let policy = Policy::new(&params.builder(&Device::Cpu), space, 0.5)?;
    for (name, var) in params.group("policy") {
        let drawn = wave(&name, var.dims(), if name.ends_with("alpha") { 1.0 } else { 0.4 })?;
        var.set(&if name.ends_with("alpha") { drawn } else { (drawn + 0.5)? })?;
    }
    Ok((policy, params))
}

fn lots(space: &Space, draw: &Draw) -> Result<Lots> {
    Lots::new(space, draw, &Device::Cpu)
}

fn set(params: &Params, name: &str, values: &[f32]) -> Result<()> {
    let group = params.group("policy");
    let (_, var) = group.iter().find(|(path, _)| path.ends_with(name)).expect("a weight of the policy");
    Ok(var.set(&Tensor::new(values, &Device::Cpu)?.reshape(var.shape())?)?)
}

fn weights(params: &Params) -> Result<[Vec<f64>; 3]> {
    let mut all = params
        .group("policy")
        .into_iter()
        .map(|(_, var)| -> Result<Vec<f64>> { Ok(var.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?) });
    // In the order of their names.
    let mut next = || all.next().expect("three weights");
    Ok([next()?, next()?, next()?])
}

#[test]
fn sub_policies_are_all_ordered_pairs() -> Result<()> {
    let space = Space::new(OperationSpec::examples())?;
    assert_eq!(space.pairs().len(), 36);
    assert_eq!(space.pairs()[0], [0, 1]);
    assert_eq!(space.pairs()[35], [7, 8]);
    assert!(space.pairs().iter().all(|[first, second]| first < second));
    let again = Space::new(vec![OperationSpec::examples().remove(5); 2])?;
    assert_eq!(again.names(), ["cutout", "cutout-2"]);
    let error = Space::new(OperationSpec::examples()[..1].to_vec()).expect_err("no pair").to_string();
    assert!(error.contains("dafa.operations") && error.contains("at least two"), "{error}");
    Ok(())
}

/// χ² of the choice against softmax(α), and the share of set bits against β.
#[test]
fn draws_follow_the_policy() -> Result<()> {
    let space = Space::new(OperationSpec::examples()[..4].to_vec())?;
    let (policy, params) = learned(&space)?;
    let [alpha, beta, _] = weights(&params)?;
    let whole: f64 = alpha.iter().map(|alpha| alpha.exp()).sum();
    let count = 20_000;
    let (mut chosen, mut executed) = (vec![0.0; alpha.len()], vec![0.0; beta.len()]);
    for step in 0..count {
        let draw = policy.draw(Key::new(9).fold_in(step))?;
        chosen[draw.pair] += 1.0;
        for (count, &bit) in executed.iter_mut().zip(draw.bits.as_flattened()) {
            *count += f64::from(u8::from(bit));
        }
    }
    let expected = alpha.iter().map(|alpha| alpha.exp() / whole * count as f64);
    let chi: f64 = chosen.iter().zip(expected).map(|(found, due)| (found - due).powi(2) / due).sum();
    // The 99.9 % point of five degrees of freedom is 20.5.
    assert!(chi < 20.5, "χ² is {chi}");
    for (found, beta) in executed.iter().zip(&beta) {
        let deviation = (beta * (1.0 - beta) / count as f64).sqrt();
        assert!((found / count as f64 - beta).abs() < 4.5 * deviation, "{found} bits where β is {beta}");
    }
    Ok(())
}

#[test]
fn the_same_key_is_the_same_draw_and_probability_0_never_happens() -> Result<()> {
    let space = three();
    let (policy, params) = learned(&space)?;
    for seed in 0..50 {
        let (one, again) = (policy.draw(Key::new(seed))?, policy.draw(Key::new(seed))?);
        assert_eq!(format!("{one:?}"), format!("{again:?}"));
    }
    for (beta, expected) in [(0.0, [false; 2]), (1.0, [true; 2]), (-3.0, [false; 2]), (7.0, [true; 2])] {
        set(&params, "beta", &[beta; 6])?;
        for seed in 0..200 {
            assert_eq!(policy.draw(Key::new(seed))?.bits, [expected; 3], "β is {beta}");
        }
    }
    Ok(())
}

#[test]
fn a_policy_driven_out_of_its_bounds_comes_back() -> Result<()> {
    let space = three();
    let (policy, params) = learned(&space)?;
    set(&params, "beta", &[-0.5, 0.0, 0.25, 1.0, 1.5, 0.75])?;
    set(&params, "magnitude", &[1.25, -0.25, 0.5, 0.0, 1.0, 2.0])?;
    let before = policy.draw(Key::new(1))?;
    policy.project()?;
    let [_, beta, magnitude] = weights(&params)?;
    assert_eq!(beta, [0.0, 0.0, 0.25, 1.0, 1.0, 0.75]);
    assert_eq!(magnitude, [1.0, 0.0, 0.5, 0.0, 1.0, 1.0]);
    assert_eq!(
        format!("{before:?}"),
        format!("{:?}", policy.draw(Key::new(1))?),
        "readings were inside before"
    );
    // At an end the gradient passes all the same, or it would stay there for ever.
    for key in 0..20 {
        let draw = policy.draw(Key::new(key))?;
        let Relaxed { bits, levels, .. } = policy.relaxed(&lots(&space, &draw)?)?;
        let grads = (bits.sum_all()? + levels.sum_all()?)?.backward()?;
        let group = params.group("policy");
        let levels = grads.get(&group[2].1).expect("levels").to_vec2::<f32>()?;
        assert_eq!(levels[draw.pair], [1.0, 1.0]);
        assert!(
            grads.get(&group[1].1).expect("bits").to_vec2::<f32>()?[draw.pair]
                .iter()
                .all(|one| one.is_finite())
        );
    }
    Ok(())
}

/// A loss of the refined map with a gradient of its own at every number.
fn loss(refined: &Tensor) -> Result<Tensor> {
    let weights = wave("loss", refined.dims(), 1.0)?.to_dtype(refined.dtype())?;
    Ok(((refined + &weights)?.sqr()? * (&weights + 1.5)?)?.sum_all()?)
}

/// The refined map as one graph that holds every sub-policy at once: values straight through, gradients of (E1) to (E4).
fn dense(map: &Tensor, space: &Space, draw: &Draw, relaxed: &Relaxed) -> Result<Tensor> {
    let mut sum = map.zeros_like()?;
    for pair in 0..space.pairs().len() {
        let (bits, levels) = (draw.bits[pair], draw.levels[pair]);
        let mut refined = space.apply(map, pair, bits, levels, draw.key)?;
        let chosen = pair == draw.pair;
        if chosen {
            // ō(F) = b̃ o(F) + (1 − b̃) F in each place, the other as drawn; and the levels' sum.
            for place in 0..2 {
                let with = |bit| {
                    let mut bits = bits;
                    bits[place] = bit;
                    space.apply(map, pair, bits, levels, draw.key)
                };
                let slope = (with(true)? - with(false)?)?.detach();
                let soft = relaxed.bits.narrow(0, place, 1)?;
                refined = (refined + slope.broadcast_mul(&(&soft - soft.detach())?)?)?;
                let level = relaxed.levels.narrow(0, place, 1)?;
                let executed = f64::from(u8::from(bits[place]));
                refined = refined.broadcast_add(&((&level - level.detach())? * executed)?)?;
            }
        }
        let soft = relaxed.choice.narrow(0, pair, 1)?;
        let hard = if chosen { 1.0 } else { 0.0 };
        sum = (sum + refined.broadcast_mul(&((&soft - soft.detach())? + hard)?)?)?;
    }
    Ok(sum)
}

#[test]
fn the_gradient_is_that_of_a_graph_of_all_sub_policies() -> Result<()> {
    let space = three();
    let (policy, params) = learned(&space)?;
    // A part of something larger.
    let map = wave("map", &[4, 6, 5, 4], 1.0)?.narrow(0, 1, 3)?;
    let mut bits = Vec::new();
    for seed in 0..12 {
        let draw = Arc::new(policy.draw(Key::new(seed))?);
        bits.push(draw.bits[draw.pair]);
        let relaxed = policy.relaxed(&lots(&space, &draw)?)?;
        let chosen = Chosen::of(&map, &Drawn::Told(Arc::clone(&space), Arc::clone(&draw)), &relaxed)?;
        let value = space.apply(&map, draw.pair, draw.bits[draw.pair], draw.levels[draw.pair], draw.key)?;
        assert!(same(&chosen, &value)?, "the value is the drawn sub-policy's");
        let found = loss(&chosen)?.backward()?;
        let relaxed = policy.relaxed(&lots(&space, &draw)?)?;
        let dense = loss(&dense(&map, &space, &draw, &relaxed)?)?.backward()?;
        for (name, var) in params.group("policy") {
            // candle leaves out what is multiplied by 0.
            let expected = dense.get(&var).map_or_else(|| var.zeros_like(), |grad| Ok(grad.clone()))?;
            let expected = expected.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
            near(&format!("{name}, seed {seed}"), found.get(&var).expect("a gradient"), &expected, 2e-5)?;
        }
    }
    for place in 0..2 {
        for bit in [false, true] {
            assert!(bits.iter().any(|bits| bits[place] == bit), "every bit was seen both ways");
        }
    }
    Ok(())
}

/// (E3a) and (E3b) as the book writes them, by hand, for the noise that this draw had.
#[test]
fn the_soft_draw_agrees_with_the_hard_one() -> Result<()> {
    let space = Space::new(OperationSpec::examples())?;
    let (policy, _) = learned(&space)?;
    for seed in 0..50 {
        let draw = policy.draw(Key::new(seed))?;
        let Relaxed { choice, bits, levels } = policy.relaxed(&lots(&space, &draw)?)?;
        let choice = choice.to_vec1::<f32>()?;
        let best = (0..choice.len()).max_by(|&a, &b| choice[a].total_cmp(&choice[b]));
        assert_eq!(best, Some(draw.pair));
        assert!((choice.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        for (soft, hard) in bits.to_vec1::<f32>()?.into_iter().zip(draw.bits[draw.pair]) {
            assert_eq!(soft > 0.5, hard);
        }
        let levels: Vec<f64> = levels.to_vec1::<f32>()?.into_iter().map(f64::from).collect();
        assert_eq!(levels, draw.levels[draw.pair]);
    }
    Ok(())
}

/// Σ p r ∇log p over all that can be drawn is the derivative of Σ p r.
#[test]
fn the_score_function_is_unbiased() -> Result<()> {
    let space = three();
    let (policy, params) = learned(&space)?;
    let group = params.group("policy");
    let reward = |pair: usize, bits: [bool; 2]| {
        (pair as f64 + 0.5) * if bits[0] { 2.0 } else { -0.7 } + if bits[1] { 1.3 } else { 0.0 }
    };
    let template = policy.draw(Key::new(0))?;
    let every = (0..3).flat_map(|pair| {
        [[false, false], [false, true], [true, false], [true, true]].map(|bits| (pair, bits))
    });
    let drawn = |pair: usize, bits: [bool; 2]| {
        let mut draw = template.clone();
        (draw.pair, draw.bits[pair]) = (pair, bits);
        draw
    };
    let mut sums: Vec<Tensor> =
        group.iter().take(2).map(|(_, var)| var.zeros_like()).collect::<Result<_, _>>()?;
    let mut whole = 0.0;
    for (pair, bits) in every.clone() {
        let log = policy.log_probability(&lots(&space, &drawn(pair, bits))?)?;
        let probability = f64::from(log.to_scalar::<f32>()?).exp();
        whole += probability;
        let grads = log.backward()?;
        for (sum, (_, var)) in sums.iter_mut().zip(&group) {
            let grad = grads.get(var).expect("a gradient");
            *sum = (&*sum + (grad * (probability * reward(pair, bits)))?)?;
        }
    }
    assert!((whole - 1.0).abs() < 1e-6, "probabilities sum to {whole}");
    // In closed form, in double precision.
    let [alpha, beta, _] = weights(&params)?;
    let expected = |alpha: &[f64], beta: &[f64]| -> f64 {
        let whole: f64 = alpha.iter().map(|one| one.exp()).sum();
        let one = |(pair, bits): (usize, [bool; 2])| {
            let bit = |place: usize| {
                let beta = beta[2 * pair + place];
                if bits[place] { beta } else { 1.0 - beta }
            };
            alpha[pair].exp() / whole * bit(0) * bit(1) * reward(pair, bits)
        };
        every.clone().map(one).sum()
    };
    let slope = |values: &[f64], at: usize, of: &dyn Fn(&[f64]) -> f64| {
        let mut beside = [values.to_vec(), values.to_vec()];
        (beside[0][at], beside[1][at]) = (values[at] + 1e-6, values[at] - 1e-6);
        (of(&beside[0]) - of(&beside[1])) / 2e-6
    };
    let of_alpha: Vec<f64> = (0..3).map(|at| slope(&alpha, at, &|alpha| expected(alpha, &beta))).collect();
    let of_beta: Vec<f64> = (0..6).map(|at| slope(&beta, at, &|beta| expected(&alpha, beta))).collect();
    near("α", &sums[0], &of_alpha, 1e-5)?;
    near("β", &sums[1], &of_beta, 1e-5)
}

#[test]
fn the_choice_is_as_open_as_its_entropy_says() -> Result<()> {
    let space = Space::new(OperationSpec::examples())?;
    let params = Params::new(Key::new(0));
    let policy = Policy::new(&params.builder(&Device::Cpu), &space, 0.5)?;
    let even = Tensor::new(36f32.ln(), &Device::Cpu)?;
    assert!(gap(&policy.entropy()?, &even)? < 1e-5);
    let mut sure = [0.0; 36];
    sure[3] = 50.0;
    set(&params, "alpha", &sure)?;
    assert!(policy.entropy()?.to_scalar::<f32>()?.abs() < 1e-5);
    Ok(())
}

/// A gradient is asked of what a graph tracks, and of nothing else.
#[test]
fn a_map_on_no_policy_is_on_no_graph() -> Result<()> {
    let space = three();
    let (policy, _) = learned(&space)?;
    let draw = Arc::new(policy.draw(Key::new(2))?);
    let Relaxed { choice, bits, levels } = policy.relaxed(&lots(&space, &draw)?)?;
    let still = Relaxed { choice: choice.detach(), bits: bits.detach(), levels: levels.detach() };
    let map = Var::from_tensor(&wave("map", &[1, 4, 4, 4], 1.0)?)?;
    let drawn = Drawn::Told(space, draw);
    assert!(!Chosen::of(&map, &drawn, &still)?.track_op());
    assert!(Chosen::of(&map, &drawn, &Relaxed { levels, ..still })?.track_op());
    Ok(())
}
