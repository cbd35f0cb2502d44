"""ironmesh: its control plane over objects from memory, a real sidecar and a real gateway."""

import json
import os
import socket
import subprocess

from . import client
from .configurations import pod
from .istio import GATEWAY_LABELS
from .machine import OUTBOUND_PORT, Failed, wait

CONTROL = ("127.0.0.1", 15012)
CLIENT_IP, GATEWAY_IP = "127.0.0.2", "127.0.0.3"
HEALTH_PORT, ADMIN_PORT, EDGE_PORT = 15021, 15000, 80

# Has the gateway listen on its port all the time: nobody here gives it another socket.
ALWAYS = {
    "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
    "metadata": {"name": "always", "namespace": "istio-system"},
    "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{
        "port": {"number": EDGE_PORT, "name": "http", "protocol": "HTTP"}, "hosts": ["*.always"]}]},
}


def answers(host):
    """Has the gateway answer for this host by itself, so that it is seen what it knows."""
    return {
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "answers", "namespace": "istio-system"},
        "spec": {"hosts": [host], "gateways": ["always"],
                 "http": [{"directResponse": {"status": 200}}]},
    }


class Ironmesh:
    """A control plane, the sidecar of a pod `client`, and a gateway."""

    def __init__(self, processes, plane, program, directory):
        self._plane = processes.start(
            [plane, f"{CONTROL[0]}:{CONTROL[1]}"], directory / "plane.log",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        anchors = json.loads(self._plane.stdout.readline())
        self._turn = 0
        self._say({"put": [ALWAYS]})
        start = lambda own, role, address: self._start_proxy(
            processes, program, directory, own, anchors, role, address)
        start(pod("default", "client", CLIENT_IP, {"app": "client"}),
              "outbound", ("127.0.0.1", OUTBOUND_PORT))
        start(pod("istio-system", "gateway", GATEWAY_IP, GATEWAY_LABELS),
              {"gateway": EDGE_PORT}, (GATEWAY_IP, EDGE_PORT))

    def _start_proxy(self, processes, program, directory, own, anchors, role, address):
        name, ip = own["metadata"]["name"], own["status"]["podIP"]
        token = self._say({"token": own})["token"]
        sockets = []
        for role, address in [(role, address), ("health", (ip, HEALTH_PORT)), ("admin", (ip, ADMIN_PORT))]:
            listener = socket.create_server(address, backlog=1024)
            listener.setblocking(False)
            os.set_inheritable(listener.fileno(), True)
            sockets.append((role, listener))
        bootstrap = {
            "kind": "gateway" if name == "gateway" else "sidecar",
            "workload": {"cluster": "Kubernetes", "namespace": own["metadata"]["namespace"],
                         "name": name, "uid": own["metadata"]["uid"]},
            "ip": ip, "owner": name, "labels": own["metadata"]["labels"],
            "service_account": "default",
            "control": {"address": f"{CONTROL[0]}:{CONTROL[1]}", "anchors_pem": anchors},
            "token": token, "mesh_networks": ["127.0.0.0/8"], "workers": 1,
            "listeners": [{"role": role, "fd": one.fileno()} for role, one in sockets],
        }
        document = os.memfd_create("bootstrap", 0)
        os.write(document, json.dumps(bootstrap).encode())
        os.lseek(document, 0, os.SEEK_SET)
        processes.start([program, "internal", "proxy", "--bootstrap-fd", document],
                        directory / f"{name}.log",
                        pass_fds=[document, *(one.fileno() for _, one in sockets)])
        for _, listener in sockets:
            listener.close()
        os.close(document)
        health = lambda: client.ask((ip, HEALTH_PORT), ("GET", "/healthz/ready", [("host", "x")], None))
        wait(lambda: health()[0] == 200, f"the proxy (see {directory}/{name}.log)")

    def take(self, configurations):
        """Runs these configurations, in place of those before; gives the findings."""
        objects = [o for c in configurations for o in [*c.kubernetes, *c.istio]]
        self._turn += 1
        host = f"turn{self._turn}.always"
        findings = self._say({"put": [ALWAYS, answers(host), *objects]})["findings"]
        asked = lambda: client.ask((GATEWAY_IP, EDGE_PORT), ("GET", "/", [("host", host)], None))
        wait(lambda: asked()[0] == 200, "what the gateway is told")
        return findings

    def ask(self, configuration, request):
        if configuration.edge:
            return client.ask((GATEWAY_IP, EDGE_PORT), request)
        services = (one for one in configuration.kubernetes if one["kind"] == "Service")
        return client.ask((next(services)["spec"]["clusterIP"], 80), request)

    def explain(self, request):
        return self._say({"explain": request})["explained"]

    def _say(self, line):
        self._plane.stdin.write(json.dumps(line) + "\n")
        self._plane.stdin.flush()
        answer = json.loads(self._plane.stdout.readline() or "{}")
        if "error" in answer or not answer:
            raise Failed(f"the control plane: {answer.get('error', 'it has ended')}")
        return answer
