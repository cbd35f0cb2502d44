//! Addresses that objects name: those of hosts, and none by which others would be reached than hosts.

use std::net::IpAddr;

use ironmesh_dialects::kubernetes::kinds::{EndpointSlice, Endpoints, ServiceSpec};
use ironmesh_dialects::schema::Fields;
use ironmesh_model::Special;
use serde_json::Value;

use super::IP_RULE;
use crate::failure::Cause;
use crate::object::Object;

/// The addresses of an `Endpoints`.
pub(super) fn endpoints(object: &Object, causes: &mut Vec<Cause>) {
    for (s, subset) in Endpoints::of(object).subsets().enumerate() {
        let lists = [
            ("addresses", subset.addresses()),
            ("notReadyAddresses", subset.not_ready_addresses()),
        ];
        for (list, addresses) in lists {
            for (a, address) in addresses.enumerate() {
                host(address.ip(), format!("subsets[{s}].{list}[{a}].ip"), causes);
            }
        }
    }
}

/// The addresses of an `EndpointSlice`.
pub(super) fn endpoint_slice(object: &Object, causes: &mut Vec<Cause>) {
    let slice = EndpointSlice::of(object);
    let kind = slice.address_type();
    if kind.is_empty() {
        causes.push(Cause::required("addressType"));
        return;
    }
    if !matches!(kind, "IPv4" | "IPv6" | "FQDN") {
        let message =
            format!("Unsupported value: {kind:?}: supported values: \"FQDN\", \"IPv4\", \"IPv6\"");
        causes.push(Cause { field: "addressType".to_owned(), message });
        return;
    }
    for (e, endpoint) in slice.endpoints().enumerate() {
        if endpoint.addresses().len() == 0 {
            causes.push(Cause::required(format!("endpoints[{e}].addresses")));
        }
        for (a, address) in endpoint.addresses().enumerate() {
            let field = format!("endpoints[{e}].addresses[{a}]");
            let why = match (kind, address.parse::<IpAddr>()) {
                ("FQDN", _) => continue,
                ("IPv4", Ok(IpAddr::V6(_))) => "must be an IPv4 address",
                ("IPv6", Ok(IpAddr::V4(_))) => "must be an IPv6 address",
                _ => {
                    host(address, field, causes);
                    continue;
                }
            };
            causes.push(Cause::invalid(field, &address.into(), why));
        }
    }
}

/// The addresses that a Service brings along. Its own is looked at when it is given.
pub(super) fn service(spec: Fields<'_, ServiceSpec>, causes: &mut Vec<Cause>) {
    for (index, address) in spec.external_ips().enumerate() {
        host(address, format!("spec.externalIPs[{index}]"), causes);
    }
    if spec.cluster_ips().next().is_some_and(|first| first != spec.cluster_ip()) {
        let all: Vec<&str> = spec.cluster_ips().collect();
        let why = "first value must match `clusterIP`";
        causes.push(Cause::invalid("spec.clusterIPs", &Value::from(all), why));
    }
}

/// An address that must be a host's (Kubernetes' `ValidateEndpointIP`).
fn host(text: &str, field: String, causes: &mut Vec<Cause>) {
    let Ok(ip) = text.parse::<IpAddr>() else {
        causes.push(Cause::invalid(field, &text.into(), IP_RULE));
        return;
    };
    let why = match Special::of(ip) {
        Some(Special::Unspecified) => format!("may not be unspecified ({text})"),
        Some(Special::Loopback) => {
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
        }
        Some(Special::LinkLocal) => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
        }
        Some(Special::LinkLocalMulticast) => {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
        }
        // Kubernetes takes these; nothing here dials them.
        Some(Special::Multicast | Special::Broadcast) => {
            "may not be a multicast or broadcast address".to_owned()
        }
        None => return,
    };
    causes.push(Cause::invalid(field, &text.into(), &why));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(check: fn(&Object, &mut Vec<Cause>), object: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(object, &mut causes);
        causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    #[test]
    fn endpoints_are_hosts() {
        let of = |ip: &str| {
            let lists = json!({"subsets": [{"notReadyAddresses": [{"ip": ip}]}]});
            let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": [ip]}]});
            (texts(endpoints, &lists), texts(endpoint_slice, &slice))
        };
        for (ip, why) in [
            ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
            ("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
            ("169.254.169.254", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
            ("224.0.0.5", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
            ("x", IP_RULE),
        ] {
            let (lists, slice) = of(ip);
            let said = format!("Invalid value: {ip:?}: {why}");
            assert_eq!(lists, [format!("subsets[0].notReadyAddresses[0].ip: {said}")]);
            assert_eq!(slice, [format!("endpoints[0].addresses[0]: {said}")]);
        }
        assert_eq!(of("192.0.2.1"), (vec![], vec![]));
        let mapped = json!({"subsets": [{"addresses": [{"ip": "::ffff:127.0.0.1"}]}]});
        assert_eq!(texts(endpoints, &mapped).len(), 1);
        let wrong =
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["2001:db8::1"]}, {}]});
        assert_eq!(
            texts(endpoint_slice, &wrong),
            [
                "endpoints[0].addresses[0]: Invalid value: \"2001:db8::1\": must be an IPv4 address",
                "endpoints[1].addresses: Required value",
            ]
        );
    }

    #[test]
    fn a_service_brings_no_special_addresses() {
        let spec = json!({
            "externalIPs": ["192.0.2.1", "127.0.0.1"], "clusterIPs": ["10.96.0.9"],
        });
        let said = texts(|spec, causes| service(ServiceSpec::of(spec), causes), &spec);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("spec.externalIPs[1]: Invalid value: \"127.0.0.1\": may not"));
        assert!(said[1].ends_with("first value must match `clusterIP`"), "{said:?}");
    }
}
