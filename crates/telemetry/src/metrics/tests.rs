use std::thread;

use ironmesh_model::Identity;

use super::*;

fn party(registry: &Registry, workload: &str) -> Interned<Party> {
    registry.party(&Party {
        workload: Some(workload.into()),
        namespace: Some("default".into()),
        principal: Some(Identity {
            trust_domain: "cluster.local".into(),
            namespace: "default".into(),
            service_account: workload.into(),
        }),
        app: Some("app".into()),
        version: Some("v1".into()),
        cluster: Some("Kubernetes".into()),
        canonical_service: Some("canonical".into()),
        canonical_revision: Some("latest".into()),
    })
}

fn request(registry: &Registry) -> RequestKey {
    RequestKey {
        reporter: Reporter::Destination,
        source: party(registry, "productpage-v1").id(),
        destination: party(registry, "reviews-v1").id(),
        service: registry
            .service(&ServiceLabels {
                host: Some("reviews.default.svc.cluster.local".into()),
                name: Some("reviews".into()),
                namespace: Some("default".into()),
            })
            .id(),
        protocol: RequestProtocol::Http,
        response_code: 200,
        grpc_status: None,
        reason: Reason::Inbound,
        security: Security::MutualTls,
    }
}

fn tcp(registry: &Registry) -> TcpKey {
    let RequestKey { reporter, source, destination, service, security, .. } = request(registry);
    TcpKey { reporter, source, destination, service, reason: Reason::Inbound, security }
}

fn took(milliseconds: u64) -> RequestMeasures {
    RequestMeasures {
        duration: Duration::from_millis(milliseconds),
        request_bytes: 100,
        response_bytes: 2_000,
    }
}

/// Lines of the exposition that begin with this.
fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

/// The value at the end of a line.
fn value(line: &str) -> &str {
    line.rsplit(' ').next().unwrap()
}

#[test]
fn a_request_shows_with_istio_s_labels() {
    let registry = Registry::new(100);
    let mut worker = registry.worker();
    worker.request(&request(&registry), took(7));
    let text = registry.render();
    let total = lines(&text, "istio_requests_total")[0];
    assert_eq!(
        total,
        "istio_requests_total{reporter=\"destination\",\
         source_workload=\"productpage-v1\",source_workload_namespace=\"default\",\
         source_principal=\"spiffe://cluster.local/ns/default/sa/productpage-v1\",\
         source_app=\"app\",source_version=\"v1\",source_cluster=\"Kubernetes\",\
         source_canonical_service=\"canonical\",source_canonical_revision=\"latest\",\
         destination_workload=\"reviews-v1\",destination_workload_namespace=\"default\",\
         destination_principal=\"spiffe://cluster.local/ns/default/sa/reviews-v1\",\
         destination_app=\"app\",destination_version=\"v1\",destination_cluster=\"Kubernetes\",\
         destination_canonical_service=\"canonical\",destination_canonical_revision=\"latest\",\
         destination_service=\"reviews.default.svc.cluster.local\",\
         destination_service_name=\"reviews\",destination_service_namespace=\"default\",\
         request_protocol=\"http\",response_code=\"200\",response_flags=\"-\",\
         connection_security_policy=\"mutual_tls\",reason=\"inbound\"} 1"
    );
    assert!(text.contains("# TYPE istio_requests_total counter\n"));
    assert!(text.contains("# TYPE istio_request_duration_milliseconds histogram\n"));
}

#[test]
fn histograms_are_cumulative_with_istio_s_buckets() {
    let registry = Registry::new(100);
    let mut worker = registry.worker();
    let key = request(&registry);
    for milliseconds in [1, 3, 5, 7, 4_000_000] {
        worker.request(&key, took(milliseconds));
    }
    let text = registry.render();
    let bucket = |bound: &str| {
        let buckets = lines(&text, "istio_request_duration_milliseconds_bucket");
        let le = format!("le=\"{bound}\"");
        value(buckets.iter().find(|line| line.contains(&le)).unwrap()).to_owned()
    };
    // A bound belongs to its bucket.
    let counts = ["0.5", "1", "5", "10", "3600000", "+Inf"].map(bucket);
    assert_eq!(counts, ["0", "1", "3", "4", "4", "5"]);
    let all = lines(&text, "istio_request_duration_milliseconds_bucket");
    assert_eq!(all.len(), 20, "19 bounds and +Inf");
    let sum = lines(&text, "istio_request_duration_milliseconds_sum")[0];
    assert_eq!(value(sum), "4000016");
    assert_eq!(value(lines(&text, "istio_request_duration_milliseconds_count")[0]), "5");
    assert_eq!(value(lines(&text, "istio_request_bytes_sum")[0]), "500");
    assert_eq!(value(lines(&text, "istio_response_bytes_sum")[0]), "10000");
}

