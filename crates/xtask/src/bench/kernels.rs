use crate::{Outcome, command, output};
use serde_json::{Value, json};

/// Where a training step of ours spends its time, kernel by kernel, beside what the processor's units can do: what bounds a
/// network. Prints a line for it; each kernel goes into the history.
pub fn kernels(ours: &str, model: &str, threads: usize) -> Outcome<Value> {
    let threads = threads.to_string();
    let asked = ["bench", "--profile", "--json", "--times", "5", "--threads", &threads, model];
    let told = output(command(ours, &asked))?;
    let told: Value = serde_json::from_str(&told).map_err(|error| format!("{ours} bench: {error}"))?;
    let profile = &told["profile"];
    let number = |of: &Value, key: &str| of[key].as_f64().unwrap_or(f64::NAN);
    let kinds = profile["kinds"].as_array().ok_or_else(|| format!("{ours} bench: no kinds in {told}"))?;
    // Of those in which weights multiply: their time, and their multiplications and additions.
    let weighed = kinds.iter().filter(|kind| kind["gflops"].is_number());
    let [share, work, time] = weighed.fold([0.0; 3], |[share, work, time], kind| {
        let milliseconds = number(kind, "milliseconds");
        [share + number(kind, "percent"), work + milliseconds * number(kind, "gflops"), time + milliseconds]
    });
    let (gflops, peak, elsewhere) =
        (work / time, number(profile, "peak_gflops"), number(profile, "elsewhere_percent"));
    println!(
        "kernels        {model:<22} {threads:>7}   convolutions {share:.0} % of a step, at {gflops:.0} of {peak:.0} GFLOP/s; \
         other kernels {:.0} %; elsewhere {elsewhere:.1} %",
        100.0 - share - elsewhere
    );
    Ok(json!({
        "model": model, "threads": threads, "convolutions_percent": share, "convolutions_gflops": gflops, "profile": profile
    }))
}
