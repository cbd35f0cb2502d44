use super::*;

#[test]
fn a_trace_is_written_as_w3c_says() {
    let context = TraceContext::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 5, true);
    assert_eq!(context.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000005-01");
    let (trace, span) = (format!("{:032x}", 1), format!("{:016x}", 1));
    let none = TraceContext::new(0, 0, false).traceparent();
    assert_eq!(none, format!("00-{trace}-{span}-00"), "0 is no id");
}

#[test]
fn a_client_may_say_whether_to_sample() {
    for (headers, sampled) in [
        (&[][..], None),
        (&[("x-b3-sampled", "1")], Some(true)),
        (&[("x-b3-sampled", "0")], Some(false)),
        (&[("x-b3-sampled", "maybe")], None),
        (&[("x-b3-sampled", "0"), ("x-b3-flags", "1")], Some(true)),
        (&[("x-b3-flags", "0")], None),
    ] {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(b3_sampled(&headers), sampled, "{headers:?}");
    }
}

#[test]
fn request_ids_are_random_uuids() {
    assert_eq!(request_id(0), "00000000-0000-4000-8000-000000000000");
    assert_eq!(request_id(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    assert_eq!(
        request_id(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        "01234567-89ab-4def-8123-456789abcdef"
    );
}
