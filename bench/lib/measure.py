"""The cases, the rounds, and the figures that come out of them."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from . import mesh, peers, report
from .machine import (
    LOAD_CPU, PROXY_CPU, Failed, Namespace, Processes, answers, cpu_microseconds, fetch,
    resident_mebibytes, wait,
)

BACKEND_PORT = 8080
AGAINST = "ironmesh, the other"
POLICIES = "ironmesh, policies"
CLIENT_ADDRESS, SERVER_ADDRESS = "10.88.0.1", "10.88.0.2"
HOST = "echo.default.svc.cluster.local"


@dataclass
class Case:
    """One thing to measure: where the load goes, and whose CPU time counts."""

    group: str
    name: str
    url: str
    namespace: Namespace
    proxies: list = field(default_factory=list)
    samples: list = field(default_factory=list)
    idle_mebibytes: float = 0
    check: Callable = lambda: None

    def once(self, processes, seconds, connections):
        """One round; `None` if a request failed."""
        before = [cpu_microseconds(proxy) for proxy in self.proxies]
        wrk = processes.start(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
             "-H", f"Host: {HOST}:{BACKEND_PORT}", self.url],
            LOAD_CPU, self.namespace, stdout=subprocess.PIPE, text=True)
        text, _ = wrk.communicate()
        spent = [cpu_microseconds(p) - b for p, b in zip(self.proxies, before)]
        bad = re.search(r"Non-2xx.*|Socket errors.*", text)
        requests = re.search(r"(\d+) requests in ([\d.]+)s", text)
        if bad or not requests:
            raise Failed(f"{self.name}: {bad.group() if bad else text or 'no answer'}")
        count = int(requests.group(1))
        return Sample(
            per_second=count / float(requests.group(2)),
            cpu=[microseconds / count for microseconds in spent],
            p50=_milliseconds(re.search(r"50%\s+([\d.]+)(us|ms|s)", text)),
        )


@dataclass
class Sample:
    """One round's figures: requests a second, CPU microseconds a request of each proxy, median
    latency in milliseconds."""

    per_second: float
    cpu: list
    p50: float


def run(root, options):
    """The whole run."""
    cache = root / "target/bench"
    cache.mkdir(parents=True, exist_ok=True)
    envoy = peers.install(cache)
    chosen = _chosen(options)
    own = any(name.startswith("ironmesh") for _, name, _ in chosen)
    binaries = root / "target/release"
    if not options.no_build:
        mesh.build(root, ["ironmesh-bench", *(["ironmesh"] if own else [])])
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ironmesh-bench-")))
        processes = Processes()
        spaces = []
        stack.callback(lambda: [space.close() for space in spaces])
        stack.callback(processes.stop_all)
        cases = _cases(chosen, World(processes, spaces, directory, envoy, binaries, options.body))
        if options.profile:
            return _profile(cases, processes, directory, options)
        _rounds(cases, processes, options)
        table = report.table(cases, peers.versions(envoy), options)
        print(table)
        if options.against:
            print("\n" + report.ratios(cases, "ironmesh", AGAINST))
            print(report.ratios(cases, POLICIES, AGAINST))
        if not options.no_write:
            (root / "bench/RESULTS.md").write_text(report.document(table))


def _chosen(options):
    words = [word.strip().lower() for word in (options.only or "").split(",")]
    makers = [
        ("single", "direct", _direct),
        ("single", "haproxy", _haproxy),
        ("single", "Envoy", _envoy),
        ("single", "ironmesh", ironmesh),
        ("single", POLICIES, lambda world: ironmesh(world, policies=True)),
        ("pair", "direct", _pair_direct),
        ("pair", "Envoy h1", lambda world: _envoy_pair(world, http2=False)),
        ("pair", "Envoy h2", lambda world: _envoy_pair(world, http2=True)),
        ("pair", "ironmesh", ironmesh_pair),
        ("pair", POLICIES, lambda world: ironmesh_pair(world, policies=True)),
    ]
    if options.against:
        makers += [
            ("single", AGAINST, lambda world: ironmesh(world, options.against)),
            ("pair", AGAINST, lambda world: ironmesh_pair(world, options.against)),
        ]
    return [maker for maker in makers
            if any(word in f"{maker[0]} {maker[1]}".lower() for word in words)]


def _cases(chosen, world):
    cases = []
    for group, name, make in chosen:
        try:
            case = make(world)
            where = address(case.url)
            wait(lambda: answers(case.namespace, where, host=HOST), "an answer through it")
            case.check()
        except Failed as failure:
            raise Failed(f"{group} {name}: {failure}{_logs(world.directory)}") from failure
        case.group, case.name = group, name
        case.idle_mebibytes = sum(resident_mebibytes(proxy) for proxy in case.proxies)
        cases.append(case)
    return cases


def _rounds(cases, processes, options):
    for case in cases:
        case.once(processes, 1, options.connections)
    for number in range(options.rounds):
        for case in cases:
            sample = case.once(processes, options.seconds, options.connections)
            case.samples.append(sample)
            print(f"round {number + 1} {case.group} {case.name}: {sample.per_second:.0f} req/s, "
                  f"{sum(sample.cpu):.1f} us", file=sys.stderr)


class World:
    """What the cases are made in: each has its own network namespaces and its own backend."""

    def __init__(self, processes, spaces, directory, envoy, binaries, body_bytes):
        self.processes, self.spaces, self.directory = processes, spaces, directory
        self.envoy, self.binaries, self.body_bytes = envoy, binaries, body_bytes
        # What is put before the program of a proxy, by its name.
        self.wrapper = lambda name: []

    def space(self, name):
        space = Namespace(name)
        self.spaces.append(space)
        return space

    def pair(self, capture):
        """Two namespaces joined by a veth, the backend in the second."""
        client, server = self.space("client"), self.space("server")
        client.connect_to(server, CLIENT_ADDRESS, SERVER_ADDRESS)
        self.backend(server, "0.0.0.0")
        if capture:
            for space in (client, server):
                space.capture(peers.OUTBOUND_PORT, peers.INBOUND_PORT, [mesh.CONTROL_PORT, 15021])
        return client, server

    def backend(self, space, address="127.0.0.1"):
        program = self.binaries / "bench-backend"
        self.processes.start([program, f"{address}:{BACKEND_PORT}", self.body_bytes], LOAD_CPU, space)

    def proxy(self, space, arguments, log):
        return self.processes.start(arguments, PROXY_CPU, space, self.directory / f"{log}.log")


PROXY_PORT = 8000
PROXY_URL = f"http://127.0.0.1:{PROXY_PORT}/"
PAIR_URL = f"http://{SERVER_ADDRESS}:{BACKEND_PORT}/"


def _direct(world):
    space = world.space("direct")
    world.backend(space)
    return Case("", "", f"http://127.0.0.1:{BACKEND_PORT}/", space)


def _haproxy(world):
    space = world.space("haproxy")
    world.backend(space)
    config = peers.haproxy_config(world.directory, PROXY_PORT, BACKEND_PORT)
    proxy = world.proxy(space, ["haproxy", "-db", "-f", config], "haproxy")
    return Case("", "", PROXY_URL, space, [proxy])


def _envoy(world):
    space = world.space("envoy")
    world.backend(space)
    config = peers.envoy_single(world.directory, PROXY_PORT, BACKEND_PORT)
    proxy = world.proxy(space, peers.envoy_arguments(world.envoy, config), "envoy")
    return Case("", "", PROXY_URL, space, [proxy])


def ironmesh(world, program=None, policies=False):
    """One proxy; `program`: another ironmesh than the one that was built; `policies`: see
    `Mesh.control`."""
    space = world.space("ironmesh")
    world.backend(space)
    own = _mesh(world, "single", program, policies)
    endpoint = f"127.0.0.1:{BACKEND_PORT}"
    own.control(space, "127.0.0.1", endpoint, "plaintext", PROXY_PORT, policies)
    listen = [{"role": {"gateway": PROXY_PORT}, "address": "127.0.0.1", "port": PROXY_PORT}]
    proxy = own.proxy("gateway", "gateway", space, "127.0.0.1", listen)
    return Case("", "", PROXY_URL, space, [proxy])


def _pair_direct(world):
    client, _ = world.pair(capture=False)
    return Case("", "", PAIR_URL, client)


def _envoy_pair(world, http2):
    client, server = world.pair(capture=True)
    if not (world.directory / "ca.pem").exists():
        peers.certificates(world.directory)
    inbound = (SERVER_ADDRESS, BACKEND_PORT)
    configs = [
        (client, peers.envoy_client(world.directory, http2, inbound)),
        (server, peers.envoy_server(world.directory, http2, BACKEND_PORT)),
    ]
    proxies = [
        world.proxy(space, peers.envoy_arguments(world.envoy, config), config.stem)
        for space, config in configs
    ]
    return Case("", "", PAIR_URL, client, proxies)


def ironmesh_pair(world, program=None, policies=False):
    """A pair of sidecars, in mutual TLS."""
    client, server = world.pair(capture=True)
    own = _mesh(world, "pair", program, policies)
    endpoint = f"{SERVER_ADDRESS}:{BACKEND_PORT}"
    own.control(client, CLIENT_ADDRESS, endpoint, "mutual", PROXY_PORT, policies)
    listen = [
        {"role": "outbound", "address": "127.0.0.1", "port": peers.OUTBOUND_PORT},
        {"role": "inbound", "address": "0.0.0.0", "port": peers.INBOUND_PORT},
    ]
    proxies = [
        own.proxy("client", "sidecar", client, CLIENT_ADDRESS, listen),
        own.proxy("server", "sidecar", server, SERVER_ADDRESS, listen),
    ]
    return Case("", "", PAIR_URL, client, proxies, check=lambda: _spoke_mutual_tls(server))


def _mesh(world, name, program, policies):
    variant = ("-against" if program else "") + ("-policies" if policies else "")
    directory = world.directory / f"ironmesh-{name}{variant}"
    control = world.binaries / "bench-control"
    # The push protocol of an older ironmesh may differ: it brings its own control plane.
    if program and (program.parent / "bench-control").exists():
        control = program.parent / "bench-control"
    program = program or world.binaries / "ironmesh"
    return mesh.Mesh(world.processes, program, control, directory, world.wrapper)


def _spoke_mutual_tls(space):
    """Fails unless the inbound proxy counted requests in mutual TLS, and no others."""
    metrics = fetch(space, ("127.0.0.1", 15000), "/stats/prometheus")
    requests = [line for line in metrics.splitlines() if line.startswith("istio_requests_total{")]
    if not requests or any('connection_security_policy="mutual_tls"' not in r for r in requests):
        raise Failed("the pair did not speak mutual TLS:\n" + "\n".join(requests))


def _profile(cases, processes, directory, options):
    """Where the CPU time of ironmesh's proxies goes."""
    for case in cases:
        case.once(processes, 1, options.connections)
        for number, proxy in enumerate(case.proxies):
            data = directory / f"{case.group}-{number}.perf"
            recorder = subprocess.Popen(
                ["perf", "record", "-q", "-e", "cpu-clock", "-F", "2000", "-o", data,
                 "-p", str(proxy.pid), "--", "sleep", str(options.seconds)])
            case.once(processes, options.seconds + 1, options.connections)
            recorder.wait()
            text = subprocess.run(
                ["perf", "report", "-i", data, "--stdio", "--no-children", "--percent-limit",
                 "0.4"], capture_output=True, text=True).stdout
            print(f"== {case.group} {case.name}, proxy {number + 1} of {len(case.proxies)}\n{text}")


def address(url):
    host, port = re.match(r"http://([^:/]+):(\d+)", url).groups()
    return host, int(port)


def _milliseconds(match):
    return float(match.group(1)) * {"us": 0.001, "ms": 1, "s": 1000}[match.group(2)]


def _logs(directory):
    texts = []
    for log in sorted(directory.rglob("*.log")):
        text = log.read_text(errors="replace").strip()
        if text:
            texts.append(f"\n--- {log.name}\n{text[:1500]}")
    return "".join(texts)
