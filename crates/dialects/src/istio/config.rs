//! What the kinds of `config.istio.io` share: Istio's traffic rules up to 0.8.

use std::collections::BTreeMap;

use ironmesh_model::{Finding, FindingCode, Name};

use super::{CLUSTER_DOMAIN, fully_qualified};
use crate::Object;
use crate::path::field;
use crate::schema::fields;

fields! {
    istio;
    /// A service, by its host or by what that is made of.
    pub struct IstioService "a service" {
        /// Its name.
        honoured name: String,
        /// Its namespace; that of the object if left out.
        honoured namespace: String,
        /// The domain behind name and namespace; `svc.cluster.local` if left out.
        honoured domain: String,
        /// Its whole host, in place of the others.
        honoured service: String,
        /// Labels of its endpoints.
        honoured labels: BTreeMap<String, String>,
    }
}

impl IstioService {
    /// Whether it names a service.
    pub(super) fn is_named(&self) -> bool {
        !self.name.is_empty() || !self.service.is_empty()
    }

    /// The fully qualified host.
    pub(super) fn host(&self, object: &Object) -> Name {
        if !self.service.is_empty() {
            return fully_qualified(&self.service, object);
        }
        let namespace: &str = match &*self.namespace {
            "" => object.namespace(),
            given => given,
        };
        let name = &self.name;
        let domain = match &*self.domain {
            "" => format!("svc.{CLUSTER_DOMAIN}"),
            given => given.to_owned(),
        };
        format!("{name}.{namespace}.{domain}").to_ascii_lowercase().into()
    }

    /// Namespace and name, if it is a service of the cluster.
    pub(super) fn id(&self, object: &Object) -> Option<(Name, Name)> {
        let host = self.host(object);
        let (name, rest) = host.split_once('.')?;
        let namespace = rest.strip_suffix(CLUSTER_DOMAIN)?.strip_suffix(".svc.")?;
        Some((namespace.into(), name.into()))
    }

    /// Reports that it names no service, or does so twice.
    pub(super) fn check(&self, object: &Object, path: &str, findings: &mut Vec<Finding>) {
        let mut report = |path: String, code, message: &str| {
            findings.push(Finding::new(object.id(), path, code, message));
        };
        if !self.is_named() {
            let message = "a service needs name, or its whole host as service";
            report(field(path, "name"), FindingCode::Missing, message);
        } else if !self.name.is_empty() && !self.service.is_empty() {
            let message = "a service has name or service, not both";
            report(field(path, "service"), FindingCode::Invalid, message);
        } else if !self.service.is_empty() && !self.namespace.is_empty() {
            let message = "service is the whole host, with its namespace";
            report(field(path, "namespace"), FindingCode::Invalid, message);
        }
    }
}
