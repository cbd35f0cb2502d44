//! The memory that regexes take while they match. Alone in its process, so that nothing else counts.

use ironmesh_model::text_match::compile_regex;

/// Patterns that are small, but come into a new state with almost every byte.
const PATTERNS: usize = 20;
const RESIDENT_BYTES_MAX: usize = 30 << 20;

#[test]
fn many_regexes_that_are_hard_to_match_take_little_memory() {
    let before = resident_bytes();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if seed & 1 == 0 { 'a' } else { 'b' }
    };
    let text: String = (0..30_000).map(|_| next()).collect();
    let all: Vec<_> = (0..PATTERNS)
        .map(|n| {
            let regex = compile_regex(&format!("(a|b)*a(a|b){{18}}(x{n})?")).unwrap();
            regex.is_match(&text);
            regex
        })
        .collect();
    let taken = resident_bytes() - before;
    assert!(taken < RESIDENT_BYTES_MAX, "{taken} bytes for {} patterns", all.len());
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("proc(5)");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number of statm") * 4096
}
