//! Images from registries: a real one from the Go module proxy, and hostile ones of the tests.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use ironmesh_images::Digest;

use crate::image_files::{Files, Layer, MANIFEST, go, program};
use crate::running::{Running, as_every_user, await_some};

/// A registry that keeps what it has in memory.
const REGISTRY: &str = r#"package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	http.Serve(listener, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
}
"#;

/// The registry, built once; `None`, said why, where that cannot be.
fn registry_program() -> Option<&'static PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        // It outlives the tests, for the next run.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("registry");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("main.go"), REGISTRY).unwrap();
        fs::write(folder.join("go.mod"), "module registry\n").unwrap();
        go(&folder, &["get", "github.com/google/go-containerregistry@v0.22.1"])?;
        go(&folder, &["build", "-mod=mod", "-o", "registry", "."])?;
        Some(folder.join("registry"))
    });
    if built.is_none() {
        println!("SKIPPED: a registry cannot be built with Go here");
    }
    built.as_ref()
}

/// A registry that runs; it ends with this.
struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    fn start() -> Option<Self> {
        let program = registry_program()?;
        let mut child = Command::new(program).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Self { child, address: address.trim().to_owned() })
    }

    /// Puts an image there; returns the digest of its manifest.
    fn push(&self, repository: &str, tag: &str, files: &Files) -> Digest {
        let blobs = files.blobs();
        for (digest, bytes, _) in &blobs[1..] {
            let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
            self.send("POST", &path, "application/octet-stream", bytes);
        }
        let (digest, manifest, _) = &blobs[0];
        self.send("PUT", &format!("/v2/{repository}/manifests/{tag}"), MANIFEST, manifest);
        digest.clone()
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (host, length) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pod(name: &str, image: &str, policy: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  \
         - {{name: {name}, image: \"{image}\", imagePullPolicy: {policy}}}\n"
    )
}

fn apply(mesh: &Running, manifest: &str) {
    mesh.write("pod.yaml", manifest);
    mesh.ok(&["apply", "-f", "pod.yaml"]);
}

fn await_text(mesh: &Running, command: &[&str], text: &str) -> String {
    await_some(&format!("{text:?} of {command:?}"), || {
        let said = mesh.run(command).out;
        said.contains(text).then_some(said)
    })
}

const EMPTY: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nothing}\n";

#[test]
fn pods_have_their_images_from_a_registry() {
    let (Some(program), Some(mut registry)) = (program(), Registry::start()) else { return };
    let files = Files::of_program(program, "blue");
    let digest = registry.push("shop/redis", "1", &files);
    let layers = vec![Layer::new().file("../../evil", b"x").tar()];
    registry.push("shop/evil", "1", &Files { layers, config: serde_json::json!({}) });
    let address = registry.address.clone();
    as_every_user(EMPTY, &[], |mesh| {
        // What is known here by that name does not stand for it.
        let image = format!("{address}/shop/redis:1");
        apply(mesh, &pod("first", &image, "IfNotPresent"));
        await_text(mesh, &["logs", "first"], "color blue");
        let said = await_text(mesh, &["describe", "pod", "first"], "Successfully pulled image");
        assert!(said.contains("Pulling image") && said.contains(&digest.to_string()), "{said}");
        apply(mesh, &pod("second", &image, "Never"));
        await_text(mesh, &["logs", "second"], "color blue");
        let by_digest = format!("{address}/shop/redis@{digest}");
        apply(mesh, &pod("third", &by_digest, "Always"));
        await_text(mesh, &["logs", "third"], "color blue");
        apply(mesh, &pod("none", &format!("{address}/shop/none:1"), "Never"));
        await_text(mesh, &["get", "pods"], "ErrImageNeverPull");
        apply(mesh, &pod("missing", &format!("{address}/shop/none:2"), "IfNotPresent"));
        let said = await_text(mesh, &["describe", "pod", "missing"], "has no");
        assert!(said.contains("image load FILE"), "{said}");
        // To load what is refused would not help, so that it is not said.
        apply(mesh, &pod("evil", &format!("{address}/shop/evil:1"), "IfNotPresent"));
        let said = await_text(mesh, &["describe", "pod", "evil"], "leads out of the image");
        assert!(said.contains("build it without that"), "{said}");
        assert!(!said.contains("image load FILE"), "{said}");
    });
    // One that was loaded serves when its registry does not answer; one that was pulled does not.
    let Some(mesh) = Running::start(EMPTY, &[]) else { return };
    let pulled = format!("{address}/shop/redis:1");
    mesh.ok(&["image", "pull", &pulled]);
    assert!(mesh.ok(&["image", "list"]).contains(&pulled));
    registry.stop();
    let loaded = format!("{address}/shop/loaded:1");
    files.write_layout(&mesh.folder.path().join("layout"));
    apply(&mesh, &pod("pulled", &pulled, "Always"));
    await_text(&mesh, &["describe", "pod", "pulled"], "does not answer");
    mesh.ok(&["image", "load", "layout", "--name", &loaded]);
    apply(&mesh, &pod("loaded", &loaded, "Always"));
    await_text(&mesh, &["logs", "loaded"], "color blue");
}

/// A server that answers each request for a path by what the function says of it.
fn server(answer: impl Fn(&str, &str, &mut TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), std::sync::Arc::clone(&answer));
            std::thread::spawn(move || {
                // Byte by byte: what follows is for the one who answers.
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.extend(byte);
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                answer(&path, &head, &mut stream);
            });
        }
    });
    address
}

