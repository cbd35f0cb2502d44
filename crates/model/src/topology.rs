//! What stands in front of gateways (`gatewayTopology` of Istio's MeshConfig and ProxyConfig).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a gateway believes of what stands in front of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Proxies in front of it that are trusted: the client is the one that the outermost of them names in
    /// `x-forwarded-for`; 0: the client is who connects.
    pub trusted_proxies: u32,
    /// What becomes of `x-forwarded-client-cert`.
    pub client_cert: ForwardClientCert,
}

/// The same as one gateway says it of itself, by its annotation; what it leaves open the mesh says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnTopology {
    /// Whether a load balancer speaks the PROXY protocol to it, whatever the mesh says.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// See [`Topology::trusted_proxies`].
    #[serde(default)]
    pub trusted_proxies: Option<u32>,
    /// See [`Topology::client_cert`].
    #[serde(default)]
    pub client_cert: Option<ForwardClientCert>,
}

impl OwnTopology {
    /// What holds for it in a mesh where this holds.
    pub fn over(self, mesh: Topology) -> Topology {
        Topology {
            trusted_proxies: self.trusted_proxies.unwrap_or(mesh.trusted_proxies),
            client_cert: self.client_cert.unwrap_or(mesh.client_cert),
        }
    }
}

/// What becomes of `x-forwarded-client-cert`, by Istio's words (`forwardClientCertDetails`). Without
/// mutual TLS nothing of it comes in, but by the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCert {
    /// It goes.
    Sanitize,
    /// It stays as the client sent it.
    ForwardOnly,
    /// The client's certificate is added to it.
    AppendForward,
    /// The client's certificate takes its place.
    #[default]
    SanitizeSet,
    /// It stays as it was sent, whoever sent it.
    AlwaysForwardOnly,
}

impl ForwardClientCert {
    /// All of them with their words.
    pub const WORDS: [(Self, &'static str); 5] = [
        (Self::Sanitize, "SANITIZE"),
        (Self::ForwardOnly, "FORWARD_ONLY"),
        (Self::AppendForward, "APPEND_FORWARD"),
        (Self::SanitizeSet, "SANITIZE_SET"),
        (Self::AlwaysForwardOnly, "ALWAYS_FORWARD_ONLY"),
    ];

    /// Whether what a client sent stays. `proved`: it showed a certificate.
    pub(crate) fn keeps(self, proved: bool) -> bool {
        match self {
            Self::Sanitize | Self::SanitizeSet => false,
            Self::ForwardOnly | Self::AppendForward => proved,
            Self::AlwaysForwardOnly => true,
        }
    }

    /// Whether the client's certificate is told.
    pub(crate) fn tells(self) -> bool {
        matches!(self, Self::AppendForward | Self::SanitizeSet)
    }
}

impl fmt::Display for ForwardClientCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS.iter().find(|(own, _)| own == self).map_or("", |(_, word)| word);
        f.write_str(word)
    }
}

/// A word that is none of [`ForwardClientCert::WORDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this takes {}", ForwardClientCert::WORDS.map(|(_, word)| word).join(", "))]
pub struct NotAWord;

impl FromStr for ForwardClientCert {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let found = Self::WORDS.iter().find(|(_, word)| *word == text);
        found.map(|(own, _)| *own).ok_or(NotAWord)
    }
}

/// The client that the outermost of so many trusted proxies names in `x-forwarded-for`: the last address
/// but those of the others. `None`: there are fewer, or it is no address, and who connects is the client
/// (Envoy, `Utility::getLastAddressFromXFF`).
pub(crate) fn trusted_client(forwarded_for: &str, trusted_proxies: u32) -> Option<IpAddr> {
    let at = usize::try_from(trusted_proxies.checked_sub(1)?).ok()?;
    forwarded_for.rsplit(',').nth(at)?.trim_matches([' ', '\t']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_whom_the_outermost_trusted_proxy_names() {
        let named = |text: &str, proxies| trusted_client(text, proxies).map(|ip| ip.to_string());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(named("10.0.0.1", 1), some("10.0.0.1"));
        assert_eq!(named("6.6.6.6,\t203.0.113.7 ,10.0.0.1", 2), some("203.0.113.7"));
        assert_eq!(named("2001:db8::1, 10.0.0.1", 2), some("2001:db8::1"));
        for (text, proxies) in [
            ("10.0.0.1", 0),
            ("10.0.0.1", 2),
            ("10.0.0.1", u32::MAX),
            ("", 1),
            (",", 1),
            ("10.0.0.1:80", 1),
            ("10.0.0.1, unknown", 1),
        ] {
            assert_eq!(named(text, proxies), None, "{text:?} {proxies}");
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for (own, word) in ForwardClientCert::WORDS {
            assert_eq!(own.to_string(), word);
            assert_eq!(word.parse(), Ok(own));
        }
        assert_eq!("sanitize".parse::<ForwardClientCert>(), Err(NotAWord));
    }
}
