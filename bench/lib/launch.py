"""Becomes an ironmesh proxy: makes its listening sockets, puts the bootstrap into memory, executes it.

`launch.py PROGRAM SPEC [WRAPPER ...]`: SPEC is the bootstrap with `listen`, a list of {role, address,
port}, in place of `listeners`; WRAPPER is a command that runs the program, such as valgrind. The process id stays the same, so that its CPU time can be read.
"""

import json
import os
import socket
import sys


def main(program, spec, *wrapper):
    with open(spec) as file:
        bootstrap = json.load(file)
    bootstrap["listeners"] = []
    for listen in bootstrap.pop("listen"):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((listen["address"], listen["port"]))
        listener.listen(1024)
        listener.setblocking(False)
        fd = listener.detach()
        os.set_inheritable(fd, True)
        bootstrap["listeners"].append({"role": listen["role"], "fd": fd})
    document = os.memfd_create("bootstrap", 0)
    os.write(document, json.dumps(bootstrap).encode())
    os.lseek(document, 0, os.SEEK_SET)
    command = [*wrapper, program, "internal", "proxy", "--bootstrap-fd", str(document)]
    os.execvp(command[0], command)


main(*sys.argv[1:])
