//! Names that stand for addresses of the host's network in pods, given by `up --external` and
//! `ironmesh external`: the internet's names in a mesh that shall not go there, or another mesh of this
//! machine.
//!
//! Each name has an address of its own in the mesh, 10.97.x.y, at which its ports lead to where they
//! were said to lead: inside a pod 127.x.y.z is the pod's own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io};

use ironmesh_model::Special;
use serde::{Deserialize, Serialize};

use crate::addresses::{EXTERNAL_NETWORK, LOOPBACK_NETWORK, is_in};
use crate::path_name::PathName;

/// What a port of a name leads to, written `NAME[:PORT]=ADDRESS:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct External {
    name: String,
    /// The port in pods. Default 80.
    port: u16,
    to: SocketAddr,
}

/// Why a text is no [`External`].
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not NAME[:PORT]=ADDRESS:PORT: {why}")]
pub struct NotExternal {
    text: String,
    why: &'static str,
}

impl FromStr for External {
    type Err = NotExternal;

    fn from_str(text: &str) -> Result<Self, NotExternal> {
        let bad = |why| NotExternal { text: text.to_owned(), why };
        let (from, to) = text.split_once('=').ok_or_else(|| bad("there is no '='"))?;
        let (name, port) = match from.split_once(':') {
            None => (from, DEFAULT_PORT),
            Some((name, port)) => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (name, port.ok_or_else(|| bad("the port of a name is 1 to 65535"))?)
            }
        };
        let name = external_name(name).map_err(bad)?;
        let to: SocketAddr = to.parse().map_err(|_| bad("an address is such as 127.0.0.1:8080"))?;
        let is_one = !matches!(
            Special::of(to.ip()),
            Some(
                Special::Unspecified
                    | Special::Multicast
                    | Special::LinkLocalMulticast
                    | Special::Broadcast
            )
        );
        if !is_one || to.port() == 0 {
            return Err(bad("the address is no host's"));
        }
        Ok(Self { name, port, to: SocketAddr::new(to.ip().to_canonical(), to.port()) })
    }
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}={}", self.name, self.port, self.to)
    }
}

impl External {
    /// Name, port in pods, and where that leads.
    #[must_use]
    pub fn parts(&self) -> (&str, u16, SocketAddr) {
        (&self.name, self.port, self.to)
    }
}

impl TryFrom<String> for External {
    type Error = NotExternal;

    fn try_from(text: String) -> Result<Self, NotExternal> {
        text.parse()
    }
}

impl From<External> for String {
    fn from(external: External) -> Self {
        external.to_string()
    }
}

/// A name as it is kept: in small letters, without a final dot.
fn external_name(name: &str) -> Result<String, &'static str> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if PathName::subdomain(&name).is_err() || name.parse::<Ipv4Addr>().is_ok() {
        return Err("the name is none of DNS");
    }
    let is_own = |domain: &str| {
        name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    match is_own("cluster.local") || is_own("localhost") {
        true => Err("the name is one of the mesh or of a pod itself"),
        false => Ok(name),
    }
}

/// The names of a mesh.
#[derive(Debug)]
pub(crate) struct Externals {
    most: usize,
    names: RefCell<BTreeMap<String, Name>>,
    /// Addresses that were given. None is given twice, since programs remember them.
    given: Cell<u16>,
    /// Where they are kept over restarts, with `--state`.
    file: RefCell<Option<PathBuf>>,
}

#[derive(Debug)]
struct Name {
    address: Ipv4Addr,
    ports: BTreeMap<u16, SocketAddr>,
    /// Where all other ports lead, under their own numbers.
    rest: Option<Ipv4Addr>,
}

impl Externals {
    /// At most so many names.
    pub(crate) fn new(most: usize, externals: Vec<External>) -> Result<Self, String> {
        let own = Self {
            most,
            names: RefCell::default(),
            given: Cell::default(),
            file: RefCell::default(),
        };
        externals.into_iter().try_for_each(|external| own.set(external))?;
        Ok(own)
    }

