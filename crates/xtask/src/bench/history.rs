use super::{Held, Settings};
use crate::{Outcome, command, output, root};
use serde_json::{Value, json};

/// Writes what was measured, with the machine and the commit.
pub fn write(settings: &Settings, ours: &str, beside: &str, ratios: &[Value], kernels: &[Value]) -> Outcome {
    // The program knows of what it was built, also where the repository is not.
    let doctor = output(command(ours, &["doctor", "--json"]))?;
    let doctor: Value = serde_json::from_str(&doctor).map_err(|error| format!("{ours} doctor: {error}"))?;
    let commit = doctor["environment"]["commit"].as_str().unwrap_or("unknown").to_owned();
    let date = output(command("date", &["-u", "+%Y-%m-%d"]))?;
    let history = json!({
        "machine": machine(),
        "date": date,
        "commit": commit,
        "uncommitted_changes": doctor["environment"]["dirty"],
        "beside": beside,
        "device": settings.device,
        // On both sides.
        "tf32": std::env::var("SOKD_TF32").is_ok_and(|set| set == "1"),
        "held_to": settings.simd.map(|Held(name, _)| name),
        "protocol": format!(
            "batch {}, 3 x {size} x {size}, 100 classes, f32 unless it says mixed; {} rounds of {} steps in turns; fastest step of each side; \
             CPU time with one thread, wall clock with more and on a GPU, where both sides have measured which way each \
             convolution goes; PyTorch in channels_last; a method beside its host, both ours",
            settings.batch, settings.rounds, settings.steps, size = settings.size
        ),
        "ratios": ratios,
        "kernels": kernels,
    });
    let folder = root().join("experiments/results/bench");
    let device = if settings.device == "cpu" { "" } else { "-gpu" };
    // What was measured before stays.
    let mut path = folder.join(format!("{date}-{commit}{device}.json"));
    for count in 2.. {
        if !path.exists() {
            break;
        }
        path = folder.join(format!("{date}-{commit}{device}-{count}.json"));
    }
    let text = serde_json::to_string_pretty(&history).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, text + "\n"))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("written: {}", path.strip_prefix(root()).unwrap_or(&path).display());
    Ok(())
}

/// The processor, by the name it gives itself, and how many of it.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let simd = ["avx512f", "avx2"].into_iter().find(|flag| info.contains(flag)).unwrap_or("no AVX");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores, {simd}", name.trim_start_matches([' ', '\t', ':']))
}