#[test]
fn workers_are_added_up() {
    let registry = Registry::new(100);
    let (mut one, mut two) = (registry.worker(), registry.worker());
    let key = request(&registry);
    one.request(&key, took(1));
    two.request(&key, took(1));
    two.request(&RequestKey { reason: Reason::Route, ..key }, took(1));
    let text = registry.render();
    for name in ["istio_requests_total", "istio_request_duration_milliseconds_count"] {
        let values: Vec<_> = lines(&text, name).into_iter().map(value).collect();
        assert_eq!(values, ["2", "1"], "{name}");
    }
}

#[test]
fn every_series_stands_once_and_every_family_has_one_head() {
    let registry = Registry::new(100);
    let mut worker = registry.worker();
    let key = request(&registry);
    for response_code in [200, 404, 503] {
        for reason in [Reason::Inbound, Reason::ConnectFailed] {
            worker.request(&RequestKey { response_code, reason, ..key }, took(1));
        }
    }
    for &reason in Reason::ALL {
        for (reporter, security) in [
            (Reporter::Source, Security::None),
            (Reporter::Source, Security::MutualTls),
            (Reporter::Destination, Security::None),
        ] {
            let opened = TcpMeasures { opened: 1, ..TcpMeasures::default() };
            let key = TcpKey { reporter, security, reason, ..tcp(&registry) };
            worker.connection(&key, opened);
            let key = RequestKey { reporter, security, reason, ..request(&registry) };
            worker.request(&key, took(1));
        }
    }
    let text = registry.render();
    let mut series: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let count = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), count);
    let mut heads = lines(&text, "# TYPE");
    let count = heads.len();
    heads.dedup();
    assert_eq!(heads.len(), count);
}

#[test]
fn what_is_not_known_and_what_needs_escaping_is_written_so() {
    let registry = Registry::new(100);
    let mut worker = registry.worker();
    let key = RequestKey {
        reporter: Reporter::Source,
        source: PartyId::UNKNOWN,
        destination: registry
            .party(&Party { workload: Some("a\"b\\c\nd".into()), ..Party::default() })
            .id(),
        service: ServiceLabelsId::UNKNOWN,
        protocol: RequestProtocol::Grpc,
        grpc_status: Some(14),
        security: Security::None,
        ..request(&registry)
    };
    worker.request(&key, took(1));
    let text = registry.render();
    let total = lines(&text, "istio_requests_total")[0];
    for expected in [
        "source_workload=\"unknown\"",
        "source_principal=\"unknown\"",
        "destination_workload=\"a\\\"b\\\\c\\nd\"",
        "destination_service=\"unknown\"",
        "request_protocol=\"grpc\"",
        "grpc_response_status=\"14\"",
        "connection_security_policy=\"unknown\"",
    ] {
        assert!(total.contains(expected), "{expected} is not in {total}");
    }
}

#[test]
fn connections_count_bytes_both_ways() {
    let registry = Registry::new(100);
    let mut worker = registry.worker();
    let key = tcp(&registry);
    worker.connection(&key, TcpMeasures { opened: 1, ..TcpMeasures::default() });
    let bytes = TcpMeasures { sent_bytes: 10, received_bytes: 3, ..TcpMeasures::default() };
    worker.connection(&key, bytes);
    worker.connection(&key, TcpMeasures { closed: 1, ..bytes });
    let text = registry.render();
    let one = |name| value(lines(&text, name)[0]).to_owned();
    assert_eq!(one("istio_tcp_connections_opened_total"), "1");
    assert_eq!(one("istio_tcp_connections_closed_total"), "1");
    assert_eq!(one("istio_tcp_sent_bytes_total"), "20");
    assert_eq!(one("istio_tcp_received_bytes_total"), "6");
    assert!(text.contains("request_protocol=\"tcp\""));
    assert!(!text.contains("istio_requests_total"), "a family without series is left out");
}

