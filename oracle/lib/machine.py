"""Processes of one run, all in a network namespace of the run's own."""

import ctypes
import os
import signal
import subprocess
import sys

from bench.lib.machine import Failed, wait  # noqa: F401: for the others, too

PR_SET_PDEATHSIG = 1
OUTBOUND_PORT = 15001
OUTBOUND_MARK = 1
SERVICES = "10.96.0.0/16"

_libc = ctypes.CDLL(None, use_errno=True)


def enter_namespace():
    """Starts this program over in a network namespace of its own, once."""
    if os.environ.get("IRONMESH_ORACLE_NAMESPACE"):
        return
    if os.geteuid() != 0:
        raise Failed("run it as root: it makes a network namespace")
    os.environ["IRONMESH_ORACLE_NAMESPACE"] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])


def capture():
    """Leads what is sent to Services to the proxy, as a sidecar has it."""
    for command in (["ip", "link", "set", "lo", "up"], ["ip", "route", "add", SERVICES, "dev", "lo", "src", "127.0.0.1"]):
        subprocess.run(command, check=True)
    subprocess.run(["nft", "-f", "-"], check=True, text=True, input=f"""
        table inet oracle {{
            chain outbound {{
                type nat hook output priority -100;
                meta mark {OUTBOUND_MARK} return
                ip daddr {SERVICES} meta l4proto tcp redirect to :{OUTBOUND_PORT}
            }}
        }}""")


class Processes:
    """They end with the run, even if it is killed; none other is touched."""

    def __init__(self):
        self._all = []

    def start(self, command, log, **options):
        process = subprocess.Popen(
            [str(word) for word in command], stderr=open(log, "ab"), preexec_fn=_die_with_parent,
            **{"stdin": subprocess.DEVNULL, "stdout": open(log, "ab"), **options})
        self._all.append(process)
        return process

    def stop(self, process):
        self._all.remove(process)
        process.kill()
        process.wait()

    def stop_all(self):
        for process in reversed(list(self._all)):
            self.stop(process)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
