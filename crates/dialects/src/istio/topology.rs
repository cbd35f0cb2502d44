//! What a pod's annotation says of what stands in front of its gateway.

use ironmesh_model::topology::OwnTopology;
use serde_json::Value;

use crate::manifest;

/// The annotation of a pod that has its ProxyConfig.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";

/// What `gatewayTopology` of a ProxyConfig says, which is the value of [`PROXY_CONFIG`]. What cannot be
/// read is as if it were not there: the mesh says it then.
pub fn own_topology(config: Option<&str>) -> OwnTopology {
    let parsed = config.map(|text| manifest::parse(text).documents);
    let Some(first) = parsed.iter().flatten().next() else { return OwnTopology::default() };
    let given = &first.value["gatewayTopology"];
    let count = given["numTrustedProxies"].as_u64();
    OwnTopology {
        proxy_protocol: given["proxyProtocol"].is_object(),
        trusted_proxies: count.and_then(|count| u32::try_from(count).ok()),
        client_cert: given["forwardClientCertDetails"].as_str().and_then(|word| word.parse().ok()),
    }
}

/// What is wrong with it, by the names of its fields. That it cannot be read at all others say.
pub(super) fn flaws(config: &str) -> Vec<(&'static str, String)> {
    let parsed = manifest::parse(config);
    let Some(first) = parsed.documents.first() else { return Vec::new() };
    let given = &first.value["gatewayTopology"];
    let (count, word) = (&given["numTrustedProxies"], &given["forwardClientCertDetails"]);
    let mut flaws = Vec::new();
    if !count.is_null() && count.as_u64().is_none_or(|count| u32::try_from(count).is_err()) {
        flaws.push((
            "gatewayTopology.numTrustedProxies",
            format!("this takes a whole number, not {count}"),
        ));
    }
    let parsed = word.as_str().map(str::parse::<ironmesh_model::topology::ForwardClientCert>);
    match (word, parsed) {
        (Value::Null, _) | (_, Some(Ok(_))) => {}
        (_, Some(Err(not))) => {
            flaws.push(("gatewayTopology.forwardClientCertDetails", format!("{not}, not {word}")));
        }
        (_, None) => flaws.push((
            "gatewayTopology.forwardClientCertDetails",
            format!("this takes a word, not {word}"),
        )),
    }
    flaws
}

#[cfg(test)]
mod tests {
    use ironmesh_model::topology::ForwardClientCert;

    use super::*;

    #[test]
    fn a_gateway_says_what_is_in_front_of_it() {
        let text =
            "gatewayTopology:\n  numTrustedProxies: 2\n  forwardClientCertDetails: SANITIZE\n";
        assert_eq!(
            own_topology(Some(text)),
            OwnTopology {
                proxy_protocol: false,
                trusted_proxies: Some(2),
                client_cert: Some(ForwardClientCert::Sanitize),
            }
        );
        assert!(own_topology(Some("{gatewayTopology: {proxyProtocol: {}}}")).proxy_protocol);
        assert_eq!(flaws(text), []);
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_mesh_and_said() {
        let count = "gatewayTopology.numTrustedProxies";
        let word = "gatewayTopology.forwardClientCertDetails";
        for (text, wrong) in [
            ("gatewayTopology: {numTrustedProxies: -1}", vec![count]),
            ("gatewayTopology: {numTrustedProxies: 4294967296}", vec![count]),
            ("gatewayTopology: {numTrustedProxies: '1'}", vec![count]),
            ("gatewayTopology: {forwardClientCertDetails: sanitize}", vec![word]),
            ("gatewayTopology: {forwardClientCertDetails: 1}", vec![word]),
            ("gatewayTopology: [", vec![]),
            ("gatewayTopology: 1", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(own_topology(Some(text)), OwnTopology::default(), "{text}");
            let found: Vec<&str> = flaws(text).iter().map(|(field, _)| *field).collect();
            assert_eq!(found, wrong, "{text}");
        }
        assert_eq!(own_topology(None), OwnTopology::default());
    }
}