/// Every way in which the labels of a request can vary.
fn varied(registry: &Registry, n: u16) -> RequestKey {
    let reasons = Reason::ALL;
    RequestKey {
        reporter: if n.is_multiple_of(3) { Reporter::Source } else { Reporter::Destination },
        source: party(registry, &format!("workload-{}", n % 50)).id(),
        protocol: if n.is_multiple_of(2) { RequestProtocol::Http } else { RequestProtocol::Grpc },
        response_code: n,
        grpc_status: u8::try_from(n % 300).ok(),
        reason: reasons[usize::from(n) % reasons.len()],
        security: if n.is_multiple_of(5) { Security::None } else { Security::MutualTls },
        ..request(registry)
    }
}

#[test]
fn beyond_the_limit_nothing_is_lost_but_the_names() {
    let registry = Registry::new(20);
    let mut workers = [registry.worker(), registry.worker()];
    for n in 0..2_000 {
        let key = varied(&registry, n);
        let RequestKey { reporter, source, destination, service, reason, security, .. } = key;
        let connection = TcpKey { reporter, source, destination, service, reason, security };
        let worker = &mut workers[usize::from(n % 2)];
        worker.request(&key, took(1));
        worker.connection(&connection, TcpMeasures { opened: 1, ..TcpMeasures::default() });
    }
    let text = registry.render();
    for name in ["istio_requests_total", "istio_tcp_connections_opened_total"] {
        let series = lines(&text, name);
        assert!(series.len() <= 20, "{} series of {name}", series.len());
        let sum: u64 = series.iter().map(|line| value(line).parse::<u64>().unwrap()).sum();
        assert_eq!(sum, 2_000);
        let other =
            series.iter().filter(|line| line.contains("source_canonical_revision=\"other\""));
        let sum: u64 = other.map(|line| value(line).parse::<u64>().unwrap()).sum();
        assert!(sum >= 1_900, "{sum} are counted under no names");
    }
    let other =
        lines(&text, "istio_requests_total").into_iter().rfind(|line| line.contains("other"));
    for label in ["response_code", "response_flags", "reason", "destination_service"] {
        assert!(other.unwrap().contains(&format!("{label}=\"other\"")), "{label}: {other:?}");
    }
}

#[test]
fn a_worker_without_room_counts_where_another_has_begun() {
    let registry = Registry::new(10);
    let (mut one, mut two) = (registry.worker(), registry.worker());
    let key = RequestKey { response_code: 999, ..request(&registry) };
    one.request(&key, took(1));
    for n in 0..8 {
        two.request(&varied(&registry, n), took(1));
    }
    two.request(&key, took(1));
    let text = registry.render();
    let both =
        lines(&text, "istio_requests_total").into_iter().find(|line| line.contains("\"999\""));
    assert_eq!(both.map(value), Some("2"));
}

#[test]
fn an_idle_series_ends_and_its_labels_are_forgotten() {
    let registry = Registry::new(10);
    let mut worker = registry.worker();
    for n in 0..1_000 {
        // Pods come and go.
        let source = party(&registry, &format!("pod-{n}"));
        worker.request(&RequestKey { source: source.id(), ..request(&registry) }, took(1));
        let opened = TcpMeasures { opened: 1, closed: 1, ..TcpMeasures::default() };
        worker.connection(&TcpKey { source: source.id(), ..tcp(&registry) }, opened);
        drop(source);
        worker.end_idle();
        let text = registry.render();
        for name in ["istio_requests_total", "istio_tcp_connections_opened_total"] {
            let series = lines(&text, name);
            assert!(
                series.len() <= 2,
                "what was busy since the last time, and that before: {series:?}"
            );
            let own = format!("source_workload=\"pod-{n}\"");
            assert!(series.iter().any(|line| line.contains(&own)), "{own} is not in {series:?}");
        }
    }
    worker.end_idle();
    worker.end_idle();
    assert_eq!(registry.render(), "");
}

