//! Answers that a rule gives by itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironmesh_model::FindingCode;
use ironmesh_model::route::{Action, DirectResponse};

use super::Translator;
use super::fields;
use crate::path::field;

impl Translator<'_> {
    /// `directResponse`. One that cannot be given makes its rule dead.
    pub(super) fn answer(&mut self, given: &fields::DirectResponse, path: &str) -> Action {
        let path = field(path, "directResponse");
        let dead = Action::default();
        let Some(status) = u16::try_from(given.status).ok().filter(|s| STATUSES.contains(s)) else {
            let message = format!("{} is no status of an answer: 200 to 599", given.status);
            self.report(field(&path, "status"), FindingCode::Invalid, message);
            return dead;
        };
        let body = match &given.body {
            None | Some(fields::HttpBody { string: None, bytes: None }) => Vec::new(),
            Some(fields::HttpBody { string: Some(text), bytes: None }) => text.clone().into_bytes(),
            Some(fields::HttpBody { string: None, bytes: Some(text) }) => {
                let Ok(bytes) = STANDARD.decode(text) else {
                    let message = "these bytes are not in base64";
                    self.report(format!("{path}.body.bytes"), FindingCode::Invalid, message);
                    return dead;
                };
                bytes
            }
            Some(_) => {
                let message = "a body is either string or bytes";
                self.report(field(&path, "body"), FindingCode::Invalid, message);
                return dead;
            }
        };
        if body.len() > BODY_BYTES_MAX {
            let message = format!("a body has at most {BODY_BYTES_MAX} bytes");
            self.report(field(&path, "body"), FindingCode::Invalid, message);
            return dead;
        }
        Action::Answer(DirectResponse { status, body: body.into() })
    }
}

/// Statuses of final answers.
const STATUSES: std::ops::RangeInclusive<u16> = 200..=599;

/// Istio's validation takes no larger body.
const BODY_BYTES_MAX: usize = 1 << 20;
