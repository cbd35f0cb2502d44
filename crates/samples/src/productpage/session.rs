//! The session: a user name in a cookie. It protects nothing, so it is not signed.

use http::HeaderValue;

/// The cookie for a form with `username=NAME`.
pub(super) fn login(form: &[u8]) -> HeaderValue {
    let form = String::from_utf8_lossy(form);
    let user = form
        .split('&')
        .find_map(|field| field.strip_prefix("username="))
        .unwrap_or_default()
        .replace('+', "%20");
    let user: String = user.chars().take(USER_MAX).collect();
    HeaderValue::from_str(&format!("{COOKIE}={user}; HttpOnly; Path=/"))
        .unwrap_or_else(|_| logout())
}

/// The cookie that ends a session.
pub(super) fn logout() -> HeaderValue {
    HeaderValue::from_static("session=; Max-Age=0; HttpOnly; Path=/")
}

/// The user that a `Cookie` header names.
pub(super) fn user(cookies: &HeaderValue) -> Option<String> {
    let value = cookies
        .to_str()
        .ok()?
        .split(';')
        .find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
    Some(percent_decode(value)).filter(|user| !user.is_empty())
}

/// Decodes a form value; what is not UTF-8 becomes U+FFFD.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const COOKIE: &str = "session";
/// Characters of a user's name, encoded.
const USER_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_found_again() {
        for (form, expected) in [
            ("username=jason&passwd=x", Some("jason")),
            ("username=J%C3%BCrgen+K", Some("Jürgen K")),
            ("passwd=x", None),
        ] {
            let cookie = login(form.as_bytes());
            let sent = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
            let sent = HeaderValue::from_str(&format!("a=b; {sent}")).unwrap();
            assert_eq!(user(&sent).as_deref(), expected, "{form}");
        }
    }
}