#[test]
fn a_series_goes_on_while_one_worker_counts_in_it() {
    let registry = Registry::new(10);
    let (mut one, mut two) = (registry.worker(), registry.worker());
    let key = request(&registry);
    let total = |registry: &Registry| {
        let text = registry.render();
        lines(&text, "istio_requests_total").first().map(|line| value(line).to_owned())
    };
    one.request(&key, took(1));
    for expected in 2..10_u32 {
        two.request(&key, took(1));
        one.end_idle();
        two.end_idle();
        assert_eq!(total(&registry), Some(expected.to_string()), "what `one` counted stays");
    }
    one.request(&key, took(1));
    assert_eq!(total(&registry).as_deref(), Some("10"));
    for worker in [&mut one, &mut two] {
        worker.end_idle();
        worker.end_idle();
    }
    assert_eq!(total(&registry), None);
    one.request(&key, took(1));
    assert_eq!(total(&registry).as_deref(), Some("1"), "it begins anew");
}

#[test]
fn the_series_of_an_open_connection_is_kept() {
    let registry = Registry::new(10);
    let mut worker = registry.worker();
    let key = tcp(&registry);
    worker.connection(&key, TcpMeasures { opened: 1, ..TcpMeasures::default() });
    for _ in 0..3 {
        worker.end_idle();
    }
    worker.connection(&key, TcpMeasures { closed: 1, ..TcpMeasures::default() });
    let text = registry.render();
    for name in ["istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"] {
        assert_eq!(value(lines(&text, name)[0]), "1");
    }
    for _ in 0..2 {
        worker.end_idle();
    }
    assert_eq!(registry.render(), "");
}

#[test]
fn a_page_comes_in_small_pieces_that_end_with_a_line() {
    let registry = Registry::new(1_000);
    let mut worker = registry.worker();
    for n in 0..900 {
        worker.request(&varied(&registry, n), took(1));
    }
    let whole = registry.render();
    assert!(whole.len() > 10 << 20, "{}", whole.len());
    let mut page = registry.page();
    let mut again = String::new();
    // Series that end while a page is written are written to their end.
    for piece in page.by_ref().take(10) {
        again.push_str(&piece);
    }
    worker.end_idle();
    worker.end_idle();
    assert_eq!(registry.render(), "");
    for piece in page {
        assert!(piece.len() < 64 << 10, "{}", piece.len());
        assert!(piece.ends_with('\n'));
        again.push_str(&piece);
    }
    assert!(again == whole);
}

#[test]
fn a_scrape_sees_a_worker_of_another_thread() {
    let registry = Registry::new(100);
    let key = request(&registry);
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let mut worker = registry.worker();
            thread::spawn(move || {
                for _ in 0..10_000 {
                    worker.request(&key, took(1));
                }
            })
        })
        .collect();
    let mut before = 0;
    while !workers.iter().all(thread::JoinHandle::is_finished) {
        let text = registry.render();
        let now = lines(&text, "istio_requests_total")
            .first()
            .map_or(0, |line| value(line).parse::<u64>().unwrap());
        assert!(now >= before, "a counter never goes down");
        before = now;
    }
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(value(lines(&registry.render(), "istio_requests_total")[0]), "40000");
}

#[test]
fn a_number_of_the_process_shows_as_it_is() {
    let registry = Registry::new(10);
    let dropped = Arc::<AtomicU64>::default();
    let single =
        Single { name: "ironmesh_access_log_dropped_total", help: "Lines dropped.", gauge: false };
    registry.single(single, dropped.clone());
    dropped.store(5, Ordering::Relaxed);
    assert_eq!(
        registry.render(),
        "# HELP ironmesh_access_log_dropped_total Lines dropped.\n\
         # TYPE ironmesh_access_log_dropped_total counter\n\
         ironmesh_access_log_dropped_total 5\n"
    );
}
