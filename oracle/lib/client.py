"""One request, written as bytes: nothing about it is changed on the way."""

import http.client
import socket


def ask(address, request):
    """Sends (method, target, headers, body) to an address; gives (status, headers, body), status 0 if
    there is no answer."""
    method, target, headers, body = request
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    lines += ["connection: close", "", ""]
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode("latin-1") + (body or b""))
        answer = http.client.HTTPResponse(connection, method=method)
        try:
            answer.begin()
            body = answer.read()
        except (http.client.HTTPException, ConnectionError):
            return 0, [], b""
        return answer.status, [(name.lower(), value) for name, value in answer.getheaders()], body
