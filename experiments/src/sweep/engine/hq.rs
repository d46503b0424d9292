use super::{Engine, Submission, quoted};
use crate::sweep::LOGS;
use crate::{Misfit, Result};

pub(super) const ENGINE: Engine = Engine { name: "hq", program: "hq", write: script };

/// A job that is waited for, and an array. A task whose worker is lost is started again by HyperQueue itself, which does not
/// know of exit codes: the loop does.
fn script(submission: &Submission<'_>) -> Result<String> {
    if submission.at_once.is_some() {
        let problem = "HyperQueue has no --at-once: it runs as many cells as its workers have room for";
        return Err(Misfit::new(problem).help("say what a cell takes, for example --option=--cpus=8").into());
    }
    let logs = submission.sweep.dir.join(LOGS);
    let time = submission.time.as_ref();
    let time = time.map_or_else(String::new, |time| format!(" --time-limit={}", quoted(time)));
    let own = time + &submission.passed_on();
    let submit = |name: &str, log: &str, more: &str, verb: &str, which: &str| {
        // Its own files would begin anew with every try.
        let log = format!("{}/{log}", quoted(&logs.to_string_lossy()));
        let command = submission.command(verb);
        let again =
            format!("while :; do {command}{which}; code=$?; [ $code -eq 75 ] || exit $code; sleep 5; done");
        let task = quoted(&format!("exec >> {log} 2>&1; {again}"));
        let how = "--pin=taskset --crash-limit=100 --stdout=none --stderr=none";
        format!("hq submit --name={name}{more} {how}{own} \\\n    -- bash -c {task}")
    };
    let name = submission.name();
    let array = format!(" --array={}", submission.indices());
    Ok(format!(
        "#!/bin/bash
# {}. Run this with bash; it asks hq twice.
set -eu
mkdir -p {}

# What all cells need is done once: teachers trained, weights fetched. The array starts whatever comes of it: each cell says
# itself what it misses.
{} || true

# The array's task N is the sweep's cell N. Exit code 75: saved, to be run again.
{}",
        submission.head(),
        quoted(&logs.to_string_lossy()),
        submit(&format!("{name}-prepare"), "prepare.log", " --wait", "prepare", ""),
        submit(&name, "$HQ_TASK_ID.log", &array, "run", " --index $HQ_TASK_ID"),
    ))
}
