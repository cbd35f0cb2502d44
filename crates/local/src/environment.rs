//! The environment of a container, and `$(NAME)` in its command, arguments and values.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::object::{
    Container, EnvVarSource, FieldRef, KeyRef, KeyValues, Pod, ResourceFieldRef, Service,
};
use super::path_name::BadPath;
use super::quantity::Quantity;

/// Why an environment or a volume cannot be made yet; the container waits with
/// `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadConfig {
    #[error("{kind} \"{name}\" not found")]
    NoObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("value of key {key} in Secret {name} is not base64")]
    BadBase64 { name: String, key: String },
    #[error("field path {0:?} is not one of the downward API")]
    BadField(String),
    #[error("resource {0:?} is not one of the downward API")]
    BadResource(String),
    #[error(transparent)]
    BadPath(#[from] BadPath),
}

/// Where Secrets and ConfigMaps are found.
pub(crate) trait Objects {
    fn secret(&self, namespace: &str, name: &str) -> Option<KeyValues>;
    fn config_map(&self, namespace: &str, name: &str) -> Option<KeyValues>;
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
    pub(crate) objects: &'a dyn Objects,
    /// `ENV` of the image.
    pub(crate) image: &'a [(&'static str, &'static str)],
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
    env.insert("HOME".to_owned(), "/root".to_owned());
    if from.pod.spec.enable_service_links {
        from.services.iter().for_each(|service| service_variables(service, &mut env));
    }
    env.extend(from.image.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
    for source in &from.container.env_from {
        let namespace = &from.pod.metadata.namespace;
        let add = |reference: &super::object::ObjectRef, kind, found: Option<KeyValues>| match found
        {
            None if reference.optional => Ok(BTreeMap::new()),
            None => Err(BadConfig::NoObject { kind, name: reference.name.clone() }),
            Some(object) => texts(&object, kind == "secret"),
        };
        let mut pairs = BTreeMap::new();
        if let Some(reference) = &source.config_map_ref {
            let found = from.objects.config_map(namespace, &reference.name);
            pairs.extend(add(reference, "configmap", found)?);
        }
        if let Some(reference) = &source.secret_ref {
            let found = from.objects.secret(namespace, &reference.name);
            pairs.extend(add(reference, "secret", found)?);
        }
        env.extend(pairs.into_iter().map(|(key, value)| (source.prefix.clone() + &key, value)));
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
    let service_account = match pod.spec.service_account_name.as_str() {
        "" => "default",
        name => name,
    };
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
        "spec.serviceAccountName" => Some(service_account.to_owned()),
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
    reference: &ResourceFieldRef,
    pod: &Pod,
    container: &Container,
) -> Result<String, BadConfig> {
    let bad = || BadConfig::BadResource(reference.resource.clone());
    let container = match reference.container_name.as_str() {
        "" => container,
        name => pod.spec.containers.iter().find(|other| *other.name == *name).ok_or_else(bad)?,
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

/// The pairs of a Secret or a ConfigMap as bytes.
pub(crate) fn values(
    object: &KeyValues,
    secret: bool,
) -> Result<BTreeMap<String, Vec<u8>>, BadConfig> {
    let mut pairs = BTreeMap::new();
    let mut add_base64 = |map: &BTreeMap<String, String>| {
        for (key, value) in map {
            let bytes = decode(value).ok_or_else(|| BadConfig::BadBase64 {
                name: object.metadata.name.clone(),
                key: key.clone(),
            })?;
            pairs.insert(key.clone(), bytes);
        }
        Ok::<_, BadConfig>(())
    };
    add_base64(&object.binary_data)?;
    if secret {
        add_base64(&object.data)?;
    } else {
        pairs.extend(object.data.iter().map(|(k, v)| (k.clone(), v.clone().into_bytes())));
    }
    pairs.extend(object.string_data.iter().map(|(k, v)| (k.clone(), v.clone().into_bytes())));
    Ok(pairs)
}

/// Bytes of base64, whose lines may be broken as `base64(1)` does.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(text).ok()
}

fn texts(object: &KeyValues, secret: bool) -> Result<BTreeMap<String, String>, BadConfig> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(values(object, secret)?.into_iter().map(|(key, value)| (key, text(value))).collect())
}

fn value_from(source: &EnvVarSource, from: &Sources<'_>) -> Result<Option<String>, BadConfig> {
    let namespace = &from.pod.metadata.namespace;
    let keyed = |reference: &KeyRef, kind: &'static str, found: Option<KeyValues>| {
        let Some(object) = found else {
            return if reference.optional {
                Ok(None)
            } else {
                Err(BadConfig::NoObject { kind, name: reference.name.clone() })
            };
        };
        match texts(&object, kind == "secret")?.remove(&reference.key) {
            None if !reference.optional => Err(BadConfig::NoKey {
                kind,
                namespace: namespace.clone(),
                name: reference.name.clone(),
                key: reference.key.clone(),
            }),
            value => Ok(value),
        }
    };
    if let Some(FieldRef { field_path }) = &source.field_ref {
        return field(field_path, from.pod, from.ip, from.host_ip).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return resource(reference, from.pod, from.container).map(Some);
    }
    if let Some(reference) = &source.secret_key_ref {
        return keyed(reference, "secret", from.objects.secret(namespace, &reference.name));
    }
    if let Some(reference) = &source.config_map_key_ref {
        return keyed(reference, "configmap", from.objects.config_map(namespace, &reference.name));
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
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
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
