//! The field names that framing and connections depend on, told apart once a line.

/// A field name that the codec acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Expect,
    Upgrade,
    Te,
    KeepAlive,
    ProxyConnection,
    Http2Settings,
}

impl Known {
    /// Tells what a name is, in any case of letters.
    pub(super) fn of(name: &[u8]) -> Self {
        // No two of these names have the same length, but for upgrade's neighbours.
        let candidates: &[(&str, Self)] = match name.len() {
            2 => &[("te", Self::Te)],
            4 => &[("host", Self::Host)],
            6 => &[("expect", Self::Expect)],
            7 => &[("upgrade", Self::Upgrade)],
            10 => &[("connection", Self::Connection), ("keep-alive", Self::KeepAlive)],
            14 => {
                &[("content-length", Self::ContentLength), ("http2-settings", Self::Http2Settings)]
            }
            16 => &[("proxy-connection", Self::ProxyConnection)],
            17 => &[("transfer-encoding", Self::TransferEncoding)],
            _ => &[],
        };
        candidates
            .iter()
            .find(|(text, _)| name.eq_ignore_ascii_case(text.as_bytes()))
            .map_or(Self::Other, |(_, known)| *known)
    }

    /// Whether the field concerns one connection only, so that a proxy never forwards it
    /// (RFC 9110, section 7.6.1).
    pub(super) fn is_hop_by_hop(self) -> bool {
        !matches!(self, Self::Other | Self::Host | Self::ContentLength | Self::Expect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for (name, known, hop_by_hop) in [
            ("Host", Known::Host, false),
            ("CONTENT-LENGTH", Known::ContentLength, false),
            ("Transfer-Encoding", Known::TransferEncoding, true),
            ("keep-alive", Known::KeepAlive, true),
            ("Connection", Known::Connection, true),
            ("HTTP2-Settings", Known::Http2Settings, true),
            ("hosts", Known::Other, false),
            ("", Known::Other, false),
        ] {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
            assert_eq!(known.is_hop_by_hop(), hop_by_hop, "{name}");
        }
    }
}
