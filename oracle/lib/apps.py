"""The application of all endpoints: one server that tells what has come to which address.

A request has an id in `x-id`, and a plan in `x-plan`: the statuses of its attempts, one after the other,
the last again and again (`reset`: the connection is closed instead). Copies of it have the same id.

Each connection has one request, so that one which is closed was not kept from another: what becomes of
requests on those differs on purpose.
"""

import asyncio
import json
import threading

PORT = 8080


class Apps:
    """Runs in a thread, on all addresses of the network namespace."""

    def __init__(self):
        self._seen = {}
        self._lock = threading.Lock()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait()

    def seen(self, number):
        """What has come of a request so far, as (address, method, target, headers)."""
        with self._lock:
            return list(self._seen.get(number, []))

    def forget(self):
        with self._lock:
            self._seen.clear()

    def _run(self, started):
        async def serve():
            server = await asyncio.start_server(self._connection, "0.0.0.0", PORT, backlog=1024)
            started.set()
            await server.serve_forever()

        asyncio.run(serve())

    async def _connection(self, reader, writer):
        address = writer.get_extra_info("sockname")[0]
        try:
            await self._request(address, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _request(self, address, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = [tuple(line.split(": ", 1)) for line in head[1:] if line]
        headers = [(name.lower(), value) for name, value in headers if name]
        by_name = dict(headers)
        if by_name.get("transfer-encoding") == "chunked":
            while size := int((await reader.readline()).split(b";")[0], 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        else:
            await reader.readexactly(int(by_name.get("content-length", "0")))
        number, plan = by_name.get("x-id", ""), by_name.get("x-plan", "200").split(",")
        with self._lock:
            seen = self._seen.setdefault(number, [])
            seen.append((address, method, target, headers))
            # Each host has its attempts counted: copies go to a host of their own.
            before = sum(1 for one in seen if one[0].rsplit(".", 1)[0] == address.rsplit(".", 1)[0]
                         and (one[0].endswith(".9") == address.endswith(".9")))
        step = plan[min(before, len(plan)) - 1]
        if step == "reset":
            return
        body = json.dumps({"address": address}).encode()
        empty = method == "HEAD" or step in ("204", "304")
        lines = [
            f"HTTP/1.1 {step} x", f"x-address: {address}", "x-answer: one", "x-answer: two",
            "x-drop: me", "content-type: application/json",
            "connection: close",
        ]
        if step not in ("204", "304"):
            lines.append(f"content-length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if empty else body))
        await writer.drain()
