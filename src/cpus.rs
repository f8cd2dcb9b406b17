//! The processors that a process should compute on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

/// Processors that run at the same time: those of the affinity mask, but no more than the quota of
/// the control groups (v1 or v2) above this process pays for, rounded down. At least one.
pub(crate) fn available() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Threads of a pass where nobody asks for a number: one for each physical performance core that is
/// [`available`]. Two threads on one core share its arithmetic and its way to memory, and as all
/// threads meet at the end of each phase, one on an efficiency core slows down the others.
pub(crate) fn default_threads() -> usize {
    let cores = performance_cores(Path::new("/"));
    cores.map_or_else(available, |cores| cores.min(available()))
}

/// Physical performance cores in the affinity mask of this thread, from Linux's files under `root`;
/// nothing on other systems, or if the files make no sense.
fn performance_cores(root: &Path) -> Option<usize> {
    let status = fs::read_to_string(root.join("proc/thread-self/status")).ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let allowed = cpu_list(mask)?;
    let devices = root.join("sys/devices");
    let first_sibling = |cpu: &usize| {
        let topology = format!("system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let siblings = cpu_list(&fs::read_to_string(devices.join(topology)).ok()?)?;
        siblings.first().copied()
    };
    let cores: Option<BTreeSet<usize>> = performance_cpus(&devices, &allowed)
        .iter()
        .map(first_sibling)
        .collect();
    cores.map(|cores| cores.len()).filter(|&cores| cores > 0)
}

/// Those of the processors that are not efficiency cores, unless all are.
fn performance_cpus(devices: &Path, allowed: &BTreeSet<usize>) -> BTreeSet<usize> {
    // Intel: the performance monitoring unit of the performance cores, on hybrid processors only.
    let list = fs::read_to_string(devices.join("cpu_core/cpus"));
    if let Some(list) = list.ok().and_then(|list| cpu_list(&list)) {
        let cpus: BTreeSet<usize> = allowed.intersection(&list).copied().collect();
        return if cpus.is_empty() {
            allowed.clone()
        } else {
            cpus
        };
    }
    // Elsewhere the scheduler's measure of speed, 1024 for the fastest. Little cores of Arm have 150
    // to 490, the middle ones of three kinds at least 500. Frequencies would not do: they put the
    // dense cores of AMD, which are as good for us, below little cores of Arm.
    let capacity = |cpu: &usize| {
        let path = devices.join(format!("system/cpu/cpu{cpu}/cpu_capacity"));
        let text = fs::read_to_string(path).ok()?;
        text.trim().parse::<usize>().ok()
    };
    let fastest = allowed.iter().filter_map(capacity).max().unwrap_or(0);
    let is_fast = |cpu: &&usize| capacity(cpu).is_none_or(|capacity| capacity * 2 >= fastest);
    allowed.iter().filter(is_fast).copied().collect()
}

/// Linux's form of a set of processors: `0-3,8,10-11`.
fn cpu_list(text: &str) -> Option<BTreeSet<usize>> {
    let mut cpus = BTreeSet::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let [first, last]: [usize; 2] = [first.parse().ok()?, last.parse().ok()?];
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with the affinity mask, sets of siblings by processor, and other files.
    fn cores(allowed: &str, siblings: &[&str], files: &[(&str, &str)]) -> Option<usize> {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        let status =
            format!("Name:\tgristmill\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\n");
        write("proc/thread-self/status", &status);
        for (cpu, siblings) in siblings.iter().enumerate() {
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            write(&path, &format!("{siblings}\n"));
        }
        for (path, text) in files {
            write(&format!("sys/devices/{path}"), &format!("{text}\n"));
        }
        performance_cores(root.path())
    }

    #[test]
    fn siblings_are_one_core() {
        let pairs = ["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"];
        assert_eq!(cores("0-7", &pairs, &[]), Some(4));
        assert_eq!(cores("0,4", &pairs, &[]), Some(1));
        assert_eq!(cores("4-7", &pairs, &[]), Some(4));
        assert_eq!(cores("1,3-5", &pairs, &[]), Some(3));
        assert_eq!(cores("0-1", &["0", "1"], &[]), Some(2));
    }

    #[test]
    fn efficiency_cores_of_intel_count_only_alone() {
        // Two performance cores with two threads each, four efficiency cores.
        let siblings = ["0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7"];
        let hybrid = [("cpu_core/cpus", "0-3"), ("cpu_atom/cpus", "4-7")];
        assert_eq!(cores("0-7", &siblings, &hybrid), Some(2));
        assert_eq!(cores("3-7", &siblings, &hybrid), Some(1));
        assert_eq!(cores("5-7", &siblings, &hybrid), Some(3));
    }

    #[test]
    fn little_cores_of_arm_count_only_alone() {
        let siblings = ["0", "1", "2", "3"];
        let capacities = [
            ("system/cpu/cpu0/cpu_capacity", "160"),
            ("system/cpu/cpu1/cpu_capacity", "160"),
            ("system/cpu/cpu2/cpu_capacity", "512"),
            ("system/cpu/cpu3/cpu_capacity", "1024"),
        ];
        assert_eq!(cores("0-3", &siblings, &capacities), Some(2));
        assert_eq!(cores("0-1", &siblings, &capacities), Some(2));
        assert_eq!(cores("1,3", &siblings, &capacities), Some(1));
    }

    #[test]
    fn what_makes_no_sense_is_no_answer() {
        assert_eq!(performance_cores(Path::new("/nowhere")), None);
        assert_eq!(cores("0-1", &["0"], &[]), None, "a processor is missing");
        assert_eq!(cores("0-x", &["0", "1"], &[]), None);
        assert_eq!(cores("", &["0", "1"], &[]), None);
    }
}
