"""Usage: ADDRESS NAME host|sni: what the server of NAME has, chosen by HOST or by the name in the TLS handshake."""

import ftplib
import io
import ssl
import sys

address, name, way = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
ftp = ftplib.FTP_TLS(context=context, timeout=10) if way == "sni" else ftplib.FTP(timeout=10)
print(ftp.connect(address))
if way == "sni":
    # What it sends as the server's name.
    ftp.host = name
    print(ftp.auth())
    try:
        ftp.sendcmd("HOST somebody.else")
    except ftplib.error_perm as error:
        print(error)
else:
    print(ftp.sendcmd("HOST " + name))
print(ftp.sendcmd("FEAT"))
print(ftp.login("anonymous", "user@example.org"))
if way == "sni":
    ftp.prot_p()
for passive in True, False:
    ftp.set_pasv(passive)
    content = io.BytesIO()
    ftp.retrbinary("RETR which", content.write)
    print("which:", content.getvalue().decode())
ftp.quit()
