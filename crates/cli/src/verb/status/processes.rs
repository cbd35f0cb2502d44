//! The agent numbers processes in its own PID namespace; this finds what they are called outside.

use std::collections::HashMap;
use std::fs;

use anyhow::Context as _;

/// From the agent's numbers to ours, of every process below `up`.
pub(super) fn numbering(up: i32) -> anyhow::Result<HashMap<i32, i32>> {
    let mut parents: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut inner: HashMap<i32, i32> = HashMap::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        // A process may end while we look.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        if let Some((parent, own)) = parse(&status) {
            parents.entry(parent).or_default().push(pid);
            inner.extend(own.map(|own| (pid, own)));
        }
    }
    let mut numbers = HashMap::new();
    let mut next = vec![up];
    while let Some(pid) = next.pop() {
        if let Some(own) = inner.get(&pid) {
            numbers.insert(*own, pid);
        }
        next.extend(parents.remove(&pid).unwrap_or_default());
    }
    Ok(numbers)
}

/// Parent, and number in the first PID namespace below ours, of a process's `status` file.
fn parse(status: &str) -> Option<(i32, Option<i32>)> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let parent = field("PPid:")?.trim().parse().ok()?;
    let mut numbers = field("NSpid:")?.split_whitespace();
    let own = numbers.nth(1).and_then(|number| number.parse().ok());
    Some((parent, own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_nested_namespaces() {
        let nested = "Name:\tx\nPPid:\t700\nNSpid:\t812\t14\t1\n";
        assert_eq!(parse(nested), Some((700, Some(14))));
        assert_eq!(parse("PPid:\t1\nNSpid:\t700\n"), Some((1, None)));
        assert_eq!(parse("Name:\tx\n"), None);
    }
}
