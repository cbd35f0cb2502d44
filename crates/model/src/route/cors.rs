//! What pages of other origins may ask (Fetch standard, "CORS protocol"; `corsPolicy` of a
//! `VirtualService`).

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::text_match::TextMatch;

/// What is answered to pages of other origins. A request of an origin that is not allowed is
/// forwarded all the same, and the browser keeps the answer from the page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Origins that are allowed; exactly `*` stands for all.
    pub allow_origins: Vec<TextMatch>,
    /// Value of `access-control-allow-methods`; `None`: left out. The same holds for the others.
    pub allow_methods: Option<Name>,
    /// Value of `access-control-allow-headers`.
    pub allow_headers: Option<Name>,
    /// Value of `access-control-expose-headers`, in answers to all but preflights.
    pub expose_headers: Option<Name>,
    /// How long the answer to a preflight holds, in seconds.
    pub max_age: Option<u64>,
    /// Whether a page may send cookies and the like.
    pub allow_credentials: bool,
    /// Whether preflights of origins that are not allowed are answered here, without any permission;
    /// otherwise they are forwarded.
    pub answers_unmatched: bool,
}
