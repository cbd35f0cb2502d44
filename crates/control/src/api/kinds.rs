//! The table of kinds: what they are called, in which group, and whether they live in a namespace.
//! The server and every client share it.

use ironmesh_model::Name;

/// One kind of object that the table knows.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Versions that are taken, the preferred one first. All name the same objects.
    pub versions: &'static [&'static str],
    /// Kind, as manifests write it.
    pub kind: &'static str,
    /// Plural, as paths have it.
    pub plural: &'static str,
    /// Short names.
    pub short: &'static [&'static str],
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
}

impl Kind {
    /// Singular, as commands write it.
    pub fn singular(&self) -> String {
        self.kind.to_ascii_lowercase()
    }
}

/// A collection of objects of one kind: known to the table, or guessed from what was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: Name,
    /// Preferred version.
    pub version: Name,
    /// Kind.
    pub kind: Name,
    /// Plural.
    pub plural: Name,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
}

impl From<&Kind> for Resource {
    fn from(known: &Kind) -> Self {
        Self {
            group: known.group.into(),
            version: known.versions[0].into(),
            kind: known.kind.into(),
            plural: known.plural.into(),
            namespaced: known.namespaced,
        }
    }
}

impl Resource {
    /// The resource of an object, by its `apiVersion` and `kind`. Old groups are read as their
    /// successors (`extensions/v1beta1` Deployments are `apps/v1`). A kind that the table does not
    /// know is guessed: namespaced, with a regular plural.
    pub fn of(api_version: &str, kind: &str) -> Self {
        let (group, version) = split_api_version(api_version);
        let known = KINDS.iter().find(|k| k.kind == kind && has_group(k, group));
        known.map_or_else(
            || Self {
                group: group.into(),
                version: version.into(),
                kind: kind.into(),
                plural: plural_of(kind).into(),
                namespaced: true,
            },
            Self::from,
        )
    }

