//! A SLURM of one node on this machine, as the user who runs the tests: munged, slurmctld and slurmd in a private folder, on the
//! loopback, and gone with the test.

use super::folder::{signal, wait};
use std::cell::RefCell;
use std::fs::{File, Permissions, create_dir, read_to_string, set_permissions, write};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Its programs, of Debian's packages slurm-wlm, slurmctld, slurmd and munge.
const DAEMONS: [&str; 3] = ["munged", "slurmctld", "slurmd"];

pub struct Cluster {
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
    /// Jobs that were hurried, and how often each had begun.
    hurried: RefCell<Vec<String>>,
}

impl Cluster {
    /// Starts it, or says what is missing.
    pub fn start() -> Result<Self, String> {
        for program in DAEMONS.iter().chain(&["sbatch", "srun", "scontrol", "squeue", "scancel"]) {
            found(program).ok_or_else(|| format!("there is no {program} on this machine"))?;
        }
        let folder = tempfile::tempdir().unwrap();
        // munge wants its socket where everyone may reach it.
        set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let mut cluster = Self { folder, daemons: Vec::new(), hurried: RefCell::default() };
        cluster.configure();
        let at = |name: &str| cluster.join(name).display().to_string();
        let munged =
            ["key-file", "socket", "pid-file", "seed-file"].map(|what| format!("--{what}={}", at(what)));
        cluster.daemon("munged", &[&["--foreground".to_owned()], &munged[..]].concat());
        wait("munge", Duration::from_mins(1), || cluster.join("socket").exists());
        cluster.daemon("slurmctld", &["-D".to_owned()]);
        cluster.daemon("slurmd", &["-D".to_owned()]);
        wait("the node", Duration::from_mins(2), || {
            cluster.ask("sinfo", &["-h", "-o", "%t"]).trim() == "idle"
        });
        Ok(cluster)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self) {
        let mut key = vec![0; 1024];
        File::open("/dev/urandom").unwrap().read_exact(&mut key).unwrap();
        write(self.join("key-file"), key).unwrap();
        set_permissions(self.join("key-file"), Permissions::from_mode(0o600)).unwrap();
        for folder in ["state", "spool"] {
            create_dir(self.join(folder)).unwrap();
        }
        let host = read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap();
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8_lossy(&user.stdout).trim().to_owned();
        let [control, node] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [control, node] = [&control, &node].map(|port| port.local_addr().unwrap().port());
        let here = self.folder.path().display();
        let text = format!(
            "ClusterName=sweep\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser={user}\nSlurmdUser={user}\n\
             AuthType=auth/munge\nAuthInfo=socket={here}/socket\nCredType=cred/munge\n\
             SlurmctldPort={control}\nSlurmdPort={node}\nStateSaveLocation={here}/state\nSlurmdSpoolDir={here}/spool\n\
             SlurmctldPidFile={here}/slurmctld.pid\nSlurmdPidFile={here}/slurmd.pid\n\
             SlurmctldLogFile={here}/slurmctld.log\nSlurmdLogFile={here}/slurmd.log\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\n\
             SelectTypeParameters=CR_CPU\nMpiDefault=none\nReturnToService=2\nSlurmdTimeout=10\nKillWait=10\n\
             JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
             JobCompType=jobcomp/none\nSchedulerParameters=bf_interval=2\n\
             NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN\n\
             PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
        );
        write(self.join("slurm.conf"), text).unwrap();
    }

    fn daemon(&mut self, program: &str, arguments: &[String]) {
        let log = File::create(self.join(&format!("{program}.said"))).unwrap();
        let mut command = Command::new(found(program).unwrap());
        command.args(arguments).env("SLURM_CONF", self.join("slurm.conf")).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.daemons.push(child);
    }

    /// Where its commands find it.
    pub fn conf(&self) -> PathBuf {
        self.join("slurm.conf")
    }

    /// One of its commands.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(found(program).unwrap());
        command.args(arguments).env("SLURM_CONF", self.conf());
        command
    }

    /// What one of its commands says.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The jobs that are in the queue in one of these states, by number.
    pub fn jobs(&self, states: &str) -> Vec<String> {
        let said = self.ask("squeue", &["-h", "-r", "-t", states, "-o", "%A"]);
        said.lines().map(str::to_owned).collect()
    }

    /// A job that was queued again waits for two minutes; here it begins after five seconds, by when the node has forgotten
    /// that it was told to end it.
    pub fn hurry(&self) {
        for job in self.jobs("PENDING") {
            let said = self.ask("scontrol", &["show", "job", &job]);
            let again =
                said.split_whitespace().find(|word| word.starts_with("Restarts=")).unwrap_or_default();
            let once = format!("{job} {again}");
            if said.contains("Reason=BeginTime") && !self.hurried.borrow().contains(&once) {
                self.ask("scontrol", &["update", &format!("JobId={job}"), "StartTime=now+5"]);
                self.hurried.borrow_mut().push(once);
            }
        }
    }

    /// Tells a job that its time is nearly up, as SLURM would.
    pub fn notify(&self, job: &str) {
        // scancel goes on asking for a minute where the job is being queued again already.
        let scancel = found("scancel").unwrap().display().to_string();
        self.ask("timeout", &["5", &scancel, "--signal=USR1", "--batch", job]);
    }

    /// Loses the node with all that runs there, as when its power fails; it comes back empty.
    pub fn lose_node(&mut self) {
        let host = self.ask("sinfo", &["-h", "-o", "%n"]).trim().to_owned();
        let mut slurmd = self.daemons.pop().unwrap();
        slurmd.kill().unwrap();
        slurmd.wait().unwrap();
        for process in self.steps() {
            signal(process, "KILL");
        }
        self.ask("scontrol", &["update", &format!("NodeName={host}"), "State=DOWN", "Reason=lost"]);
        self.daemon("slurmd", &["-D".to_owned()]);
        wait("the node again", Duration::from_mins(2), || {
            ["idle", "mix", "alloc"].contains(&self.ask("sinfo", &["-h", "-o", "%t"]).trim())
        });
    }

    /// What jobs run on the node: processes that know this cluster and are none of its daemons.
    fn steps(&self) -> Vec<u32> {
        let conf = format!("SLURM_CONF={}", self.conf().display());
        let knows = |process: &u32| {
            let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == conf.as_bytes())
        };
        // slurmctld has a child of its own.
        let called = |process: &u32| read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        let daemon = |process: &u32| {
            called(process).trim() == "slurmscriptd"
                || self.daemons.iter().any(|daemon| daemon.id() == *process)
        };
        let all = std::fs::read_dir("/proc").unwrap();
        let all = all.filter_map(|entry| entry.unwrap().file_name().to_string_lossy().parse().ok());
        all.filter(|process| !daemon(process) && knows(process)).collect()
    }

    /// The ends of its logs, for whoever reads of a failure.
    pub fn words(&self) -> String {
        let log = |name: &&str| read_to_string(self.join(&format!("{name}.log"))).unwrap_or_default();
        DAEMONS.iter().map(log).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for job in self.jobs("all") {
            self.ask("scancel", &[&job]);
        }
        // In the other order than they came, so that each still finds the one that it leaves by.
        for mut daemon in self.daemons.drain(..).rev() {
            signal(daemon.id(), "TERM");
            let begun = std::time::Instant::now();
            while daemon.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(50));
            }
            daemon.kill().ok();
            daemon.wait().ok();
        }
    }
}

/// A program of the path, or of the folders where daemons are.
fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).to_owned()));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}
