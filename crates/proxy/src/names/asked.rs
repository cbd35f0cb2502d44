//! Names that requests name, where a service is reached at whatever name that is (`DYNAMIC_DNS`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ironmesh_model::Name;
use tokio::time::Instant;

/// The names that were asked about of late. One is resolved for [`KEPT_FOR`]; who needs it after that
/// asks again.
#[derive(Debug, Default)]
pub(crate) struct AskedNames(Mutex<HashMap<Name, Instant>>);

impl AskedNames {
    /// Asks for a name; `false`: it is not to be had, since `names_max` others are.
    pub(super) fn ask(&self, name: &str, names_max: usize, now: Instant) -> bool {
        let mut names = self.lock();
        let is_new = !names.contains_key(name);
        if is_new && names.len() < names_max {
            names.insert(name.into(), now + KEPT_FOR);
        }
        !is_new || names.contains_key(name)
    }

    /// Those that are to be resolved now.
    pub(super) fn current(&self, now: Instant) -> Vec<Name> {
        let mut names = self.lock();
        names.retain(|_, until| now < *until);
        names.keys().cloned().collect()
    }

    /// Held for a look or a change, never over an await.
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a name is kept resolved.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_end() {
        let (asked, now) = (AskedNames::default(), Instant::now());
        let ask = |name| asked.ask(name, 2, now);
        assert!(ask("a.test") && ask("b.test") && ask("a.test") && !ask("c.test"));
        let mut current = asked.current(now);
        current.sort();
        assert_eq!(current, ["a.test".into(), "b.test".into()]);
        assert!(asked.current(now + KEPT_FOR).is_empty());
        assert!(ask("c.test"));
    }
}
