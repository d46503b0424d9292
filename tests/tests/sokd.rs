//! SoKD is a plug-in around any method: with nothing drawn and no boxes asked, each host is itself, bit for bit; and
//! with something drawn, each host sees it.

use candle::{Device, Tensor};
use sokd_core::{Backbone, Build as _, BuildCx, DistillLoss, Key, Pair, Result, Terms};
use sokd_experiments::Refine;
use sokd_losses::LossSpec;
use sokd_nn::Params;
use sokd_tests::{data, first, pair, same, wave};

const HOSTS: [&str; 6] = ["fitnet", "at", "crd", "review-kd", "kd", "dkd"];
const LABELS: [u32; 4] = [0, 3, 1, 3];

struct Scene {
    params: Params,
    student: Box<dyn Backbone>,
    teacher: Box<dyn Backbone>,
    images: Tensor,
}

impl Scene {
    /// A thin student before a teacher of twice its width, the same at every call.
    fn new() -> Result<Self> {
        let (params, data) = (Params::new(Key::new(3)), data(5, [32, 32]));
        let net = |name: &str, vars| {
            let spec = sokd_models::named(name).expect("it is in the zoo");
            spec.build(&BuildCx::alone(vars, &data))
        };
        let teacher = net("resnet8x4", Params::new(Key::new(4)).frozen(&Device::Cpu))?;
        let student = net("resnet8", params.builder(&Device::Cpu).pp("student"))?;
        let images = (wave("images", &[LABELS.len(), 32, 32, 3], 0.5)? + 0.5)?;
        Ok(Self { params, student, teacher, images })
    }

    fn host(&self, host: &str, refine: &str) -> Result<Box<dyn DistillLoss>> {
        let spec: LossSpec = serde_json::from_value(serde_json::json!({ "type": host })).expect("a loss");
        let refine: Refine = serde_json::from_str(refine).expect("plug-ins");
        let data = data(5, [32, 32]);
        let cx = BuildCx {
            vars: self.params.builder(&Device::Cpu),
            data: Some(&data),
            teacher: Some(self.teacher.info()),
            student: Some(self.student.info()),
            preview: None,
        };
        refine.wrap(spec.build(&cx)?, &cx)
    }

    fn pair(&self) -> Result<Pair<'_>> {
        pair(self.student.as_ref(), self.teacher.as_ref(), self.images.clone(), &LABELS)
    }

    /// Every operation is executed with this probability.
    fn execute(&self, probability: f64) -> Result<()> {
        for (name, var) in self.params.group("policy") {
            if name.ends_with("beta") {
                var.set(&(var.ones_like()? * probability)?)?;
            }
        }
        Ok(())
    }
}

/// Terms that count, by name and value.
fn counted(terms: &Terms) -> Result<Vec<(String, f64, Vec<f64>)>> {
    let numbers = |tensor: &Tensor| -> Result<Vec<f64>> {
        Ok(tensor.to_dtype(candle::DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let counts = terms.iter().filter(|term| term.weight != 0.0);
    counts.map(|term| Ok((term.name.clone(), term.weight, numbers(&term.value)?))).collect()
}

/// DAFA as each host reads it, and a detector of which nothing is asked.
fn idle(host: &str) -> String {
    let reach = match host {
        "kd" | "dkd" => r#""through": "network""#,
        "fitnet" => r#""stages": "hint""#,
        _ => r#""stages": "all""#,
    };
    format!(
        r#"[{{ "type": "dafa", {reach} }},
            {{ "type": "dam", "peaks": 0, "agreement": 0.0, "area": 0.0 }}]"#
    )
}

#[test]
fn an_identity_policy_and_no_boxes_leave_every_host_as_it_is() -> Result<()> {
    for host in HOSTS {
        let (bare, refined) = (Scene::new()?, Scene::new()?);
        let plain = bare.host(host, "[]")?.terms(&bare.pair()?, &first())?;
        let loss = refined.host(host, &idle(host))?;
        refined.execute(0.0)?;
        let behind = loss.terms(&refined.pair()?, &first())?;
        assert_eq!(counted(&behind)?, counted(&plain)?, "{host}");

        let grads = |terms: &Terms| -> Result<_> { Ok(terms.total()?.expect("a host").backward()?) };
        let (plain, behind) = (grads(&plain)?, grads(&behind)?);
        let (before, after) = (bare.params.group("student"), refined.params.group("student"));
        for ((name, var), (_, twin)) in before.iter().zip(&after) {
            match (plain.get(var), behind.get(twin)) {
                (Some(plain), Some(behind)) => assert!(same(plain, behind)?, "{host}: {name}"),
                (None, None) => {}
                _ => panic!("{host}: {name} has a gradient on one side only"),
            }
        }
    }
    Ok(())
}

#[test]
fn every_host_sees_what_is_drawn() -> Result<()> {
    for host in HOSTS {
        let (bare, refined) = (Scene::new()?, Scene::new()?);
        let plain = counted(&bare.host(host, "[]")?.terms(&bare.pair()?, &first())?)?;
        let loss = refined.host(host, &idle(host))?;
        refined.execute(1.0)?;
        for (name, var) in refined.params.group("policy") {
            // Full magnitude: whatever is drawn changes the map.
            if name.ends_with("magnitude") {
                var.set(&var.ones_like()?)?;
            }
        }
        let behind = counted(&loss.terms(&refined.pair()?, &first())?)?;
        assert_eq!(plain.len(), behind.len(), "{host}");
        assert_ne!(plain, behind, "{host} reads something that the policy does not rewrite");
    }
    Ok(())
}
