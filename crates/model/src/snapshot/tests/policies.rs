//! Which destination policies of one host hold together, and for whom.

use super::*;
use crate::credential::{ClientCredential, CredentialSource};
use crate::snapshot::NamedSecret;

fn of(
    name: &str,
    created: Created,
    selector: Option<&str>,
    export_to: &[&str],
) -> DestinationPolicySource {
    DestinationPolicySource {
        selector: selector.map(|app| [("app", app)].into_iter().collect()),
        export_to: export_to.iter().map(|namespace| (*namespace).into()).collect(),
        ..subsets(("default", name), created, APP, &["v1"])
    }
}

/// The names of those that hold for a caller in `default` with the label `app: APP`.
fn holding(policies: &[DestinationPolicySource], caller: &str) -> Vec<String> {
    let mut objects = app(&[]);
    objects.destination_policies = policies.to_vec();
    let proxy = Proxy::sidecar(objects, "default", &[("app", caller)]);
    let here = applies(&proxy, ListenerKind::Outbound, Target::Host("app".into(), 9080)).unwrap();
    here.destinations[0].policies.iter().map(|id| id.name.to_string()).collect()
}

#[test]
fn a_policy_for_some_workloads_is_as_if_it_were_not_there_for_others() {
    let all = of("all", 1, None, &[]);
    let cart = of("cart", 2, Some("cart"), &[]);
    let both = [all.clone(), cart.clone()];
    assert_eq!(holding(&both, "cart"), ["cart"], "whom it selects has it alone");
    assert_eq!(holding(&both, "other"), ["all"]);
    assert_eq!(holding(std::slice::from_ref(&cart), "other"), [""; 0]);
    // The more specific host is not there for others either.
    let wide = DestinationPolicySource { host: "*.default.svc.cluster.local".into(), ..all };
    let both = [wide, cart];
    assert_eq!(holding(&both, "cart"), ["cart"]);
    assert_eq!(holding(&both, "other"), ["all"]);
}

/// As Istio merges them.
#[test]
fn the_oldest_that_selects_the_caller_is_joined_by_younger_ones_with_its_selector_or_none() {
    let policies = [
        of("older", 1, None, &[]),
        of("own", 2, Some("cart"), &[]),
        of("other", 3, Some("search"), &[]),
        of("younger", 4, None, &[]),
        of("alike", 5, Some("cart"), &[]),
    ];
    assert_eq!(holding(&policies, "cart"), ["own", "younger", "alike"]);
    assert_eq!(holding(&policies, "search"), ["other", "younger"]);
    assert_eq!(holding(&policies, "else"), ["older", "younger"]);
}

#[test]
fn policies_that_are_not_exported_alike_do_not_join() {
    let everywhere = of("everywhere", 1, None, &[]);
    let private = of("private", 2, None, &["default"]);
    let listed = of("listed", 3, None, &["shop", "default"]);
    let pair = [everywhere.clone(), private.clone()];
    assert_eq!(holding(&pair, ""), ["private"]);
    let third = DestinationPolicySource { created: 4, ..everywhere.clone() };
    let young = DestinationPolicySource {
        policy: DestinationPolicy {
            id: ObjectId::new("DestinationRule", "default", "z"),
            ..third.policy.clone()
        },
        ..third
    };
    assert_eq!(
        holding(&[everywhere, private.clone(), young], ""),
        ["private"],
        "it joins the first"
    );
    let again = DestinationPolicySource {
        export_to: vec!["default".into(), "shop".into()],
        ..of("again", 4, None, &[])
    };
    assert_eq!(holding(&[private, listed, again], ""), ["listed", "again"]);
}

/// What its labels say now decides, and another label of a workload asks for other answers.
#[test]
fn a_proxy_of_other_labels_has_another_scope() {
    let mut objects = app(&[]);
    objects.destination_policies = vec![of("cart", 1, Some("cart"), &[])];
    let proxy = Proxy::sidecar(objects, "default", &[]);
    let scope = |app: &str, namespace: &str| {
        let labels = [("app", app)].into_iter().collect();
        let subscriber = Subscriber { namespace: namespace.into(), labels, addresses: Vec::new() };
        proxy.snapshot.scope(&subscriber, None).0
    };
    assert_ne!(scope("cart", "default"), scope("search", "default"));
    assert_eq!(scope("search", "default"), scope("else", "default"), "those alike share answers");
    assert!(scope("cart", "shop").selecting_policies.is_empty(), "it is of its namespace alone");
}

