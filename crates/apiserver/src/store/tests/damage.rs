//! Journals that were cut or changed: what is lost is said, and nothing is lost beside it.

use std::fs;

use super::*;

/// A journal with a compacted part and changes behind it, synced and marked.
fn written(directory: &Path) -> Vec<u8> {
    let store = open(directory);
    for name in ["a", "b", "c"] {
        store.create(&key(name), pod(name, "red")).unwrap();
    }
    store.tend(true).unwrap();
    set_color(&store, "b", "blue");
    store.remove(&key("c")).unwrap();
    store.create(&key("d"), pod("d", "red")).unwrap();
    store.tend(false).unwrap();
    drop(store);
    assert!(open(directory).losses().is_empty());
    fs::read(directory.join("journal")).unwrap()
}

fn copies(directory: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let damaged = files.filter(|path| path.to_string_lossy().contains("journal.damaged."));
    damaged.map(|path| fs::read(path).unwrap()).collect()
}

/// Opens a directory with a journal of this content; after a loss it must work as any other.
fn reopened(directory: &Path, content: &[u8]) -> Result<Vec<String>, String> {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("journal.damaged.") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(directory.join("journal"), content).unwrap();
    let opened = Store::open(directory, &ControlLimits::default());
    let store = opened.map_err(|error| error.to_string())?;
    let losses = store.losses().to_vec();
    if !losses.is_empty() {
        assert!(content.is_empty() || copies(directory) == [content], "no copy: {losses:?}");
        // No version is given twice, and what is written from now on is kept.
        assert!(store.revision() >= 6, "{losses:?}");
        store.create(&key("later"), pod("later", "red")).unwrap();
        drop(store);
        let store = open(directory);
        assert!(store.losses().is_empty(), "{:?}", store.losses());
        assert!(store.object(&key("later")).is_some());
    } else {
        let store = open(directory);
        assert!(store.object(&key("d")).is_some());
        assert_eq!(store.list(&Collection::core("pods"), None).0.len(), 3);
    }
    Ok(losses)
}

#[test]
fn every_cut_of_a_journal_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let whole = written(directory.path());
    let mark = fs::read(directory.path().join("journal.mark")).unwrap();
    // Each byte of the ends, and every kind of place between.
    let ends = 150;
    let between = (ends..whole.len() - ends).step_by(7);
    for cut in (0..ends).chain(between).chain(whole.len() - ends..whole.len()) {
        fs::write(directory.path().join("journal.mark"), &mark).unwrap();
        let losses = reopened(directory.path(), &whole[..cut]).unwrap();
        // Without the end of its line the last record is whole.
        assert_eq!(losses.is_empty(), cut == whole.len() - 1, "cut at {cut}: {losses:?}");
    }
    fs::write(directory.path().join("journal.mark"), &mark).unwrap();
    assert!(reopened(directory.path(), &whole).unwrap().is_empty());
}

#[test]
fn every_flipped_bit_of_a_journal_is_said_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = written(directory.path());
    let mark = fs::read(directory.path().join("journal.mark")).unwrap();
    // Every kind of place, and the whole of the last line.
    let last_line = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    let places = (0..last_line).step_by(5).chain(last_line..whole.len());
    for (number, at) in places.enumerate() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (number % 8);
        fs::write(directory.path().join("journal.mark"), &mark).unwrap();
        match reopened(directory.path(), &damaged) {
            // The end of the last line says nothing.
            Ok(losses) => assert!(!losses.is_empty() || at == whole.len() - 1, "byte {at}"),
            Err(refused) => {
                assert!(refused.contains("move it away"), "{refused}");
                assert!(refused.contains("damaged at byte") || at < 19, "{refused}");
                assert_eq!(fs::read(directory.path().join("journal")).unwrap(), damaged);
            }
        }
    }
}

#[test]
fn a_lost_line_and_a_lost_file_are_noticed_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let whole = written(directory.path());
    let mark = fs::read(directory.path().join("journal.mark")).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    for missing in 1..lines.len() {
        fs::write(directory.path().join("journal.mark"), &mark).unwrap();
        let rest: Vec<u8> = lines
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != missing)
            .flat_map(|(_, line)| line.to_vec())
            .collect();
        match reopened(directory.path(), &rest) {
            Ok(losses) => {
                assert!(losses[0].contains(": the last 1 changes are missing;"), "{losses:?}");
            }
            Err(refused) => assert!(refused.contains("records are missing"), "{refused}"),
        }
    }
    // The change that is lost is named, as far as it can be read.
    fs::write(directory.path().join("journal.mark"), &mark).unwrap();
    let losses = reopened(directory.path(), &whole[..whole.len() - 20]).unwrap();
    assert!(losses[0].contains("(pods default/d), is cut short"), "{losses:?}");
    assert!(losses.iter().any(|loss| loss.contains("it had 3 objects and has 2")), "{losses:?}");
    // A file that is not there at all has lost everything.
    fs::write(directory.path().join("journal.mark"), &mark).unwrap();
    fs::remove_file(directory.path().join("journal")).unwrap();
    let store = open(directory.path());
    assert!(store.losses()[0].contains("the last 6 changes are missing"), "{:?}", store.losses());
}

#[test]
fn a_damaged_mark_loses_nothing_and_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let whole = written(directory.path());
    let path = directory.path().join("journal.mark");
    let mark = fs::read(&path).unwrap();
    for at in 0..mark.len() {
        let mut damaged = mark.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        fs::write(directory.path().join("journal"), &whole).unwrap();
        let store = open(directory.path());
        assert!(store.losses()[0].contains("journal.mark beside it is damaged"), "byte {at}");
        assert_eq!(store.list(&Collection::core("pods"), None).0.len(), 3);
        for copy in fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if copy.to_string_lossy().contains(".damaged.") {
                fs::remove_file(copy).unwrap();
            }
        }
    }
}

#[test]
fn copies_of_damaged_journals_do_not_fill_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let whole = written(directory.path());
    let cut = &whole[..whole.len() - 5];
    for number in 1..=99 {
        fs::write(directory.path().join(format!("journal.damaged.{number}")), "").unwrap();
    }
    fs::write(directory.path().join("journal"), cut).unwrap();
    let refused = Store::open(directory.path(), &ControlLimits::default()).unwrap_err();
    assert!(refused.to_string().contains("move those away"), "{refused}");
    assert_eq!(fs::read(directory.path().join("journal")).unwrap(), cut);
}

#[test]
fn what_comes_while_the_journal_is_compacted_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for number in 0..600 {
        store.create(&key(&format!("p{number}")), pod(&format!("p{number}"), "red")).unwrap();
    }
    std::thread::scope(|scope| {
        let compacting = scope.spawn(|| (0..20).for_each(|_| store.tend(true).unwrap()));
        let mut number = 0;
        while !compacting.is_finished() {
            set_color(&store, &format!("p{}", number % 600), &number.to_string());
            number += 1;
            let (old, new) = (format!("x{}", number - 1), format!("x{number}"));
            let _ = store.remove(&key(&old));
            store.create(&key(&new), pod(&new, "red")).unwrap();
        }
    });
    let pods = Collection::core("pods");
    let before = store.list(&pods, None);
    drop(store);
    let store = open(directory.path());
    assert!(store.losses().is_empty(), "{:?}", store.losses());
    assert_eq!(store.list(&pods, None), before);
}
