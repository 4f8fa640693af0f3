"""Usage: DIRECTORY: pyftpdlib on port 2121, which knows neither TLS nor HOST."""

import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_anonymous(sys.argv[1])
FTPHandler.banner = "the second"
FTPServer(("172.16.0.20", 2121), FTPHandler).serve_forever()
