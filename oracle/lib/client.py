"""One request, written and read as bytes: nothing about it is changed on the way."""

import socket


def ask(address, request):
    """Sends (method, target, headers, body) to an address; gives (status, headers, body)."""
    method, target, headers, body = request
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    lines += ["connection: close", "", ""]
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode("latin-1") + (body or b""))
        data = b""
        while piece := connection.recv(1 << 16):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    fields = [tuple(field.split(": ", 1)) if ": " in field else (field.rstrip(":"), "")
              for field in fields]
    if not status:
        return 0, [], b""
    return int(status.split(" ")[1]), [(name.lower(), value) for name, value in fields], body
