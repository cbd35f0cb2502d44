//! What bytes a text has, looked at eight at a time: for the short texts of a head that is faster than
//! vector code, which looks at what is left over byte by byte.

/// Whether there is a byte that may not be in the value of a field: NUL, CR, LF and all other control
/// bytes but HTAB.
pub(crate) fn has_control(value: &[u8]) -> bool {
    any(value, is_control, |word| {
        (!at_least(word, 0x20) & !equals(word, b'\t')) | equals(word, 0x7f)
    })
}

/// Whether a byte is one that [`has_control`] looks for.
pub(crate) fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// Whether there is a capital letter of ASCII.
pub(crate) fn has_upper(text: &[u8]) -> bool {
    any(
        text,
        |byte| byte.is_ascii_uppercase(),
        |word| at_least(word, b'A') & !at_least(word, b'Z' + 1),
    )
}

/// Whether a byte is meant: `is` says it of one, `of_word` by the high bits of eight.
fn any(text: &[u8], is: impl Fn(u8) -> bool, of_word: impl Fn(u64) -> u64) -> bool {
    let Some(last) = text.last_chunk() else { return text.iter().any(|byte| is(*byte)) };
    // Without early exit. The last eight may overlap those before.
    let (words, _) = text.as_chunks();
    let found = |found, word: &[u8; 8]| found | of_word(u64::from_ne_bytes(*word));
    words.iter().chain([last]).fold(0, found) & HIGH != 0
}

const EACH: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = EACH * 0x80;

/// Sets the high bit of each byte that is at least `least`, which is 1 to 0x80. Others are not touched:
/// what is added to seven bits does not carry further than into the eighth.
fn at_least(word: u64, least: u8) -> u64 {
    ((word & !HIGH) + EACH * (0x80 - u64::from(least))) | word
}

/// Sets the high bit of each byte that is this one.
fn equals(word: u64, byte: u8) -> u64 {
    !at_least(word ^ (EACH * u64::from(byte)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_wherever_it_is(has: fn(&[u8]) -> bool, is: fn(u8) -> bool) {
        for length in 0..=33 {
            for fill in [b'a', b'\t', b' ', b'@', b'[', b'~', 0x80, 0xc1, 0xff] {
                let mut text = vec![fill; length];
                assert!(!has(&text), "{text:?}");
                for at in 0..length {
                    for byte in 0..=u8::MAX {
                        text[at] = byte;
                        assert_eq!(has(&text), is(byte), "{text:?}");
                    }
                    text[at] = fill;
                }
            }
        }
    }

    #[test]
    fn control_bytes_are_found_wherever_they_are() {
        found_wherever_it_is(has_control, |byte| matches!(byte, 0..=8 | 10..=31 | 127));
    }

    #[test]
    fn capital_letters_are_found_wherever_they_are() {
        found_wherever_it_is(has_upper, |byte| byte.is_ascii_uppercase());
    }
}
