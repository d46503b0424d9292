//! `sokd export` as a user meets it: of a run, of a folder, of a network by name, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test that fails")]

mod folder;

use folder::{Folder, on_one_line};
use serde_json::Value;

/// With a run in it, called `run`.
fn with_run(more: &[&str]) -> Folder {
    let folder = Folder::with(&[]);
    let train = ["train", "shapes-alone", "--tier", "smoke", "--no-studies", "--run-dir", "run"];
    folder.says(&[&train, more].concat(), 0);
    folder
}

/// A complaint of this kind that says all of this, whatever its lines.
fn refuses(folder: &Folder, arguments: &[&str], code: i32, said: &[&str]) {
    let complaint = on_one_line(&folder.says(arguments, code));
    for part in said {
        assert!(complaint.contains(part), "{arguments:?} does not say {part:?}:\n{complaint}");
    }
}

#[test]
fn a_student_leaves_its_run() {
    let folder = with_run(&["student.model=resnet8"]);
    let said = folder.says(&["export", "run", "--to", "mdistiller"], 0);
    assert!(said.contains("cifar_model_dict[\"resnet8\"]"), "{said}");
    assert!(folder.join("resnet8-mdistiller/model.pth").exists(), "{said}");
    assert!(folder.join("resnet8-mdistiller/README.md").exists(), "{said}");

    folder.says(&["export", "run", "--to", "safetensors", "-o", "out/once"], 0);
    let config = std::fs::read(folder.join("out/once/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let pretrained = &config["pretrained_cfg"];
    assert_eq!(config["architecture"], "resnet8");
    assert_eq!(config["num_features"], 64);
    assert_eq!(pretrained["first_conv"], "conv1");
    assert_eq!(pretrained["classifier"], "fc");
    assert_eq!(
        config["label_names"].as_array().unwrap().len() as u64,
        config["num_classes"].as_u64().unwrap()
    );

    // The folder that a run leaves and the one that leaves it are alike, and what has left can leave again.
    let own = std::fs::read(folder.join("run/student/config.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&own).unwrap(), config);
    folder.says(&["export", "out/once", "--to", "safetensors", "-o", "out/twice"], 0);
    let weights = |place: &str| std::fs::read(folder.join(place).join("model.safetensors")).unwrap();
    assert_eq!(weights("out/once"), weights("out/twice"));
    // A .pth of ours is weights like any other: of a network by name, which something must say the pixels of.
    let by_name =
        ["export", "resnet8", "--weights", "resnet8-mdistiller/model.pth", "--to", "onnx", "-o", "by-name"];
    refuses(&folder, &by_name, 2, &["normalised", "--pixels"]);
    folder.says(&[&by_name[..], &["--pixels", "half"]].concat(), 0);
    assert!(folder.join("by-name/model.onnx").exists());
}

#[test]
fn what_others_do_not_have_stays_at_home() {
    let folder =
        with_run(&["student.model=resnet8", "student.graft.penultimate={type=\"kd-layer\",templates=8}"]);
    for format in ["timm", "torchvision", "mdistiller"] {
        refuses(&folder, &["export", "run", "--to", format, "-o", format], 2, &["penultimate", "--to onnx"]);
        assert!(!folder.join(format).exists());
    }
    folder.says(&["export", "run", "--to", "onnx", "-o", "out"], 0);
    let graph = std::fs::read(folder.join("out/model.onnx")).unwrap();
    for word in ["graft.penultimate.norm", "normalise", "inside", "layer3.0.bn2.running_mean", "ReduceL2"] {
        assert!(graph.windows(word.len()).any(|part| part == word.as_bytes()), "{word} is not in the graph");
    }
    // The layers come back with the weights.
    folder.says(&["export", "run", "--to", "safetensors", "-o", "again"], 0);
    folder.says(&["export", "again", "--to", "onnx", "-o", "twice"], 0);
    assert!(folder.join("twice/model.onnx").exists());
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = with_run(&["student.model=resnet8"]);
    let onnx = ["--to", "onnx", "-o", "out"];
    let export = |arguments: &[&'static str]| [&["export"], arguments, &onnx].concat();
    refuses(&folder, &export(&["nowhere"]), 66, &["nowhere", "--weights FILE"]);
    refuses(&folder, &export(&["resnet8"]), 2, &["which weights", "sokd export resnet8 --weights FILE"]);
    refuses(&folder, &export(&["resnet9", "--weights", "run:run"]), 2, &["no network is called `resnet9`"]);
    refuses(&folder, &export(&["resnet14", "--weights", "run:run"]), 1, &["layer1.1.conv1.weight"]);
    refuses(
        &folder,
        &export(&["wrn_16_2", "--weights", "run:run"]),
        1,
        &["of another shape", "block1.layer.0"],
    );
    folder.says(&export(&["run"]), 0);
    refuses(&folder, &export(&["run"]), 2, &["README.md", "--force"]);
    folder.says(&[&export(&["run"])[..], &["--force"]].concat(), 0);

    let config = folder.join("run/student/config.json");
    std::fs::write(&config, "{ \"architecture\": ").unwrap();
    refuses(&folder, &export(&["run", "--force"]), 1, &["config.json", "EOF"]);
    std::fs::write(&config, "{ \"architecture\": \"resnet8\" }").unwrap();
    refuses(&folder, &export(&["run", "--force"]), 2, &["which network of ours", "--weights FILE"]);
    std::fs::remove_file(folder.join("run/student/model.safetensors")).unwrap();
    refuses(&folder, &export(&["run", "--force"]), 66, &["sokd resume"]);
    std::fs::write(folder.join("file"), "").unwrap();
    let torn = ["export", "resnet8", "--weights", "file", "--pixels", "half", "--to", "onnx", "-o", "torn"];
    refuses(&folder, &torn, 1, &["file"]);
    assert!(!folder.join("torn").exists());
}
