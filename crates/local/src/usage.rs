//! What containers take of the machine: CPU time and memory of their processes, as `kubectl top` shows it.
//! It is measured when somebody asks, and costs nothing otherwise.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::agent_api::{ContainerUsage, Taken, Usage};
use crate::node::Node;

/// Measures what runs, for [`WINDOW`].
pub(crate) async fn measure(node: &Node) -> io::Result<Usage> {
    let before = tokio::task::spawn_blocking(Processes::read).await??;
    tokio::time::sleep(WINDOW).await;
    let after = tokio::task::spawn_blocking(Processes::read).await??;
    let containers = roots(node);
    // Memory is looked up process by process, which takes a while where there are many.
    let usage = tokio::task::spawn_blocking(move || {
        let taken = |pids: &[i32], earlier: &[i32]| Taken {
            cpu_per_second: after.time(pids).saturating_sub(before.time(earlier)),
            memory_bytes: pids.iter().map(|pid| memory_bytes(*pid)).sum(),
        };
        let of = |(pid, mut usage): (i32, ContainerUsage)| {
            usage.taken = taken(&after.below(pid), &before.below(pid));
            usage
        };
        let all = |processes: &Processes| processes.0.keys().copied().collect::<Vec<_>>();
        Usage {
            window: WINDOW,
            all: taken(&all(&after), &all(&before)),
            containers: containers.into_iter().map(of).collect(),
        }
    });
    Ok(usage.await?)
}

/// The containers that run, each with its first process.
fn roots(node: &Node) -> Vec<(i32, ContainerUsage)> {
    let mut roots = Vec::new();
    for state in node.pods.borrow().values() {
        let (pod, record) = (state.pod.borrow(), state.record.borrow());
        let applications = pod.spec.containers.iter().zip(&record.containers);
        let inits = pod.spec.init_containers.iter().zip(&record.init_containers);
        for (container, record) in applications.chain(inits) {
            let Some(pid) = record.pid else { continue };
            let usage = ContainerUsage {
                namespace: pod.metadata.namespace.clone(),
                pod: pod.metadata.name.clone(),
                container: container.name.to_string(),
                taken: Taken::default(),
            };
            roots.push((pid, usage));
        }
    }
    roots
}

/// The processes of the mesh, by their numbers.
#[derive(Debug)]
struct Processes(HashMap<i32, Process>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    parent: i32,
    /// CPU time of it and of the children that it has waited for, in the kernel's ticks.
    ticks: u64,
}

impl Processes {
    fn read() -> io::Result<Self> {
        let mut all = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process may end while we look.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            all.extend(parse(&stat).map(|process| (pid, process)));
        }
        Ok(Self(all))
    }

    /// A process and those that come of it.
    fn below(&self, root: i32) -> Vec<i32> {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for (pid, process) in &self.0 {
            children.entry(process.parent).or_default().push(*pid);
        }
        let mut found: Vec<i32> = self.0.contains_key(&root).then_some(root).into_iter().collect();
        let mut next = 0;
        while let Some(pid) = found.get(next) {
            found.extend(children.remove(pid).unwrap_or_default());
            next += 1;
        }
        found
    }

    fn time(&self, pids: &[i32]) -> Duration {
        let ticks: u64 = pids.iter().filter_map(|pid| Some(self.0.get(pid)?.ticks)).sum();
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let per_second = u64::try_from(per_second).unwrap_or(100).max(1);
        Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second))
    }
}

/// Reads the file `stat` of a process. The name in it may hold anything.
fn parse(stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
    Some(Process { parent: fields[1].parse().ok()?, ticks: ticks.sum::<Result<_, _>>().ok()? })
}

/// The memory of a process; of what it shares with others, its part.
fn memory_bytes(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("Pss:")?.strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// For how long CPU time is counted.
const WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_cannot_pass_for_numbers() {
        let stat = "7 (x) S 1 2) R 3 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        assert_eq!(parse(stat), Some(Process { parent: 3, ticks: 100 }));
        for wrong in ["", "7 (x)", "7 (x) R", "7 (x) R 3 7 7 0 -1 4194304 1 2 3 4 10 20 30 x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_comes_of_a_process_counts_with_it() {
        let process = |parent| Process { parent, ticks: 1 };
        let all = [(1, 0), (2, 1), (3, 2), (4, 3), (5, 1)].map(|(pid, of)| (pid, process(of)));
        let all = Processes(all.into());
        let mut below = all.below(2);
        below.sort_unstable();
        assert_eq!(below, [2, 3, 4]);
        assert!(all.below(9).is_empty());
    }

    #[test]
    fn this_process_is_measured() {
        let all = Processes::read().unwrap();
        let own = std::process::id() as i32;
        assert!(all.below(own).contains(&own));
        assert!(memory_bytes(own) > 1024);
    }
}
