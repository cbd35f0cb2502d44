//! What answers under the names of programs that ironmesh has no need of, or does not have yet: a
//! page that says so on every port of theirs.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::server::{self, App};
use crate::{answer, form};

/// The application.
#[derive(Debug)]
struct StandIn {
    page: Arc<str>,
}

/// Answers on the ports. Arguments: what it stands for, what that was (`control-plane`, `setup` or
/// `addon`), its ports with commas between them, and the original's command line, which is ignored.
pub(crate) async fn run(arguments: &[String]) -> io::Result<()> {
    let word = |index: usize| arguments.get(index).map_or("", String::as_str);
    let (name, role) = (word(0), word(1));
    let text = text(name, role);
    let mut out = io::stdout();
    writeln!(out, "{text}")?;
    // A proxy of the API is asked by others for as long as its pod lives.
    if role == "setup" && !arguments.iter().any(|argument| argument == "proxy") {
        return Ok(());
    }
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{name}: \
         ironmesh answers</title></head>\n<body>\n<h1>{name}</h1>\n<p>{text}</p>\n</body>\n</html>\n",
        name = form::html(name),
        text = form::html(&text),
    );
    let app = Arc::new(StandIn { page: page.into() });
    let mut servers = JoinSet::new();
    for port in word(2).split(',').filter(|port| !port.is_empty()) {
        let number = port.parse::<u16>().map_err(io::Error::other)?;
        match TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).await {
            Ok(listener) => {
                writeln!(out, "listening on port {port}")?;
                servers.spawn(server::serve(listener, Arc::clone(&app), server::told_to_end()?));
            }
            // Another container of the pod may have it.
            Err(error) => writeln!(out, "port {port} cannot be had: {error}")?,
        }
    }
    server::told_to_end()?.await;
    servers.join_all().await;
    Ok(())
}

/// What it says of itself.
fn text(name: &str, role: &str) -> String {
    match role {
        "control-plane" => format!(
            "This is ironmesh in place of {name}, which is not needed here: the mesh has its own control \
             plane and gateways. What it does not do of your configuration is told by `ironmesh \
             findings -A`."
        ),
        "setup" => format!(
            "This is ironmesh in place of {name}. There is nothing to set up: the mesh knows these \
             kinds already."
        ),
        _ => format!(
            "This is ironmesh in place of {name}, which is not part of it: nothing is stored or shown \
             here yet. To run the real one, install it on this machine and start the mesh with \
             `ironmesh up --image '*{name}=/path/to/{name}'`. Each proxy has its metrics at port \
             15020, /stats/prometheus."
        ),
    }
}

impl App for StandIn {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        let is_health = HEALTH.iter().any(|end| path.ends_with(end));
        let mut answer = answer::html(Bytes::from(self.page.to_string()));
        // Who asks for anything else must not take this page for the answer.
        if !is_health && !path.ends_with('/') && !path.ends_with("/kiali") {
            *answer.status_mut() = StatusCode::NOT_IMPLEMENTED;
        }
        answer
    }
}

/// Ends of the paths by which the originals are asked whether they are well.
const HEALTH: [&str; 7] =
    ["/healthz", "/health", "/ready", "/-/healthy", "/api/health", "/version", "/liveness"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{body, get};

    #[tokio::test]
    async fn it_is_well_and_pretends_to_nothing_else() {
        let app = StandIn { page: text("kiali", "addon").into() };
        for (path, status) in [
            ("/", 200),
            ("/kiali/healthz", 200),
            ("/-/ready", 200),
            ("/api/health", 200),
            ("/kiali", 200),
            ("/api/v1/query?query=up", 501),
            ("/api/traces", 501),
        ] {
            let answer = app.answer(get(path)).await;
            assert_eq!(answer.status(), status, "{path}");
            assert!(body(&answer).contains("--image '*kiali=/path/to/kiali'"), "{}", body(&answer));
        }
    }

    #[tokio::test]
    async fn what_sets_up_ends() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        run(&words("kubectl setup  kubectl apply -f crd.yaml")).await.unwrap();
    }
}
