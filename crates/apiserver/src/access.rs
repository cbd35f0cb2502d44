//! Who calls, and what they may do.
//!
//! Who comes by a unix socket is the user of the mesh, and may do everything; so is who comes over TLS
//! with the administrator's token. Who comes with a service account's token has one fixed role, whatever
//! Roles and bindings say: it reads what programs in a cluster need to find one another (Prometheus'
//! `kubernetes_sd`, consoles), and nothing secret. It writes nothing but questions about access, and
//! Leases of its own namespace, by which the replicas of a program choose one of them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use http::{HeaderMap, header};
use ironmesh_identity::api::{API_AUDIENCE, AccountToken, ApiError, ApiKey, ApiTls, KeyError};
use ironmesh_identity::{Clock, SystemClock};

use crate::failure::Failure;
use crate::object;
use crate::registry::Registry;
use crate::store::Collection;

/// How callers are known.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) key: ApiKey,
    pub(crate) tls: ApiTls,
}

/// The way by which a caller came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// A unix socket that only the user of the mesh and root may use.
    Trusted,
    /// A network: a token says who it is.
    Network,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) role: Role,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything.
    Administrator,
    /// What [`READABLE`] and [`LEASES`] say.
    Account,
    /// Nothing.
    Nobody,
}

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action<'a> {
    /// Something with objects.
    Resource {
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        subresource: &'a str,
        namespace: &'a str,
    },
    /// Something with a path that is none of objects.
    Path { verb: &'a str, path: &'a str },
}

impl Access {
    /// Opens the keys that are kept below a folder. The certificate is good for these addresses, too.
    pub(crate) fn open(state: &Path, addresses: &[IpAddr]) -> Result<Self, ApiError> {
        // Apart from the authority of the mesh: who trusts the API need not trust workloads.
        let folder = state.join("api");
        std::fs::create_dir_all(&folder)
            .map_err(|source| KeyError::File { path: folder.clone(), source })?;
        let state = folder.as_path();
        let names = DNS_NAMES.map(str::to_owned).to_vec();
        let mut ips = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        ips.extend(addresses);
        let tls = ApiTls::open(state, names, ips, std::sync::Arc::new(SystemClock))?;
        Ok(Self { key: ApiKey::open(state)?, tls })
    }

    /// Who sends these headers.
    ///
    /// # Errors
    ///
    /// 401 if they do not say, or say what is not true; 403 if they would be somebody else and may not.
    pub(crate) fn identify(
        &self,
        registry: &Registry,
        headers: &HeaderMap,
        door: Door,
    ) -> Result<User, Failure> {
        let user = match (door, bearer(headers)) {
            (Door::Trusted, _) => User::administrator(),
            (Door::Network, Some(token)) if self.key.is_administrator(token) => {
                User::administrator()
            }
            (Door::Network, Some(token)) => {
                let token = self.account(registry, token, &[API_AUDIENCE.to_owned()]);
                User::of_account(&token.map_err(|_why| Failure::unauthorized())?.0)
            }
            (Door::Network, None) => return Err(Failure::unauthorized()),
        };
        user.acting_as(headers)
    }

    /// What a service account's token says, and which of the audiences it is for.
    ///
    /// # Errors
    ///
    /// If it proves nothing, with the reason.
    pub(crate) fn account(
        &self,
        registry: &Registry,
        token: &str,
        audiences: &[String],
    ) -> Result<(AccountToken, Vec<String>), String> {
        let token =
            self.key.verify(token, SystemClock.now()).map_err(|invalid| invalid.to_string())?;
        let bound = &token.bound;
        let is_there = |plural: &str, name: &str, uid: &str| {
            let key = Collection::core(plural).key(&bound.namespace, name);
            registry.store().object(&key).is_some_and(|object| object::uid(&object) == uid)
        };
        let account = &bound.serviceaccount;
        if !is_there("serviceaccounts", &account.name, &account.uid) {
            return Err("service account has been deleted".to_owned());
        }
        for (plural, object) in [("pods", &bound.pod), ("secrets", &bound.secret)] {
            if let Some(object) = object
                && !is_there(plural, &object.name, &object.uid)
            {
                return Err(format!("{} {:?} has been deleted", plural, object.name));
            }
        }
        let common = audiences.iter().filter(|audience| token.audiences.contains(audience));
        let common: Vec<_> = common.cloned().collect();
        if common.is_empty() {
            return Err("token audiences do not match".to_owned());
        }
        Ok((token, common))
    }
}

