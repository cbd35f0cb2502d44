//! What ServiceEntries are to a resolver: the addresses of their hosts, as the proxies know them.

use std::net::IpAddr;

use ironmesh_model::settings::Settings;
use ironmesh_model::{Name, ServiceId};
use serde_json::Value;

use super::Entries;
use crate::kubernetes::Members;
use crate::translate::Part;
use crate::{Object, translate_one};

/// The hosts of ServiceEntries and their addresses, brought up to date by one object at a time. From the
/// same objects come the same addresses, whoever looks at them.
#[derive(Debug)]
pub struct EntryNames {
    entries: Entries<(Name, Name)>,
    /// Nothing is needed of them here.
    members: Members<(Name, Name)>,
}

impl Default for EntryNames {
    fn default() -> Self {
        let settings = Settings::default();
        Self { entries: Entries::new(settings.clone()), members: Members::new(settings) }
    }
}

impl EntryNames {
    /// An object is this. One that cannot be used is as if it were not there.
    pub fn put(&mut self, object: Value) {
        let Ok(object) = Object::new(object) else { return };
        let key = (object.namespace().clone(), object.name().clone());
        let part = match translate_one(&object).part {
            Part::Entry(part) => Some(*part),
            _ => None,
        };
        self.entries.put(key, part, &self.members);
    }

    /// The object of this namespace and name is gone.
    pub fn take(&mut self, namespace: &str, name: &str) {
        self.entries.put((namespace.into(), name.into()), None, &self.members);
    }

    /// The addresses of a host (lower case, without a final dot) as workloads of a namespace see it:
    /// of an entry of their own, else of the oldest that they see. `None`: no entry tells any.
    pub fn addresses(&self, host: &str, namespace: &str) -> Option<Vec<IpAddr>> {
        let wildcards = host.match_indices('.').map(|(at, _)| format!("*{}", &host[at..]));
        let names = std::iter::once(host.to_owned()).chain(wildcards);
        let found: Option<ServiceId> = names.map(Name::from).find_map(|name| {
            let named = self.entries.named(&name);
            let is_seen = |seen_by: &[Name]| {
                seen_by.is_empty() || seen_by.iter().any(|own| **own == *namespace)
            };
            let seen = named.into_iter().filter(|(_, seen_by)| is_seen(seen_by));
            let mut seen: Vec<&ServiceId> = seen.map(|(id, _)| id).collect();
            // Stable, so that age decides among the others.
            seen.sort_by_key(|id| *id.namespace != *namespace);
            seen.first().copied().cloned()
        });
        Some(self.entries.addresses_of(&found?)).filter(|addresses| !addresses.is_empty())
    }
}
