//! The table of kinds: what they are called, in which group, whether they live in a namespace, their
//! fields, and what is made of them. Servers, clients and translation share it.

use std::fmt::Write as _;

use ironmesh_model::{Finding, Name};
use serde_json::Value;

use crate::columns::{self, Columns};
use crate::kubernetes::{self, kinds as core, read_workload};
use crate::schema::{Message, Type, Typed};
use crate::status::Form;
use crate::translate::Part;
use crate::{Object, istio, smi};

mod defined;
mod reference;

pub use defined::Defined;
pub use reference::reference;

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
    /// Group and version by other names under which it is taken.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Whether Kubernetes itself does not have it, so that a CustomResourceDefinition defines it there.
    pub custom: bool,
    /// Its fields, if they are known here.
    pub fields: Option<&'static Message>,
    /// Makes an object of another version one of the preferred one, but for its `apiVersion`; none if
    /// that is all in which they differ, and objects keep it as it was sent.
    pub(crate) convert: Option<fn(&mut Value)>,
    /// Makes an object of the preferred version one of the others, likewise.
    pub(crate) revert: Option<fn(&mut Value)>,
    /// How its objects are shown in tables.
    pub columns: Columns,
    /// What is done with its objects.
    pub(crate) treatment: Treatment,
    /// What the mesh says in their status; nothing if it writes none.
    pub(crate) status: Option<Form>,
}

/// What is done with the objects of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Treatment {
    /// A part of the model is made of them.
    Model(fn(&Object, &mut Vec<Finding>) -> Option<Part>),
    /// Their fields are checked; controllers and the platform do what they say.
    Checked(fn(&Object, &mut Vec<Finding>)),
    /// Pods would be made of them, but are not here.
    NotRun,
    /// They are kept, and nothing needs to act on them, for this reason.
    Unneeded(&'static str),
    /// They are for a part of another mesh, for which this stands in.
    NotPart(&'static str),
    /// They are kept; nothing acts on them yet.
    Kept,
}

impl Kind {
    /// The kind of objects with this `apiVersion` group and `kind`.
    pub fn of(group: &str, kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.kind == kind && k.has_group(group))
    }

    /// The kind of the objects under a path of this group and plural.
    pub fn of_path(group: &str, plural: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.plural == plural && k.has_group(group))
    }

    /// Whether the model of the mesh is made of its objects.
    pub fn is_modelled(&self) -> bool {
        matches!(self.treatment, Treatment::Model(_))
    }

    fn has_group(&self, group: &str) -> bool {
        self.group == group || self.aliases.iter().any(|(alias, _)| *alias == group)
    }

    /// Group and version under which its objects are taken, the preferred one first.
    pub fn group_versions(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let own = self.versions.iter().map(|version| (self.group, *version));
        own.chain(self.aliases.iter().copied())
    }

    /// Whether a version is taken; a group that is an alias has versions of its own.
    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.group_versions().any(|taken| taken == (group, version))
    }

    fn is_named(&self, group: &str) -> bool {
        // `deployments.v1.apps` names the version, too.
        self.group == group || group.split_once('.').is_some_and(|(_, rest)| self.group == rest)
    }

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
        let known = Kind::of(group, kind);
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
        let known = Kind::of(group, kind)?;
        (!known.has_version(group, version)).then_some(known.versions)
    }

    /// Whether a path of this group, version and plural is served; those that the table does not
    /// know are.
    pub fn is_served(group: &str, version: &str, plural: &str) -> bool {
        Kind::of_path(group, plural).is_none_or(|known| known.has_version(group, version))
    }

    /// The resource of a path, by its group and plural, if the table knows it.
    pub fn of_path(group: &str, plural: &str) -> Option<Self> {
        Kind::of_path(group, plural).map(Self::from)
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
        let in_group = |k: &&Kind| group.is_none_or(|group| k.is_named(group));
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
        let mut path = String::from(if self.group.is_empty() { "/api" } else { "/apis" });
        let group = Some(&*self.group).filter(|group| !group.is_empty());
        let namespace = namespace.filter(|_| self.namespaced);
        let within = namespace.map(|_| "namespaces");
        let segments = [group, Some(&*self.version), within, namespace, Some(&*self.plural), name];
        for segment in segments.into_iter().flatten() {
            path.push('/');
            push_segment(&mut path, segment);
        }
        path
    }
}

