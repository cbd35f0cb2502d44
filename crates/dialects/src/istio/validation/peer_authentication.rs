//! `PeerAuthentication`.

use serde_json::Value;

use super::{Check, at, is_given};
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
        for (port, _) in ports.into_iter().flatten() {
            if !port.parse::<u16>().is_ok_and(|port| port > 0) {
                self.refuse(&field(path, port), "a port is from 1 to 65535");
            }
        }
    }
}