    /// Keeps the names in a file from now on, and takes those that it has: what was given now goes
    /// before them. One that cannot be taken is said in the agent's log.
    pub(crate) fn keep_in(&self, file: PathBuf) {
        let given = self.all();
        match kept(&file) {
            Ok(kept) => {
                for external in kept {
                    let is_given = |given: &External| {
                        (&given.name, given.port) == (&external.name, external.port)
                    };
                    if given.iter().any(is_given) {
                        continue;
                    }
                    let name = external.to_string();
                    if let Err(why) = self.set(external) {
                        tracing::warn!(name, why, "an external name is not kept");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "external names cannot be read");
            }
        }
        *self.file.borrow_mut() = Some(file);
        if let Err(error) = self.keep() {
            tracing::warn!(error, "external names are not kept");
        }
    }

    /// Writes the names to their file, if they have one.
    pub(crate) fn keep(&self) -> Result<(), String> {
        let Some(file) = &*self.file.borrow() else { return Ok(()) };
        let new = file.with_extension("new");
        let written = serde_json::to_vec(&self.all())
            .map_err(io::Error::other)
            .and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, file));
        written.map_err(|error| {
            format!("it holds until the mesh ends, but cannot be kept: {}: {error}", file.display())
        })
    }

    /// Lets a port of a name lead somewhere, from the next connection on.
    pub(crate) fn set(&self, external: External) -> Result<(), String> {
        let External { name, port, to } = external;
        self.change(name, |name| {
            name.ports.insert(port, to);
        })
    }

    /// Takes a name back; whether it was there.
    pub(crate) fn remove(&self, name: &str) -> bool {
        let name = external_name(name).unwrap_or_default();
        let mut names = self.names.borrow_mut();
        names.remove(&name).is_some_and(|name| !name.ports.is_empty())
    }

    /// What was given, by name and port.
    pub(crate) fn all(&self) -> Vec<External> {
        let names = self.names.borrow();
        let of_name = |(name, one): (&String, &Name)| {
            let name = name.clone();
            let external =
                move |(&port, &to): (&u16, &SocketAddr)| External { name: name.clone(), port, to };
            one.ports.iter().map(external).collect::<Vec<_>>()
        };
        names.iter().flat_map(of_name).collect()
    }

    /// The address of a name in the mesh.
    pub(crate) fn address(&self, name: &str) -> Option<Ipv4Addr> {
        let names = self.names.borrow();
        names.get(name).filter(|name| !name.ports.is_empty()).map(|name| name.address)
    }

    /// The address in the mesh of a name that the machine's administrator gave to an address of a mesh
    /// on this machine (in /etc/hosts): all ports of it lead there. None for any other address.
    pub(crate) fn of_mesh(&self, name: &str, address: Ipv4Addr) -> Option<Ipv4Addr> {
        if !is_in(address, LOOPBACK_NETWORK) {
            return None;
        }
        self.change(name.to_owned(), |name| name.rest = Some(address)).ok()?;
        self.names.borrow().get(name).map(|name| name.address)
    }

    /// Where a connection to an address of such a name goes; none: nowhere.
    pub(crate) fn target(&self, dialled: SocketAddrV4) -> Option<SocketAddr> {
        let names = self.names.borrow();
        let name = names.values().find(|name| name.address == *dialled.ip())?;
        let to = name.ports.get(&dialled.port()).copied();
        to.or_else(|| name.rest.map(|rest| SocketAddr::from((rest, dialled.port()))))
    }

    fn change(&self, name: String, change: impl FnOnce(&mut Name)) -> Result<(), String> {
        let mut names = self.names.borrow_mut();
        if let Some(name) = names.get_mut(&name) {
            change(name);
            return Ok(());
        }
        if names.len() >= self.most {
            let most = self.most;
            return Err(format!("there are {most} names already (limits.platform.externals_max)"));
        }
        let number = self.given.get().checked_add(1).ok_or("all addresses were given once")?;
        self.given.set(number);
        let address = Ipv4Addr::from_bits(EXTERNAL_NETWORK.0.to_bits() | u32::from(number));
        let mut new = Name { address, ports: BTreeMap::new(), rest: None };
        change(&mut new);
        names.insert(name, new);
        Ok(())
    }
}

