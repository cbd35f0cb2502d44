//! `PeerAuthentication`.

use ironmesh_model::Finding;
use ironmesh_model::policy::{InboundPolicy, MtlsMode};
use ironmesh_model::snapshot::InboundPolicySource;

use super::{API_VERSION, KIND, METADATA, STATUS};
use crate::Object;
use crate::object::labels;
use crate::schema::{Message, TEXT_MAP, Type, check, honoured, later};
use crate::translate::Part;

pub(crate) fn peer_authentication(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let spec = check(object, &PEER_AUTHENTICATION, findings)?;
    let mtls = match spec.pointer("/mtls/mode").and_then(|mode| mode.as_str()) {
        Some("STRICT") => Some(MtlsMode::Strict),
        Some("PERMISSIVE") => Some(MtlsMode::Permissive),
        Some("DISABLE") => Some(MtlsMode::Disable),
        _ => None,
    };
    let selector = spec.pointer("/selector/matchLabels").map(labels).filter(|s| !s.is_empty());
    Some(Part::InboundPolicy(Box::new(InboundPolicySource {
        policy: InboundPolicy { id: object.id().clone(), mtls },
        selector,
        created: object.created(),
    })))
}

static PEER_AUTHENTICATION: Message = Message {
    name: "PeerAuthentication",
    open: false,
    doc: "",
    protobuf: true,
    fields: &[API_VERSION, KIND, METADATA, honoured("spec", Type::Object(&SPEC)), STATUS],
};

static SPEC: Message = Message {
    name: "PeerAuthentication.spec",
    open: false,
    doc: "",
    protobuf: true,
    fields: &[
        honoured("selector", Type::Object(&SELECTOR)),
        honoured("mtls", Type::Object(&MTLS)),
        later("portLevelMtls", Type::Map(&Type::Object(&MTLS))),
    ],
};

static SELECTOR: Message = Message {
    name: "selector",
    open: false,
    doc: "",
    protobuf: true,
    fields: &[honoured("matchLabels", TEXT_MAP)],
};

static MTLS: Message = Message {
    name: "mtls",
    open: false,
    doc: "",
    protobuf: true,
    fields: &[honoured(
        "mode",
        Type::Listed { all: &[], honoured: &["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] },
    )],
};