impl User {
    fn administrator() -> Self {
        let groups = ["system:masters", AUTHENTICATED].map(str::to_owned).to_vec();
        let name = "ironmesh-admin".to_owned();
        Self { name, uid: String::new(), groups, role: Role::Administrator }
    }

    pub(crate) fn of_account(token: &AccountToken) -> Self {
        let account = &token.bound.serviceaccount;
        let mut user = Self::account(&token.bound.namespace, &account.name);
        user.uid.clone_from(&account.uid);
        user
    }

    fn account(namespace: &str, name: &str) -> Self {
        let all = "system:serviceaccounts".to_owned();
        let groups = vec![all.clone(), format!("{all}:{namespace}"), AUTHENTICATED.to_owned()];
        let name = format!("{ACCOUNT}{namespace}:{name}");
        Self { name, uid: String::new(), groups, role: Role::Account }
    }

    /// Who this wants to be taken for (`kubectl --as`); only the administrator may.
    fn acting_as(self, headers: &HeaderMap) -> Result<Self, Failure> {
        if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
            return Ok(self);
        }
        let name = headers.get("impersonate-user").and_then(|value| value.to_str().ok());
        let name = name.unwrap_or_default();
        if self.role != Role::Administrator {
            let what = Action::Resource {
                verb: "impersonate",
                group: "",
                resource: "users",
                subresource: "",
                namespace: "",
            };
            return Err(Failure::not_allowed(&self.name, &what));
        }
        if name.is_empty() {
            return Err(Failure::bad_request("requested impersonation without a user"));
        }
        let account = name.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'));
        Ok(match account {
            Some((namespace, name)) => Self::account(namespace, name),
            None => Self {
                name: name.to_owned(),
                uid: String::new(),
                groups: vec![AUTHENTICATED.to_owned()],
                role: Role::Nobody,
            },
        })
    }

    /// Whether this may do something.
    pub(crate) fn may(&self, action: &Action<'_>) -> bool {
        match (self.role, *action) {
            (Role::Administrator, _) => true,
            // Who may ask anything may ask what it may do.
            (_, Action::Resource { verb: "create", group, resource, .. })
                if SELF_REVIEWS.contains(&(group, resource)) =>
            {
                true
            }
            (Role::Nobody, _) => false,
            (
                Role::Account,
                Action::Resource {
                    verb: "get" | "list" | "watch",
                    group,
                    resource,
                    subresource,
                    ..
                },
            ) => subresource.is_empty() && is_readable(group, resource),
            (Role::Account, Action::Resource { verb, group, resource, namespace, .. }) => {
                if (group, resource) == LEASES {
                    return WRITES.contains(&verb) && self.account_namespace() == Some(namespace);
                }
                verb == "create" && (group, resource) == ("authentication.k8s.io", "tokenreviews")
            }
            (Role::Account, Action::Path { verb, path }) => {
                let first = path.split('/').find(|word| !word.is_empty()).unwrap_or_default();
                verb == "get" && PATHS.contains(&first)
            }
        }
    }

    /// The namespace of the service account that this is.
    pub(crate) fn account_namespace(&self) -> Option<&str> {
        let (namespace, _) = self.name.strip_prefix(ACCOUNT)?.split_once(':')?;
        Some(namespace)
    }

    /// That this may do something.
    ///
    /// # Errors
    ///
    /// 403 if not.
    pub(crate) fn check(&self, action: &Action<'_>) -> Result<(), Failure> {
        match self.may(action) {
            true => Ok(()),
            false => Err(Failure::not_allowed(&self.name, action)),
        }
    }
}

/// The token in the headers.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

fn is_readable(group: &str, resource: &str) -> bool {
    READABLE.iter().any(|(other, resources)| {
        *other == group && (resources.is_empty() || resources.contains(&resource))
    })
}

/// What the accounts of pods read: of a group these resources, or all if none is named. Neither Secrets
/// nor ConfigMaps, nor logs.
pub(crate) const READABLE: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "endpoints",
            "events",
            "namespaces",
            "nodes",
            "pods",
            "replicationcontrollers",
            "serviceaccounts",
            "services",
        ],
    ),
    ("apps", &[]),
    ("autoscaling", &[]),
    ("batch", &[]),
    (LEASES.0, &[LEASES.1]),
    ("discovery.k8s.io", &[]),
    ("extensions", &[]),
    ("gateway.networking.k8s.io", &[]),
    ("networking.istio.io", &[]),
    ("networking.k8s.io", &[]),
    ("security.istio.io", &[]),
    ("telemetry.istio.io", &[]),
];
/// What the accounts of pods write, each in its own namespace.
pub(crate) const LEASES: (&str, &str) = ("coordination.k8s.io", "leases");
/// How they write it.
pub(crate) const WRITES: &[&str] = &["create", "update", "patch", "delete"];
/// Questions about oneself.
pub(crate) const SELF_REVIEWS: &[(&str, &str)] = &[
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
];
/// First words of the paths that accounts of pods read.
pub(crate) const PATHS: &[&str] =
    &["api", "apis", "healthz", "livez", "metrics", "openapi", "readyz", "version"];
