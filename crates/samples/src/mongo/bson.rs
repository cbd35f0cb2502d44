//! BSON as JSON: the types that the applications meet. Object ids and dates become strings and
//! numbers.
//!
//! Source: bsonspec.org, version 1.1.

use std::io;

use serde_json::{Map, Value};

/// A document. Numbers become int64 or double.
pub(super) fn encode(value: &Value) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                element(&mut body, name, value)?;
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                element(&mut body, &index.to_string(), value)?;
            }
        }
        _ => return Err(io::Error::other("only objects are documents")),
    }
    body.push(0);
    let length = (body.len() as u32 + 4).to_le_bytes();
    Ok([&length, &*body].concat())
}

fn element(body: &mut Vec<u8>, name: &str, value: &Value) -> io::Result<()> {
    if name.contains('\0') {
        return Err(io::Error::other("a name has a zero byte"));
    }
    let (kind, bytes) = match value {
        Value::Null => (0x0a, Vec::new()),
        Value::Bool(is) => (0x08, vec![u8::from(*is)]),
        Value::Number(number) => match number.as_i64() {
            Some(number) => (0x12, number.to_le_bytes().to_vec()),
            None => (0x01, number.as_f64().unwrap_or_default().to_le_bytes().to_vec()),
        },
        Value::String(text) => {
            let length = (text.len() as u32 + 1).to_le_bytes();
            (0x02, [&length, text.as_bytes(), &[0]].concat())
        }
        Value::Array(_) => (0x04, encode(value)?),
        Value::Object(_) => (0x03, encode(value)?),
    };
    body.push(kind);
    body.extend(name.as_bytes());
    body.push(0);
    body.extend(bytes);
    Ok(())
}

/// Reads a document that is all of `bytes`.
pub(super) fn decode(bytes: &[u8]) -> io::Result<Value> {
    let mut left = bytes;
    let document = document(&mut left, 0)?;
    if left.is_empty() { Ok(Value::Object(document)) } else { Err(broken()) }
}

fn document(left: &mut &[u8], depth: u32) -> io::Result<Map<String, Value>> {
    if depth > DEPTH_MAX {
        return Err(broken());
    }
    let length = u32::from_le_bytes(array(left)?) as usize;
    let mut body = take(left, length.checked_sub(4).ok_or_else(broken)?)?;
    let mut fields = Map::new();
    loop {
        let [kind] = array(&mut body)?;
        if kind == 0 {
            return if body.is_empty() { Ok(fields) } else { Err(broken()) };
        }
        let end = body.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
        let name = String::from_utf8_lossy(take(&mut body, end)?).into_owned();
        take(&mut body, 1)?;
        let value = match kind {
            0x01 => Value::from(f64::from_le_bytes(array(&mut body)?)),
            0x02 => {
                let length = u32::from_le_bytes(array(&mut body)?) as usize;
                let text = take(&mut body, length)?.strip_suffix(&[0]).ok_or_else(broken)?;
                Value::from(String::from_utf8_lossy(text).into_owned())
            }
            0x03 => Value::Object(document(&mut body, depth + 1)?),
            0x04 => {
                Value::Array(document(&mut body, depth + 1)?.into_iter().map(|(_, v)| v).collect())
            }
            0x07 => {
                let id: [u8; 12] = array(&mut body)?;
                Value::from(id.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            }
            0x08 => Value::from(array::<1>(&mut body)? != [0]),
            0x09 | 0x11 | 0x12 => Value::from(i64::from_le_bytes(array(&mut body)?)),
            0x0a => Value::Null,
            0x10 => Value::from(i32::from_le_bytes(array(&mut body)?)),
            0x05 => {
                let length = u32::from_le_bytes(array(&mut body)?) as usize;
                take(&mut body, length.checked_add(1).ok_or_else(broken)?)?;
                Value::Null
            }
            _ => return Err(io::Error::other("the answer has a type that is not known here")),
        };
        fields.insert(name, value);
    }
}

fn take<'a>(left: &mut &'a [u8], count: usize) -> io::Result<&'a [u8]> {
    let (taken, rest) = left.split_at_checked(count).ok_or_else(broken)?;
    *left = rest;
    Ok(taken)
}

fn array<const N: usize>(left: &mut &[u8]) -> io::Result<[u8; N]> {
    take(left, N)?.try_into().map_err(|_| broken())
}

/// Bytes that are no message of the protocol.
pub(super) fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an answer of MongoDB")
}

/// Documents inside one another.
const DEPTH_MAX: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_comes_back_and_a_part_of_it_is_refused() {
        let value = json!({
            "find": "items", "n": [1, -2, 3.5, null, true], "o": {"a": "ü\u{0}"}, "none": {},
        });
        let bytes = encode(&value).unwrap();
        assert_eq!(decode(&bytes).unwrap(), value);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn ids_and_small_numbers_are_read_and_depth_is_bounded() {
        let mut bytes = b"\x1d\0\0\0\x07_id\0ABCDEFGHIJKL\x10n\0\x05\0\0\0\0".to_vec();
        bytes[0] = bytes.len() as u8;
        let expected = json!({ "_id": "4142434445464748494a4b4c", "n": 5 });
        assert_eq!(decode(&bytes).unwrap(), expected);
        let mut deep = json!({});
        for _ in 0..60 {
            deep = json!({ "a": deep });
        }
        assert!(decode(&encode(&deep).unwrap()).is_err());
    }
}
