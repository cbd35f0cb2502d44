//! The environment of a container, and `$(NAME)` in its command, arguments and values.

use std::collections::BTreeMap;
use std::fmt;

use ironmesh_dialects::kubernetes::base64;
use ironmesh_dialects::kubernetes::kinds::{
    ConfigMap, Container, EnvSource, KeyRef, ObjectRef, Pod, ResourceRef, Secret, Service,
};
use ironmesh_dialects::schema::Quantity;

use super::path_name::BadPath;

/// Why an environment or a volume cannot be made yet; the container waits with
/// `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadConfig {
    #[error("{kind} \"{name}\" not found")]
    NoObject { kind: Holder, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: Holder, namespace: String, name: String, key: String },
    #[error("value of key {key} in Secret {name} is not base64")]
    BadBase64 { name: String, key: String },
    #[error("field path {0:?} is not one of the downward API")]
    BadField(String),
    #[error("resource {0:?} is not one of the downward API")]
    BadResource(String),
    #[error(transparent)]
    BadPath(#[from] BadPath),
}

/// What keys are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Secret,
    ConfigMap,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "secret",
            Self::ConfigMap => "configmap",
        })
    }
}

/// Values by key.
pub(crate) type Values = BTreeMap<String, Vec<u8>>;

/// Where Secrets and ConfigMaps are found.
pub(crate) trait Objects {
    fn secret(&self, namespace: &str, name: &str) -> Option<Secret>;
    fn config_map(&self, namespace: &str, name: &str) -> Option<ConfigMap>;

    /// What one of them holds; nothing if there is none of the name.
    fn values(
        &self,
        kind: Holder,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Values>, BadConfig> {
        match kind {
            Holder::Secret => {
                self.secret(namespace, name).map(|object| secret_values(&object)).transpose()
            }
            Holder::ConfigMap => {
                let object = self.config_map(namespace, name);
                object.map(|object| config_map_values(&object)).transpose()
            }
        }
    }
}

/// What a container's environment is made from.
pub(crate) struct Sources<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    /// Address of the pod.
    pub(crate) ip: &'a str,
    /// Address of the node, which is the mesh itself.
    pub(crate) host_ip: &'a str,
    /// Services of the pod's namespace.
    pub(crate) services: &'a [Service],
    /// The Service of the API.
    pub(crate) api: Option<&'a Service>,
    pub(crate) objects: &'a dyn Objects,
    /// `ENV` of the image.
    pub(crate) image: &'a [(String, String)],
    /// Home of its user.
    pub(crate) home: &'a str,
}

