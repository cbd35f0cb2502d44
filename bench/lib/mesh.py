"""ironmesh as it is measured: the released binary, with the real push protocol and certificates from
`bench-control`, which serves one fixed configuration."""

import json
import subprocess
import sys
from pathlib import Path

from .machine import LOAD_CPU, PROXY_CPU, Failed, answers, wait

CONTROL_PORT = 15012


def build(root, packages):
    """Builds packages, as they are released."""
    print(f"building {' '.join(packages)}", file=sys.stderr)
    arguments = [part for package in packages for part in ("-p", package)]
    result = subprocess.run(["nice", "cargo", "build", "-q", "--release", *arguments], cwd=root)
    if result.returncode != 0:
        raise Failed("the build failed")


class Mesh:
    """The processes of one ironmesh: a control plane and its proxies."""

    def __init__(self, processes, program, control, directory, wrapper):
        self._processes = processes
        self._program = program
        self._control = control
        self._directory = directory
        self._wrapper = wrapper
        directory.mkdir(parents=True, exist_ok=True)

    def control(self, namespace, address, endpoint, tls, gateway_port, policies=False):
        """Starts the control plane, reachable at an address. `policies`: with a timeout, retries,
        outlier detection and limits of connections."""
        self._address = f"{address}:{CONTROL_PORT}"
        anchors = self._directory / "anchors.pem"
        anchors.unlink(missing_ok=True)
        self._processes.start(
            [self._control, self._address, self._directory, endpoint, tls,
             gateway_port, *(["policies"] if policies else [])],
            LOAD_CPU, namespace, self._directory / "control.log")
        wait(anchors.exists, "the control plane")
        self._anchors = anchors.read_text()

    def proxy(self, name, kind, namespace, address, listen):
        """Starts a proxy; it is ready when it answers on its health port."""
        spec = self._directory / f"{name}.json"
        health = {"role": "health", "address": "0.0.0.0", "port": 15021}
        admin = {"role": "admin", "address": "127.0.0.1", "port": 15000}
        spec.write_text(json.dumps({
            "kind": kind,
            "workload": {"cluster": "Kubernetes", "namespace": "default", "name": name,
                         "uid": name},
            "ip": address,
            "owner": name,
            "labels": {"app": name},
            "service_account": name,
            "control": {"address": self._address, "anchors_pem": self._anchors},
            "token": name,
            "mesh_networks": ["10.88.0.0/16", "127.0.0.0/8"],
            "workers": 1,
            "listen": [*listen, health, admin],
        }))
        launch = Path(__file__).with_name("launch.py")
        process = self._processes.start(
            [sys.executable, launch, self._program, spec, *self._wrapper(name)],
            PROXY_CPU, namespace, self._directory / f"{name}.log")
        ready = lambda: answers(namespace, ("127.0.0.1", 15021), "/healthz/ready")
        longest = 120 if self._wrapper(name) else 10
        wait(ready, f"the proxy {name} (see {self._directory}/{name}.log)", longest)
        return process
