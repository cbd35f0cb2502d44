//! Redirects (`redirect` of a `VirtualService`).

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// Where a client is sent instead. What is `None` stays as the client asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// Status: 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Scheme.
    pub scheme: Option<Name>,
    /// Host, perhaps with a port.
    pub authority: Option<Name>,
    /// Port; `None`: that of the authority.
    pub port: Option<RedirectPort>,
    /// Path.
    pub path: Option<RedirectPath>,
}

/// The port of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectPort {
    /// This one.
    Number(u16),
    /// The one that the client dialled.
    Dialled,
}

/// The path of a redirect. The query stays, unless this brings one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectPath {
    /// This.
    Full(Name),
    /// This instead of the prefix that matched.
    Prefix(Name),
}
