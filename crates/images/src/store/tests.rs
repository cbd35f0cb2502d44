use std::io::Write;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

struct World {
    folder: tempfile::TempDir,
    store: Store,
    limits: ImageLimits,
}

impl World {
    fn new(limits: ImageLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("images")).unwrap();
        Self { folder, store, limits }
    }

    /// Takes in an image of one layer of so many bytes, which was used so many seconds after the
    /// beginning of time.
    fn add(&self, text: &str, bytes: u64, loaded: bool, used: u64) -> Result<Image, ImageError> {
        self.add_of(text, text, bytes, loaded, used)
    }

    /// The same, with content that is not named after it.
    fn add_of(
        &self,
        text: &str,
        content: &str,
        bytes: u64,
        loaded: bool,
        used: u64,
    ) -> Result<Image, ImageError> {
        let work = self.store.begin().unwrap();
        work.folder("0").unwrap();
        let layer = Digest::of(content.as_bytes());
        let image = Image {
            id: Digest::of(format!("config of {content}").as_bytes()),
            digest: None,
            config: ImageConfig::default(),
            layers: vec![layer.clone()],
            bytes: 0,
            loaded,
        };
        let new = [NewLayer { id: layer.clone(), name: "0".to_owned(), bytes }];
        let made = self.store.commit(&work, image, &new, &[name(text)], &self.limits)?;
        let folder = File::open(self.store.layer(&layer)).unwrap();
        folder.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(used)).unwrap();
        Ok(made)
    }

    fn names(&self) -> Vec<String> {
        let tag = |named: Named| named.name.rsplit('/').next().unwrap().to_owned();
        self.store.list().unwrap().into_iter().map(tag).collect()
    }

    fn layers(&self) -> usize {
        fs::read_dir(self.store.folder().join(LAYERS)).unwrap().count()
    }

    /// Why the store does not load a tar of `docker save`.
    fn refusal(&self, tar: &[u8]) -> String {
        let path = self.folder.path().join("bomb.tar.gz");
        fs::write(&path, tar).unwrap();
        let said = crate::load(&self.store, &path, None, &self.limits).unwrap_err().to_string();
        assert_eq!((self.names().len(), self.layers()), (0, 0));
        assert_eq!(fs::read_dir(self.store.folder().join(WORK)).unwrap().count(), 0);
        said
    }
}

/// A compressed tar.
fn compressed(fill: impl FnOnce(&mut tar::Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    fill(&mut tar);
    tar.into_inner().unwrap().finish().unwrap()
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[test]
fn what_was_used_longest_ago_makes_room() {
    let limits = ImageLimits { store_bytes_max: 100, ..ImageLimits::default() };
    let world = World::new(limits);
    let first = world.add("first:1", 40, false, 10).unwrap();
    world.add("second:1", 40, false, 20).unwrap();
    // Whoever uses it makes it the newest.
    drop(world.store.hold(first).unwrap().unwrap());
    world.add("third:1", 40, false, 30).unwrap();
    assert_eq!(world.names(), ["first:1", "third:1"]);
    assert_eq!(world.layers(), 2);
}

#[test]
fn what_is_in_use_or_was_loaded_stays_and_the_limit_is_named() {
    let limits = ImageLimits { store_bytes_max: 100, ..ImageLimits::default() };
    let world = World::new(limits);
    let used = world.add("used:1", 40, false, 10).unwrap();
    world.add("loaded:1", 40, true, 20).unwrap();
    let held = world.store.hold(used).unwrap().unwrap();
    let said = world.add("new:1", 40, false, 30).unwrap_err().to_string();
    assert!(said.contains("limits.images.store_bytes_max"), "{said}");
    assert_eq!((world.names(), world.layers()), (vec!["loaded:1".into(), "used:1".into()], 2));
    drop(held);
    world.add("new:1", 40, false, 30).unwrap();
    assert_eq!(world.names(), ["loaded:1", "new:1"]);
    // One that finds no room takes nothing away, not even what has its name.
    for name in ["huge:1", "new:1"] {
        assert!(world.add_of(name, "much", 101, false, 40).is_err());
        assert_eq!((world.names(), world.layers()), (vec!["loaded:1".into(), "new:1".into()], 2));
    }
    assert!(world.store.find(&name("new:1")).unwrap().unwrap().bytes == 40);
}

#[test]
fn bombs_are_given_up_at_their_limit() {
    let world = World::new(ImageLimits { unpacked_bytes_max: 1 << 20, ..ImageLimits::default() });
    let zeros = compressed(|tar| {
        let mut header = header(64 << 20);
        tar.append_data(&mut header, "zeros", io::Read::take(io::repeat(0), 64 << 20)).unwrap();
    });
    assert!(zeros.len() < 1 << 20);
    let said = world.refusal(&zeros);
    assert!(said.contains("limits.images.unpacked_bytes_max"), "{said}");

    let world = World::new(ImageLimits { files_max: 1_000, ..ImageLimits::default() });
    let files = compressed(|tar| {
        for number in 0..10_000 {
            tar.append_data(&mut header(0), format!("f{number}"), io::empty()).unwrap();
        }
    });
    let said = world.refusal(&files);
    assert!(said.contains("limits.images.files_max"), "{said}");

    // One within the other: what is outside is small, too.
    let mut inner = GzEncoder::new(Vec::new(), Compression::best());
    inner.write_all(&zeros).unwrap();
    let said = world.refusal(&inner.finish().unwrap());
    assert!(said.contains("neither a tar"), "{said}");
}
