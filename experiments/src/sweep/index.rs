use crate::{Misfit, Result};

/// Where schedulers say which task of an array a process is, the innermost first: a worker of HyperQueue may itself be a task of
/// SLURM's.
pub const VARIABLES: [&str; 5] =
    ["SOKD_TASK_INDEX", "HQ_TASK_ID", "JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX"];

/// Which cell this process was started for, if `get` tells of one.
///
/// # Errors
/// A variable that is no number.
pub fn index(get: impl Fn(&str) -> Option<String>) -> Result<Option<usize>> {
    let said = VARIABLES.iter().find_map(|name| Some((name, get(name).filter(|text| !text.is_empty())?)));
    let Some((name, text)) = said else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| {
        Misfit::new(format!("{name} is `{text}`, which is no number of a cell"))
            .help("or say it: --index N")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_scheduler_is_heard() {
        let told = |pairs: &'static [(&str, &str)]| {
            index(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned()))
        };
        assert_eq!(told(&[]).expect("nothing"), None);
        assert_eq!(told(&[("SLURM_ARRAY_TASK_ID", "7"), ("HQ_TASK_ID", "3")]).expect("a number"), Some(3));
        assert_eq!(told(&[("SLURM_ARRAY_TASK_ID", "7"), ("HQ_TASK_ID", "")]).expect("a number"), Some(7));
        assert!(told(&[("JOB_COMPLETION_INDEX", "x")]).is_err());
    }
}