/// Makes the environment: service variables, the image's, `envFrom`, `env`; later ones win, and
/// `$(NAME)` in a value refers to earlier ones.
///
/// # Errors
///
/// If it refers to what is not there and is not optional.
pub(crate) fn environment(from: &Sources<'_>) -> Result<BTreeMap<String, String>, BadConfig> {
    let mut env = BTreeMap::new();
    env.insert("PATH".to_owned(), DEFAULT_PATH.to_owned());
    env.insert("HOSTNAME".to_owned(), from.pod.hostname().to_owned());
    env.insert("HOME".to_owned(), from.home.to_owned());
    // Programs in pods find the API by these, whatever links they want.
    from.api.into_iter().for_each(|service| service_variables(service, &mut env));
    if from.pod.spec.enable_service_links {
        from.services.iter().for_each(|service| service_variables(service, &mut env));
    }
    env.extend(from.image.iter().cloned());
    for source in &from.container.env_from {
        let mut pairs = Values::new();
        for (kind, reference) in
            [(Holder::ConfigMap, &source.config_map_ref), (Holder::Secret, &source.secret_ref)]
        {
            if let Some(reference) = reference {
                pairs.extend(all_values(kind, reference, from)?);
            }
        }
        let variable = |(key, value): (String, _)| (source.prefix.clone() + &key, text(value));
        env.extend(pairs.into_iter().map(variable));
    }
    for variable in &from.container.env {
        let value = match &variable.value_from {
            None => Some(expand(&variable.value, &env)),
            Some(source) => value_from(source, from)?,
        };
        if let Some(value) = value {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

/// Replaces `$(NAME)` by the variable's value, if there is one; `$$` stands for `$`.
pub(crate) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|reference| reference.split_once(')'))
        {
            match env.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}

/// The value of a field of the downward API.
///
/// # Errors
///
/// If it has no such field.
pub(crate) fn field(path: &str, pod: &Pod, ip: &str, host_ip: &str) -> Result<String, BadConfig> {
    let meta = &pod.metadata;
    let keyed = |map: &BTreeMap<String, String>, key: &str| {
        let key = key.strip_prefix("['").and_then(|key| key.strip_suffix("']"));
        key.map(|key| map.get(key).cloned().unwrap_or_default())
    };
    let lines = |map: &BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value:?}\n")).collect::<String>()
    };
    let found = match path {
        "metadata.name" => Some(meta.name.clone()),
        "metadata.namespace" => Some(meta.namespace.clone()),
        "metadata.uid" => Some(meta.uid.clone()),
        "metadata.labels" => Some(lines(&meta.labels)),
        "metadata.annotations" => Some(lines(&meta.annotations)),
        "spec.nodeName" => Some(pod.spec.node_name.clone()),
        "spec.serviceAccountName" => Some(pod.spec.service_account().to_owned()),
        "status.podIP" | "status.podIPs" => Some(ip.to_owned()),
        "status.hostIP" | "status.hostIPs" => Some(host_ip.to_owned()),
        _ => {
            match (path.strip_prefix("metadata.labels"), path.strip_prefix("metadata.annotations"))
            {
                (Some(key), _) => keyed(&meta.labels, key),
                (_, Some(key)) => keyed(&meta.annotations, key),
                _ => None,
            }
        }
    };
    found.ok_or_else(|| BadConfig::BadField(path.to_owned()))
}

/// The value of a container's resource limit or request, in units of its divisor, rounded up.
/// Without a limit it is what the machine has (one CPU, the largest memory); without a request it
/// is the limit, else none, as Kubernetes' defaults are.
///
/// # Errors
///
/// If there is no such resource.
pub(crate) fn resource(
    reference: &ResourceRef,
    pod: &Pod,
    container: &Container,
) -> Result<String, BadConfig> {
    let bad = || BadConfig::BadResource(reference.resource.clone());
    let container = match reference.container_name.as_str() {
        "" => container,
        name => pod.spec.containers.iter().find(|other| other.name == name).ok_or_else(bad)?,
    };
    let resources = &container.resources;
    let (given, default) = match reference.resource.split_once('.').ok_or_else(bad)? {
        ("limits", "cpu") => (resources.limits.get("cpu"), "1"),
        ("limits", "memory") => (resources.limits.get("memory"), "9223372036854775807"),
        ("limits", name) => (resources.limits.get(name), "0"),
        ("requests", name) => {
            (resources.requests.get(name).or_else(|| resources.limits.get(name)), "0")
        }
        _ => return Err(bad()),
    };
    let value = given.cloned().unwrap_or_else(|| default.into());
    let value = value.thousandths().ok_or_else(bad)?;
    let divisor = reference.divisor.as_ref().map_or(Some(0), Quantity::thousandths);
    let divisor = divisor.ok_or_else(bad)?;
    // No divisor, and one of zero, is one.
    let divisor = if divisor == 0 { 1000 } else { divisor };
    Ok(value.div_ceil(divisor).to_string())
}

/// What a Secret holds.
fn secret_values(secret: &Secret) -> Result<Values, BadConfig> {
    let mut values = decoded(&secret.data, &secret.metadata.name)?;
    values.extend(bytes(&secret.string_data));
    Ok(values)
}

/// What a ConfigMap holds.
fn config_map_values(map: &ConfigMap) -> Result<Values, BadConfig> {
    let mut values = decoded(&map.binary_data, &map.metadata.name)?;
    values.extend(bytes(&map.data));
    Ok(values)
}

