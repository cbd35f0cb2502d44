use serde_json::json;

use super::*;

fn open(directory: &Path) -> Store {
    Store::open(directory, &ControlLimits::default()).unwrap()
}

fn key(name: &str) -> Key {
    Collection::core("pods").key("default", name)
}

fn pod(name: &str, color: &str) -> Object {
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {"color": color}})
}

fn set_color(store: &Store, name: &str, color: &str) -> Arc<Object> {
    let change = |old: &Object| {
        let mut new = old.clone();
        new["spec"]["color"] = color.into();
        Ok::<_, Error>(new)
    };
    store.update(&key(name), change).unwrap()
}

#[test]
fn everything_acknowledged_survives_a_restart_and_watches_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.create(&key("a"), pod("a", "red")).unwrap();
    store.create(&key("b"), pod("b", "red")).unwrap();
    let seen = store.revision();
    set_color(&store, "a", "blue");
    store.remove(&key("b")).unwrap();
    let before = store.revision();
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.revision(), before);
    assert_eq!(store.object(&key("a")).unwrap()["spec"]["color"], "blue");
    assert_eq!(store.object(&key("a")).unwrap()["metadata"]["generation"], 2);
    assert!(store.object(&key("b")).is_none());
    let kinds: Vec<_> = store
        .events_after(seen, 10)
        .unwrap()
        .iter()
        .map(|e| (e.kind, e.key.name.to_string()))
        .collect();
    assert_eq!(
        kinds,
        [(EventKind::Modified, "a".to_owned()), (EventKind::Deleted, "b".to_owned())]
    );
}

#[test]
fn compaction_keeps_objects_and_version_and_forgets_history() {
    let directory = tempfile::tempdir().unwrap();
    let limits = ControlLimits { journal_slack_bytes: 2_000, ..ControlLimits::default() };
    let store = Store::open(directory.path(), &limits).unwrap();
    store.create(&key("a"), pod("a", "red")).unwrap();
    for number in 0..200 {
        set_color(&store, "a", &number.to_string());
        store.tend(false).unwrap();
    }
    let revision = store.revision();
    drop(store);
    let length = std::fs::metadata(directory.path().join("journal")).unwrap().len();
    assert!(length < 4_000, "{length}");
    let store = open(directory.path());
    assert_eq!(store.revision(), revision);
    assert_eq!(store.object(&key("a")).unwrap()["spec"]["color"], "199");
    assert!(store.events_after(1, 10).is_err());
    assert!(store.events_after(revision, 10).unwrap().is_empty());
}

#[test]
fn history_is_bounded_and_says_when_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let limits = ControlLimits { watch_history_max: 3, ..ControlLimits::default() };
    let store = Store::open(directory.path(), &limits).unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        store.create(&key(name), pod(name, "red")).unwrap();
    }
    assert_eq!(store.events_after(1, 10).unwrap_err(), Gone { asked: 1, kept: 2 });
    assert_eq!(store.events_after(2, 10).unwrap().len(), 3);
    assert_eq!(store.events_after(2, 2).unwrap().len(), 2);
    assert!(store.events_after(9, 10).is_err());
}

#[test]
fn an_equal_update_writes_nothing_and_status_is_no_intent() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.create(&key("a"), pod("a", "red")).unwrap();
    let before = store.revision();
    set_color(&store, "a", "red");
    assert_eq!(store.revision(), before);
    let set_status = |old: &Object| {
        let mut new = old.clone();
        new["status"] = json!({"phase": "Running"});
        Ok::<_, Error>(new)
    };
    let updated = store.update(&key("a"), set_status).unwrap();
    assert_eq!(updated.pointer("/metadata/generation"), None);
    assert_eq!(store.revision(), before + 1);
}

#[test]
fn a_change_larger_than_the_history_is_seen_by_who_saw_all_others() {
    let directory = tempfile::tempdir().unwrap();
    let limits = ControlLimits { watch_history_bytes_max: 500, ..ControlLimits::default() };
    let store = Store::open(directory.path(), &limits).unwrap();
    store.create(&key("a"), pod("a", "red")).unwrap();
    store.create(&key("b"), pod("b", &"x".repeat(1_000))).unwrap();
    assert_eq!(store.events_after(1, 10).unwrap().len(), 1);
    assert_eq!(store.events_after(0, 10).unwrap_err(), Gone { asked: 0, kept: 1 });
}

#[test]
fn compaction_that_fails_leaves_nothing_and_is_not_tried_at_each_change() {
    let directory = tempfile::tempdir().unwrap();
    let limits = ControlLimits { journal_slack_bytes: 2_000, ..ControlLimits::default() };
    let store = Store::open(directory.path(), &limits).unwrap();
    store.create(&key("a"), pod("a", "red")).unwrap();
    // A directory of that name: no file can be made.
    let next = directory.path().join("journal.next");
    std::fs::create_dir(&next).unwrap();
    for number in 0..30 {
        set_color(&store, "a", &number.to_string());
        store.tend(false).unwrap();
    }
    let length = || std::fs::metadata(directory.path().join("journal")).unwrap().len();
    assert!(length() > 2_500, "{}", length());
    std::fs::remove_dir(&next).unwrap();
    for number in 30..60 {
        set_color(&store, "a", &number.to_string());
        store.tend(false).unwrap();
    }
    assert!(length() < 5_000, "{}", length());
    assert!(!next.exists());
    drop(store);
    assert_eq!(open(directory.path()).object(&key("a")).unwrap()["spec"]["color"], "59");
}

#[test]
fn objects_that_no_reader_would_take_are_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let limits = ControlLimits { object_bytes_max: 1_000, ..ControlLimits::default() };
    let store = Store::open(directory.path(), &limits).unwrap();
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
    let with_spec = |spec: Value| json!({"kind": "Pod", "metadata": {"name": "a", "namespace": "default"}, "spec": spec});
    // As deep as it may be, it is read again from the journal.
    store.create(&key("a"), with_spec(nested(99))).unwrap();
    let deeper = store.create(&key("b"), with_spec(nested(100))).unwrap_err();
    assert!(matches!(deeper, Error::TooDeep(_)), "{deeper}");
    // What grows by small changes ends at the limit, too.
    let grow = |old: &Object| {
        let mut new = old.clone();
        let count = new["metadata"].as_object().unwrap().len();
        new["metadata"][format!("x{count}")] = "x".repeat(100).into();
        Ok::<_, Error>(new)
    };
    let refused = (0..20).find_map(|_| store.update(&key("a"), grow).err()).unwrap();
    assert!(refused.to_string().contains("object_bytes_max = 1000"), "{refused}");
    drop(store);
    assert_eq!(open(directory.path()).list(&Collection::core("pods"), None).0.len(), 1);
}

mod damage;
