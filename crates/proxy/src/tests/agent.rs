//! What passes between a proxy and the local agent.

use std::os::fd::{AsFd, OwnedFd};

use ironmesh_fds::{recv_with_fds, send_with_fds, seqpacket_pair};
use ironmesh_model::bootstrap::{FromAgent, ToAgent};

use super::http2::runtime;
use super::world::*;
use crate::agent_channel;

/// The agent's side.
struct Agent(OwnedFd);

impl Agent {
    fn question(&self) -> ToAgent {
        let mut bytes = [0; 4096];
        let (count, _) = recv_with_fds(self.0.as_fd(), &mut bytes).unwrap();
        serde_json::from_slice(&bytes[..count]).unwrap()
    }

    fn send(&self, message: &FromAgent, sockets: &[std::net::TcpListener]) {
        let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        send_with_fds(self.0.as_fd(), &serde_json::to_vec(message).unwrap(), &fds).unwrap();
    }
}

fn sockets(count: usize) -> Vec<std::net::TcpListener> {
    (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect()
}

#[test]
fn sockets_are_asked_for_by_family_in_advance_and_what_comes_unasked_is_heard() {
    let (own, theirs) = seqpacket_pair().unwrap();
    let workload = workload("client");
    let (egress, ports, asked) = agent_channel::questions(8);
    let of = workload.clone();
    let proxy = std::thread::spawn(move || {
        runtime().block_on(async {
            let channel = tokio::spawn(agent_channel::run(own, asked, of));
            for v6 in [false, false, true] {
                egress.socket(v6).await.unwrap();
            }
            let refused = egress.socket(true).await.unwrap_err().to_string();
            let listening = ports.listen(8080).await.unwrap();
            let no_port = ports.listen(80).await.unwrap_err().to_string();
            drop((egress, ports));
            channel.await.unwrap().unwrap();
            (refused, listening.len(), no_port)
        })
    });
    let agent = Agent(theirs);
    let egress =
        |v6, refused: Option<&str>| FromAgent::Egress { v6, refused: refused.map(Into::into) };
    let ToAgent::Egress { count, v6: false } = agent.question() else { panic!() };
    assert!(count >= 2, "a question costs more than a socket");
    // What was asked for before and given up, and what nobody asked for.
    agent.send(&egress(true, None), &sockets(1));
    agent.send(&FromAgent::WorkloadEnds, &[]);
    agent.send(&egress(false, None), &sockets(3));
    // The second comes from the stock; of the other family there is none.
    assert!(matches!(agent.question(), ToAgent::Egress { v6: true, .. }));
    agent.send(&egress(true, None), &sockets(1));
    assert!(matches!(agent.question(), ToAgent::Egress { v6: true, .. }));
    agent.send(&egress(true, Some("no egress")), &[]);
    assert!(matches!(agent.question(), ToAgent::Listen { port: 8080 }));
    agent.send(&FromAgent::Listen { port: 8080, refused: None }, &sockets(2));
    assert!(matches!(agent.question(), ToAgent::Listen { port: 80 }));
    agent.send(&FromAgent::Listen { port: 80, refused: Some("not yours".into()) }, &[]);
    assert_eq!(proxy.join().unwrap(), ("no egress".to_owned(), 2, "not yours".to_owned()));
    assert!(workload.is_leaving());
}
