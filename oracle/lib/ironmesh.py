"""ironmesh: its control plane over objects from memory, and one real sidecar."""

import json
import os
import socket
import subprocess

from . import client
from .configurations import pod
from .machine import OUTBOUND_PORT, Failed, wait

CONTROL = ("127.0.0.1", 15012)
CLIENT_IP = "127.0.0.2"
HEALTH = ("127.0.0.1", 15021)


class Ironmesh:
    """A control plane and the sidecar of a pod `client`."""

    def __init__(self, processes, plane, program, directory):
        self._plane = processes.start(
            [plane, f"{CONTROL[0]}:{CONTROL[1]}"], directory / "plane.log",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        anchors = json.loads(self._plane.stdout.readline())
        own = pod("default", "client", CLIENT_IP, {"app": "client"})
        token = self._say({"token": own})["token"]
        self._start_proxy(processes, program, directory, own, anchors, token)
        wait(lambda: client.ask(HEALTH, ("GET", "/healthz/ready", [("host", "x")], None))[0] == 200,
             f"the proxy (see {directory}/proxy.log)")

    def _start_proxy(self, processes, program, directory, own, anchors, token):
        roles = [("outbound", ("127.0.0.1", OUTBOUND_PORT)), ("health", HEALTH),
                 ("admin", ("127.0.0.1", 15000))]
        sockets = []
        for role, address in roles:
            listener = socket.create_server(address, backlog=1024)
            listener.setblocking(False)
            os.set_inheritable(listener.fileno(), True)
            sockets.append((role, listener))
        bootstrap = {
            "kind": "sidecar",
            "workload": {"cluster": "Kubernetes", "namespace": "default", "name": "client",
                         "uid": own["metadata"]["uid"]},
            "ip": CLIENT_IP, "owner": "client", "labels": own["metadata"]["labels"],
            "service_account": "default",
            "control": {"address": f"{CONTROL[0]}:{CONTROL[1]}", "anchors_pem": anchors},
            "token": token, "mesh_networks": ["127.0.0.0/8"], "workers": 1,
            "listeners": [{"role": role, "fd": one.fileno()} for role, one in sockets],
        }
        document = os.memfd_create("bootstrap", 0)
        os.write(document, json.dumps(bootstrap).encode())
        os.lseek(document, 0, os.SEEK_SET)
        processes.start([program, "internal", "proxy", "--bootstrap-fd", document],
                        directory / "proxy.log",
                        pass_fds=[document, *(one.fileno() for _, one in sockets)])
        for _, listener in sockets:
            listener.close()
        os.close(document)

    def take(self, configurations):
        """Runs these configurations, in place of those before; gives the findings."""
        objects = [o for c in configurations for o in [*c.kubernetes, *c.istio]]
        return self._say({"put": objects})["findings"]

    def ask(self, address, request):
        return client.ask(address, request)

    def explain(self, request):
        return self._say({"explain": request})["explained"]

    def _say(self, line):
        self._plane.stdin.write(json.dumps(line) + "\n")
        self._plane.stdin.flush()
        answer = json.loads(self._plane.stdout.readline() or "{}")
        if "error" in answer or not answer:
            raise Failed(f"the control plane: {answer.get('error', 'it has ended')}")
        return answer
