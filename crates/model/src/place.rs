//! Where workloads are, and how near they are to each other.

use crate::name::{Labels, Name};

/// Region, zone and subzone; what is not known is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locality<'a> {
    /// The region.
    pub region: &'a str,
    /// The zone in it.
    pub zone: &'a str,
    /// The subzone in that.
    pub subzone: &'a str,
}

impl<'a> Locality<'a> {
    /// Reads `REGION/ZONE/SUBZONE`, of which the end may be left out.
    pub fn parse(text: &'a str) -> Self {
        let mut parts = text.split('/');
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), subzone: next() }
    }

    /// Its text form, without what is not known at the end.
    pub fn text(self) -> Name {
        let Self { region, zone, subzone } = self;
        format!("{region}/{zone}/{subzone}").trim_end_matches('/').into()
    }

    /// Whether a rule covers it: `*` stands for anything, and so do a zone and a subzone that are
    /// left out (Istio, `LocalityMatch`).
    pub fn is_in(self, rule: &str) -> bool {
        let rule = Locality::parse(rule);
        let covers = |rule: &str, own: &str| rule == "*" || rule == own;
        covers(rule.region, self.region)
            && (rule.zone.is_empty() || covers(rule.zone, self.zone))
            && (rule.subzone.is_empty() || covers(rule.subzone, self.subzone))
    }

    /// How far another is: 0 in the same subzone, 1 in the same zone, 2 in the same region, 3
    /// elsewhere (Istio, `LbPriority`).
    pub fn distance(self, other: Self) -> u32 {
        if self.region != other.region {
            3
        } else if self.zone != other.zone {
            2
        } else {
            u32::from(self.subzone != other.subzone)
        }
    }
}

/// Where a workload is, by all that callers may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// `REGION/ZONE/SUBZONE`; empty if unknown.
    pub locality: &'a str,
    /// Its network; empty for the mesh's own.
    pub network: &'a str,
    /// Its cluster.
    pub cluster: &'a str,
    /// Name of its node; empty if unknown.
    pub node: &'a str,
}

impl<'a> Place<'a> {
    /// The value of a label. Those that say where the workload is are known of it, whatever its own
    /// labels say (Istio, `AugmentLabels`).
    pub fn label(&self, name: &str) -> Option<&'a str> {
        let own = || self.labels.value(name);
        let known = |value: &'a str| Some(value).filter(|value| !value.is_empty());
        let locality = || Locality::parse(self.locality);
        match name {
            REGION => known(locality().region).or_else(own),
            ZONE => known(locality().zone).or_else(own),
            SUBZONE => known(locality().subzone).or_else(own),
            CLUSTER => known(self.cluster).or_else(own),
            NODE => known(self.node).or_else(own),
            NETWORK => own().or_else(|| known(self.network)),
            _ => own(),
        }
    }

    /// Whether it has all of these labels.
    pub fn is_selected_by(&self, selector: &Labels) -> bool {
        selector.0.iter().all(|(name, value)| self.label(name) == Some(&**value))
    }
}

/// Label of the region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Label of the zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Label of the subzone.
pub const SUBZONE: &str = "topology.istio.io/subzone";
/// Label of the network.
pub const NETWORK: &str = "topology.istio.io/network";
/// Label of the cluster.
pub const CLUSTER: &str = "topology.istio.io/cluster";
/// Label of the node.
pub const NODE: &str = "kubernetes.io/hostname";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localities_are_near_or_far() {
        let of = Locality::parse;
        for (a, b, distance) in [
            ("eu/a/1", "eu/a/1", 0),
            ("eu/a/1", "eu/a/2", 1),
            ("eu/a", "eu/a/2", 1),
            ("eu/a/1", "eu/b/1", 2),
            ("eu/a/1", "us/a/1", 3),
            ("", "us", 3),
            ("", "", 0),
        ] {
            assert_eq!(of(a).distance(of(b)), distance, "{a} {b}");
        }
        assert_eq!(&*of("eu//1").text(), "eu//1");
        assert_eq!(&*of("eu/a/").text(), "eu/a");
    }

    #[test]
    fn rules_cover_what_they_leave_open() {
        for (rule, text, covers) in [
            ("*", "eu/a/1", true),
            ("*", "", true),
            ("eu", "eu/a/1", true),
            ("eu/*", "eu/a/1", true),
            ("eu/a", "eu/a/1", true),
            ("eu/a/*", "eu/a", true),
            ("eu/a/1", "eu/a", false),
            ("eu/b", "eu/a/1", false),
            ("us/*", "eu/a", false),
        ] {
            assert_eq!(Locality::parse(text).is_in(rule), covers, "{rule} {text}");
        }
    }

    #[test]
    fn what_is_known_of_a_place_stands_over_its_labels() {
        let labels = [(ZONE, "said"), (NETWORK, "said"), ("app", "a")].into_iter().collect();
        let place =
            Place { labels: &labels, locality: "eu/a", network: "known", cluster: "c", node: "n" };
        assert_eq!(place.label(ZONE), Some("a"));
        assert_eq!(place.label(NETWORK), Some("said"));
        assert_eq!(place.label(NODE), Some("n"));
        assert_eq!((place.label(SUBZONE), place.label("app")), (None, Some("a")));
        assert!(place.is_selected_by(&[(REGION, "eu"), ("app", "a")].into_iter().collect()));
        assert!(!place.is_selected_by(&[(ZONE, "said")].into_iter().collect()));
    }
}
