use super::{Engine, Submission};
use crate::{Misfit, Result};
use serde_json::{Value, json};

pub(super) const ENGINE: Engine = Engine { name: "k8s", program: "kubectl", write: script };

/// Variables that a container gets where they are set here.
const TOLD: [&str; 6] = [
    "SOKD_DATA_DIR",
    "SOKD_TRACK",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
];

/// A Job that is waited for, and an Indexed Job. A Job cannot be changed, so those of an earlier submission go first; what ran in
/// them saves and leaves.
fn script(submission: &Submission<'_>) -> Result<String> {
    let name = submission.name();
    let cells = submission.sweep.tasks.len();
    let at_once = submission.at_once.unwrap_or(submission.to_do.len()).min(cells);
    let first = manifest(submission, &format!("{name}-prepare"), "prepare", &json!({ "backoffLimit": 6 }))?;
    let indexed = json!({
        "completionMode": "Indexed",
        "completions": cells,
        "parallelism": at_once,
        "backoffLimitPerIndex": 3,
        "maxFailedIndexes": cells,
    });
    let all = manifest(submission, &name, "run", &indexed)?;
    let options = submission.passed_on();
    Ok(format!(
        "#!/bin/bash
# {}. Run this with bash; it asks kubectl twice.
set -eu
kubectl delete{options} --ignore-not-found job/{name}-prepare job/{name}

# What all cells need is done once: teachers trained, weights fetched. The cells start whatever comes of it: each then says
# itself what it misses.
kubectl apply{options} -f - <<'MANIFEST'
{first}
MANIFEST
until kubectl get{options} job/{name}-prepare -o 'jsonpath={{.status.conditions[*].type}}' | grep -Eq 'Complete|Failed'; do
    sleep 10
done

# Pod N is the sweep's cell N; those of finished cells end at once.
kubectl apply{options} -f - <<'MANIFEST'
{all}
MANIFEST
",
        submission.head(),
    ))
}

/// A Job as kubectl reads it. A pod that was disrupted, or that saved and left with 75, does not count as failed and is made
/// anew; one whose command or recipe does not fit is not tried again.
fn manifest(submission: &Submission<'_>, name: &str, verb: &str, own: &Value) -> Result<String> {
    let missing = |what: &str, how: &str| Misfit::new(format!("k8s needs {what}")).help(how);
    let image = submission
        .image
        .as_ref()
        .ok_or_else(|| missing("a container", "--image REGISTRY/NAME:TAG with sokd in it"))?;
    let claim = submission.claim.as_ref().ok_or_else(|| {
        missing("a volume", "--claim NAME of the PersistentVolumeClaim on which the sweep lies")
    })?;
    let folder =
        submission.sweep.asked.planned.as_ref().map(|planned| planned.folder.clone()).unwrap_or_default();
    let mut command =
        vec!["sokd".to_owned(), "sweep".into(), verb.into(), submission.sweep.dir.display().to_string()];
    if submission.device != "cpu" {
        command.extend(["--device".into(), submission.device.clone()]);
    }
    let told =
        TOLD.iter().filter_map(|name| Some(json!({ "name": name, "value": std::env::var(name).ok()? })));
    let fatal = if verb == "run" { "FailIndex" } else { "FailJob" };
    let mut spec = json!({
        "podFailurePolicy": { "rules": [
            { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget" }] },
            { "action": "Ignore", "onExitCodes": { "containerName": "sokd", "operator": "In", "values": [75] } },
            { "action": fatal, "onExitCodes": { "containerName": "sokd", "operator": "In", "values": [2, 3, 4, 66, 101] } },
        ] },
        "template": { "spec": {
            "restartPolicy": "Never",
            // Time to save.
            "terminationGracePeriodSeconds": 90,
            "containers": [{
                "name": "sokd",
                "image": image,
                "command": command,
                "workingDir": folder,
                "env": told.collect::<Vec<_>>(),
                "volumeMounts": [{ "name": "sweep", "mountPath": folder }],
            }],
            "volumes": [{ "name": "sweep", "persistentVolumeClaim": { "claimName": claim } }],
        } },
    });
    if let (Some(spec), Some(own)) = (spec.as_object_mut(), own.as_object()) {
        spec.extend(own.clone());
        if submission.device.starts_with("cuda") {
            spec["template"]["spec"]["containers"][0]["resources"] =
                json!({ "limits": { "nvidia.com/gpu": 1 } });
        }
        if let Some(time) = &submission.time {
            let seconds: u64 =
                time.parse().map_err(|_| missing("--time in seconds", "for example --time 3600"))?;
            spec["template"]["spec"]["activeDeadlineSeconds"] = seconds.into();
        }
    }
    let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name }, "spec": spec });
    Ok(serde_json::to_string_pretty(&job)
        .map_err(|error| sokd_core::Error::setting("k8s", error.to_string()))?)
}
