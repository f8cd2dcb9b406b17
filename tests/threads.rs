//! The default number of threads under an affinity mask and under a quota: the test runs itself in
//! processes that have them.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use gristmill::Model;

/// Set in the processes that only tell their number of threads.
const TELL: &str = "GRISTMILL_TEST_TELL_THREADS";
const ANSWER: &str = "threads by default: ";

fn default_threads() -> usize {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo-model/demo.gguf");
    Model::open(demo).expect("the demo model opens").threads()
}

/// What a process of its own, started by `shell` with the command as `"$@"`, says.
fn threads_in(shell: &str) -> usize {
    let test = std::env::current_exe().expect("this test");
    let output = Command::new("sh")
        .args(["-ec", shell, "sh"])
        .arg(test)
        .args(["--exact", "tell", "--nocapture"])
        .env(TELL, "1")
        .stderr(Stdio::inherit())
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.split_once(ANSWER).expect(&text).1;
    let answer = answer.lines().next().unwrap_or_default();
    answer.parse().expect("a number")
}

#[test]
fn tell() {
    if std::env::var_os(TELL).is_some() {
        println!("{ANSWER}{}", default_threads());
    }
}

#[test]
fn the_affinity_mask_bounds_the_threads() {
    let has_taskset = Command::new("taskset").arg("-V").output().is_ok();
    if !has_taskset {
        println!("skipped: no taskset");
        return;
    }
    let all = default_threads();
    assert_eq!(threads_in(r#""$@""#), all);
    let status = fs::read_to_string("/proc/self/status").expect("a process");
    let allowed = status.split_once("Cpus_allowed_list:").expect("a mask").1;
    let first = allowed.trim_start().split(['-', ',', '\n']).next();
    let first = first.expect("a processor");
    assert_eq!(threads_in(&format!(r#"taskset -c {first} "$@""#)), 1);
}

/// A control group that is removed in the end.
struct Group(PathBuf);

impl Group {
    /// One with a quota of so many processors, where this system lets us make it.
    fn new(quota: usize) -> Option<Self> {
        let name = format!("gristmill-test-{}-{quota}", process::id());
        let period = 100_000;
        let quota = quota * period;
        let make = |parent: &str, files: &[(&str, String)]| {
            let group = Group(Path::new(parent).join(&name));
            fs::create_dir(&group.0).ok()?;
            let write = |(file, text): &(&str, String)| {
                let path = group.0.join(file);
                // A file that is not there must not be made.
                path.exists().then(|| fs::write(path, text).ok())?
            };
            files
                .iter()
                .all(|file| write(file).is_some())
                .then_some(group)
        };
        make(
            "/sys/fs/cgroup/cpu",
            &[
                ("cpu.cfs_period_us", period.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ],
        )
        .or_else(|| {
            let max = format!("{quota} {period}");
            make("/sys/fs/cgroup", &[("cpu.max", max)])
        })
    }

    fn threads(&self) -> usize {
        let procs = self.0.join("cgroup.procs");
        threads_in(&format!(r#"echo $$ > {}; exec "$@""#, procs.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn the_quota_of_the_control_group_bounds_the_threads() {
    let (Some(one), Some(many)) = (Group::new(1), Group::new(1000)) else {
        println!("skipped: no control group with a quota can be made");
        return;
    };
    assert_eq!(one.threads(), 1);
    assert_eq!(many.threads(), default_threads());
}
