//! `nginx`: the machine's nginx, with the configuration of the original image where the manifest
//! brings none: Debian's own writes to the machine's logs, which are not the pod's.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Becomes nginx. Arguments are nginx's.
pub(crate) fn run(arguments: &[String]) -> io::Result<ExitCode> {
    let mut nginx = Command::new("nginx");
    let is_given = fs::read_to_string(MAIN).is_ok_and(|text| !is_debians(&text));
    if !is_given && !arguments.iter().any(|argument| argument == "-c") {
        let path = Path::new(OURS);
        fs::write(path, configuration(Path::new("/etc/nginx/conf.d")))?;
        nginx.arg("-c").arg(path);
    }
    let has_daemon = arguments.iter().any(|argument| argument.contains("daemon "));
    if !has_daemon {
        nginx.args(["-g", "daemon off;"]);
    }
    // Messages before the configuration is read go to the log, too.
    nginx.args(["-e", "/dev/stderr"]).args(arguments);
    Err(nginx.exec())
}

/// Whether a configuration is the one that Debian installs.
fn is_debians(text: &str) -> bool {
    text.contains("/etc/nginx/sites-enabled/")
}

/// The original image's configuration; its welcome page where `servers` has no file of the
/// manifest's.
fn configuration(servers: &Path) -> String {
    let mut entries = fs::read_dir(servers).into_iter().flatten().flatten();
    let is_conf = |entry: fs::DirEntry| entry.path().extension().is_some_and(|e| e == "conf");
    let welcome = if entries.any(is_conf) { "" } else { WELCOME };
    let user = if has_users() { "www-data" } else { "root root" };
    format!("user {user};\n{HEAD}    include {}/*.conf;\n{welcome}}}\n", servers.display())
}

/// Whether there are other users than root to serve requests as. Without root of the machine a pod
/// has one.
pub(crate) fn has_users() -> bool {
    let map = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    map.split_ascii_whitespace().nth(2).is_some_and(|count| count != "1")
}

/// The main configuration of the machine, or of a manifest.
const MAIN: &str = "/etc/nginx/nginx.conf";
/// Where ours is written.
const OURS: &str = "/run/nginx.conf";
const HEAD: &str = "\
worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events {
    worker_connections 1024;
}
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout combined;
    sendfile on;
    keepalive_timeout 65;
    client_body_temp_path /tmp/nginx-body;
    proxy_temp_path /tmp/nginx-proxy;
    fastcgi_temp_path /tmp/nginx-fastcgi;
    uwsgi_temp_path /tmp/nginx-uwsgi;
    scgi_temp_path /tmp/nginx-scgi;
";
const WELCOME: &str = "    server {
        listen 80;
        server_name localhost;
        location / {
            root /usr/share/nginx/html;
            index index.html index.htm;
        }
    }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_the_manifest_take_the_place_of_the_welcome_page() {
        let folder = std::env::temp_dir().join(format!("nginx-test-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(configuration(&folder).contains("listen 80;"));
        fs::write(folder.join("default.conf"), "").unwrap();
        let ours = configuration(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert!(!ours.contains("listen 80;"), "{ours}");
        assert!(ours.contains("/*.conf;\n}\n"), "{ours}");
    }

    #[test]
    fn debians_configuration_is_told_from_a_manifests() {
        assert!(is_debians("http { include /etc/nginx/sites-enabled/*; }"));
        assert!(!is_debians("http { server { listen 8080; } }"));
    }
}