/// Writes an answer; who asked may be gone.
fn write(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// Answers as a registry that has one image.
fn serve(files: &Files, path: &str, stream: &mut TcpStream) {
    let blobs = files.blobs();
    let found = match path.contains("/manifests/") {
        true => blobs.first(),
        false => blobs.iter().find(|(digest, _, _)| path.ends_with(&digest.to_string())),
    };
    match found {
        Some((_, bytes, _)) => write(stream, "200 OK", "", bytes),
        None => write(stream, "404 Not Found", "", b""),
    }
}

fn small() -> Files {
    let layers = vec![Layer::new().file("a", b"a").tar()];
    Files { layers, config: serde_json::Value::Null }
}

#[test]
fn hostile_registries_are_given_up_with_the_reason() {
    let mesh = Running::new();
    let refused = |address: SocketAddr, options: &[&str], reason: &str| {
        let image = format!("{address}/evil:1");
        let said = mesh.run(&[&["image", "pull", &image], options].concat());
        assert!(said.code == 1 && said.err.contains(reason), "{reason}: {said:?}");
    };
    // It never begins an answer; it never ends one.
    let silent = server(|_, _, stream| drop(stream.read(&mut [0; 1])));
    let timeout = ["--set", "limits.images.answer_timeout=1s"];
    refused(silent, &timeout, "does not answer");
    let endless = server(|_, _, stream| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut more = stream.write_all(head);
        while more.is_ok() {
            more = stream.write_all(b"1\r\n \r\n");
        }
    });
    refused(endless, &["--set", "limits.images.manifest_bytes_max=1MiB"], "manifest_bytes_max");
    refused(endless, &["--set", "limits.images.pull_timeout=1ms"], "pull_timeout");
    let large = server(|_, _, stream| {
        let mut more = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n");
        while more.is_ok() {
            more = stream.write_all(&[b' '; 65_536]);
        }
    });
    refused(large, &[], "limits.images.manifest_bytes_max");
    // It sends who asks elsewhere.
    for to in ["http://192.0.2.1/x", "http://169.254.169.254/x", "ftp://127.0.0.1/x"] {
        let leading = format!("location: {to}\r\n");
        let away = server(move |_, _, stream| write(stream, "302 Found", &leading, b""));
        refused(away, &[], "it redirects");
    }
    let circle = server(|path, _, stream| {
        write(stream, "302 Found", &format!("location: {path}\r\n"), b"");
    });
    refused(circle, &[], "more than 5 redirects");
    // Its layer is not what its digest says, or longer than it says.
    let other = server(|path, _, stream| {
        let files = small();
        let layer = files.blobs().pop().unwrap();
        match path.ends_with(&layer.0.to_string()) {
            true => write(stream, "200 OK", "", &vec![b'x'; layer.1.len()]),
            false => serve(&files, path, stream),
        }
    });
    refused(other, &[], "a layer has the digest");
    let longer = server(|path, _, stream| {
        let files = small();
        let layer = files.blobs().pop().unwrap();
        match path.ends_with(&layer.0.to_string()) {
            true => write(stream, "200 OK", "", &vec![b'x'; layer.1.len() + 1]),
            false => serve(&files, path, stream),
        }
    });
    refused(longer, &[], "a layer is longer");
    let hostile = server(|path, _, stream| {
        let layers = vec![Layer::new().file("../../evil", b"x").tar()];
        let files = Files { layers, config: serde_json::Value::Null };
        serve(&files, path, stream);
    });
    refused(hostile, &[], "leads out of the image");
    assert_eq!(mesh.ok(&["image", "list", "-o", "json"]).trim(), "[]");
}

