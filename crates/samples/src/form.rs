//! Queries and forms.

/// The fields of a query or form, in their order.
pub(crate) fn fields(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split('&').filter(|field| !field.is_empty()).map(|field| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        (decoded(name), decoded(value))
    })
}

/// The first field of this name.
pub(crate) fn field(text: &str, name: &str) -> Option<String> {
    fields(text).find_map(|(field, value)| (field == name).then_some(value))
}

/// Decodes a name or value of a form: `+` is a space, `%XX` a byte.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let escaped = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (first, escaped) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', None) => bytes.push(b' '),
            (byte, None) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Makes text safe inside HTML and its attributes.
pub(crate) fn html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded() {
        let text = "a+b=c%26d&e=100%25&e=%c3%bc&%zz";
        let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [owned("a b", "c&d"), owned("e", "100%"), owned("e", "ü"), owned("%zz", "")];
        assert_eq!(fields(text).collect::<Vec<_>>(), expected);
        assert_eq!(field(text, "e").as_deref(), Some("100%"));
        assert_eq!(field(text, "none"), None);
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(html("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
        assert_eq!(html("Cats"), "Cats");
    }
}
