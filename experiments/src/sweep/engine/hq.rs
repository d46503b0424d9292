use super::{Engine, Submission, quoted};
use crate::Result;
use crate::sweep::LOGS;

pub(super) const ENGINE: Engine = Engine { name: "hq", program: "hq", write: script };

/// A job that is waited for, and an array. A task whose worker is lost is started again by HyperQueue itself, which does not
/// know of exit codes: the loop does.
fn script(submission: &Submission<'_>) -> Result<String> {
    let logs = submission.sweep.dir.join(LOGS);
    let mut own: Vec<String> = submission.time.iter().map(|time| format!("--time-limit={}", quoted(time))).collect();
    own.extend(submission.options.iter().map(|option| quoted(option)));
    let own = own.iter().map(|option| format!(" {option}")).collect::<String>();
    let submit = |name: &str, log: &str, more: &str, verb: &str| {
        let log = quoted(&logs.join(log).to_string_lossy());
        let again = format!(
            "while :; do {}; code=$?; [ $code -eq 75 ] || exit $code; sleep 5; done",
            submission.command(verb)
        );
        format!(
            "hq submit --name={name} --pin=taskset --crash-limit=100{more}{own} \\\n    --stdout={log} --stderr={log} \\\n    -- bash -c {}\n",
            quoted(&again)
        )
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
{}
# The array's task N is the sweep's cell N. Exit code 75: saved, to be run again.
{}",
        submission.head(),
        quoted(&logs.to_string_lossy()),
        submit(&format!("{name}-prepare"), "prepare.log", " --wait", "prepare").trim_end().to_owned() + " || true\n",
        submit(&name, "%{TASK_ID}.log", &array, "run"),
    ))
}
