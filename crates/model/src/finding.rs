//! Findings: what is wrong with a user's object, or not honoured in it. One table of codes.

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};

use crate::name::ObjectId;

/// One finding about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// The object.
    pub object: ObjectId,
    /// Field path inside it, such as `spec.http[0].route[1].weight`; empty: the whole object.
    pub path: String,
    /// What kind of finding it is.
    pub code: FindingCode,
    /// What exactly, with the names involved.
    pub message: String,
}

impl Finding {
    /// A finding about a field of an object.
    pub fn new(
        object: &ObjectId,
        path: impl Into<String>,
        code: FindingCode,
        message: impl Into<String>,
    ) -> Self {
        Self { object: object.clone(), path: path.into(), code, message: message.into() }
    }
}

/// What is found about single objects, then what only several show together. Of a field that has an
/// error the latter is left out: what is refused need not be found to lead nowhere, too.
pub fn joined<'a>(
    alone: impl Iterator<Item = &'a Finding> + Clone,
    together: impl Iterator<Item = &'a Finding>,
) -> Vec<&'a Finding> {
    let errors = alone.clone().filter(|finding| finding.code.severity() == Severity::Error);
    let wrong: HashSet<(&ObjectId, &str)> =
        errors.map(|finding| (&finding.object, &*finding.path)).collect();
    let together = together.filter(|own| !wrong.contains(&(&own.object, &*own.path)));
    alone.chain(together).collect()
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object cannot be taken.
    Error,
    /// A part of it does not do what it says.
    Warning,
    /// Worth knowing.
    Info,
}

