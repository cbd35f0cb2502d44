"""A client that sends requests one after the other over one connection, and wants 200 for each.

`client.py ADDRESS PORT HOST COUNT`
"""

import http.client
import sys


def main(address, port, host, count):
    connection = http.client.HTTPConnection(address, int(port), timeout=60)
    for _ in range(int(count)):
        connection.request("GET", "/", headers={"Host": host})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            sys.exit(f"status {response.status}")
    connection.close()


main(*sys.argv[1:])
