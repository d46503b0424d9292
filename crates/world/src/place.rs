//! Where a process stands among others, in the words of whoever launched them.

use crate::Share;
use sokd_core::{Error, Result};
use std::str::FromStr;

/// Where a process stands among those that train together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Its number among those of its machine, from 0: which GPU is its own.
    pub local: usize,
    /// How many share the cores that this process may use.
    pub sharing: usize,
    /// Where they meet: the machine of rank 0.
    pub host: String,
    /// A port that is free there.
    pub port: u16,
}

/// How a launcher calls what it tells: the variables of rank, size, rank on this machine, and how many are on it.
struct Launcher {
    rank: &'static str,
    size: &'static str,
    local: &'static str,
    locals: &'static str,
}

/// In the order in which they are asked: whoever runs torchrun under srun means torchrun.
const LAUNCHERS: [Launcher; 4] = [
    Launcher { rank: "RANK", size: "WORLD_SIZE", local: "LOCAL_RANK", locals: "LOCAL_WORLD_SIZE" },
    Launcher {
        rank: "OMPI_COMM_WORLD_RANK",
        size: "OMPI_COMM_WORLD_SIZE",
        local: "OMPI_COMM_WORLD_LOCAL_RANK",
        locals: "OMPI_COMM_WORLD_LOCAL_SIZE",
    },
    // The size of the step and not of the job: a batch script is one process, whatever it has asked for.
    Launcher {
        rank: "SLURM_PROCID",
        size: "SLURM_STEP_NUM_TASKS",
        local: "SLURM_LOCALID",
        locals: "SLURM_STEP_TASKS_PER_NODE",
    },
    Launcher { rank: "PMI_RANK", size: "PMI_SIZE", local: "MPI_LOCALRANKID", locals: "MPI_LOCALNRANKS" },
];

/// Where they meet if nobody says so: beside PyTorch's own port, which torchrun itself may hold.
const PORT: u16 = 29501;

impl Place {
    /// As the environment says; `None` for a process that is on its own.
    ///
    /// # Errors
    /// [`Error::Setting`] for words that are none, and where nobody says on which machine rank 0 is.
    pub fn from_env() -> Result<Option<Self>> {
        Self::told(|name| std::env::var(name).ok())
    }

    /// As `says` answers for the environment.
    ///
    /// # Errors
    /// As [`Place::from_env`].
    pub fn told(says: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let launched = |by: &&Launcher| says(by.rank).is_some() && says(by.size).is_some();
        let Some(by) = LAUNCHERS.iter().find(launched) else { return Ok(None) };
        let (rank, size): (usize, usize) = (number(by.rank, &says)?, number(by.size, &says)?);
        if size < 2 {
            return Ok(None);
        }
        if rank >= size {
            return Err(Error::setting(
                by.rank,
                format!("{rank}, and ranks below {} go into {}", size, by.size),
            ));
        }
        let local = if says(by.local).is_some() { number(by.local, &says)? } else { rank };
        // SLURM lists the machines of a step: `4(x2),3`.
        let locals =
            says(by.locals).and_then(|text| text.split(['(', ',']).next()?.parse().ok()).unwrap_or(1);
        // srun binds each process to its own cores where it was told how many those are.
        let sharing = if says("SLURM_CPUS_PER_TASK").is_some() { 1 } else { locals };
        let first = || says("SLURM_STEP_NODELIST").map(|list| first_host(&list));
        let here = || (locals == size).then(|| "127.0.0.1".to_owned());
        let host = says("MASTER_ADDR").or_else(first).or_else(here).ok_or_else(|| {
            Error::setting("MASTER_ADDR", "nobody says on which machine rank 0 is: set it to that one's name")
        })?;
        Ok(Some(Self { rank, size, local, sharing, host, port: port(&says)? }))
    }
}

impl Place {
    /// Which part of everything is its.
    pub fn share(&self) -> Share {
        Share::new(self.rank, self.size)
    }
}

