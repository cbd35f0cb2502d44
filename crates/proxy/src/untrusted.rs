//! Bytes from the network that nobody vouches for: the properties of the fuzz targets, over their
//! seeds and a bounded number of changes to them.

use std::fs;

#[expect(unreachable_pub, reason = "it is public in the fuzz crate")]
#[path = "../fuzz/src/client_hello_properties.rs"]
mod client_hello_properties;
#[expect(unreachable_pub, reason = "it is public in the fuzz crate")]
#[path = "../fuzz/src/first_bytes_properties.rs"]
mod first_bytes_properties;
#[expect(unreachable_pub, reason = "it is public in the fuzz crate")]
#[path = "../fuzz/src/http1_properties.rs"]
pub(crate) mod http1_properties;
#[expect(unreachable_pub, reason = "it is public in the fuzz crate")]
#[path = "../fuzz/src/path_properties.rs"]
mod path_properties;
#[expect(unreachable_pub, reason = "it is public in the fuzz crate")]
#[path = "../fuzz/src/wire_properties.rs"]
mod wire_properties;

#[test]
fn http1_seeds_hold_changed_too() {
    changed("http1", 4_000, |bytes| {
        http1_properties::requests(bytes);
        http1_properties::responses(bytes);
        http1_properties::chunked(bytes);
    });
}

#[test]
fn resources_hold_changed_too() {
    changed("wire", 20_000, wire_properties::resource);
}

#[test]
fn client_hellos_hold_changed_too() {
    changed("client_hello", 20_000, client_hello_properties::hello);
}

#[test]
fn first_bytes_hold_changed_too() {
    for family in ["first_bytes", "client_hello", "http1"] {
        changed(family, 4_000, |bytes| {
            first_bytes_properties::sniff(bytes);
            first_bytes_properties::detect(bytes);
        });
    }
}

#[test]
fn proxy_protocol_headers_hold_changed_too() {
    changed("proxy_protocol", 20_000, first_bytes_properties::proxy_protocol);
}

#[test]
fn paths_hold_changed_too() {
    changed("path", 20_000, path_properties::normalised);
}

/// The seeds of a family of fuzz targets.
pub(crate) fn seeds(family: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/fuzz/seeds/{family}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the seeds are there")
        .map(|file| file.expect("a readable folder").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a readable seed")).collect()
}

/// Checks every seed, then so many changed ones, always the same.
fn changed(family: &str, count: usize, check: impl Fn(&[u8])) {
    let seeds = seeds(family);
    seeds.iter().for_each(|seed| check(seed));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for _ in 0..count {
        let mut bytes = seeds[next(seeds.len())].clone();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(5) {
                0 => bytes[at] = next(256) as u8,
                1 => bytes.insert(at, b"\r\n \t:,;\0"[next(8)]),
                2 => drop(bytes.remove(at)),
                3 => {
                    let other = &seeds[next(seeds.len())];
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[next(other.len())..]);
                }
                _ => {
                    let piece = bytes[at..].to_vec();
                    bytes.extend_from_slice(&piece);
                }
            }
            bytes.push(b'\n');
        }
        check(&bytes);
    }
}
