use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::{Objects, Subscriber};
use ironmesh_model::view::{Body, Change};
use ironmesh_model::{Labels, ListenerKind, Target, Version};

use super::*;
use crate::tests::ports::policy;
use crate::tests::world::{App, objects, ok, route};

/// A view that was asked about `reviews`, and about a host that there is not.
fn view() -> View {
    let app = App::http(|_| ok("reviews"));
    let mut objects = objects(Protocol::Http, &[&app]);
    objects.routes.push(route(vec![Default::default()]));
    let asked = |host: &str| {
        ResourceKey::Resolution(ResolutionKey {
            listener: ListenerKind::Outbound,
            target: Target::Host(host.into(), 9080),
            namespace: "default".into(),
        })
    };
    view_of(objects, vec![asked("reviews"), asked("nobody")])
}

/// A view of these objects that was asked about this.
fn view_of(objects: Objects, mut wanted: Vec<ResourceKey>) -> View {
    let snapshot = ironmesh_model::Snapshot::new(objects).0;
    let subscriber = Subscriber {
        namespace: "default".into(),
        labels: Labels::default(),
        addresses: Vec::new(),
    };
    let mut changes = Vec::new();
    while let Some(key) = wanted.pop() {
        let resource = snapshot.resource(&key, &subscriber).unwrap();
        wanted.extend(snapshot.references(&resource));
        changes.push(Change { key, version: Version(1), body: Body::Is(resource) });
    }
    View::default().apply(changes).0
}

fn listener() -> HeldListener {
    HeldListener { role: ListenerRole::Outbound, address: ([0, 0, 0, 0], 15001).into() }
}

fn dump(only: Option<&str>, bytes_max: usize) -> Dump {
    let bytes = write(&view(), &[listener()], &Parts::of_query(only), bytes_max);
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"))
}

#[test]
fn it_tells_what_was_asked_about_and_what_became_of_it() {
    let dump = dump(None, 1 << 20);
    assert_eq!((dump.left_out, &dump.listeners[..]), (0, &[listener()][..]));
    let [group] = &dump.groups[..] else { panic!("{:?}", dump.groups) };
    assert_eq!(&*group.service.hostname, "reviews.default.svc.cluster.local");
    assert_eq!((group.port, group.endpoints, group.ready), (9080, 1, 1));
    let [nobody, reviews] = &dump.linked[..] else { panic!("{:?}", dump.linked) };
    assert!(nobody.applies.is_none(), "there is nothing, and that is known");
    let applies = reviews.applies.as_ref().unwrap();
    assert_eq!(applies.rules[0].route, ObjectId::new("VirtualService", "default", "reviews"));
    assert!(dump.resources.iter().any(|resource| resource.kind == "route"));
    assert!(dump.resources.iter().all(|resource| resource.body.is_some()));
}

#[test]
fn it_tells_what_each_port_of_the_workload_takes() {
    let app = App::http(|_| ok("reviews"));
    let mut objects = objects(Protocol::Http, &[&app]);
    let served = app.address.port();
    let ports = [(served, MtlsMode::Strict), (1, MtlsMode::Disable)];
    let mut policy = policy("", MtlsMode::Permissive, &ports);
    policy.selectors = Some(vec![Labels::default()]);
    objects.inbound_policies = vec![policy];
    let key = ResolutionKey::of_address(ListenerKind::Inbound, app.address, &"default".into());
    let view = view_of(objects, vec![ResourceKey::Resolution(key)]);
    let bytes = write(&view, &[], &Parts::of_query(Some("only=linked")), 1 << 20);
    let dump: Dump = serde_json::from_slice(&bytes).unwrap();
    let told = dump.linked.iter().map(|linked| {
        let applies = linked.applies.as_ref().unwrap();
        (linked.key.target.port(), applies.mtls, applies.mtls_at.clone())
    });
    let of_others = BTreeMap::from([(1, MtlsMode::Disable)]);
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(0, MtlsMode::Permissive, of_others), (served, MtlsMode::Strict, BTreeMap::new())]
    );
}

#[test]
fn it_is_no_larger_than_it_may_be_and_says_what_is_missing() {
    let whole = dump(None, 1 << 20);
    let entries = |dump: &Dump| {
        (dump.listeners.len() + dump.groups.len() + dump.linked.len() + dump.resources.len()) as u64
    };
    for bytes_max in [1, 500, 1_000, 2_000] {
        let bytes = write(&view(), &[], &Parts::of_query(None), bytes_max);
        assert!(bytes.len() <= bytes_max + 200, "{} of {bytes_max}", bytes.len());
        let dump = dump(None, bytes_max);
        assert_eq!(dump.left_out, entries(&whole) - entries(&dump), "{bytes_max}");
        assert!(dump.left_out > 0, "{bytes_max}");
    }
}

#[test]
fn parts_can_be_chosen() {
    let groups = dump(Some("only=groups"), 1 << 20);
    assert_eq!((groups.groups.len(), groups.linked.len(), groups.resources.len()), (1, 0, 0));
    let routes = dump(Some("only=linked,route"), 1 << 20);
    assert_eq!((routes.groups.len(), routes.linked.len()), (0, 2));
    assert!(routes.resources.iter().all(|resource| resource.kind == "route"));
    assert_eq!(dump(Some("only="), 1 << 20).resources.len(), 0);
}
