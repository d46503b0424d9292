//! Teachers from the Hub, by address and by name.

use crate::{Machine, said};
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::fs::read;

const TEACHER: &str = r#"
extends = "recipe.toml"
student.weights = "hub://owner/start@main/model.safetensors"
teacher.model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 4, 4] }
teacher.weights = "hub://owner/teacher/model.safetensors"
objective.distill.loss.type = "kd"
"#;

#[test]
fn a_run_notes_what_its_addresses_led_to_and_means_the_same_when_it_goes_on() {
    let machine = Machine::new();
    let weights = read(machine.trained("before").join("student/model.safetensors")).unwrap();
    let first = machine.hub.put("owner/teacher", "model.safetensors", &weights);
    machine.hub.put("owner/start", "model.safetensors", &weights);
    std::fs::write(machine.join("taught.toml"), TEACHER).unwrap();
    let train = ["train", "taught.toml", "--no-studies", "--run-dir", "run"];
    machine.says(&train);
    let pins = machine.json("run/hub.json");
    let pin = &pins["hub://owner/teacher/model.safetensors"];
    assert_eq!(pin["address"], format!("hub://owner/teacher@{first}/model.safetensors"));
    assert_eq!(pin["sha256"]["model.safetensors"].as_str().unwrap().len(), 64);
    let summary = machine.json("run/summary.json");
    assert_eq!(summary["teacher"]["weights"], pin["address"]);
    assert_eq!(summary["teacher"]["sha256"], pin["sha256"]["model.safetensors"]);

    // The branch moves to weights of another network; the run that goes on has its own commit, and asks nobody.
    machine.hub.put("owner/teacher", "model.safetensors", b"something else");
    std::fs::remove_file(machine.join("run/summary.json")).unwrap();
    let again = machine.sokd(&train).env("HF_HUB_OFFLINE", "1").output().unwrap();
    said(again, 0);
    assert_eq!(machine.json("run/summary.json")["teacher"], summary["teacher"]);
    machine.complains(&["train", "taught.toml", "--no-studies", "--run-dir", "other"], 1);
}

/// The network is ours, by torchvision's names of weights; the hub is where timm has it.
#[test]
fn a_name_of_timms_or_torchvisions_is_a_teacher() {
    let machine = Machine::new();
    let data = r#"{ type = "shapes", train = 8, test = 4 }"#;
    machine.says(&[
        "train",
        "recipe.toml",
        "--no-studies",
        "--run-dir",
        "run",
        "student.model=imagenet_resnet18",
        "steps=1",
        "data.train=8",
        "data.test=4",
    ]);
    let weights = read(machine.join("run/student/model.safetensors")).unwrap();
    // As timm writes them: nothing beside the tensors tells for which pixels they are.
    let tensors = SafeTensors::deserialize(&weights).unwrap();
    let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let weights = safetensors::serialize(tensors.tensors(), Some(note)).unwrap();
    machine.hub.put("timm/resnet18.a1_in1k", "model.safetensors", &weights);
    machine.hub.put("timm/resnet34.a1_in1k", "model.safetensors", &weights);
    let judged = machine.says(&["eval", "timm:resnet18", "--data", data, "--json"]);
    let judged: serde_json::Value = serde_json::from_str(&judged).unwrap();
    let mean = judged["pixels"]["mean"][0].as_f64().unwrap();
    assert!((mean - 0.485).abs() < 1e-6, "ImageNet's statistics, as timm's weights want them: {judged}");
    let config = br#"{ "pretrained_cfg": { "mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2] } }"#;
    machine.hub.put("timm/resnet18.a1_in1k", "config.json", config);
    let judged = machine.says(&["eval", "timm:resnet18", "--data", data, "--json"]);
    let judged: serde_json::Value = serde_json::from_str(&judged).unwrap();
    let mean = judged["pixels"]["mean"][0].as_f64().unwrap();
    assert!((mean - 0.4).abs() < 1e-6, "what stands beside the weights counts: {judged}");
    let named = ["eval", "imagenet_resnet18", "--weights", "timm:resnet18.a1_in1k", "--data", data];
    machine.says(&named);

    // Weights of another network are refused by their name, and files of another network by every name in them.
    let error = machine.complains(&["eval", "resnet20", "--weights", "timm:resnet18", "--data", data], 2);
    assert!(error.contains("imagenet_resnet18"), "{error}");
    let error = machine.complains(&["eval", "timm:resnet34", "--data", data], 1);
    assert!(error.contains("missing (") && error.contains("layer4.2.conv1.weight"), "{error}");
    let error = machine.complains(&["eval", "timm:vit_base_patch16_224", "--data", data], 2);
    assert!(error.contains("timm:resnet18.a1_in1k"), "{error}");
    let error = machine.complains(&["eval", "imagenet_resnet18", "--data", data], 2);
    assert!(error.contains("sokd list teachers"), "{error}");

    // torchvision's file, where PyTorch keeps it, under a digest that it does not have.
    let kept = machine.join("cache/torch/hub/checkpoints");
    std::fs::create_dir_all(&kept).unwrap();
    std::fs::write(kept.join("resnet18-f37072fd.pth"), "another file").unwrap();
    let error = machine.complains(&["eval", "torchvision:resnet18", "--data", data], 1);
    assert!(error.contains("begins with f37072fd"), "{error}");
}
