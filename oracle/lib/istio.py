"""What Istio would do: its control plane's code makes the configuration, a real Envoy runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from . import client
from .machine import Failed, wait

FIRST_PORT = 18001
GATEWAY_LABELS = {"app": "istio-ingressgateway", "istio": "ingressgateway"}


def program(given, directory):
    """The program of Istio's code, built if a folder of Go source is given."""
    if not given:
        raise Failed("name the program of Istio's code, or its folder, by --istio or IRONMESH_ORACLE")
    if given.is_file():
        return given
    built = directory / "istio-oracle"
    if not built.exists():
        print(f"building {given} (some minutes the first time)", file=sys.stderr)
        directory.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(["go", "build", "-C", given, "-o", built, "."])
        if result.returncode != 0:
            raise Failed(f"{given} was not built; it needs Go")
    return built


def schemas():
    """The file with Istio's CustomResourceDefinitions, where Go has Istio's source; else `None`."""
    modules = Path(os.environ.get("GOMODCACHE") or Path.home() / "go/pkg/mod")
    found = sorted(modules.glob("istio.io/istio@*/manifests/charts/base/files/crd-all.gen.yaml"))
    return found[-1] if found else None


class Istio:
    """One Envoy with the configurations of one batch."""

    def __init__(self, processes, program, envoy, directory):
        self._processes, self._program, self._envoy = processes, program, envoy
        self._directory = directory
        self._process = None

    def take(self, configurations, client_ip, edge):
        """Runs these configurations, in place of those before: at a gateway or at a sidecar."""
        self.stop()
        kubernetes = [o for c in configurations for o in [*c.kubernetes, *slices(c.kubernetes)]]
        istio = [o for c in configurations for o in c.istio]
        question = {
            "proxy": {"type": "router", "namespace": "istio-system", "ips": [client_ip],
                      "labels": GATEWAY_LABELS} if edge else
                     {"type": "sidecar", "namespace": "default", "ips": [client_ip],
                      "labels": {"app": "client"}},
            "kubernetes": documents(kubernetes), "istio": documents(istio),
        }
        asked = subprocess.run([str(self._program), str(FIRST_PORT)], input=json.dumps(question),
                               capture_output=True, text=True)
        if asked.returncode != 0:
            raise Failed(f"{self._program}: {asked.stderr.strip()[-2000:]}")
        path = self._directory / "envoy.json"
        path.write_text(asked.stdout)
        ports = json.loads(asked.stdout)["node"]["metadata"]
        self._port = int(ports["http.80" if edge else "80"])
        log = self._directory / "envoy.log"
        self._process = self._processes.start(
            [self._envoy, "-c", path, "--concurrency", "1", "-l", "warning",
             "--disable-hot-restart"], log)
        ready = lambda: client.ask(("127.0.0.1", FIRST_PORT - 1),
                                   ("GET", "/ready", [("host", "x")], None))[0] == 200
        wait(lambda: self._process.poll() is not None or ready(), "Envoy")
        if self._process.poll() is not None:
            raise Failed(f"Envoy ended: {log.read_text()[-2000:]}")

    def ask(self, _, request):
        return client.ask(("127.0.0.1", self._port), request)

    def stop(self):
        if self._process:
            self._processes.stop(self._process)
            self._process = None


def documents(objects):
    """YAML, of which JSON is a part."""
    return "\n---\n".join(json.dumps(one) for one in objects)


def slices(objects):
    """The EndpointSlices that Kubernetes would make."""
    pods = [one for one in objects if one["kind"] == "Pod"]
    for service in (one for one in objects if one["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        endpoints = [{
            "addresses": [pod["status"]["podIP"]], "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": namespace},
        } for pod in pods if selector <= pod["metadata"]["labels"].items()
            and pod["metadata"]["namespace"] == namespace]
        yield {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "namespace": namespace,
                         "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": port["name"], "port": port["targetPort"]}
                      for port in service["spec"]["ports"]],
            "endpoints": endpoints,
        }
