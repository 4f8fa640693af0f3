"""An FTP server that accepts nothing in the clear."""

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.servers import FTPServer

authorizer = DummyAuthorizer()
authorizer.add_user("alice", "secret", "/srv/root", perm="elradfmwMT")
handler = TLS_FTPHandler
handler.authorizer = authorizer
handler.certfile = "/srv/cert.pem"
handler.keyfile = "/srv/key.pem"
# Names are bytes.
handler.unicode_errors = "surrogateescape"
handler.tls_control_required = True
handler.tls_data_required = True
with open("/srv/more.py") as more:
    exec(more.read())
FTPServer(("0.0.0.0", 21), handler).serve_forever()
