"""Usage: HOST passive|active USER PASSWORD SECONDS plain|explicit-VERSION|implicit-VERSION {put|get|resume-put|resume-get|list LOCAL REMOTE}..."""

import ftplib
import os
import ssl
import sys

host, mode, user, password, seconds, tls, *steps = sys.argv[1:]
sys.stdout.reconfigure(encoding="latin-1")



class ImplicitTls(ftplib.FTP_TLS):
    """FTP_TLS knows AUTH only: here every line is within TLS."""

    @property
    def sock(self):
        return self._sock

    @sock.setter
    def sock(self, sock):
        if sock is not None and not isinstance(sock, ssl.SSLSocket):
            sock = self.context.wrap_socket(sock)
        self._sock = sock

    def login(self, *args):
        return super().login(*args, secure=False)


# latin-1 is the encoding that changes no byte.
options = {"timeout": int(seconds), "encoding": "latin-1"}
if tls == "plain":
    ftp = ftplib.FTP(**options)
else:
    kind, version = tls.split("-")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion["TLSv" + version.replace(".", "_")]
    ftp = (ftplib.FTP_TLS if kind == "explicit" else ImplicitTls)(context=context, **options)
ftp.set_debuglevel(1)
# Since 3.9.3 ftplib connects to the control connection's address unless told to trust the 227.
ftp.trust_server_pasv_ipv4_address = True
ftp.connect(host, 990 if tls.startswith("implicit") else 21)
ftp.login(user, password)
if tls != "plain":
    ftp.prot_p()
ftp.set_pasv(mode == "passive")

while steps:
    verb, local, remote, *steps = steps
    local = os.fsencode(local)
    remote = os.fsencode(remote).decode("latin-1")
    if verb == "put":
        with open(local, "rb") as file:
            ftp.storbinary("STOR " + remote, file)
    elif verb == "get":
        with open(local, "wb") as file:
            ftp.retrbinary("RETR " + remote, file.write)
    elif verb == "resume-put":
        ftp.voidcmd("TYPE I")
        have = ftp.size(remote)
        with open(local, "rb") as file:
            file.seek(have)
            ftp.storbinary("STOR " + remote, file, rest=have)
    elif verb == "resume-get":
        with open(local, "ab") as file:
            ftp.retrbinary("RETR " + remote, file.write, rest=file.tell())
    elif verb == "list":
        with open(local, "w", encoding="latin-1") as file:
            ftp.retrlines("LIST " + remote, lambda line: file.write(line + "\n"))
    else:
        sys.exit("unknown step " + verb)
ftp.quit()
