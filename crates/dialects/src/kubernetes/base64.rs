//! Standard base64 with padding (RFC 4648, section 4), as Kubernetes' API reads and writes bytes.

use ::base64::Engine;
use ::base64::alphabet::STANDARD;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Bytes as text.
pub fn encode(bytes: &[u8]) -> String {
    ENGINE.encode(bytes)
}

/// The bytes of a text; none if it is no base64. Line breaks are passed over, as Go's decoder does.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    ENGINE.decode(bytes).ok()
}

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gos_decoder_takes() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("aGVsbG8=", Some(b"hello")),
            ("aGVs\r\nbG8=\n", Some(b"hello")),
            ("aGVsbG9=", Some(b"hello")),
            ("aGVsbG8", None),
            ("$USER", None),
            ("aGVs bG8=", None),
        ] {
            assert_eq!(decode(text).as_deref(), bytes, "{text:?}");
        }
        assert_eq!(encode(b"hello"), "aGVsbG8=");
    }
}
