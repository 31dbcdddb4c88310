//! The host's side of a tenant: which CPUs it may use, how long it ran on them, and how long it waited for one. A
//! tenant that is bound by its launches is slowed by whoever takes its core, and no counter of the GPU shows that.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::BTreeMap;

/// CPU time of a process, all its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostTime {
    /// Running, ns.
    pub ran_ns: u64,
    /// Ready to run but waiting for a CPU, ns.
    pub waited_ns: u64,
}

impl HostTime {
    /// What it has taken so far; `None` where the kernel does not tell.
    pub fn of(pid: u32) -> Option<HostTime> {
        let mut sum = HostTime::default();
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let mut words = text.split_whitespace().map(str::parse::<u64>);
            sum.ran_ns += words.next()?.ok()?;
            sum.waited_ns += words.next()?.ok()?;
        }
        (sum.ran_ns > 0).then_some(sum)
    }

    /// What it has taken since `before`. A thread that ended meanwhile takes its time with it.
    pub fn since(self, before: HostTime) -> HostTime {
        HostTime {
            ran_ns: self.ran_ns.saturating_sub(before.ran_ns),
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
        }
    }
}

/// The CPUs that this process may use, grouped by physical core.
pub fn cores() -> Vec<Vec<usize>> {
    let Ok(allowed) = sched_getaffinity(None) else { return Vec::new() };
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&c| allowed.is_set(c)).collect();
    let mut by_core: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for c in cpus {
        let siblings =
            std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{c}/topology/thread_siblings_list"));
        // Where the kernel does not tell, each is taken for a core of its own.
        let key = siblings.map_or_else(|_| format!("cpu{c}"), |s| s.trim().to_owned());
        by_core.entry(key).or_default().push(c);
    }
    let mut out: Vec<Vec<usize>> = by_core.into_values().collect();
    out.sort();
    out
}

/// An equal number of whole cores for each of `n`, from the last ones: the first are left to the run and to the system.
/// `None` where there are fewer cores than that.
pub fn shares(cores: &[Vec<usize>], n: usize) -> Option<Vec<Vec<usize>>> {
    if n == 0 {
        return Some(Vec::new());
    }
    let each = (cores.len().saturating_sub(1) / n).max(usize::from(cores.len() >= n));
    if each == 0 {
        return None;
    }
    Some(cores[cores.len() - each * n..].chunks(each).map(<[Vec<usize>]>::concat).collect())
}

/// Has all threads of a process, and those they start, use these CPUs only.
///
/// # Errors
/// The process is gone, or not ours.
pub fn pin(pid: u32, cpus: &[usize]) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    for &c in cpus.iter().filter(|c| **c < CpuSet::MAX_CPU) {
        set.set(c);
    }
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let id = task.file_name().to_str().and_then(|n| n.parse().ok()).and_then(Pid::from_raw);
        // A thread that ended between the listing and now needs no core.
        if let (Some(id), true) = (id, task.path().exists()) {
            sched_setaffinity(Some(id), &set)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_cores_and_apart() {
        let cores: Vec<Vec<usize>> = (0..8).map(|c| vec![c, c + 8]).collect();
        assert_eq!(shares(&cores, 2), Some(vec![vec![2, 10, 3, 11, 4, 12], vec![5, 13, 6, 14, 7, 15]]));
        assert_eq!(shares(&cores, 8).map(|s| s.len()), Some(8));
        assert_eq!(shares(&cores, 7).map(|s| s[0].clone()), Some(vec![1, 9]));
        assert_eq!(shares(&cores, 9), None);
        assert_eq!(shares(&cores, 0), Some(Vec::new()));
    }

    #[test]
    fn this_process_has_cores_and_has_run() {
        let cores = cores();
        assert!(!cores.is_empty());
        let mut all: Vec<usize> = cores.concat();
        let n = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), n, "a CPU is in one core only");
        let now = HostTime::of(std::process::id()).expect("this kernel tells");
        assert!(now.ran_ns > 0);
    }

    #[test]
    fn a_pinned_process_keeps_to_its_cpu() {
        let mut child = std::process::Command::new("sleep").arg("5").spawn().expect("sleep starts");
        let first = cores()[0][0];
        pin(child.id(), &[first]).expect("it can be pinned");
        let set = sched_getaffinity(Pid::from_raw(child.id() as i32)).expect("it is there");
        assert_eq!((set.count(), set.is_set(first)), (1, true));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
}