#[test]
fn credentials_go_to_the_registry_that_asks_for_them_and_nowhere_else() {
    // ann:secret
    const ANN: &str = "Basic YW5uOnNlY3JldA==";
    let mesh = Running::new();
    let private = server(|path, head, stream| {
        let head = head.to_ascii_lowercase();
        let has = |text: &str| head.contains(&format!("authorization: {}", text.to_lowercase()));
        let host = head.split("host: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        if path.starts_with("/token") {
            let is_asked_well = path.contains("scope=repository%3Ashop%3Apull") && has(ANN);
            let body: &[u8] = if is_asked_well { br#"{"token":"t0"}"# } else { b"{}" };
            write(stream, "200 OK", "", body);
        } else if has("Bearer t0") {
            serve(&small(), path, stream);
        } else {
            let realm = format!("Bearer realm=\"http://{host}/token\",service=\"it\"");
            let challenge = format!("www-authenticate: {realm}\r\n");
            write(stream, "401 Unauthorized", &challenge, b"");
        }
    });
    let image = format!("{private}/shop:1");
    let said = mesh.run(&["image", "pull", &image]);
    assert!(said.code == 1 && said.err.contains("refuses"), "{said:?}");
    fs::create_dir(mesh.folder.path().join(".docker")).unwrap();
    let auth = r#"{"auth":"YW5uOnNlY3JldA=="}"#;
    mesh.write(".docker/config.json", &format!(r#"{{"auths":{{"{private}":{auth}}}}}"#));
    mesh.ok(&["image", "pull", &image]);
    // Another registry, which asks for a name and password, gets none that are not its own.
    let greedy = server(|_, head, stream| {
        let has = head.to_ascii_lowercase().contains("authorization:");
        let message: &[u8] = if has { br#"{"errors":[{"message":"got it"}]}"# } else { b"{}" };
        write(stream, "401 Unauthorized", "www-authenticate: Basic realm=\"x\"\r\n", message);
    });
    let said = mesh.run(&["image", "pull", &format!("{greedy}/shop:1")]);
    assert!(said.code == 1 && said.err.contains("no credentials are known"), "{said:?}");
    assert!(!said.err.contains("got it") && !said.err.contains("secret"), "{said:?}");
    // One that has its layers elsewhere: who has them sees no credentials.
    let storage =
        server(|path, head, stream| match head.to_ascii_lowercase().contains("authorization:") {
            true => write(stream, "400 Bad Request", "", b"credentials"),
            false => serve(&small(), path, stream),
        });
    let leading = server(move |path, head, stream| {
        let head = head.to_ascii_lowercase();
        if !head.contains(&format!("authorization: {}", ANN.to_lowercase())) {
            let challenge = "www-authenticate: Basic realm=\"x\"\r\n";
            write(stream, "401 Unauthorized", challenge, b"");
        } else if path.contains("/blobs/") {
            let location = format!("location: http://{storage}{path}\r\n");
            write(stream, "307 Temporary Redirect", &location, b"");
        } else {
            serve(&small(), path, stream);
        }
    });
    mesh.write(".docker/config.json", &format!(r#"{{"auths":{{"{leading}":{auth}}}}}"#));
    mesh.ok(&["image", "pull", &format!("{leading}/shop:1")]);
    mesh.ok(&["image", "rm", &format!("{leading}/shop:1")]);
    // A pod's own secret.
    fs::remove_file(mesh.folder.path().join(".docker/config.json")).unwrap();
    mesh.ok(&["image", "rm", &image]);
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: pull}}\n\
         type: kubernetes.io/dockerconfigjson\nstringData:\n  \
         .dockerconfigjson: '{{\"auths\":{{\"{private}\":{auth}}}}}'\n---\n{}  imagePullSecrets: [{{name: pull}}]\n",
        pod("with", &image, "Always")
    );
    let Some(mesh) = mesh.started(EMPTY, &[]) else { return };
    apply(&mesh, &secret);
    await_text(&mesh, &["describe", "pod", "with"], "Successfully pulled image");
}

/// Serves the files of a folder by TLS, to those whom a CA knows if there is one; the last word of a path
/// is the name of a file.
const TLS_REGISTRY: &str = r#"
import http.server, os, ssl, sys
folder, asks = sys.argv[1], sys.argv[2:] == ["--ask"]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = os.path.join(folder, "files", self.path.rsplit("/", 1)[1])
        found = os.path.exists(path)
        body = open(path, "rb").read() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/server.crt", folder + "/server.key")
if asks:
    context.load_verify_locations(folder + "/ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED

class Server(http.server.ThreadingHTTPServer):
    def finish_request(self, request, address):
        super().finish_request(context.wrap_socket(request, server_side=True), address)

    def handle_error(self, request, address):
        pass

server = Server(("127.0.0.1", 0), Handler)
print("127.0.0.1:%d" % server.server_address[1], flush=True)
server.serve_forever()
"#;

/// A CA in `folder`, and a server's and a client's certificate of it.
fn make_certificates(folder: &Path) {
    let openssl = |words: &str| {
        let words = words.split(' ');
        let made = Command::new("openssl").args(words).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=own -days 2"));
    for (name, extension) in
        [("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")]
    {
        let asked = format!("-keyout {name}.key -out {name}.csr -subj /CN={name}");
        openssl(&format!("req {key} {asked} -addext {extension}"));
        let signed = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy";
        openssl(&format!("x509 -req -in {name}.csr -out {name}.crt {signed}"));
    }
}

#[test]
fn a_registry_may_have_certificates_of_its_own_ca_and_ask_for_ours() {
    let mesh = Running::new();
    let folder = mesh.folder.path().join("tls");
    fs::create_dir_all(folder.join("files")).unwrap();
    make_certificates(&folder);
    for (at, (digest, bytes, _)) in small().blobs().iter().enumerate() {
        fs::write(folder.join("files").join(digest.to_string()), bytes).unwrap();
        if at == 0 {
            fs::write(folder.join("files/1"), bytes).unwrap();
        }
    }
    let start = |asks: &[&str]| {
        let mut python = Command::new("python3");
        python.args(["-c", TLS_REGISTRY]).arg(&folder).args(asks);
        let mut child = python.stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Registry { child, address: address.trim().to_owned() }
    };
    let (open, asking) = (start(&[]), start(&["--ask"]));
    let pull = |registry: &Registry| {
        let said = mesh.run(&["image", "pull", &format!("{}/shop:1", registry.address)]);
        (said.code == 0, said.err)
    };
    let (pulled, said) = pull(&open);
    assert!(!pulled, "it is asked by plain HTTP: {said}");
    let own = |registry: &Registry| {
        let own = mesh.folder.path().join(".docker/certs.d").join(&registry.address);
        fs::create_dir_all(&own).unwrap();
        fs::copy(folder.join("ca.crt"), own.join("ca.crt")).unwrap();
        own
    };
    own(&open);
    let (pulled, said) = pull(&open);
    assert!(pulled, "{said}");
    let own = own(&asking);
    let (pulled, said) = pull(&asking);
    assert!(!pulled, "we are nobody: {said}");
    fs::copy(folder.join("client.crt"), own.join("client.cert")).unwrap();
    let (pulled, said) = pull(&asking);
    assert!(!pulled && said.contains("client.cert: with its .key"), "{said}");
    fs::copy(folder.join("client.key"), own.join("client.key")).unwrap();
    mesh.ok(&["image", "pull", &format!("{}/shop:1", asking.address)]);
    // Another CA than the one that has signed.
    fs::write(own.join("ca.crt"), "no certificate").unwrap();
    let (pulled, said) = pull(&asking);
    assert!(!pulled && said.contains("ca.crt: there is no certificate"), "{said}");
    fs::create_dir(folder.join("other")).unwrap();
    make_certificates(&folder.join("other"));
    fs::copy(folder.join("other/ca.crt"), own.join("ca.crt")).unwrap();
    let (pulled, said) = pull(&asking);
    assert!(!pulled, "{said}");
}

/// `docker login` may keep no password, but a token for tokens.
#[test]
fn an_identity_token_is_exchanged_for_one_that_is_used_once() {
    let mesh = Running::new();
    let private = server(|path, head, stream| {
        let lower = head.to_ascii_lowercase();
        let host = lower.split("host: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        if path == "/token" {
            let length = lower.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            let is_asked_well = head.starts_with("POST ")
                && [
                    "grant_type=refresh_token",
                    "refresh_token=r3fresh",
                    "scope=repository%3Ashop%3Apull",
                ]
                .iter()
                .all(|word| body.contains(word))
                && !lower.contains("authorization:");
            let body: &[u8] = if is_asked_well { br#"{"access_token":"t0"}"# } else { b"{}" };
            write(stream, "200 OK", "", body);
        } else if lower.contains("authorization: bearer t0") {
            serve(&small(), path, stream);
        } else {
            let realm = format!("Bearer realm=\"http://{host}/token\",service=\"it\"");
            write(stream, "401 Unauthorized", &format!("www-authenticate: {realm}\r\n"), b"");
        }
    });
    fs::create_dir(mesh.folder.path().join(".docker")).unwrap();
    let auth = r#"{"auth":"MDAtMDA6","identitytoken":"r3fresh"}"#;
    mesh.write(".docker/config.json", &format!(r#"{{"auths":{{"{private}":{auth}}}}}"#));
    mesh.ok(&["image", "pull", &format!("{private}/shop:1")]);
}
