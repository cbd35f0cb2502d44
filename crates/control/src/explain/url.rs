//! The little of URLs that a request to explain needs.

use http::Uri;
use http::uri::PathAndQuery;

/// A URL of http or https, or of bytes that nobody looks at: tcp or tls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Whether the client speaks TLS: https or tls.
    pub(super) is_tls: bool,
    /// Whether there are no requests in it: tcp or tls.
    pub(super) is_opaque: bool,
    /// Host and port as written.
    pub(super) authority: String,
    /// Host in lower case, without brackets.
    pub(super) host: String,
    /// Port, as written or by the scheme.
    pub(super) port: u16,
    /// Path and query; at least `/`.
    pub(super) target: String,
}

/// A text that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAUrl {
    /// It has another form.
    #[error(
        "{0:?} is not a URL of the form http://HOST[:PORT]/PATH, tcp://HOST:PORT or tls://SNI:PORT"
    )]
    Form(String),
    /// No client could send it, and every proxy would answer it with 400.
    #[error("{0:?} has a character that is not allowed in a URL; write {1:?} as %XX for each byte")]
    Character(String, char),
}

impl Url {
    /// Reads a URL; one without a scheme is taken as http, as curl does.
    pub(super) fn parse(text: &str) -> Result<Self, NotAUrl> {
        let bad = || NotAUrl::Form(text.to_owned());
        if let Some(wrong) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(NotAUrl::Character(text.to_owned(), wrong));
        }
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|_bad| bad())?;
        let (is_tls, is_opaque) = match uri.scheme_str() {
            Some("http") => (false, false),
            Some("https") => (true, false),
            Some("tcp") => (false, true),
            Some("tls") => (true, true),
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?.as_str();
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = ironmesh_model::request::split_authority(authority);
        let is_whole = port.is_some() || !host.contains(':') || authority.starts_with('[');
        let says_all = !is_opaque || (port.is_some() && matches!(uri.path(), "" | "/"));
        if host.is_empty() || !is_whole || !says_all {
            return Err(bad());
        }
        Ok(Self {
            is_tls,
            is_opaque,
            authority: authority.to_owned(),
            port: port.unwrap_or(if is_tls { 443 } else { 80 }),
            host: host.into_owned(),
            target: uri.path_and_query().map_or_else(|| "/".to_owned(), PathAndQuery::to_string),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_curl_takes_them() {
        for (text, host, port, target) in [
            ("http://reviews:9080/reviews/1?a=b", "reviews", 9080, "/reviews/1?a=b"),
            ("reviews", "reviews", 80, "/"),
            ("https://Example.com", "example.com", 443, "/"),
            ("http://[::1]:8080/x#y", "::1", 8080, "/x"),
            ("http://a?q", "a", 80, "/?q"),
            ("user:secret@a/b", "a", 80, "/b"),
            ("tcp://db:6379", "db", 6379, "/"),
            ("tls://Db.example.com:443", "db.example.com", 443, "/"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((&*url.host, url.port, &*url.target), (host, port, target), "{text}");
        }
        for bad in [
            "",
            "ftp://a/",
            "tcp://a",
            "tls://a:1/x",
            "http:///x",
            "http://a b/",
            "http://a/b c",
            "http://a:x/",
            "http://a:70000/",
            "http://a/\u{e9}",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
