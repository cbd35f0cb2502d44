//! `PeerAuthentication`.

use ironmesh_model::policy::InboundPolicy;
use serde_json::Value;

use super::{Check, at, is_given};
use crate::istio::peer_authentication::port;
use crate::path::field;

impl Check<'_> {
    pub(super) fn peer_authentication(&mut self, spec: &Value) {
        self.selector(at(spec, "selector"), "matchLabels", "spec.selector");
        if !is_given(spec, "portLevelMtls") {
            return;
        }
        let ports = at(spec, "portLevelMtls").as_object();
        let path = "spec.portLevelMtls";
        let has_labels = |labels: &serde_json::Map<String, Value>| !labels.is_empty();
        if !at(at(spec, "selector"), "matchLabels").as_object().is_some_and(has_labels) {
            self.refuse(path, "ports have settings of their own only beside a selector");
        }
        if ports.is_some_and(serde_json::Map::is_empty) {
            self.refuse(path, "this takes a port and its mode");
        }
        let most = InboundPolicy::PARTS_MAX;
        if ports.is_some_and(|ports| ports.len() > most) {
            self.refuse(path, format!("this takes at most {most} ports"));
            return;
        }
        for (key, _) in ports.into_iter().flatten() {
            if port(key).is_none() {
                self.refuse(&field(path, key), "a port is from 1 to 65535");
            }
        }
    }
}
