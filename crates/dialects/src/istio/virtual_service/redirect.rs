//! Rules that send clients elsewhere.

use ironmesh_model::FindingCode;
use ironmesh_model::route::{Action, Redirect, RedirectPath, RedirectPort};

use super::{DerivePort, Translator, fields};
use crate::path::field;

impl Translator<'_> {
    /// `redirect`. One that cannot be made leaves its rule dead.
    pub(super) fn redirect(&mut self, given: &fields::Redirect, path: &str) -> Action {
        let path = field(path, "redirect");
        let port = match (given.port, given.derive_port) {
            (Some(port), None) => Some(RedirectPort::Number(port)),
            (None, Some(DerivePort::Request)) => Some(RedirectPort::Dialled),
            (None, Some(DerivePort::Default) | None) => None,
            (Some(_), Some(_)) => {
                let message = "a redirect has port or derivePort, not both";
                self.report(field(&path, "derivePort"), FindingCode::Invalid, message);
                return Action::default();
            }
        };
        let uri = self.of_target(&given.uri, &field(&path, "uri"));
        let prefix = self.of_target(&given.prefix_rewrite, &field(&path, "prefixRewrite"));
        let rewritten = match (uri, prefix) {
            (Some(_), Some(_)) => {
                let message = "a redirect has uri or prefixRewrite, not both";
                self.report(field(&path, "prefixRewrite"), FindingCode::Invalid, message);
                return Action::default();
            }
            (Some(whole), None) => Some(RedirectPath::Full(whole)),
            (None, Some(prefix)) => Some(RedirectPath::Prefix(prefix)),
            (None, None) => None,
        };
        let status = given.redirect_code.unwrap_or(301);
        let Some(status) = STATUSES.into_iter().find(|known| u32::from(*known) == status) else {
            let message = format!("{status} is no status of a redirect: {STATUSES:?}");
            self.report(field(&path, "redirectCode"), FindingCode::Invalid, message);
            return Action::default();
        };
        if !matches!(&*given.scheme, "" | "http" | "https") {
            self.report(field(&path, "scheme"), FindingCode::Invalid, "it is http or https");
            return Action::default();
        }
        let redirect = Redirect {
            status,
            scheme: (!given.scheme.is_empty()).then(|| given.scheme.as_str().into()),
            authority: self.of_target(&given.authority, &field(&path, "authority")),
            port,
            path: rewritten,
        };
        if (&redirect.scheme, &redirect.authority, &redirect.path, port)
            == (&None, &None, &None, None)
        {
            let message = "a redirect needs uri, authority, scheme or port: \
                           as it is, it sends clients where they are";
            self.report(path, FindingCode::Missing, message);
            return Action::default();
        }
        Action::Redirect(Box::new(redirect))
    }
}

/// Those that Istio honours.
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