fn port(says: &impl Fn(&str) -> Option<String>) -> Result<u16> {
    if says("SOKD_MASTER_PORT").is_some() {
        return number("SOKD_MASTER_PORT", says);
    }
    if says("MASTER_PORT").is_some() {
        // torchrun itself listens at the port that it names.
        return Ok(number::<u16>("MASTER_PORT", says)?.checked_add(1).unwrap_or(PORT));
    }
    if says("SLURM_JOB_ID").is_some() {
        // Jobs, and steps of a job, that share a machine shall not meet each other.
        let job: u64 = number("SLURM_JOB_ID", says)?;
        let step: u64 = number("SLURM_STEP_ID", says).unwrap_or(0);
        return Ok(20_000 + ((job * 31 + step) % 10_000) as u16);
    }
    Ok(PORT)
}

fn number<T: FromStr>(name: &str, says: &impl Fn(&str) -> Option<String>) -> Result<T> {
    let text = says(name).unwrap_or_default();
    text.trim().parse().map_err(|_| Error::setting(name, format!("`{text}` is not such a number")))
}

/// The first of SLURM's list of machines: `gpu[03-07,12],big1` begins with `gpu03`.
fn first_host(list: &str) -> String {
    let end = list.find([',', '[']).unwrap_or(list.len());
    let inside = list[end..].strip_prefix('[').unwrap_or_default();
    let first = inside.split([',', '-', ']']).next().unwrap_or_default();
    format!("{}{first}", &list[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(says: &[(&str, &str)]) -> Result<Option<Place>> {
        Place::told(|name| says.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned()))
    }

    fn place(rank: usize, size: usize, local: usize, sharing: usize, host: &str, port: u16) -> Place {
        Place { rank, size, local, sharing, host: host.to_owned(), port }
    }

    #[test]
    fn launchers_are_understood() -> Result<()> {
        let torchrun = [
            ("RANK", "5"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "gpu01"),
            ("MASTER_PORT", "29500"),
        ];
        assert_eq!(told(&torchrun)?, Some(place(5, 8, 1, 4, "gpu01", 29501)));
        let chosen = [&torchrun[..], &[("SOKD_MASTER_PORT", "4000"), ("SLURM_PROCID", "0")]].concat();
        assert_eq!(told(&chosen)?, Some(place(5, 8, 1, 4, "gpu01", 4000)));
        let srun = [
            ("SLURM_PROCID", "3"),
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_STEP_TASKS_PER_NODE", "2(x2)"),
            ("SLURM_STEP_NODELIST", "gpu[03-04]"),
            ("SLURM_JOB_ID", "1234567"),
            ("SLURM_STEP_ID", "2"),
        ];
        assert_eq!(told(&srun)?, Some(place(3, 4, 1, 2, "gpu03", 20_000 + 1579)));
        let bound = [&srun[..], &[("SLURM_CPUS_PER_TASK", "8")]].concat();
        assert_eq!(told(&bound)?.map(|place| place.sharing), Some(1));
        let mpirun = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ];
        assert_eq!(told(&mpirun)?, Some(place(1, 2, 1, 2, "127.0.0.1", PORT)));
        Ok(())
    }

    /// A batch script of SLURM's, a world of one, and variables that mean something else.
    #[test]
    fn who_is_alone_waits_for_nobody() -> Result<()> {
        let batch = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4"), ("SLURM_JOB_ID", "7")];
        for says in [&batch[..], &[("RANK", "0"), ("WORLD_SIZE", "1")], &[("RANK", "captain")], &[]] {
            assert_eq!(told(says)?, None, "{says:?}");
        }
        Ok(())
    }

    #[test]
    fn words_that_are_none_are_refused() {
        let far = [("PMI_RANK", "0"), ("PMI_SIZE", "4"), ("MPI_LOCALNRANKS", "2")];
        let beyond = [("RANK", "2"), ("WORLD_SIZE", "2")];
        let captain = [("RANK", "captain"), ("WORLD_SIZE", "2")];
        for (says, about) in [(&far[..], "MASTER_ADDR"), (&beyond, "RANK"), (&captain, "captain")] {
            let said = told(says).expect_err("it fits nothing").to_string();
            assert!(said.contains(about), "{said}");
        }
    }

    #[test]
    fn the_first_of_a_list_of_machines() {
        for (list, first) in [
            ("n1", "n1"),
            ("n1,n2", "n1"),
            ("gpu-a[3,5]", "gpu-a3"),
            ("n[01-04,07],m", "n01"),
            ("a,n[1-2]", "a"),
        ] {
            assert_eq!(first_host(list), first);
        }
    }
}