fn bytes(texts: &BTreeMap<String, String>) -> impl Iterator<Item = (String, Vec<u8>)> {
    texts.iter().map(|(key, text)| (key.clone(), text.clone().into_bytes()))
}

/// The values of an object of this name that are written in base64.
fn decoded(texts: &BTreeMap<String, String>, name: &str) -> Result<Values, BadConfig> {
    let value = |(key, text): (&String, &String)| {
        let bad = || BadConfig::BadBase64 { name: name.to_owned(), key: key.clone() };
        Ok((key.clone(), base64::decode(text).ok_or_else(bad)?))
    };
    texts.iter().map(value).collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// All that an object of the pod's namespace holds.
fn all_values(
    kind: Holder,
    reference: &ObjectRef,
    from: &Sources<'_>,
) -> Result<Values, BadConfig> {
    match from.objects.values(kind, &from.pod.metadata.namespace, &reference.name)? {
        Some(values) => Ok(values),
        None if reference.optional => Ok(Values::new()),
        None => Err(BadConfig::NoObject { kind, name: reference.name.clone() }),
    }
}

/// One of the values that an object of the pod's namespace holds.
fn value_of(
    kind: Holder,
    reference: &KeyRef,
    from: &Sources<'_>,
) -> Result<Option<String>, BadConfig> {
    let namespace = &from.pod.metadata.namespace;
    let KeyRef { name, key, optional } = reference;
    let Some(mut values) = from.objects.values(kind, namespace, name)? else {
        return if *optional {
            Ok(None)
        } else {
            Err(BadConfig::NoObject { kind, name: name.clone() })
        };
    };
    match values.remove(key) {
        None if !optional => Err(BadConfig::NoKey {
            kind,
            namespace: namespace.clone(),
            name: name.clone(),
            key: key.clone(),
        }),
        value => Ok(value.map(text)),
    }
}

fn value_from(source: &EnvSource, from: &Sources<'_>) -> Result<Option<String>, BadConfig> {
    if let Some(reference) = &source.field_ref {
        return field(&reference.field_path, from.pod, from.ip, from.host_ip).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return resource(reference, from.pod, from.container).map(Some);
    }
    if let Some(reference) = &source.secret_key_ref {
        return value_of(Holder::Secret, reference, from);
    }
    if let Some(reference) = &source.config_map_key_ref {
        return value_of(Holder::ConfigMap, reference, from);
    }
    Ok(None)
}

/// The variables that make a service known, as Docker links had them.
fn service_variables(service: &Service, env: &mut BTreeMap<String, String>) {
    let ip = &service.spec.cluster_ip;
    let Some(first) = service.spec.ports.first() else { return };
    if ip.parse::<std::net::IpAddr>().is_err() {
        return;
    }
    let upper = |text: &str| text.to_uppercase().replace(['-', '.'], "_");
    let name = upper(&service.metadata.name);
    env.insert(format!("{name}_SERVICE_HOST"), ip.clone());
    env.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for (index, port) in service.spec.ports.iter().enumerate() {
        let protocol = port.protocol.word();
        let lower = protocol.to_lowercase();
        let number = port.port;
        if !port.name.is_empty() {
            let key = format!("{name}_SERVICE_PORT_{}", upper(&port.name));
            env.insert(key, number.to_string());
        }
        if index == 0 {
            env.insert(format!("{name}_PORT"), format!("{lower}://{ip}:{number}"));
        }
        let prefix = format!("{name}_PORT_{number}_{}", protocol.to_uppercase());
        env.insert(prefix.clone(), format!("{lower}://{ip}:{number}"));
        env.insert(prefix.clone() + "_PROTO", lower);
        env.insert(prefix.clone() + "_PORT", number.to_string());
        env.insert(prefix + "_ADDR", ip.clone());
    }
}

/// Search path of containers.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests;