/// As in Istio: a gateway has the Secrets of its namespace that policies name; a workload those of
/// policies that select it.
#[test]
fn the_keys_of_a_policy_reach_gateways_and_whom_it_selects() {
    let secret = |namespace: &str, name: &str| CredentialSource {
        id: ObjectId::new("Secret", namespace, name),
        certificate: Some("chain".into()),
        key: Some("key".into()),
        trusted: Some(name.into()),
        revoked: None,
        flaw: None,
    };
    let naming = |selector: Option<&str>| {
        let mut policy = of("tls", 1, selector, &[]);
        let (name, place) = ("own".into(), "spec".to_owned());
        policy.credentials = vec![NamedSecret { name, place, is_shown: true }];
        let mut objects = app(&[]);
        objects.destination_policies = vec![policy];
        objects.credentials = vec![secret("default", "own"), secret("default", "own-cacert")];
        objects.gateways = vec![gateway(("default", "edge"), 0, &["*"])];
        let own = route(("default", "e"), 0, &["*"], &["default/edge"], vec![to_app(Vec::new())]);
        objects.routes.push(own);
        objects
    };
    let held = |proxy: &Proxy, listener, target| {
        let here = applies(proxy, listener, target).unwrap();
        let to = here.destinations.into_iter().find(|to| *to.host == *APP).unwrap();
        let of = |held: ClientCredential| {
            let trusted = held.trusted.map_or("nobody".to_owned(), |name| name.to_string());
            (held.certificate.is_some(), trusted)
        };
        to.credentials.into_iter().map(of).collect::<Vec<_>>()
    };
    let outbound = || (ListenerKind::Outbound, Target::Host("app".into(), 9080));
    let at_sidecar = |objects: Objects, app: &str| {
        let proxy = Proxy::sidecar(objects, "default", &[("app", app)]);
        let (listener, target) = outbound();
        held(&proxy, listener, target)
    };
    let all = vec![(true, "own-cacert".to_owned())];
    assert_eq!(at_sidecar(naming(Some("cart")), "cart"), all);
    assert_eq!(at_sidecar(naming(None), "cart"), []);
    assert_eq!(at_sidecar(naming(Some("cart")), "other"), []);
    // The gateway of another namespace has none of that name there.
    let proxy = Proxy::gateway(naming(None));
    let nothing = vec![(false, "nobody".to_owned())];
    assert_eq!(held(&proxy, ListenerKind::Gateway, Target::Host("*".into(), 80)), nothing);
    let mut there = naming(None);
    there.credentials = vec![secret("istio-system", "own")];
    let proxy = Proxy::gateway(there);
    let own = vec![(true, "own".to_owned())];
    assert_eq!(held(&proxy, ListenerKind::Gateway, Target::Host("*".into(), 80)), own);
}

#[test]
fn a_secret_that_a_policy_names_and_nobody_has_is_found() {
    let of = |gateways| {
        let mut policy = of("tls", 1, None, &[]);
        let (name, place) = ("own".into(), "spec.tls.credentialName".to_owned());
        policy.credentials = vec![NamedSecret { name, place, is_shown: true }];
        let mut objects = Objects { gateways, ..app(&[]) };
        objects.destination_policies = vec![policy];
        let labels = [("istio", "ingressgateway")];
        objects.workloads.push(workload("istio-system", "edge", [10, 77, 0, 9], &labels));
        let found = Proxy::gateway(objects).findings;
        let bad = found.into_iter().find(|finding| finding.code == FindingCode::BadCredential);
        bad.map(|finding| finding.message).unwrap_or_default()
    };
    assert!(of(Vec::new()).starts_with("there is no gateway"), "{}", of(Vec::new()));
    let there = || vec![gateway(("default", "edge"), 0, &["*"])];
    assert!(of(there()).contains("is not there"), "{}", of(there()));
}
