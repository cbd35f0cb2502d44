//! Bytes as lower-case hex digits.

use std::fmt::Write;

/// The digits of `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes that `text` spells; `None` if it is not pairs of hex digits.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from((nibble(*high)? << 4) | nibble(*low)?).ok(),
            _ => None,
        })
        .collect()
}
