//! Ports of this machine that lead to pods.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Stdio};

use crate::running::{Running, as_every_user, samples};

const DETAILS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: details, namespace: shop, labels: {app: details}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: details
    image: docker.io/istio/examples-bookinfo-details-v1:1.20.3
    ports: [{name: web, containerPort: 9080}]
---
apiVersion: v1
kind: Pod
metadata: {name: echo, namespace: shop}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: echo, image: istio/tcp-echo-server:1.3, args: ['9000', hello]}]
---
apiVersion: v1
kind: Service
metadata: {name: details, namespace: shop}
spec: {selector: {app: details}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
";

/// A command that forwards ports; it is killed with this.
struct Forwarding {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Forwarding {
    fn start(mesh: &Running, words: &[&str]) -> Self {
        let mut command = mesh.command(&[&["-n", "shop", "port-forward"], words].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Where the next port is that it says it forwards to `port`; over IPv6 it may be, too.
    fn forwarded(&mut self, port: u16) -> SocketAddr {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "it ended");
            let said = line.trim().strip_prefix("Forwarding from ").unwrap_or_default();
            match said.split_once(" -> ") {
                Some((here, there)) if here.starts_with("127.") => {
                    assert_eq!(there, port.to_string());
                    return here.parse().unwrap();
                }
                _ => {}
            }
        }
    }

    /// How it ends, and what it says on standard error.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line of what a server answers; empty where none does.
fn get(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    let mut answer = Vec::new();
    // One that refuses may have closed already.
    let _ = stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.lines().next().unwrap_or_default().to_owned()
}

/// What is answered to a line after which its sender has ended its half.
fn answered(at: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const FOUND: &str = "HTTP/1.1 200 OK";

#[test]
fn forwarded_ports_live_until_their_pod_ends_whatever_becomes_of_connections() {
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    as_every_user(DETAILS, &[], |mesh| {
        let mut forwarding = Forwarding::start(mesh, &["pod/details", ":9080", ":9", ":web"]);
        let (http, nobody) = (forwarding.forwarded(9080), forwarding.forwarded(9));
        let named = forwarding.forwarded(9080);
        assert_eq!([get(http), get(nobody), get(named)], [FOUND, "", FOUND]);
        // Clients that break off, and one that says nothing.
        for _ in 0..20 {
            let mut stream = TcpStream::connect(http).unwrap();
            stream.write_all(b"GET /").unwrap();
        }
        let _silent = TcpStream::connect(http).unwrap();
        assert_eq!(get(http), FOUND);

        let mut echo = Forwarding::start(mesh, &["pod/echo", ":9000"]);
        let at = echo.forwarded(9000);
        for number in 0..100 {
            assert_eq!(answered(at, &format!("{number}\n")), format!("hello {number}\n"));
        }
        drop(echo);

        let mut service = Forwarding::start(mesh, &["svc/details", ":http", "--address=127.0.0.2"]);
        let of_service = service.forwarded(9080);
        assert_eq!(of_service.ip().to_string(), "127.0.0.2");
        assert_eq!(get(of_service), FOUND);
        let taken = format!("{}:9080", of_service.port());
        let words = ["-n", "shop", "port-forward", "details", &taken, "--address=127.0.0.2"];
        let refused = mesh.run(&words);
        assert!(refused.code == 1 && refused.err.contains(&of_service.to_string()), "{refused:?}");

        mesh.ok(&["-n", "shop", "delete", "pod", "details"]);
        for ended in [forwarding.ended(), service.ended()] {
            assert_eq!(ended.0, Some(1), "{ended:?}");
            assert!(ended.1.ends_with("error: lost connection to pod\n"), "{}", ended.1);
        }
        for (words, why) in [
            (["pod/nobody", "1:9080"], "\"nobody\" not found"),
            (["svc/details", ":9080"], "details has no pods now"),
            (["pod/details", ":9080"], "\"details\" not found"),
        ] {
            let words = [&["-n", "shop", "port-forward", "--pod-running-timeout=1s"], &words[..]];
            let refused = mesh.run(&words.concat());
            assert!(refused.code == 1 && refused.err.contains(why), "{refused:?}");
        }
    });
}
