//! Which endpoints are preferred for being near.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::OutlierDetection;
use crate::name::Name;
use crate::place::{NETWORK, NODE, REGION, SUBZONE, ZONE};

/// Which endpoints are preferred for being near (`localityLbSetting`, `zoneAwareLbSetting`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalityBalance {
    /// Whether near and far make a difference at all; default yes.
    pub enabled: bool,
    /// Shares of the requests of callers in a locality, by the locality of the endpoints. The first
    /// that covers the caller counts. With any, nothing else here does.
    pub distribute: Vec<Distribute>,
    /// Regions that stand in for others before the rest does.
    pub failover: Vec<Failover>,
    /// Labels that an endpoint is to have in common with its caller, the most important first: each
    /// the name of one, or `NAME=VALUE` if the value is not the caller's own.
    pub failover_priority: Vec<Name>,
    /// Whether only regions are near or far, and requests are spread over the zones of a region so
    /// that they stay in the caller's where that has its share of the endpoints.
    pub zone_aware: Option<ZoneAware>,
}

impl Default for LocalityBalance {
    /// Istio's: the nearer, the better.
    fn default() -> Self {
        Self {
            enabled: true,
            distribute: Vec::new(),
            failover: Vec::new(),
            failover_priority: Vec::new(),
            zone_aware: None,
        }
    }
}

/// Shares of the requests of callers in one locality.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribute {
    /// Where the callers are: `REGION/ZONE/*`.
    pub from: Name,
    /// Shares by where the endpoints are; those elsewhere get none.
    pub to: BTreeMap<Name, u32>,
}

/// A region that stands in for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// The region of the callers.
    pub from: Name,
    /// The region that stands in for it.
    pub to: Name,
}

/// See [`LocalityBalance::zone_aware`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneAware {
    /// With fewer endpoints than these zones do not matter; default 6, as Envoy's.
    pub endpoints_min: u64,
}

impl Default for ZoneAware {
    fn default() -> Self {
        Self { endpoints_min: 6 }
    }
}

/// What a service says about which of its endpoints are preferred (Kubernetes,
/// `spec.trafficDistribution`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Nothing.
    #[default]
    Any,
    /// Those of the caller's zone, then of its region, then of its network.
    SameZone,
    /// Those of the caller's node, then as before, of its subzone first.
    SameNode,
}

impl Distribution {
    /// The same as a policy says it.
    fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Any => &[],
            Self::SameZone => &[NETWORK, REGION, ZONE],
            Self::SameNode => &[NETWORK, REGION, ZONE, SUBZONE, NODE],
        }
    }
}

/// Which endpoints of a group are preferred for being near.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// By which rule.
    pub rule: Arc<LocalityBalance>,
    /// Whether endpoints that are not ready count, so that those further away take over their part
    /// of the requests: where the service itself says which are preferred.
    pub counts_unready: bool,
}

impl Preference {
    /// What holds for a group: what its policy says, else what its service says, else what the mesh
    /// does (Istio, `GetEffectiveLbSetting`). `None`: near and far are alike.
    ///
    /// As in Istio, nobody fails over to another locality unless outlier detection tells which
    /// endpoints do badly; but shares, zones, and what a service says need none.
    pub fn of(
        policy: Option<&Arc<LocalityBalance>>,
        outlier: Option<&OutlierDetection>,
        service: Distribution,
        mesh: &Arc<LocalityBalance>,
    ) -> Option<Self> {
        if policy.is_none() && service != Distribution::Any {
            let names = service.labels().iter().map(|name| Name::from(*name));
            let failover_priority = names.collect();
            let rule = LocalityBalance { failover_priority, ..LocalityBalance::default() };
            return Some(Self { rule: rule.into(), counts_unready: true });
        }
        let rule = policy.unwrap_or(mesh);
        let holds = outlier.is_some() || !rule.distribute.is_empty() || rule.zone_aware.is_some();
        let preference = Self { rule: rule.clone(), counts_unready: false };
        (rule.enabled && holds).then_some(preference)
    }
}

/// In a line: `shares of eu/a/*`, `locality, then topology.istio.io/network`.
impl fmt::Display for Preference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = &self.rule;
        if !rule.distribute.is_empty() {
            return f.write_str("shares by locality");
        }
        let labels: Vec<&str> = rule.failover_priority.iter().map(|name| &**name).collect();
        let mut words = Vec::new();
        if !labels.is_empty() {
            words.push(labels.join(", "));
        }
        match rule.zone_aware {
            Some(_) => words.push("region, and zones by their share".to_owned()),
            None if labels.is_empty() => words.push("region, zone, subzone".to_owned()),
            None => {}
        }
        for Failover { from, to } in &rule.failover {
            words.push(format!("{to} stands in for {from}"));
        }
        f.write_str(&words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_counts_before_the_service_and_the_service_before_the_mesh() {
        let outlier = OutlierDetection::default();
        let mesh = Arc::new(LocalityBalance::default());
        let off = Arc::new(LocalityBalance { enabled: false, ..LocalityBalance::default() });
        let failover = Failover { from: "eu".into(), to: "us".into() };
        let own =
            Arc::new(LocalityBalance { failover: vec![failover], ..LocalityBalance::default() });
        let to = [("eu".into(), 100)].into_iter().collect();
        let shares = Arc::new(LocalityBalance {
            distribute: vec![Distribute { from: "*".into(), to }],
            ..LocalityBalance::default()
        });
        let of = Preference::of;
        let rule = |preference: Option<Preference>| preference.map(|own| own.rule);
        assert_eq!(of(None, None, Distribution::Any, &mesh), None, "nothing tells who does badly");
        assert_eq!(rule(of(None, Some(&outlier), Distribution::Any, &mesh)), Some(mesh.clone()));
        assert_eq!(of(None, Some(&outlier), Distribution::Any, &off), None);
        assert_eq!(of(Some(&off), Some(&outlier), Distribution::SameZone, &mesh), None);
        assert_eq!(of(Some(&own), None, Distribution::SameZone, &mesh), None);
        let with = of(Some(&own), Some(&outlier), Distribution::SameZone, &off);
        assert_eq!(rule(with), Some(own));
        assert_eq!(rule(of(Some(&shares), None, Distribution::Any, &off)), Some(shares));
        let by_service = of(None, None, Distribution::SameZone, &off).unwrap();
        assert!(by_service.counts_unready);
        assert_eq!(by_service.rule.failover_priority.len(), 3);
    }
}