/// What a file has; nothing if there is none.
fn kept(file: &Path) -> io::Result<Vec<External>> {
    match fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether an address leads to what a pod may not reach by itself: what is no host's, such as the
/// loopback of this machine, on which other meshes are, too, and where clouds have a machine's
/// credentials.
pub(crate) fn is_closed(ip: IpAddr) -> bool {
    Special::of(ip).is_some()
}

/// The port of a name that says none.
const DEFAULT_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn external(text: &str) -> External {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_kept_in_a_file_and_what_is_given_anew_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = || folder.path().join("externals.json");
        let start = |given: &[&str]| {
            let given = given.iter().map(|text| external(text)).collect();
            let externals = Externals::new(3, given).unwrap();
            externals.keep_in(file());
            externals
        };
        let shown = |externals: &Externals| {
            externals.all().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let first = start(&["a.test=127.0.0.1:1"]);
        first.set(external("b.test:81=127.0.0.1:2")).unwrap();
        first.keep().unwrap();
        let second = start(&["a.test=127.0.0.1:9"]);
        assert_eq!(shown(&second), ["a.test:80=127.0.0.1:9", "b.test:81=127.0.0.1:2"]);
        assert!(second.remove("a.test"));
        second.keep().unwrap();
        assert_eq!(shown(&start(&[])), ["b.test:81=127.0.0.1:2"]);
        // More than there may be, and what is none: the rest is taken.
        let many = (0..5).map(|n| format!("\"{n}.test=127.0.0.1:1\"")).collect::<Vec<_>>();
        fs::write(file(), format!("[{}]", many.join(","))).unwrap();
        assert_eq!(start(&[]).all().len(), 3);
        for damaged in ["", "[", "{}", "[\"../x=127.0.0.1:1\"]"] {
            fs::write(file(), damaged).unwrap();
            assert_eq!(shown(&start(&["a.test=127.0.0.1:1"])), ["a.test:80=127.0.0.1:1"]);
        }
        // Without a file nothing is kept.
        assert_eq!(Externals::new(1, Vec::new()).unwrap().keep(), Ok(()));
    }

    #[test]
    fn names_and_addresses_are_checked() {
        for (text, kept) in [
            ("hello.test=127.129.0.7:80", "hello.test:80=127.129.0.7:80"),
            ("Hello.Test.:443=[::1]:8443", "hello.test:443=[::1]:8443"),
            ("db=192.0.2.1:5432", "db:80=192.0.2.1:5432"),
            ("x.test=[::ffff:127.0.0.1]:80", "x.test:80=127.0.0.1:80"),
        ] {
            assert_eq!(external(text).to_string(), kept);
            assert_eq!(external(kept), external(text));
        }
        for text in [
            "",
            "hello.test",
            "=127.0.0.1:80",
            "hello.test=",
            "hello.test=127.0.0.1",
            "hello.test=127.0.0.1:0",
            "hello.test=127.0.0.1:99999",
            "hello.test:0=127.0.0.1:80",
            "hello.test:x=127.0.0.1:80",
            "hello.test=other.test:80",
            "hello.test=0.0.0.0:80",
            "hello.test=224.0.0.1:80",
            "hello.test=255.255.255.255:80",
            "hello.test=[::]:80",
            "127.0.0.1=127.0.0.1:80",
            "a b=127.0.0.1:80",
            "../x=127.0.0.1:80",
            "*=127.0.0.1:80",
            "web.default.svc.cluster.local=127.0.0.1:80",
            "cluster.local=127.0.0.1:80",
            "localhost=127.0.0.1:80",
            "x.localhost=127.0.0.1:80",
            "a\n=127.0.0.1:80",
        ] {
            let error = text.parse::<External>().unwrap_err().to_string();
            assert!(error.contains("NAME[:PORT]=ADDRESS:PORT"), "{error}");
        }
    }

    #[test]
    fn names_lead_where_they_were_said_to_lead_and_nowhere_else() {
        let given = ["a.test=127.0.0.1:8080", "a.test:443=127.0.0.1:8443", "b.test=192.0.2.1:80"];
        let externals = Externals::new(3, given.map(external).to_vec()).unwrap();
        let (a, b) = (externals.address("a.test").unwrap(), externals.address("b.test").unwrap());
        let target =
            |ip, port| externals.target(SocketAddrV4::new(ip, port)).map(|to| to.to_string());
        assert_eq!(target(a, 80).as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(target(a, 443).as_deref(), Some("127.0.0.1:8443"));
        assert_eq!(target(b, 80).as_deref(), Some("192.0.2.1:80"));
        assert_eq!((target(a, 22), target(b, 443)), (None, None));
        externals.set(external("a.test=127.0.0.1:9090")).unwrap();
        assert_eq!(target(a, 80).as_deref(), Some("127.0.0.1:9090"));
        assert_eq!(externals.all().len(), 3);
        // What was taken back is nobody's, and not given to the next.
        assert!(externals.remove("A.test") && !externals.remove("a.test"));
        assert_eq!((target(a, 80), externals.address("a.test")), (None, None));
        externals.set(external("c.test=127.0.0.1:1")).unwrap();
        assert!(![a, b].contains(&externals.address("c.test").unwrap()));
        // So many and no more.
        externals.set(external("d.test=127.0.0.1:1")).unwrap();
        let error = externals.set(external("e.test=127.0.0.1:1")).unwrap_err();
        assert!(error.contains("externals_max"), "{error}");
        externals.set(external("d.test=127.0.0.1:2")).unwrap();
    }

    #[test]
    fn a_name_of_the_machine_may_lead_to_a_mesh_and_to_nothing_else_of_the_loopback() {
        let externals = Externals::new(8, Vec::new()).unwrap();
        for closed in [[127, 0, 0, 1], [127, 0, 0, 53], [127, 127, 255, 255], [169, 254, 169, 254]]
        {
            assert_eq!(externals.of_mesh("x.test", closed.into()), None);
        }
        let mesh = Ipv4Addr::new(127, 131, 2, 3);
        let address = externals.of_mesh("x.test", mesh).unwrap();
        assert_eq!(externals.of_mesh("x.test", mesh), Some(address));
        let to = externals.target(SocketAddrV4::new(address, 8080)).unwrap();
        assert_eq!(to, SocketAddr::from((mesh, 8080)));
        assert!(externals.all().is_empty() && externals.address("x.test").is_none());
    }

    #[test]
    fn what_a_pod_may_not_reach() {
        for (ip, closed) in [
            ("127.0.0.1", true),
            ("127.130.1.2", true),
            ("::1", true),
            ("169.254.169.254", true),
            ("0.0.0.0", true),
            ("224.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.1", false),
            ("10.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_closed(ip.parse().unwrap()), closed, "{ip}");
        }
    }
}
