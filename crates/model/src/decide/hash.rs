//! What a request is known by, where a hash of that chooses its endpoint. Hashes are Envoy's
//! (xxHash64, `source/common/http/hash_policy.cc`), so that a key leads to the same endpoint.

use std::borrow::Cow;
use std::net::SocketAddr;

use twox_hash::XxHash64;

use super::Decision;
use crate::policy::{HashCookie, HashKey};
use crate::request::{HeaderLookup, query_value};
use crate::traffic::Request;
use crate::view::LinkedBackend;

/// What a request is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// The hash of it.
    pub hash: u64,
    /// Values of the `set-cookie` headers that the answer gets, for cookies that the client has not yet.
    pub set_cookies: Vec<String>,
}

impl Decision {
    /// What the chosen backend's requests are known by, if its endpoints are chosen by that.
    pub fn hash_key(&self) -> Option<&HashKey> {
        self.backend()?.hash.as_deref()
    }

    /// Whether the chosen backend's endpoints are chosen by how long their answers take.
    pub fn is_timed(&self) -> bool {
        self.backend().is_some_and(|backend| backend.is_timed)
    }

    /// What a request is known by, before the winning rule changes it. `None`: nothing is asked of
    /// it, or it has not what is asked for; then its endpoint is drawn.
    ///
    /// Where several destinations of the rule ask for something, all of it counts, whichever of them is
    /// chosen, as Istio has Envoy do it (`route.go`, `hash_policy.cc`).
    ///
    /// `client` and `dialled`: the ends of the client's connection, from which a cookie is made, so
    /// that the requests on one connection that have none yet are given the same.
    pub fn hashed(
        &self,
        request: &Request<'_>,
        client: SocketAddr,
        dialled: SocketAddr,
    ) -> Option<Hashed> {
        self.hash_key()?;
        let own = self.backend().into_iter();
        let others = self.backend_index().and_then(|_| self.backends());
        let asking: &mut dyn Iterator<Item = &LinkedBackend> = match others {
            Some(all) if all.len() > 1 => &mut all.iter().filter(|one| one.weight > 0),
            _ => &mut own.into_iter(),
        };
        let mut hashed: Option<Hashed> = None;
        for key in asking.filter_map(|backend| backend.hash.as_deref()) {
            let Some(next) = hashed_by(key, request, client, dialled) else { continue };
            hashed = Some(match hashed {
                None => next,
                Some(Hashed { hash, mut set_cookies }) => {
                    set_cookies.extend(next.set_cookies);
                    Hashed { hash: hash.rotate_left(1) ^ next.hash, set_cookies }
                }
            });
        }
        hashed
    }

    /// The hash by which the endpoint of an opaque connection is chosen, if it is by the address of
    /// the client.
    pub fn hashed_connection(&self, client: SocketAddr) -> Option<u64> {
        match self.hash_key()? {
            HashKey::SourceIp => Some(hash(&client.ip().to_string())),
            HashKey::Header(_) | HashKey::Cookie(_) | HashKey::Query(_) => None,
        }
    }
}

/// What one key says of a request.
fn hashed_by(
    key: &HashKey,
    request: &Request<'_>,
    client: SocketAddr,
    dialled: SocketAddr,
) -> Option<Hashed> {
    let mut set_cookies = Vec::new();
    let value = match key {
        HashKey::Header(name) => request.headers.value(name)?,
        HashKey::Query(name) => Cow::Borrowed(query_value(request.query?, name)?),
        HashKey::SourceIp => Cow::Owned(client.ip().to_string()),
        HashKey::Cookie(cookie) => match cookie_value(request.headers, &cookie.name) {
            Some(value) => Cow::Owned(value),
            None => {
                let ttl = cookie.ttl?.as_secs();
                let value = format!("{:016x}", hash(&format!("{client}{dialled}")));
                set_cookies.push(set_cookie(cookie, &value, ttl));
                Cow::Owned(value)
            }
        },
    };
    Some(Hashed { hash: hash(&value), set_cookies })
}

fn hash(value: &str) -> u64 {
    XxHash64::oneshot(0, value.as_bytes())
}

/// The value of a cookie, without quotes; `None` if it is not there, or empty.
fn cookie_value(headers: &dyn HeaderLookup, name: &str) -> Option<String> {
    let all = headers.value("cookie")?;
    let mut pairs = all.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.trim_start_matches(' ') == name)?;
    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(bare.unwrap_or(value).to_owned()).filter(|value| !value.is_empty())
}

fn set_cookie(cookie: &HashCookie, value: &str, ttl: u64) -> String {
    let mut text = format!("{}=\"{value}\"", cookie.name);
    if ttl > 0 {
        text += &format!("; Max-Age={ttl}");
    }
    if !cookie.path.is_empty() {
        text += &format!("; Path={}", cookie.path);
    }
    for (name, value) in &cookie.attributes {
        text += &if value.is_empty() { format!("; {name}") } else { format!("; {name}={value}") };
    }
    text + "; HttpOnly"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_read_as_envoy_reads_it() {
        let sent = |text: &str| vec![("cookie".to_owned(), text.to_owned())];
        for (text, value) in [
            ("sess=a", Some("a")),
            ("x=1; sess=a=b; sess=c", Some("a=b")),
            ("x=1;   sess=\"quoted\"", Some("quoted")),
            ("sess=\"", Some("\"")),
            ("Sess=a", None),
            ("sess", None),
            ("sess=", None),
            ("sess=\"\"", None),
            ("xsess=a", None),
        ] {
            assert_eq!(cookie_value(&sent(text), "sess").as_deref(), value, "{text}");
        }
        let two = vec![("cookie".into(), "a=1".into()), ("cookie".into(), "sess=2".into())];
        assert_eq!(cookie_value(&two, "sess").as_deref(), Some("2"));
    }

    #[test]
    fn a_cookie_that_is_made_has_the_attributes_that_were_asked_for() {
        let mut cookie = HashCookie {
            name: "sess".into(),
            path: "".into(),
            ttl: Some(std::time::Duration::ZERO),
            attributes: Vec::new(),
        };
        assert_eq!(set_cookie(&cookie, "1f", 0), "sess=\"1f\"; HttpOnly");
        cookie.path = "/a".into();
        cookie.attributes = vec![("SameSite".into(), "Lax".into()), ("Secure".into(), "".into())];
        let all = "sess=\"1f\"; Max-Age=60; Path=/a; SameSite=Lax; Secure; HttpOnly";
        assert_eq!(set_cookie(&cookie, "1f", 60), all);
    }
}
