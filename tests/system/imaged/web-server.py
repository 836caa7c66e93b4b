#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A web server with the manners and the faults of others.

web-server.py PORT FOLDER LOG: GET /MANNER/FILE sends FOLDER/FILE; each answer is a line of LOG: STATUS BYTES PATH.

ranges     parts, with an ETag and a Last-Modified
plain      the whole only
bare       parts, but nothing that tells one version of the file from another
cut        as ranges, and each answer breaks off after 1,000,000 bytes
slow       as ranges, 100 KB in 10 ms
changing   as ranges, with another ETag from the third request on
growing    as ranges, and one byte longer from the third request on
lying      as ranges, from the third request on it sends a byte less, from the second on
busy       as ranges, every second request is answered with 503
loop       redirects to itself
elsewhere  redirects to /ranges/
"""
import http.server
import os
import re
import sys
import time

port, folder, log = int(sys.argv[1]), sys.argv[2], open(sys.argv[3], "a", buffering=1)
requests = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        manner = self.path.split("/")[1]
        sent = 0
        try:
            limit = 1000000 if manner == "cut" else len(body)
            while sent < min(limit, len(body)):
                piece = body[sent : min(sent + 100000, limit)]
                self.wfile.write(piece)
                sent += len(piece)
                if manner == "slow":
                    time.sleep(0.01)
        except OSError:
            pass
        log.write(f"{status} {sent} {self.path}\n")
        self.close_connection = self.close_connection or sent < len(body)

    def do_GET(self):
        _, manner, name = self.path.split("/", 2)
        n = requests[self.path] = requests.get(self.path, 0) + 1
        if manner in ("loop", "elsewhere"):
            self.answer(302, {"Location": self.path if manner == "loop" else "/ranges/" + name})
            return
        if manner == "busy" and n % 2 == 0:
            self.answer(503, {})
            return
        try:
            with open(os.path.join(folder, name), "rb") as f:
                data = f.read()
        except OSError:
            self.answer(404, {})
            return
        late = n > 2
        etag = '"two"' if manner == "changing" and late else '"one"'
        headers = {} if manner in ("plain", "bare") else {"ETag": etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if manner == "plain" or not match or (condition and condition != etag):
            self.answer(200, headers, data)
            return
        if manner == "growing" and late:
            data += b"x"
        first = int(match[1])
        last = min(int(match[2] or len(data) - 1), len(data) - 1)
        if first > last:
            self.answer(416, headers)
            return
        if manner == "lying" and late:
            first = first + 1
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self.answer(206, headers, data[first : last + 1])


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that goes away is nobody's fault."""


Server(("127.0.0.1", port), Handler).serve_forever()
