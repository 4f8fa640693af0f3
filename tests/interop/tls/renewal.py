"""Usage: HOST USER PASSWORD DIRECTORY LOG. Sessions that run while the certificate of the proxy is replaced.

The pair in use is cert.pem and key.pem in DIRECTORY; the next ones are in its directories `second` and `third`. LOG is
what the proxy says.
"""

import ftplib
import hashlib
import io
import os
import pathlib
import shutil
import ssl
import sys
import time

host, user, password, directory, log = sys.argv[1:]
directory, log = pathlib.Path(directory), pathlib.Path(log)


class Session(ftplib.FTP_TLS):
    """One version of TLS; every data connection resumes the session of the control connection."""

    def __init__(self, version):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        super().__init__(context=context, timeout=20)
        self.trust_server_pasv_ipv4_address = True
        self.connect(host)
        self.login(user, password)
        self.prot_p()

    def ntransfercmd(self, cmd, rest=None):
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        conn = self.context.wrap_socket(conn, session=self.sock.session)
        assert conn.session_reused, "a data connection has not resumed the session"
        assert conn.getpeercert(True) == self.sock.getpeercert(True), "another certificate than on the control connection"
        return conn, size

    def shown(self):
        return hashlib.sha256(self.sock.getpeercert(True)).hexdigest()

    def works(self):
        content = os.urandom(100_000)
        self.storbinary("STOR dir/file", io.BytesIO(content))
        back = io.BytesIO()
        self.retrbinary("RETR dir/file", back.write)
        assert back.getvalue() == content


def certificate_in(path):
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert((path / "cert.pem").read_text())).hexdigest()


def shown_to_a_new_session():
    session = Session(ssl.TLSVersion.TLSv1_3)
    session.works()
    shown = session.shown()
    session.quit()
    return shown


def replace(name, source):
    """As certbot and others do: never half a file."""
    shutil.copy(source, directory / "next")
    os.rename(directory / "next", directory / name)


def until(what):
    """Files are looked at every 30 seconds."""
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline, "nothing has come of it"
        time.sleep(0.2)


first, second = certificate_in(directory), certificate_in(directory / "second")
old = [Session(version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]


def the_old_ones_work():
    for session in old:
        assert session.shown() == first
        session.works()


assert shown_to_a_new_session() == first
the_old_ones_work()

replace("key.pem", directory / "second/key.pem")
replace("cert.pem", directory / "second/cert.pem")
until(lambda: shown_to_a_new_session() == second)
print("renewed")
the_old_ones_work()

# Somebody has forgotten the key.
warnings = log.read_text().count("the old ones stay")
replace("cert.pem", directory / "third/cert.pem")
until(lambda: log.read_text().count("the old ones stay") > warnings)
print("refused")
assert shown_to_a_new_session() == second
the_old_ones_work()
