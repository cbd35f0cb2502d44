//! Fields of `Gateway`, those of Istio 0.8 to today.

use std::collections::BTreeMap;

use crate::schema::{Bounded, fields, kind, words};

kind! {
    istio;
    /// Ports at the edge of the mesh, and the hosts that are served there.
    pub struct Gateway "Gateway" {
        /// Its ports, and the pods that open them.
        required spec: Spec,
        /// What controllers have found out about it.
        honoured status: serde_json::Value,
    }
}

fields! {
    istio;
    /// What a `Gateway` says.
    pub struct Spec "Gateway.spec" {
        /// Its ports.
        required servers: Vec<Server>,
        /// Labels of the pods that open them.
        honoured selector: BTreeMap<String, String>,
    }

    /// A port and the hosts that are served there.
    pub struct Server "a server" {
        /// The port.
        required port: ServerPort,
        /// The address on which it is opened.
        no_effect("a gateway listens at all addresses of its pod; who reaches it is its Service's to say")
            bind: String,
        /// The hosts: `HOST` or `NAMESPACE/HOST`, the namespace that of their routes.
        required hosts: Vec<String>,
        /// Its name, for its readers.
        honoured name: String,
        /// How connections are secured.
        honoured tls: Option<ServerTls>,
        /// Where everything goes.
        no_effect("Istio has never honoured it; name destinations in a VirtualService")
            default_endpoint "defaultEndpoint": String,
    }

    /// A port of a gateway.
    pub struct ServerPort "the port of a server" {
        /// Its number.
        required number: u16,
        /// What is spoken there.
        required protocol: ServerProtocol,
        /// Its name.
        honoured name: String,
        /// The port of the pods; Istio does not honour it any more either.
        no_effect("Istio refuses it; a Service has the port of the pods")
            target_port "targetPort": Option<Bounded<0, 65_535>>,
    }

    /// How connections to a gateway are secured.
    pub struct ServerTls "tls" {
        /// Whether plaintext is redirected to HTTPS.
        honoured https_redirect "httpsRedirect": Option<bool>,
        /// Whether TLS ends here, and what is asked of the client.
        honoured mode: Option<ServerTlsMode>,
        /// File with the certificate.
        honoured server_certificate "serverCertificate": String,
        /// File with its key.
        honoured private_key "privateKey": String,
        /// File with the authorities that are trusted.
        honoured ca_certificates "caCertificates": String,
        /// Secret that has all three.
        honoured credential_name "credentialName": String,
        /// Secrets with certificates of several kinds.
        honoured credential_names "credentialNames": Vec<String>,
        /// Secret with the authorities that are trusted.
        honoured ca_cert_credential_name "caCertCredentialName": String,
        /// Files with certificates of several kinds.
        honoured tls_certificates "tlsCertificates": Vec<TlsCertificate>,
        /// Names of which the client's certificate has one.
        honoured subject_alt_names "subjectAltNames": Vec<String>,
        /// Hashes of which the key of the client's certificate has one.
        honoured verify_certificate_spki "verifyCertificateSpki": Vec<String>,
        /// Hashes of which the client's certificate has one.
        honoured verify_certificate_hash "verifyCertificateHash": Vec<String>,
        /// The lowest version of TLS.
        honoured min_protocol_version "minProtocolVersion": String,
        /// The highest version of TLS.
        honoured max_protocol_version "maxProtocolVersion": String,
        /// Cipher suites: those with forward secrecy and authenticated encryption are always offered, others never.
        honoured cipher_suites "cipherSuites": Vec<String>,
        /// File with the certificates that were revoked.
        no_effect("revocations are ca.crl of the Secret that credentialName names")
            ca_crl "caCrl": String,
        /// Whether any certificate will do.
        no_effect("certificates of clients are verified always; SIMPLE asks for none")
            insecure_skip_verify "insecureSkipVerify": Option<bool>,
    }

    /// Files with a certificate.
    pub struct TlsCertificate "a certificate" {
        /// The certificate.
        honoured server_certificate "serverCertificate": String,
        /// Its key.
        honoured private_key "privateKey": String,
        /// The authorities that are trusted.
        honoured ca_certificates "caCertificates": String,
    }
}

words! {
    /// What is spoken at a port. Istio takes the words in any letter case.
    pub enum ServerProtocol any_case {
        /// HTTP, in all versions.
        honoured Http = "HTTP",
        /// HTTP, in all versions.
        honoured Http2 = "HTTP2",
        /// HTTP, in all versions.
        honoured Grpc = "GRPC",
        /// HTTP, in all versions.
        honoured GrpcWeb = "GRPC-WEB",
        /// HTTP over TLS.
        honoured Https = "HTTPS",
        /// TLS.
        honoured Tls = "TLS",
        /// Anything.
        honoured Tcp = "TCP",
        /// MongoDB's.
        honoured Mongo = "MONGO",
    }

    /// Whether TLS ends at a gateway, and what is asked of the client.
    pub enum ServerTlsMode {
        /// It is passed on by its SNI.
        honoured Passthrough = "PASSTHROUGH",
        /// It ends here.
        honoured Simple = "SIMPLE",
        /// It ends here, and the client shows a certificate.
        honoured Mutual = "MUTUAL",
        /// It is passed on by its SNI to any service.
        honoured AutoPassthrough = "AUTO_PASSTHROUGH",
        /// It ends here, and the client is a member of the mesh.
        honoured IstioMutual = "ISTIO_MUTUAL",
        /// It ends here, and the client may show a certificate.
        honoured OptionalMutual = "OPTIONAL_MUTUAL",
    }
}