/// Adds a segment to a path; what means something in a URL, or nothing at all, is escaped.
fn push_segment(path: &mut String, segment: &str) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
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

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// Words for several resources at once: `all`, as kubectl has it.
pub const ALL: &[&str] = &[
    "pods",
    "replicationcontrollers",
    "services",
    "daemonsets",
    "deployments",
    "replicasets",
    "statefulsets",
    "horizontalpodautoscalers",
    "cronjobs",
    "jobs",
];

/// The table. A group is Kubernetes' own or custom, and has its versions, of which objects are kept in
/// the first, and other names under which it is taken, and the form in which the mesh writes the
/// status of its objects; a kind has its plural, its short names, where it
/// lives, what is done with its objects, how those of other versions are converted, and back, and how they
/// are shown if not by name and age alone.
macro_rules! kinds {
    ($($origin:ident $group:literal $versions:tt also $aliases:tt status $status:ident {
        $($kind:ident $plural:literal $short:tt $scope:ident $treatment:ident $(($($of:tt)*))?
            $(converted by $convert:ident)? $(and back by $revert:ident)? $(shown $columns:ident)?;)*
    })*) => {
        /// The kinds that the table knows. Where two share a plural or a short name, the earlier is
        /// meant.
        pub const KINDS: &[Kind] = &[$($(Kind {
            group: $group,
            versions: &$versions,
            kind: stringify!($kind),
            plural: $plural,
            short: &$short,
            namespaced: scope!($scope),
            aliases: &$aliases,
            custom: origin!($origin),
            fields: treatment!(@fields $treatment $($($of)*)?),
            convert: convert!($($convert)?),
            revert: convert!($($revert)?),
            columns: columns!($($columns)?),
            treatment: treatment!($treatment $($($of)*)?),
            status: status!($status),
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

macro_rules! convert {
    ($convert:ident) => {
        Some(kubernetes::$convert)
    };
    () => {
        None
    };
}

macro_rules! columns {
    ($columns:ident) => {
        columns::$columns
    };
    () => {
        columns::PLAIN
    };
}

macro_rules! status {
    (none) => {
        None
    };
    ($form:ident) => {
        Some(Form::$form)
    };
}

macro_rules! origin {
    (custom) => {
        true
    };
    (native) => {
        false
    };
}

macro_rules! treatment {
    (@fields model $of:ty, $by:path) => {
        fields::<$of>()
    };
    (@fields checked $of:ty) => {
        fields::<$of>()
    };
    (@fields checked_by $of:ty, $by:path) => {
        fields::<$of>()
    };
    (@fields unneeded $why:ident) => {
        None
    };
    (@fields not_part $why:ident) => {
        None
    };
    (@fields $other:ident) => {
        None
    };
    (model $of:ty, $by:path) => {
        Treatment::Model($by)
    };
    (checked $of:ty) => {
        Treatment::Checked(check::<$of>)
    };
    (checked_by $of:ty, $by:path) => {
        Treatment::Checked($by)
    };
    (not_run) => {
        Treatment::NotRun
    };
    (unneeded $why:ident) => {
        Treatment::Unneeded(why::$why)
    };
    (not_part $why:ident) => {
        Treatment::NotPart(why::$why)
    };
    (kept) => {
        Treatment::Kept
    };
}

/// The fields of a kind that has a table.
const fn fields<T: Typed>() -> Option<&'static Message> {
    match T::TYPE {
        Type::Object(message) => Some(message),
        _ => None,
    }
}

fn check<T: Typed>(object: &Object, findings: &mut Vec<Finding>) {
    read_workload::<T>(object, findings);
}

/// Why nothing needs to act on the objects of a kind.
mod why {
    pub(super) const VOLUME: &str =
        "each claim has a folder of its own; a volume of a manifest serves none";
    pub(super) const ROLES: &str = "who may ask the API for what does not follow from roles here";
    pub(super) const DEFINITION: &str =
        "objects of the kind are kept, with or without its definition";
    pub(super) const MIXER: &str = "Mixer is no part of this mesh: sidecars report by themselves, \
        and what its rules deny or count is not";
    pub(super) const OPERATOR: &str =
        "the mesh is installed by `ironmesh install -f`, which takes this file";
    pub(super) const TCP_ROUTE: &str =
        "it has no conditions: only a TrafficTarget that names it says something";
}

kinds! {
    native "" ["v1"] also [] status none {
        Namespace "namespaces" ["ns"] cluster checked_by(core::Namespace, kubernetes::namespace) shown NAMESPACE;
        Pod "pods" ["po"] namespaced model(core::Pod, kubernetes::pod) shown POD;
        Service "services" ["svc"] namespaced model(core::Service, kubernetes::service) shown SERVICE;
        ServiceAccount "serviceaccounts" ["sa"] namespaced checked(core::ServiceAccount) shown SERVICE_ACCOUNT;
        Secret "secrets" [] namespaced model(core::Secret, kubernetes::credential) shown SECRET;
        ConfigMap "configmaps" ["cm"] namespaced model(core::ConfigMap, istio::mesh_config) shown CONFIG_MAP;
        Endpoints "endpoints" ["ep"] namespaced model(core::Endpoints, kubernetes::endpoints) shown ENDPOINTS;
        Node "nodes" ["no"] cluster model(core::Node, kubernetes::node) shown NODE;
        ReplicationController "replicationcontrollers" ["rc"] namespaced checked(core::ReplicationController) shown REPLICATION_CONTROLLER;
        PersistentVolumeClaim "persistentvolumeclaims" ["pvc"] namespaced checked(core::PersistentVolumeClaim) shown CLAIM;
        PersistentVolume "persistentvolumes" ["pv"] cluster unneeded(VOLUME) shown VOLUME;
        LimitRange "limitranges" ["limits"] namespaced kept;
        ResourceQuota "resourcequotas" ["quota"] namespaced kept;
    }
    native "" ["v1"] also [("events.k8s.io", "v1"), ("events.k8s.io", "v1beta1")] status none {
        Event "events" ["ev"] namespaced checked(core::Event) shown EVENT;
    }
    native "apps" ["v1", "v1beta2", "v1beta1"] also [("extensions", "v1beta1")] status none {
        Deployment "deployments" ["deploy"] namespaced checked(core::Deployment) converted by old_workload shown DEPLOYMENT;
        ReplicaSet "replicasets" ["rs"] namespaced checked(core::ReplicaSet) converted by old_workload shown REPLICA_SET;
        StatefulSet "statefulsets" ["sts"] namespaced checked(core::StatefulSet) converted by old_workload shown STATEFUL_SET;
        DaemonSet "daemonsets" ["ds"] namespaced checked(core::DaemonSet) converted by old_workload shown DAEMON_SET;
        ControllerRevision "controllerrevisions" [] namespaced checked(core::ControllerRevision) shown CONTROLLER_REVISION;
    }
    native "batch" ["v1", "v1beta1"] also [] status none {
        Job "jobs" [] namespaced checked(core::Job) shown JOB;
        CronJob "cronjobs" ["cj"] namespaced not_run shown CRON_JOB;
    }
    native "autoscaling" ["v2", "v1", "v2beta2", "v2beta1"] also [] status none {
        HorizontalPodAutoscaler "horizontalpodautoscalers" ["hpa"] namespaced kept shown AUTOSCALER;
    }
    native "policy" ["v1", "v1beta1"] also [] status none {
        PodDisruptionBudget "poddisruptionbudgets" ["pdb"] namespaced kept shown DISRUPTION_BUDGET;
        PodSecurityPolicy "podsecuritypolicies" ["psp"] cluster kept;
    }
    native "discovery.k8s.io" ["v1", "v1beta1"] also [] status none {
        EndpointSlice "endpointslices" [] namespaced model(core::EndpointSlice, kubernetes::endpoint_slice) shown ENDPOINT_SLICE;
    }
    native "coordination.k8s.io" ["v1", "v1beta1"] also [] status none {
        Lease "leases" [] namespaced checked(core::Lease) shown LEASE;
    }
    native "networking.k8s.io" ["v1", "v1beta1"] also [("extensions", "v1beta1")] status none {
        Ingress "ingresses" ["ing"] namespaced model(core::Ingress, kubernetes::ingress) converted by old_ingress and back by as_old_ingress shown INGRESS;
        IngressClass "ingressclasses" [] cluster model(core::IngressClass, kubernetes::ingress_class) shown INGRESS_CLASS;
        NetworkPolicy "networkpolicies" ["netpol"] namespaced kept shown NETWORK_POLICY;
    }
    custom "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] also [] status Istio {
        VirtualService "virtualservices" ["vs"] namespaced model(istio::virtual_service::VirtualService, istio::virtual_service) shown VIRTUAL_SERVICE;
        DestinationRule "destinationrules" ["dr"] namespaced model(istio::destination_rule::DestinationRule, istio::destination_rule) shown DESTINATION_RULE;
        Gateway "gateways" ["gw"] namespaced model(istio::gateway::Gateway, istio::gateway);
        ServiceEntry "serviceentries" ["se"] namespaced model(istio::service_entry::ServiceEntry, istio::service_entry) shown SERVICE_ENTRY;
        Sidecar "sidecars" [] namespaced model(istio::sidecar::Sidecar, istio::sidecar);
        EnvoyFilter "envoyfilters" [] namespaced kept;
        WorkloadEntry "workloadentries" ["we"] namespaced model(istio::workload_entry::WorkloadEntry, istio::workload_entry) shown WORKLOAD_ENTRY;
        WorkloadGroup "workloadgroups" ["wg"] namespaced checked_by(istio::workload_group::WorkloadGroup, istio::workload_group);
        ProxyConfig "proxyconfigs" [] namespaced checked_by(istio::workload_group::ProxyConfig, istio::proxy_config);
    }
    custom "security.istio.io" ["v1", "v1beta1"] also [] status Istio {
        PeerAuthentication "peerauthentications" ["pa"] namespaced model(istio::peer_authentication::PeerAuthentication, istio::peer_authentication) shown PEER_AUTHENTICATION;
        RequestAuthentication "requestauthentications" ["ra"] namespaced kept;
        AuthorizationPolicy "authorizationpolicies" ["ap"] namespaced kept shown AUTHORIZATION_POLICY;
    }
    custom "telemetry.istio.io" ["v1", "v1alpha1"] also [] status Istio {
        Telemetry "telemetries" ["telemetry"] namespaced kept;
    }
    custom "extensions.istio.io" ["v1alpha1"] also [] status Istio {
        WasmPlugin "wasmplugins" [] namespaced kept;
    }
    custom "authentication.istio.io" ["v1alpha1"] also [] status none {
        Policy "policies" [] namespaced model(istio::policy::Policy, istio::policy);
        MeshPolicy "meshpolicies" [] cluster model(istio::policy::MeshPolicy, istio::mesh_policy);
    }
    custom "config.istio.io" ["v1alpha2", "v1beta1"] also [] status none {
        RouteRule "routerules" [] namespaced model(istio::route_rule::RouteRule, istio::route_rule);
        DestinationPolicy "destinationpolicies" [] namespaced model(istio::destination_policy::DestinationPolicy, istio::destination_policy);
        EgressRule "egressrules" [] namespaced model(istio::service_entry::egress_rule::EgressRule, istio::egress_rule);
        rule "rules" [] namespaced not_part(MIXER);
        attributemanifest "attributemanifests" [] namespaced not_part(MIXER);
        denier "deniers" [] namespaced not_part(MIXER);
        listchecker "listcheckers" [] namespaced not_part(MIXER);
        memquota "memquotas" [] namespaced not_part(MIXER);
        noop "noops" [] namespaced not_part(MIXER);
        prometheus "prometheuses" [] namespaced not_part(MIXER);
        stackdriver "stackdrivers" [] namespaced not_part(MIXER);
        statsd "statsds" [] namespaced not_part(MIXER);
        stdio "stdios" [] namespaced not_part(MIXER);
        svcctrl "svcctrls" [] namespaced not_part(MIXER);
        checknothing "checknothings" [] namespaced not_part(MIXER);
        listentry "listentries" [] namespaced not_part(MIXER);
        logentry "logentries" [] namespaced not_part(MIXER);
        metric "metrics" [] namespaced not_part(MIXER);
        quota "quotas" [] namespaced not_part(MIXER);
        reportnothing "reportnothings" [] namespaced not_part(MIXER);
        handler "handlers" [] namespaced not_part(MIXER);
        instance "instances" [] namespaced not_part(MIXER);
        template "templates" [] namespaced not_part(MIXER);
        adapter "adapters" [] namespaced not_part(MIXER);
        apikey "apikeys" [] namespaced not_part(MIXER);
        authorization "authorizations" [] namespaced not_part(MIXER);
        bypass "bypasses" [] namespaced not_part(MIXER);
        circonus "circonuses" [] namespaced not_part(MIXER);
        cloudwatch "cloudwatches" [] namespaced not_part(MIXER);
        dogstatsd "dogstatsds" [] namespaced not_part(MIXER);
        edge "edges" [] namespaced not_part(MIXER);
        fluentd "fluentds" [] namespaced not_part(MIXER);
        kubernetes "kuberneteses" [] namespaced not_part(MIXER);
        kubernetesenv "kubernetesenvs" [] namespaced not_part(MIXER);
        opa "opas" [] namespaced not_part(MIXER);
        rbac "rbacs" [] namespaced not_part(MIXER);
        redisquota "redisquotas" [] namespaced not_part(MIXER);
        servicecontrol "servicecontrols" [] namespaced not_part(MIXER);
        servicecontrolreport "servicecontrolreports" [] namespaced not_part(MIXER);
        signalfx "signalfxs" [] namespaced not_part(MIXER);
        solarwinds "solarwindses" [] namespaced not_part(MIXER);
        tracespan "tracespans" [] namespaced not_part(MIXER);
        zipkin "zipkins" [] namespaced not_part(MIXER);
        appoptics "appopticses" [] namespaced not_part(MIXER);
        QuotaSpec "quotaspecs" [] namespaced not_part(MIXER);
        QuotaSpecBinding "quotaspecbindings" [] namespaced not_part(MIXER);
        HTTPAPISpec "httpapispecs" [] namespaced not_part(MIXER);
        HTTPAPISpecBinding "httpapispecbindings" [] namespaced not_part(MIXER);
    }
    custom "install.istio.io" ["v1alpha1"] also [] status none {
        IstioOperator "istiooperators" ["iop"] namespaced not_part(OPERATOR) shown OPERATOR;
    }
    custom "gateway.networking.k8s.io" ["v1", "v1beta1", "v1alpha2"] also [] status none {
        GatewayClass "gatewayclasses" ["gc"] cluster kept shown GATEWAY_CLASS;
        Gateway "gateways" ["gtw"] namespaced kept shown API_GATEWAY;
        HTTPRoute "httproutes" [] namespaced kept shown HTTP_ROUTE;
        GRPCRoute "grpcroutes" [] namespaced kept shown HTTP_ROUTE;
        ReferenceGrant "referencegrants" ["refgrant"] namespaced kept;
    }
    custom "split.smi-spec.io" ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"] also [] status none {
        TrafficSplit "trafficsplits" ["ts"] namespaced model(smi::TrafficSplit, smi::traffic_split);
    }
    custom "specs.smi-spec.io" ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"] also [] status none {
        HTTPRouteGroup "httproutegroups" ["htr"] namespaced model(smi::HttpRouteGroup, smi::http_route_group);
        TCPRoute "tcproutes" ["tr"] namespaced unneeded(TCP_ROUTE);
    }
    custom "access.smi-spec.io" ["v1alpha3", "v1alpha2", "v1alpha1"] also [] status none {
        TrafficTarget "traffictargets" ["tt"] namespaced kept;
    }
    custom "linkerd.io" ["v1alpha2"] also [] status none {
        ServiceProfile "serviceprofiles" ["sp"] namespaced kept;
    }
    native "rbac.authorization.k8s.io" ["v1", "v1beta1"] also [] status none {
        Role "roles" [] namespaced unneeded(ROLES) shown CREATED;
        RoleBinding "rolebindings" [] namespaced unneeded(ROLES) shown BINDING;
        ClusterRole "clusterroles" [] cluster unneeded(ROLES) shown CREATED;
        ClusterRoleBinding "clusterrolebindings" [] cluster unneeded(ROLES) shown BINDING;
    }
    native "apiextensions.k8s.io" ["v1", "v1beta1"] also [] status none {
        CustomResourceDefinition "customresourcedefinitions" ["crd", "crds"] cluster unneeded(DEFINITION) shown CREATED;
    }
    native "admissionregistration.k8s.io" ["v1", "v1beta1"] also [] status none {
        MutatingWebhookConfiguration "mutatingwebhookconfigurations" [] cluster kept shown WEBHOOKS;
        ValidatingWebhookConfiguration "validatingwebhookconfigurations" [] cluster kept shown WEBHOOKS;
    }
    native "apiregistration.k8s.io" ["v1", "v1beta1"] also [] status none {
        APIService "apiservices" [] cluster kept;
    }
    native "storage.k8s.io" ["v1", "v1beta1"] also [] status none {
        StorageClass "storageclasses" ["sc"] cluster kept shown STORAGE_CLASS;
    }
    native "scheduling.k8s.io" ["v1", "v1beta1"] also [] status none {
        PriorityClass "priorityclasses" ["pc"] cluster kept shown PRIORITY_CLASS;
    }
}

#[cfg(test)]
mod tests;