macro_rules! findings {
    ($($(#[$doc:meta])* $name:ident, $code:literal, $severity:ident, $title:literal, $remedy:literal;)*) => {
        /// Kind of a finding. Codes are stable; one that is no longer used is not given again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum FindingCode { $($(#[$doc])* #[serde(rename = $code)] $name,)* }

        impl FindingCode {
            /// All of them, in the order of the table.
            pub const ALL: &'static [FindingCode] = &[$(FindingCode::$name,)*];

            /// The code, such as `IM0101`.
            pub fn code(self) -> &'static str { match self { $(Self::$name => $code,)* } }

            /// How bad it is.
            pub fn severity(self) -> Severity { match self { $(Self::$name => Severity::$severity,)* } }

            /// What it means, in a sentence.
            pub fn title(self) -> &'static str { match self { $(Self::$name => $title,)* } }

            /// What to do about it.
            pub fn remedy(self) -> &'static str { match self { $(Self::$name => $remedy,)* } }
        }
    };
}

findings! {
    /// A field has the wrong type or form.
    Invalid, "IM0001", Error, "A field has a value that its type does not allow.", "Correct the field; the message says what it takes.";
    /// A field that must be there is missing.
    Missing, "IM0002", Error, "A field that must be there is missing.", "Add the field.";
    /// A field that no version of the kind has.
    UnknownField, "IM0003", Warning, "No version of this kind has a field of this name, so it has no effect.", "Correct the spelling, or remove the field.";
    /// A kind that is not honoured.
    UnknownKind, "IM0004", Warning, "The kind is kept, but nothing acts on it.", "Remove the object, or wait for a version that honours the kind.";
    /// A field that is understood, but not honoured.
    NotHonoured, "IM0101", Warning, "The field is understood, but not honoured yet, so it has no effect.", "Remove the field if you can do without it; everything else in the object works.";
    /// A pattern that cannot be used.
    BadRegex, "IM0102", Warning, "A regex is not RE2 or too large, so the rule with it is never taken.", "Correct the regex. Look-around and back-references are not in RE2.";
    /// A subset that nothing defines.
    UndefinedSubset, "IM0103", Warning, "A route names a subset that no DestinationRule for the host defines; requests get 503.", "Define the subset in a DestinationRule for this host.";
    /// A destination that does not exist.
    UnknownDestination, "IM0104", Warning, "A route names a destination that is not a service; requests get 503.", "Create the service, or correct the host; short names are looked up in the namespace of the route.";
    /// A gateway that does not exist.
    UnknownGateway, "IM0105", Warning, "A VirtualService names a Gateway that does not exist, so it is attached to nothing there.", "Create the Gateway, or correct the name (NAME or NAMESPACE/NAME).";
    /// An object that another one takes the host from.
    HostTaken, "IM0106", Warning, "An older VirtualService of the mesh has the same host, so this one has no effect for it.", "Join the two into one object.";
    /// A VirtualService for a gateway's host that is not attached to it.
    NotAttached, "IM0107", Info, "The host is one that a Gateway serves, but the VirtualService names no gateways, so it holds inside the mesh only.", "Add `gateways: [NAME]` if requests from outside are meant.";
    /// Weights that add up to nothing.
    NoWeight, "IM0108", Warning, "All weights of the rule are 0, so its requests get 503.", "Give one destination a weight.";
    /// A rule behind one that matches everything.
    Unreachable, "IM0109", Info, "An earlier rule matches every request, so this one is never tried.", "Move it up, or remove it.";
    /// A selector that matches nothing.
    NothingSelected, "IM0111", Info, "The selector matches no workload now.", "Compare it with the labels of the pods.";
    /// A subset whose labels match no pod.
    EmptySubset, "IM0112", Info, "No workload of the service carries the labels of the subset; requests to it get 503.", "Compare the labels with those of the pods.";
    /// A deprecated form.
    Deprecated, "IM0113", Info, "The form is old; it is taken as its successor.", "Write it in the new form when you touch it.";
    /// A part of an object that cannot do anything where it stands.
    NoEffect, "IM0114", Warning, "What is written there can have no effect in this object.", "The message says where it would have one.";
    /// Mutual TLS is asked for where it cannot be had.
    NoMutualTls, "IM0115", Warning, "The rule asks for mutual TLS with endpoints that take none, which are sent plaintext.", "Give their pods a sidecar, or drop tls.mode.";
    /// A host that no service has.
    UnknownHost, "IM0116", Warning, "The object is for a host that no service has, so it has no effect for it.", "Create the service, or correct the host; only names without a dot are completed.";
    /// A host that a gateway does not serve for the namespace of a VirtualService.
    HostNotServed, "IM0117", Warning, "A VirtualService is attached to a Gateway that does not serve its hosts for its namespace, so it has no effect there.", "Add the host to a server of the Gateway (HOST, or NAMESPACE/HOST), or correct the host.";
    /// A port of a pod to which two Services give protocols that do not go together.
    ProtocolConflict, "IM0118", Warning, "Two Services declare one port of a pod differently: by one it is HTTP, by the other the mesh does not read what is sent. Callers with a sidecar get what they asked for; for others the first bytes decide.", "Give both the same protocol, or let the pod listen on a port for each.";
    /// A setting that is fixed while the mesh runs.
    FixedAtStart, "IM0119", Warning, "The setting is fixed when the mesh starts, so what is written has no effect.", "Give it to `ironmesh up --set NAME=VALUE`, or remove it.";
    /// A kind that nothing here needs.
    NotNeeded, "IM0120", Info, "The kind is kept, and nothing needs to act on it here.", "Nothing needs to be done: what the kind is for is given without it.";
    /// A certificate that is not there or cannot be used.
    BadCredential, "IM0121", Warning, "A server of a Gateway, or the TLS of a DestinationRule, names a Secret that is not there or cannot be used, so there is no TLS by it.", "Create the Secret in the namespace of the pods that use it: tls.crt and tls.key, and ca.crt where certificates of the other side are verified.";
    /// Two servers that claim one port differently.
    PortTaken, "IM0122", Warning, "An older Gateway has the port for another protocol, or the host on it, so this server has no effect there.", "Give one of them another port, or join them.";
    /// An Ingress of a class that nothing serves.
    NothingServes, "IM0123", Warning, "The Ingress has no class, or one that nothing here serves, so it has no effect.", "Write `ingressClassName: istio`.";
    /// A VirtualService that is attached to a gateway by its host alone.
    AttachedByHost, "IM0124", Info, "The VirtualService names no gateways, but its host is one that only a Gateway of its namespace serves, so it is attached to that. In Istio it would have no effect there.", "Add `gateways: [NAME]`.";
    /// A delegate that is not there.
    UnknownDelegate, "IM0129", Warning, "A rule delegates to a VirtualService that is not there, or not for its namespace, so the rule is left out.", "Create it without hosts and gateways, correct the name, or export it to the namespace.";
    /// A Sidecar for workloads that have one.
    SidecarTaken, "IM0130", Warning, "An older Sidecar of the namespace is for the same workloads, so this one has no effect for them.", "Join the two, or let them select unlike workloads.";
    /// A destination that has several ports, of which none is named.
    PortNotChosen, "IM0131", Warning, "A destination has several ports and the rule names none, so the port is the one that the caller dialled, and where the service has no such port requests get 503.", "Add `port: {number: N}` to the destination.";
    /// Rules that do not hold for requests that come by a gateway.
    RulesOfMeshOnly, "IM0132", Info, "A route of a gateway names a host, for which another VirtualService has rules with subsets; these hold for callers in the mesh only.", "Name subsets in this object, too, or attach the other one to the gateway.";
    /// A pod without a sidecar where pods get one.
    NotInjected, "IM0134", Warning, "The pod has no sidecar, though its namespace asks for one: it was made before the namespace was labelled, or without the mesh.", "Restart it: `ironmesh rollout restart`, or delete the pod.";
    /// A host that ServiceEntries give unlike protocols.
    EntriesConflict, "IM0135", Warning, "Two ServiceEntries give one port of a host unlike protocols; a caller goes by one of them: that of its own namespace, else the older.", "Give both the same protocol, or export them to unlike namespaces.";
    /// A kind for a part of another mesh.
    NotPartHere, "IM0140", Info, "The kind is for a part of Istio that this mesh does not have.", "Nothing needs to be done: the message says what stands in for it, or that nothing does.";
    /// A workload kind that is not run here.
    NotRunHere, "IM0201", Warning, "The local platform does not run this kind of workload yet, so no pod is made from it.", "Use a Deployment or a Pod.";
    /// A user id that cannot be had.
    UserNotHonoured, "IM0202", Warning, "Without root there is one user id in the mesh, so runAsUser and runAsGroup have no effect.", "Start the mesh as root, or leave it so; containers are separate from the host all the same.";
    /// A volume type that is not served.
    VolumeNotHonoured, "IM0203", Warning, "The volume is of a type that the local platform does not serve; an empty directory stands in for it.", "Use emptyDir, configMap, secret, downwardAPI or projected.";
    /// A field that the platform does not act on.
    NotDoneHere, "IM0204", Warning, "The local platform does not do what the field says.", "Do without it here; in Kubernetes the field has its effect.";
    /// A bound or a wish that changes nothing here.
    NotBoundedHere, "IM0205", Info, "The field only bounds, protects or places containers; the local platform treats all containers alike.", "Nothing needs to be done: the containers run as if the field were not there.";
    /// Files that do not outlive the mesh.
    ClaimsInMemory, "IM0206", Info, "The mesh was started without --state, so the files of claims are in memory: they outlive pods, but not the mesh.", "Start it with `ironmesh up --state DIR` to keep them.";
    /// A port of a Service that does not answer on the host.
    NotPublished, "IM0207", Warning, "A port of the Service does not answer on the host, or is not where it is looked for.", "The message says why; what another program has is taken as soon as that ends.";
    /// An image that ironmesh itself answers for.
    AnsweredHere, "IM0209", Info, "On the local platform ironmesh itself answers for the image: the mesh has its own control plane, and addons are not part of it.", "Nothing needs to be done; for a real one start the mesh with `--image NAME=COMMAND`.";
}

impl std::fmt::Display for FindingCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_field_with_an_error_nothing_else_is_said() {
        let finding = |name: &str, path: &str, code| {
            Finding::new(&ObjectId::new("VirtualService", "default", name), path, code, "")
        };
        let error = finding("a", "spec.hosts[0]", FindingCode::Invalid);
        let warning = finding("a", "spec.gateways[0]", FindingCode::NoEffect);
        let moot = finding("a", "spec.hosts[0]", FindingCode::UnknownHost);
        let others = [
            finding("a", "spec.gateways[0]", FindingCode::UnknownGateway),
            finding("a", "spec.hosts[1]", FindingCode::UnknownHost),
            finding("b", "spec.hosts[0]", FindingCode::UnknownHost),
        ];
        let alone = [error.clone(), warning.clone()];
        let together = others.iter().chain([&moot]);
        let expected: Vec<&Finding> = alone.iter().chain(&others).collect();
        assert_eq!(joined(alone.iter(), together), expected);
    }

    #[test]
    fn codes_are_unlike_and_in_order() {
        let codes: Vec<_> = FindingCode::ALL.iter().map(|c| c.code()).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }
}
