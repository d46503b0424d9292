//! Where and when a run took place.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where and when a run took place: `env.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Environment {
    /// Version of this program.
    pub version: String,
    /// The commit that a release is made of; of any other build, that of the sources now, where they still lie where it was made.
    pub commit: String,
    /// Whether the sources had changes that no commit holds.
    pub dirty: bool,
    /// Name of the machine.
    pub host: String,
    /// Its processor.
    pub machine: String,
    /// The instructions that kernels use.
    pub simd: String,
    /// `cpu`, `cuda:0`, `metal`.
    pub device: String,
    /// Threads of the kernels.
    pub threads: usize,
    /// Processes that trained together, where they were several.
    #[serde(default = "one", skip_serializing_if = "alone")]
    pub processes: usize,
    /// The command line.
    pub command: Vec<String>,
    /// When it began, in UTC: `2026-11-21T08:15:00Z`.
    pub started: String,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's way of asking")]
fn alone(processes: &usize) -> bool {
    *processes == 1
}

impl Environment {
    /// What a run's directory says; none, where it says nothing or nothing that is understood.
    pub fn read(run: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(run.join("env.json")).ok()?).ok()
    }

    /// Here and now.
    pub fn here(device: &str) -> Self {
        let (commit, dirty) = sources();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit,
            dirty,
            host: first_line("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".into()),
            machine: processor(),
            simd: format!("{:?}", sokd_ops::simd()).to_lowercase(),
            device: device.to_owned(),
            threads: sokd_ops::threads(),
            processes: 1,
            // Not where the program lies, which is this machine's affair.
            command: ["sokd".to_owned()].into_iter().chain(std::env::args().skip(1)).collect(),
            started: utc(SystemTime::now()),
        }
    }
}

/// The sources' commit, and whether they had changes: as a release was told when it was made (`build.rs`), or as it is now.
fn sources() -> (String, bool) {
    if let (Some(commit), Some(changed)) = (option_env!("SOKD_COMMIT"), option_env!("SOKD_CHANGED")) {
        return (commit.to_owned(), changed == "true");
    }
    // Where the program was built: the folder that it is started in may be another repository.
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]);
    (commit, changes.is_some_and(|changes| !changes.is_empty()))
}

fn first_line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new(path)).ok()?;
    text.lines().next().map(str::to_owned)
}

fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model);
    format!("{model}, {cores} cores")
}

/// A moment as ISO 8601 has it, to the second.
pub fn utc(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date: Hinnant, "chrono-compatible low-level date algorithms", for dates after 1970.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Seconds since 1970 of a moment as [`utc`] has it.
pub fn seconds(text: &str) -> Option<u64> {
    let parts: Vec<u64> = text
        .strip_suffix('Z')?
        .split(['-', 'T', ':'])
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let [year, month, day, hour, minute, second] = parts[..] else { return None };
    // The same algorithm, the other way.
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, year_of_era) = (year / 400, year % 400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day.checked_sub(1)?;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let day = (era * 146_097 + of_era).checked_sub(719_468)?;
    Some(day * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_read_as_dates() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_248_000), "2026-11-21T08:00:00Z");
    }

    #[test]
    fn dates_are_moments_again() {
        for moment in [0, 951_782_399, 951_782_400, 951_868_800, 1_795_248_061, 4_102_444_799] {
            assert_eq!(seconds(&utc(UNIX_EPOCH + Duration::from_secs(moment))), Some(moment));
        }
        let wrong =
            ["", "Z", "2026-11-21", "2026-11-21T08:00:00", "2026-00-00T00:00:00Z", "x-11-21T08:00:00Z"];
        for text in wrong {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
