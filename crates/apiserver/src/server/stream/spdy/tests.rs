use super::*;

/// A zlib stream of headers as a client makes it: with the dictionary, in a stored block.
fn compressed(headers: &[(&str, &str)], is_first: bool) -> Vec<u8> {
    let mut block = Vec::new();
    block.put_u32(headers.len() as u32);
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        block.put_u32(text.len() as u32);
        block.put_slice(text.as_bytes());
    }
    let length = block.len() as u16;
    let mut out = Vec::new();
    if is_first {
        out.extend_from_slice(&[0x78, 0xbb]);
        out.extend_from_slice(&DICTIONARY_ID);
    }
    out.push(0);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(&block);
    out.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
    out
}

#[test]
fn headers_are_read_over_many_frames() {
    let mut inflating = Inflating::default();
    for (number, is_first) in [("0", true), ("1", false), ("2", false)] {
        let block = compressed(&[("streamType", "data"), ("requestid", number)], is_first);
        let headers = parse(&inflating.inflate(&block).unwrap()).unwrap();
        let owned = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(headers, [owned("streamtype", "data"), owned("requestid", number)]);
    }
}

#[test]
fn what_refers_to_the_dictionary_is_read() {
    // Made by Go's compress/zlib with the dictionary: a block of one header, "host" of three letters.
    let block = [0, 0, 0, 1, 0, 0, 0, 4, b'h', b'o', b's', b't', 0, 0, 0, 3, b'a', b'b', b'c'];
    let mut deflated = vec![0x78, 0xbb];
    deflated.extend_from_slice(&DICTIONARY_ID);
    deflated.extend_from_slice(&fixed_with_match(&block));
    let headers = parse(&Inflating::default().inflate(&deflated).unwrap()).unwrap();
    assert_eq!(headers, [("host".to_owned(), "abc".to_owned())]);
}

/// A fixed block that takes the bytes 4.. of `block` up to "host" from the dictionary, by distance.
fn fixed_with_match(block: &[u8]) -> Vec<u8> {
    let needle = &block[4..12];
    let at = DICTIONARY.windows(needle.len()).position(|window| window == needle).unwrap();
    let distance = DICTIONARY.len() + 4 - at;
    let mut bits = Bits::default();
    bits.put(0, 1);
    bits.put(1, 2);
    for byte in &block[..4] {
        bits.literal(*byte);
    }
    // Length 8 is code 262, without extra bits.
    bits.code(262 - 256, 7);
    // Distances from 1 025 on have codes of 9 extra bits and more.
    let (code, base, extra) = [(20, 1_025, 9), (18, 513, 8), (16, 257, 7)]
        .into_iter()
        .find(|(_, base, extra)| distance >= *base && distance < base + (1 << (extra + 1)))
        .unwrap();
    let (code, base) = if distance >= base + (1 << extra) {
        (code + 1, base + (1 << extra))
    } else {
        (code, base)
    };
    bits.code(code, 5);
    bits.put((distance - base) as u32, extra);
    for byte in &block[12..] {
        bits.literal(*byte);
    }
    // The block ends, and an empty stored one follows.
    bits.code(0, 7);
    bits.put(0, 3);
    let mut out = bits.bytes();
    out.extend_from_slice(&[0, 0, 0xff, 0xff]);
    out
}

#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        self.0.extend((0..count).map(|bit| value >> bit & 1 == 1));
    }

    /// Huffman codes go with their highest bit first.
    fn code(&mut self, value: u32, count: u32) {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    }

    fn literal(&mut self, byte: u8) {
        match byte {
            0..=143 => self.code(0x30 + u32::from(byte), 8),
            _ => self.code(0x190 + u32::from(byte) - 144, 9),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at)
        };
        self.0.chunks(8).map(byte).collect()
    }
}

#[test]
fn hostile_headers_are_refused_and_take_no_memory() {
    let good = compressed(&[("streamtype", "data")], true);
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0x41;
        // Whatever it is: no panic, and no more than the bound.
        if let Ok(out) = Inflating::default().inflate(&changed) {
            assert!(out.len() <= HEADERS_BYTES_MAX);
            let _ = parse(&out);
        }
        let _ = Inflating::default().inflate(&good[..at]);
    }
    // A bomb: a run of the longest matches.
    let mut bits = Bits::default();
    bits.put(0, 1);
    bits.put(1, 2);
    bits.literal(b'a');
    for _ in 0..10_000 {
        bits.code(0xc0 + 285 - 280, 8);
        bits.code(0, 5);
    }
    let bomb = [&[0x78, 0x01][..], &bits.bytes()].concat();
    assert_eq!(Inflating::default().inflate(&bomb), Err(Broken));
    for hostile in [&[0xff; 4][..], &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], &[0, 0, 0, 2, 0, 0]] {
        assert_eq!(parse(hostile), Err(Broken));
    }
}

#[test]
fn frames_that_are_sent() {
    assert_eq!(ping(7)[..], [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
    assert_eq!(reset(3)[..], [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5]);
    assert_eq!(end(5)[..], [0, 0, 0, 5, 1, 0, 0, 0]);
    let mut frame = room();
    frame.put_slice(b"hello");
    assert_eq!(data(frame, 5)[..], *b"\0\0\0\x05\0\0\0\x05hello");
    let first = reply(1, true);
    let second = reply(3, false);
    let mut inflating = Inflating::default();
    for frame in [first, second] {
        assert_eq!(parse(&inflating.inflate(&frame[12..]).unwrap()), Ok(Vec::new()));
    }
}
