use super::*;

fn entries(ports: std::ops::Range<u32>) -> Vec<Entry> {
    let entry = |port| Entry { key: format!("127.0.0.1:{port}"), weight: 1.0, value: port };
    ports.map(entry).collect()
}

fn first(table: &Table, hash: u64) -> u32 {
    table.values(hash).next().unwrap()
}

/// The ring that Envoy's own tests expect of these addresses.
#[test]
fn the_ring_is_envoys() {
    let table = Table::of(HashTable::Ring { points_min: 12 }, entries(90..96)).unwrap();
    let Table::Ring { points, values } = &table else { panic!("{table:?}") };
    assert_eq!(
        **points,
        [
            833_437_586_790_550_860,
            928_266_305_478_181_108,
            1_033_482_794_131_418_490,
            3_551_244_743_356_806_947,
            3_851_675_632_748_031_481,
            5_583_722_120_771_150_861,
            6_311_230_543_546_372_928,
            7_700_377_290_971_790_572,
            13_144_177_310_400_110_813,
            13_444_792_449_719_432_967,
            15_516_499_411_664_133_160,
            16_117_243_373_044_804_889,
        ]
    );
    assert_eq!(**values, [94, 92, 90, 95, 93, 91, 91, 93, 95, 92, 94, 90]);
    for (hash, port) in [
        (0, 94),
        (u64::MAX, 94),
        (3_551_244_743_356_806_947, 95),
        (3_551_244_743_356_806_948, 93),
        (16_117_243_373_044_804_880, 90),
    ] {
        assert_eq!(first(&table, hash), port, "{hash}");
    }
    let next: Vec<u32> = table.values(5_583_722_120_771_150_862).take(4).collect();
    assert_eq!(next, [91, 93, 95, 92], "who was tried is followed by the next on the ring");
}

/// The table that Envoy's own tests expect of these addresses.
#[test]
fn maglevs_table_is_envoys() {
    let table = Table::of(HashTable::Maglev { size: 7 }, entries(90..96)).unwrap();
    let Table::Maglev(places) = &table else { panic!("{table:?}") };
    assert_eq!(**places, [92, 94, 90, 91, 95, 90, 93]);
    assert_eq!(first(&table, 7 * 1000 + 4), 95);
}

#[test]
fn of_one_in_a_hundred_that_leaves_a_hundredth_of_the_keys_moves() {
    for (kind, moved_max) in [
        // Rounded sums give a point more to one or another.
        (HashTable::Ring { points_min: HashTable::RING_POINTS }, 30),
        // Of Maglev's keys some of others move, too, as its authors say.
        (HashTable::Maglev { size: HashTable::MAGLEV_SIZE }, 300),
    ] {
        let before = Table::of(kind, entries(1000..1100)).unwrap();
        let after = entries(1000..1100).into_iter().filter(|entry| entry.value != 1042);
        let after = Table::of(kind, after.collect()).unwrap();
        let keys = (0..10_000u32).map(|key| XxHash64::oneshot(0, key.to_string().as_bytes()));
        let (mut own, mut others) = (0, 0);
        for key in keys {
            match (first(&before, key), first(&after, key)) {
                (1042, now) => {
                    assert_ne!(now, 1042);
                    own += 1;
                }
                (before, now) => others += u32::from(before != now),
            }
        }
        assert!((40..=200).contains(&own), "{kind:?}: {own} were its own");
        assert!(others <= moved_max, "{kind:?}: {others} of the others moved");
    }
}

#[test]
fn endpoints_have_keys_by_weight() {
    for kind in [HashTable::Ring { points_min: 4096 }, HashTable::Maglev { size: 65_537 }] {
        let mut weighted = entries(90..92);
        weighted[1].weight = 3.0;
        let table = Table::of(kind, weighted).unwrap();
        let keys = (0..10_000u32).map(|key| XxHash64::oneshot(0, key.to_string().as_bytes()));
        let heavy = keys.filter(|key| first(&table, *key) == 91).count();
        assert!(heavy.abs_diff(7_500) < 400, "{kind:?}: {heavy}");
    }
}

#[test]
fn tables_of_any_size_are_whole() {
    assert!(Table::of(HashTable::Maglev { size: 7 }, Vec::new()).is_none());
    for kind in [HashTable::Maglev { size: 2 }, HashTable::Ring { points_min: 0 }] {
        let table = Table::of(kind, entries(1..9)).unwrap();
        assert!((0..100).all(|hash| table.values(hash).next().is_some()), "{kind:?}");
    }
}
