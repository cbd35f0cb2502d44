use super::*;

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn of(pairs: &[(&str, &str)]) -> Option<TraceContext> {
    TraceContext::of(&headers(pairs))
}

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

fn context(sampled: Option<bool>) -> Option<TraceContext> {
    Some(TraceContext { trace_id: TRACE, span_id: SPAN, sampled })
}

#[test]
fn traceparent_is_read_as_w3c_says() {
    let parent = |value: &str| of(&[("traceparent", value)]);
    let id = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    assert_eq!(parent(&format!("00-{id}-01")), context(Some(true)));
    assert_eq!(parent(&format!("00-{id}-00")), context(Some(false)));
    assert_eq!(parent(&format!("cc-{id}-01-what-the-future-brings")), context(Some(true)));
    for bad in [
        String::new(),
        format!("ff-{id}-01"),
        format!("00-{id}-01-more"),
        format!("00-{id}"),
        format!("00-{}-01", id.to_uppercase()),
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01".to_owned(),
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".to_owned(),
        format!("00-+{}-01", &id[1..]),
        "00-é-é-01".to_owned(),
    ] {
        assert_eq!(parent(&bad), None, "{bad}");
    }
}

#[test]
fn b3_is_read_in_one_and_in_several_headers() {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    assert_eq!(of(&[("b3", &format!("{id}-1"))]), context(Some(true)));
    assert_eq!(of(&[("b3", &format!("{id}-d-0000000000000001"))]), context(Some(true)));
    assert_eq!(of(&[("b3", &format!("{id}-0"))]), context(Some(false)));
    assert_eq!(of(&[("b3", id)]), context(None));
    assert_eq!(of(&[("b3", "0")]), None);

    let ids =
        [("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"), ("x-b3-spanid", "00f067aa0ba902b7")];
    assert_eq!(of(&ids), context(None));
    assert_eq!(of(&[ids[0], ids[1], ("x-b3-sampled", "0")]), context(Some(false)));
    assert_eq!(of(&[ids[0], ids[1], ("x-b3-flags", "1")]), context(Some(true)));
    assert_eq!(of(&ids[..1]), None);
    let short = of(&[("x-b3-traceid", "00f067aa0ba902b7"), ids[1]]).unwrap();
    assert_eq!(short.trace_id, u128::from(SPAN));
}

#[test]
fn what_is_written_is_read_again() {
    let context = TraceContext::new(TRACE, SPAN, Some(true));
    assert_eq!(of(&[("traceparent", &context.traceparent())]), Some(context));
    let (trace, span, sampled) = context.b3();
    let read =
        of(&[("x-b3-traceid", &trace), ("x-b3-spanid", &span), ("x-b3-sampled", sampled.unwrap())]);
    assert_eq!(read, Some(context));
    let child = context.child(5);
    assert_eq!((child.trace_id, child.span_id), (TRACE, 5));
    assert_eq!(
        TraceContext::new(0, 0, None).child(0).traceparent(),
        format!("00-{:032x}-{:016x}-00", 1, 1)
    );
}

#[test]
fn request_ids_are_random_uuids() {
    assert_eq!(request_id(0).to_string(), "00000000-0000-4000-8000-000000000000");
    assert_eq!(request_id(u128::MAX).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    assert_eq!(
        request_id(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef).to_string(),
        "01234567-89ab-4def-8123-456789abcdef"
    );
}
