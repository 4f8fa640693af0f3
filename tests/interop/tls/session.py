"""Usage: WHAT HOST USER PASSWORD VERSION. One session of a client that does the one thing WHAT."""

import ftplib
import hashlib
import io
import os
import random
import socket
import ssl
import sys

what, host, user, password, version = sys.argv[1:]


class Client(ftplib.FTP_TLS):
    """Data connections resume the session of the control connection, unless it is told not to."""

    resumes = True

    def ntransfercmd(self, cmd, rest=None):
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p:
            session = self.sock.session if self.resumes else None
            conn = self.context.wrap_socket(conn, server_hostname=self.host, session=session)
        return conn, size


context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.minimum_version = context.maximum_version = ssl.TLSVersion["TLSv" + version.replace(".", "_")]
ftp = Client(context=context, timeout=20)
ftp.trust_server_pasv_ipv4_address = True
ftp.connect(host)


def there_and_back(count):
    for number in range(count):
        content = random.Random(number).randbytes(number * 3000)
        ftp.storbinary("STOR dir/file", io.BytesIO(content))
        back = hashlib.sha256()
        ftp.retrbinary("RETR dir/file", back.update)
        assert back.digest() == hashlib.sha256(content).digest(), f"file {number} differs"


def protected_login():
    ftp.login(user, password)
    ftp.prot_p()


def reply():
    """The final reply, whatever it is."""
    print("reply", ftp.getmultiline())


if what == "fifty":
    protected_login()
    there_and_back(50)
elif what == "clear-data":
    ftp.login(user, password)
    ftp.voidcmd("PBSZ 0")
    ftp.prot_c()
    there_and_back(3)
elif what == "ccc":
    protected_login()
    # The sessions that its data connections resume go with the control connection's.
    Client.resumes = False
    ftp.ccc()
    assert ftp.sock.version() is None, "still within TLS"
    there_and_back(3)
    ftp.quit()
elif what == "stranger":
    protected_login()
    ftp.resumes = False
    try:
        ftp.transfercmd("NLST").recv(1)
    except OSError as error:
        print("data connection:", error)
    reply()
elif what == "cut":
    protected_login()
    conn = ftp.transfercmd("STOR dir/cut")
    conn.sendall(b"half a fi")
    # FIN, and no close_notify before it.
    socket.socket(fileno=os.dup(conn.fileno())).shutdown(socket.SHUT_WR)
    reply()
elif what == "uploads":

    def final(name, transfer):
        try:
            transfer()
            print(name, "226")
        except OSError:
            # The data connection has been reset; the reply says why.
            print(name, ftp.getmultiline())
        except ftplib.Error as error:
            print(name, error)

    protected_login()
    for number in range(4):
        final("download", lambda: ftp.retrbinary("RETR dir/file", lambda data: None))
    for number in range(4):
        final("upload", lambda: ftp.storbinary("STOR dir/file", io.BytesIO(b"text")))
    final("download", lambda: ftp.retrbinary("RETR dir/file", lambda data: None))
elif what == "relogin":
    ftplib.FTP.login(ftp, user, password)
    ftp.voidcmd("PWD")
    ftp.auth()
    try:
        ftp.voidcmd("PWD")
        sys.exit("the login has outlived AUTH")
    except ftplib.error_perm as error:
        assert str(error).startswith("530"), error
    protected_login()
    there_and_back(1)
else:
    sys.exit("unknown: " + what)
