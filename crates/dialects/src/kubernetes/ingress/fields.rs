//! Fields of `Ingress` (API reference, networking.k8s.io/v1).

use serde_json::Value;

use crate::schema::{fields, kind, words};

kind! {
    kubernetes;
    /// Hosts and paths that are served at the edge, and the Services behind them.
    pub struct Ingress "Ingress" {
        /// What is served.
        honoured spec: IngressSpec,
        /// Where it is served.
        honoured status: Value,
    }
}

kind! {
    kubernetes;
    /// A class of Ingresses, and who serves them.
    pub struct IngressClass "IngressClass" {
        /// Who serves them.
        honoured spec: IngressClassSpec,
    }
}

fields! {
    kubernetes;
    /// What an `IngressClass` says.
    pub struct IngressClassSpec "IngressClass.spec" {
        /// Who serves Ingresses of this class: the mesh is `istio.io/ingress-controller`.
        required controller: String,
        /// More about the class, in another object.
        not_here("the mesh's gateways take nothing from parameters of a class; MeshConfig says how they serve Ingresses")
        parameters: Value,
    }

    /// What an `Ingress` says.
    pub struct IngressSpec "Ingress.spec" {
        /// Who serves it: the name of an IngressClass. `istio` needs none.
        honoured ingress_class_name "ingressClassName": String,
        /// Where goes what no rule takes.
        honoured default_backend "defaultBackend": Option<IngressBackend>,
        /// Hosts and their paths.
        honoured rules: Vec<IngressRule>,
        /// Hosts that are served by HTTPS, too.
        honoured tls: Vec<IngressTls>,
    }

    /// A host and its paths.
    pub struct IngressRule "a rule of an Ingress" {
        /// The host, or `*.suffix`; without one: those that no other rule has.
        honoured host: String,
        /// Its paths.
        honoured http: IngressPaths,
    }

    /// Paths of a host.
    pub struct IngressPaths "the paths of a rule" {
        /// The paths.
        honoured paths: Vec<IngressPath>,
    }

    /// A path and the Service behind it.
    pub struct IngressPath "a path of an Ingress" {
        /// The path; without one: all.
        honoured path: String,
        /// How it matches.
        honoured path_type "pathType": PathType = PathType::ImplementationSpecific,
        /// Where its requests go.
        honoured backend: Option<IngressBackend>,
    }

    /// Where requests go.
    pub struct IngressBackend "the backend of an Ingress" {
        /// To a Service.
        honoured service: Option<IngressService>,
        /// To another object.
        not_here("a backend is a Service; nothing here serves other objects")
        resource: Value,
    }

    /// A Service and its port.
    pub struct IngressService "the Service of a backend" {
        /// Its name, in the namespace of the Ingress.
        required name: String,
        /// Its port.
        honoured port: IngressPort,
    }

    /// A port of a Service.
    pub struct IngressPort "the port of a backend" {
        /// Its number.
        honoured number: Option<u16>,
        /// Its name.
        honoured name: String,
    }

    /// Hosts that are served by HTTPS, too.
    pub struct IngressTls "tls of an Ingress" {
        /// The hosts; none: all.
        honoured hosts: Vec<String>,
        /// The Secret with the certificate, in the namespace of the gateway or of the Ingress.
        honoured secret_name "secretName": String,
    }
}

words! {
    /// How a path matches.
    pub enum PathType {
        /// The path and nothing else.
        honoured Exact = "Exact",
        /// The path and what is below it, element by element.
        honoured Prefix = "Prefix",
        /// As Istio: a final `.*` or `/*` makes it a prefix; else exactly.
        honoured ImplementationSpecific = "ImplementationSpecific",
    }
}
