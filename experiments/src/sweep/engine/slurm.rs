use super::{Engine, Submission, quoted};
use crate::Result;
use crate::sweep::LOGS;

pub(super) const ENGINE: Engine = Engine { name: "slurm", program: "sbatch", write: script };

/// Two jobs: one that prepares, and an array that waits for it. The array starts whatever came of the first: each cell then says
/// itself what it misses, where a job that waits for a success that never comes would say nothing.
#[expect(clippy::unnecessary_wraps, reason = "other schedulers need to know more, and say so")]
fn script(submission: &Submission<'_>) -> Result<String> {
    let at_once = submission.at_once.map_or(String::new(), |at_once| format!("%{at_once}"));
    let array = format!("#SBATCH --array={}{at_once}", submission.indices());
    let (name, logs) = (submission.name(), submission.sweep.dir.join(LOGS));
    let first = job(submission, &format!("{name}-prepare"), "prepare.log", "", "prepare", "");
    let cells = job(submission, &name, "%a.log", &array, "run", " --index \"$SLURM_ARRAY_TASK_ID\"");
    Ok(format!(
        "#!/bin/bash
# {}. Run this with bash; it asks sbatch twice.
set -eu
mkdir -p {}

# What all cells need is done once: teachers trained, weights fetched.
first=$(sbatch --parsable <<'JOB'
{first}JOB
)
first=${{first%%;*}}
echo \"prepared by job $first\"

# The array's task N is the sweep's cell N.
sbatch --dependency=\"afterany:$first\" <<'JOB'
{cells}JOB
",
        submission.head(),
        quoted(&logs.to_string_lossy()),
    ))
}

/// A batch script that is put back into the queue when its time is nearly up or its node is lost, and goes on there.
fn job(submission: &Submission<'_>, name: &str, log: &str, array: &str, verb: &str, which: &str) -> String {
    let output = submission.sweep.dir.join(LOGS).join(log);
    let mut lines = vec![
        format!("#SBATCH --job-name={name}"),
        format!("#SBATCH --output=\"{}\"", output.display()),
        "#SBATCH --open-mode=append".to_owned(),
        "# A node that is lost or taken away: the job is queued again by SLURM.".to_owned(),
        "#SBATCH --requeue".to_owned(),
        "# USR1 comes to this script when 90 seconds are left.".to_owned(),
        "#SBATCH --signal=B:USR1@90".to_owned(),
    ];
    lines.extend(array.lines().map(str::to_owned));
    lines.extend(submission.time.iter().map(|time| format!("#SBATCH --time={time}")));
    lines.extend(submission.options.iter().map(|option| format!("#SBATCH {option}")));
    format!(
        "#!/bin/bash
{}

# SLURM tells the run itself of TERM; one that was cancelled is not queued again.
ended=no
trap 'ended=yes' TERM
trap 'kill -USR1 \"$run\"' USR1
{}{which} --threads \"${{SLURM_CPUS_ON_NODE:-1}}\" &
run=$!
# `wait` comes back early when a signal is heard.
code=0
while wait \"$run\"; code=$?; kill -0 \"$run\" 2>/dev/null; do :; done
# 75: saved, to be run again.
if [ \"$code\" -eq 75 ] && [ \"$ended\" = no ]; then
    scontrol requeue \"$SLURM_JOB_ID\"
fi
exit \"$code\"
",
        lines.join("\n"),
        submission.command(verb),
    )
}
