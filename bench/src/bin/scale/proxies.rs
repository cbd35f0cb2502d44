//! Fake proxies: each has a connection, a token and subscriptions, and counts what it is sent.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_identity::channel::ControlClient;
use ironmesh_identity::{Claims, SystemClock, TokenKey};
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::limits::WireLimits;
use ironmesh_model::view::Change;
use ironmesh_model::{ListenerKind, Name, ResolutionKey, ResourceKey, Target, View};
use ironmesh_wire::Client;
use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::control::{Control, TOKEN_KEY};

/// A fake proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) client: Client,
    pub(crate) told: Rc<Told>,
}

/// What a proxy was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Updates so far.
    pub(crate) updates: Cell<usize>,
    /// Keys in all of them.
    pub(crate) keys: Cell<usize>,
    /// When the last came.
    pub(crate) at: Cell<Option<Instant>>,
    /// What the changes of one update took to be taken into the view, of one that has one.
    pub(crate) applying: Cell<Duration>,
    view: RefCell<Option<View>>,
}

/// Makes proxies of one control plane.
pub(crate) struct Proxies {
    address: SocketAddr,
    tls: ControlClient,
    key: TokenKey,
    made: u16,
}

impl Proxies {
    pub(crate) fn of(control: &Control) -> anyhow::Result<Self> {
        Ok(Self {
            address: control.push_address(),
            tls: ControlClient::new(&control.anchors()?, Arc::new(SystemClock))?,
            key: TokenKey::from_hex(TOKEN_KEY)?,
            made: 0,
        })
    }

    /// Starts the proxy of a pod of the namespace `default`. `has_view`: it keeps a view, as a real
    /// one does.
    pub(crate) fn start(&mut self, pod: &str, uid: &str, kind: ProxyKind, has_view: bool) -> Proxy {
        self.made += 1;
        let [high, low] = self.made.to_be_bytes();
        // All have addresses of their own, as pods have.
        let ip = Ipv4Addr::new(127, 77, high, low);
        let token = self.key.sign(&Claims {
            namespace: "default".into(),
            service_account: "default".into(),
            pod: pod.into(),
            uid: uid.into(),
            ip: ip.into(),
            kind,
        });
        let (tls, address) = (self.tls.clone(), self.address);
        let connect = move || {
            let tls = tls.clone();
            async move {
                let socket = TcpSocket::new_v4()?;
                socket.bind((IpAddr::from(ip), 0).into())?;
                tls.connect(socket.connect(address).await?).await
            }
        };
        let told = Rc::<Told>::default();
        if has_view {
            told.view.replace(Some(View::default()));
        }
        let of_apply = told.clone();
        let apply = move |changes| {
            of_apply.note(changes);
            Vec::new()
        };
        let (client, driver) = Client::new(WireLimits::default(), kind, token, connect, apply);
        tokio::task::spawn_local(driver.run());
        Proxy { client, told }
    }
}

impl Told {
    fn note(&self, changes: Vec<Change>) {
        self.updates.set(self.updates.get() + 1);
        self.keys.set(self.keys.get() + changes.len());
        let begun = Instant::now();
        let view = self.view.borrow().as_ref().map(|view| view.apply(changes).0);
        if let Some(view) = view {
            self.view.replace(Some(view));
            self.applying.set(begun.elapsed());
        }
        self.at.set(Some(Instant::now()));
    }
}

/// The key under which a sidecar asks for a service.
pub(crate) fn service_key(name: &str) -> ResourceKey {
    key(ListenerKind::Outbound, name.into())
}

/// The key under which a gateway asks for a host.
pub(crate) fn domain_key(host: &str) -> ResourceKey {
    key(ListenerKind::Gateway, host.into())
}

fn key(listener: ListenerKind, host: Name) -> ResourceKey {
    let target = Target::Host(host, 80);
    ResourceKey::Resolution(ResolutionKey { listener, target, namespace: "default".into() })
}