    /// The versions that a kind is taken in, if the table knows it and not in this one.
    pub fn versions_instead(api_version: &str, kind: &str) -> Option<&'static [&'static str]> {
        let (group, version) = split_api_version(api_version);
        let known = KINDS.iter().find(|k| k.kind == kind && has_group(k, group))?;
        (!has_version(known, group, version)).then_some(known.versions)
    }

    /// Whether a path of this group, version and plural is served; those that the table does not
    /// know are.
    pub fn is_served(group: &str, version: &str, plural: &str) -> bool {
        let known = KINDS.iter().find(|k| k.plural == plural && has_group(k, group));
        known.is_none_or(|known| has_version(known, group, version))
    }

    /// The resource of a path, by its group and plural, if the table knows it.
    pub fn of_path(group: &str, plural: &str) -> Option<Self> {
        KINDS.iter().find(|k| k.plural == plural && has_group(k, group)).map(Self::from)
    }

    /// The resource that a user names: plural, singular, short name or kind, letter case ignored,
    /// with or without `.GROUP` (`po`, `deployments.apps`).
    pub fn by_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let (name, group) = match word.split_once('.') {
            Some((name, group)) => (name, Some(group)),
            None => (word.as_str(), None),
        };
        let named = |k: &&Kind| {
            k.plural == name || k.short.contains(&name) || k.kind.eq_ignore_ascii_case(name)
        };
        let in_group = |k: &&Kind| group.is_none_or(|group| group_matches(k, group));
        KINDS.iter().filter(named).find(in_group).map(Self::from)
    }

    /// Name with group as messages have it: `deployments.apps`, `pods`.
    pub fn qualified(&self) -> String {
        qualify(&self.plural, &self.group)
    }

    /// Singular name with group as clients print it: `deployment.apps`, `pod`.
    pub fn qualified_singular(&self) -> String {
        qualify(&self.kind.to_ascii_lowercase(), &self.group)
    }

    /// Kind with group as messages about invalid objects have it: `Deployment.apps`, `Pod`.
    pub fn qualified_kind(&self) -> String {
        qualify(&self.kind, &self.group)
    }

    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Path of the collection, or of one object in it. Of a namespaced resource without a
    /// namespace: the path over all namespaces.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(&self.plural);
        if let Some(name) = name {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

/// Splits `apiVersion` into group and version.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// The regular plural of a kind, in lower case.
pub fn plural_of(kind: &str) -> String {
    let lower = kind.to_ascii_lowercase();
    if let Some(stem) = lower.strip_suffix('y')
        && !stem.ends_with(['a', 'e', 'i', 'o', 'u'])
    {
        format!("{stem}ies")
    } else if lower.ends_with(['s', 'x', 'z']) || lower.ends_with("ch") || lower.ends_with("sh") {
        format!("{lower}es")
    } else {
        format!("{lower}s")
    }
}

fn has_group(kind: &Kind, group: &str) -> bool {
    kind.group == group
        || group == "extensions" && matches!(kind.group, "apps" | "networking.k8s.io")
        || group == "events.k8s.io" && kind.plural == "events"
}

/// Whether a version of a kind is taken; another group that means the kind has versions of its own.
fn has_version(kind: &Kind, group: &str, version: &str) -> bool {
    if kind.group == group {
        kind.versions.contains(&version)
    } else {
        matches!((group, version), ("extensions", "v1beta1") | ("events.k8s.io", "v1" | "v1beta1"))
    }
}

fn group_matches(kind: &Kind, group: &str) -> bool {
    // `deployments.v1.apps` names the version, too.
    kind.group == group || group.split_once('.').is_some_and(|(_, rest)| kind.group == rest)
}

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// Words for several resources at once: `all`, as kubectl has it.
pub const ALL: &[&str] = &["pods", "services", "deployments", "replicasets"];

macro_rules! kinds {
    ($($group:literal $versions:tt { $($kind:ident $plural:literal $short:tt $scope:ident;)* })*) => {
        /// The kinds that the table knows. Where two share a plural or a short name, the earlier is
        /// meant.
        pub const KINDS: &[Kind] = &[$($(Kind {
            group: $group,
            versions: &$versions,
            kind: stringify!($kind),
            plural: $plural,
            short: &$short,
            namespaced: scope!($scope),
        },)*)*];
    };
}

macro_rules! scope {
    (namespaced) => {
        true
    };
    (cluster) => {
        false
    };
}

kinds! {
    "" ["v1"] {
        Namespace "namespaces" ["ns"] cluster;
        Pod "pods" ["po"] namespaced;
        Service "services" ["svc"] namespaced;
        ServiceAccount "serviceaccounts" ["sa"] namespaced;
        Secret "secrets" [] namespaced;
        ConfigMap "configmaps" ["cm"] namespaced;
        Event "events" ["ev"] namespaced;
        Endpoints "endpoints" ["ep"] namespaced;
        Node "nodes" ["no"] cluster;
        ReplicationController "replicationcontrollers" ["rc"] namespaced;
        PersistentVolumeClaim "persistentvolumeclaims" ["pvc"] namespaced;
        PersistentVolume "persistentvolumes" ["pv"] cluster;
        LimitRange "limitranges" ["limits"] namespaced;
        ResourceQuota "resourcequotas" ["quota"] namespaced;
    }
    "apps" ["v1", "v1beta2", "v1beta1"] {
        Deployment "deployments" ["deploy"] namespaced;
        ReplicaSet "replicasets" ["rs"] namespaced;
        StatefulSet "statefulsets" ["sts"] namespaced;
        DaemonSet "daemonsets" ["ds"] namespaced;
    }
    "batch" ["v1", "v1beta1"] {
        Job "jobs" [] namespaced;
        CronJob "cronjobs" ["cj"] namespaced;
    }
    "autoscaling" ["v2", "v1", "v2beta2", "v2beta1"] {
        HorizontalPodAutoscaler "horizontalpodautoscalers" ["hpa"] namespaced;
    }
    "policy" ["v1", "v1beta1"] {
        PodDisruptionBudget "poddisruptionbudgets" ["pdb"] namespaced;
        PodSecurityPolicy "podsecuritypolicies" ["psp"] cluster;
    }
    "discovery.k8s.io" ["v1", "v1beta1"] {
        EndpointSlice "endpointslices" [] namespaced;
    }
    "networking.k8s.io" ["v1", "v1beta1"] {
        Ingress "ingresses" ["ing"] namespaced;
        IngressClass "ingressclasses" [] cluster;
        NetworkPolicy "networkpolicies" ["netpol"] namespaced;
    }
    "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] {
        VirtualService "virtualservices" ["vs"] namespaced;
        DestinationRule "destinationrules" ["dr"] namespaced;
        Gateway "gateways" ["gw"] namespaced;
        ServiceEntry "serviceentries" ["se"] namespaced;
        Sidecar "sidecars" [] namespaced;
        EnvoyFilter "envoyfilters" [] namespaced;
        WorkloadEntry "workloadentries" ["we"] namespaced;
        WorkloadGroup "workloadgroups" ["wg"] namespaced;
        ProxyConfig "proxyconfigs" [] namespaced;
    }
    "security.istio.io" ["v1", "v1beta1"] {
        PeerAuthentication "peerauthentications" ["pa"] namespaced;
        RequestAuthentication "requestauthentications" ["ra"] namespaced;
        AuthorizationPolicy "authorizationpolicies" ["ap"] namespaced;
    }
    "telemetry.istio.io" ["v1", "v1alpha1"] {
        Telemetry "telemetries" ["telemetry"] namespaced;
    }
    "extensions.istio.io" ["v1alpha1"] {
        WasmPlugin "wasmplugins" [] namespaced;
    }
    "authentication.istio.io" ["v1alpha1"] {
        Policy "policies" [] namespaced;
        MeshPolicy "meshpolicies" [] cluster;
    }
    "config.istio.io" ["v1alpha2"] {
        RouteRule "routerules" [] namespaced;
        DestinationPolicy "destinationpolicies" [] namespaced;
        EgressRule "egressrules" [] namespaced;
    }
    "install.istio.io" ["v1alpha1"] {
        IstioOperator "istiooperators" ["iop"] namespaced;
    }
    "gateway.networking.k8s.io" ["v1", "v1beta1", "v1alpha2"] {
        GatewayClass "gatewayclasses" ["gc"] cluster;
        Gateway "gateways" ["gtw"] namespaced;
        HTTPRoute "httproutes" [] namespaced;
        GRPCRoute "grpcroutes" [] namespaced;
        ReferenceGrant "referencegrants" ["refgrant"] namespaced;
    }
    "split.smi-spec.io" ["v1alpha4", "v1alpha2", "v1alpha1"] {
        TrafficSplit "trafficsplits" ["ts"] namespaced;
    }
    "linkerd.io" ["v1alpha2"] {
        ServiceProfile "serviceprofiles" ["sp"] namespaced;
    }
    "rbac.authorization.k8s.io" ["v1", "v1beta1"] {
        Role "roles" [] namespaced;
        RoleBinding "rolebindings" [] namespaced;
        ClusterRole "clusterroles" [] cluster;
        ClusterRoleBinding "clusterrolebindings" [] cluster;
    }
    "apiextensions.k8s.io" ["v1", "v1beta1"] {
        CustomResourceDefinition "customresourcedefinitions" ["crd", "crds"] cluster;
    }
    "admissionregistration.k8s.io" ["v1", "v1beta1"] {
        MutatingWebhookConfiguration "mutatingwebhookconfigurations" [] cluster;
        ValidatingWebhookConfiguration "validatingwebhookconfigurations" [] cluster;
    }
    "apiregistration.k8s.io" ["v1", "v1beta1"] {
        APIService "apiservices" [] cluster;
    }
    "storage.k8s.io" ["v1", "v1beta1"] {
        StorageClass "storageclasses" ["sc"] cluster;
    }
    "scheduling.k8s.io" ["v1", "v1beta1"] {
        PriorityClass "priorityclasses" ["pc"] cluster;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_words_name_resources() {
        for (word, qualified) in [
            ("po", "pods"),
            ("Pod", "pods"),
            ("svc", "services"),
            ("deploy", "deployments.apps"),
            ("deployments.apps", "deployments.apps"),
            ("deployment.v1.apps", "deployments.apps"),
            ("vs", "virtualservices.networking.istio.io"),
            ("gateway", "gateways.networking.istio.io"),
            ("gateways.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io"),
        ] {
            assert_eq!(Resource::by_word(word).unwrap().qualified(), qualified, "{word}");
        }
        assert_eq!(Resource::by_word("nonsense"), None);
    }

    #[test]
    fn versions_that_nobody_has_are_told_apart() {
        for (api_version, kind, taken) in [
            ("apps/v1", "Deployment", true),
            ("extensions/v1beta1", "Deployment", true),
            ("apps/v7", "Deployment", false),
            ("v2", "Pod", false),
            ("events.k8s.io/v1", "Event", true),
            ("example.com/v7", "Own", true),
        ] {
            assert_eq!(Resource::versions_instead(api_version, kind).is_none(), taken, "{kind}");
        }
        assert!(Resource::is_served("extensions", "v1beta1", "deployments"));
        assert!(!Resource::is_served("extensions", "v1", "deployments"));
        assert!(!Resource::is_served("", "v7", "pods"));
    }

    #[test]
    fn objects_name_resources_by_any_version() {
        for (api_version, kind, path) in [
            ("extensions/v1beta1", "Deployment", "/apis/apps/v1/namespaces/n/deployments/x"),
            ("apps/v1beta2", "Deployment", "/apis/apps/v1/namespaces/n/deployments/x"),
            (
                "networking.istio.io/v1alpha3",
                "VirtualService",
                "/apis/networking.istio.io/v1/namespaces/n/virtualservices/x",
            ),
            ("v1", "Namespace", "/api/v1/namespaces/x"),
            ("example.com/v1", "Proxy", "/apis/example.com/v1/namespaces/n/proxies/x"),
            (
                "extensions/v1beta1",
                "Ingress",
                "/apis/networking.k8s.io/v1/namespaces/n/ingresses/x",
            ),
        ] {
            assert_eq!(Resource::of(api_version, kind).path(Some("n"), Some("x")), path);
        }
    }
}
