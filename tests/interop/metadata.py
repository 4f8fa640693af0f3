"""Alibaba Cloud's metadata service in hardened mode, as far as a machine asks for its EIP: the argument."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "YXNkZmFzZGZhc2Rm"
ADDRESS = sys.argv[1]


class Metadata(BaseHTTPRequestHandler):
    def answer(self, status, text=""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        lifetime = self.headers.get("X-aliyun-ecs-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token":
            self.answer(404)
        elif not lifetime.isdigit() or not 1 <= int(lifetime) <= 21600:
            self.answer(400)
        else:
            self.answer(200, TOKEN)

    def do_GET(self):
        token = self.headers.get("X-aliyun-ecs-metadata-token")
        if token is None or "X-Forwarded-For" in self.headers:
            self.answer(403)
        elif token != TOKEN:
            self.answer(401)
        elif self.path != "/latest/meta-data/eipv4":
            self.answer(404)
        else:
            self.answer(200, ADDRESS)


ThreadingHTTPServer(("100.100.100.200", 80), Metadata).serve_forever()