/// What names of the users of service accounts begin with.
const ACCOUNT: &str = "system:serviceaccount:";
const AUTHENTICATED: &str = "system:authenticated";
/// The names of the API.
const DNS_NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn resource<'a>(verb: &'a str, group: &'a str, path: &'a str) -> Action<'a> {
        let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
        Action::Resource { verb, group, resource, subresource, namespace: "shop" }
    }

    #[test]
    fn accounts_read_what_is_not_secret_and_write_leases_of_their_namespace() {
        let account = User::account("shop", "default");
        let elsewhere = |verb| Action::Resource {
            verb,
            group: "coordination.k8s.io",
            resource: "leases",
            subresource: "",
            namespace: "kube-node-lease",
        };
        for action in [
            resource("create", "coordination.k8s.io", "leases"),
            resource("update", "coordination.k8s.io", "leases"),
            elsewhere("get"),
            resource("list", "", "pods"),
            resource("watch", "", "endpoints"),
            resource("get", "discovery.k8s.io", "endpointslices"),
            resource("list", "networking.istio.io", "virtualservices"),
            resource("create", "authorization.k8s.io", "selfsubjectaccessreviews"),
            resource("create", "authentication.k8s.io", "tokenreviews"),
            Action::Path { verb: "get", path: "/openapi/v3" },
        ] {
            assert!(account.may(&action), "{action:?}");
        }
        for action in [
            elsewhere("create"),
            elsewhere("update"),
            resource("deletecollection", "coordination.k8s.io", "leases"),
            resource("update", "", "leases"),
            resource("get", "", "secrets"),
            resource("list", "", "configmaps"),
            resource("get", "", "pods/log"),
            resource("get", "", "pods/exec"),
            resource("create", "", "pods/exec"),
            resource("get", "", "pods/proxy"),
            resource("get", "", "services/proxy"),
            resource("create", "", "pods"),
            resource("delete", "", "pods"),
            resource("patch", "apps", "deployments"),
            resource("update", "apps", "deployments/scale"),
            resource("create", "", "serviceaccounts/token"),
            resource("create", "authorization.k8s.io", "subjectaccessreviews"),
            resource("list", "example.com", "secrets"),
            Action::Path { verb: "get", path: "/ironmesh/kubeconfig" },
            Action::Path { verb: "get", path: "/" },
            Action::Path { verb: "post", path: "/version" },
        ] {
            assert!(!account.may(&action), "{action:?}");
            assert!(User::administrator().may(&action), "{action:?}");
        }
        let said = account.check(&resource("get", "", "secrets")).unwrap_err();
        assert_eq!(
            said.message,
            r#"secrets is forbidden: User "system:serviceaccount:shop:default" cannot get resource "secrets" in API group "" in the namespace "shop""#
        );
    }

    #[test]
    fn only_the_administrator_acts_as_somebody_else() {
        let headers = |name: &'static str| {
            HeaderMap::from_iter([("impersonate-user".parse().unwrap(), name.parse().unwrap())])
        };
        let account = || User::account("shop", "default");
        assert_eq!(account().acting_as(&headers("ironmesh-admin")).unwrap_err().code, 403);
        let groups = HeaderMap::from_iter([(
            "impersonate-group".parse().unwrap(),
            "system:masters".parse().unwrap(),
        )]);
        assert_eq!(account().acting_as(&groups).unwrap_err().code, 403);
        let administrator = User::administrator;
        let acting = administrator().acting_as(&headers("system:serviceaccount:shop:default"));
        assert_eq!(acting.unwrap(), account());
        let nobody = administrator().acting_as(&headers("jane")).unwrap();
        assert!(!nobody.may(&resource("list", "", "pods")));
        assert!(administrator().acting_as(&groups).is_err());
    }

    #[test]
    fn tokens_are_read_from_their_header() {
        let read = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(read("bearer  abc"), Some("abc".to_owned()));
        for none in ["", "abc", "Basic abc", "Bearer", "Bearer "] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
