"""Usage: ADDRESS: what the server has in the file `which`, over a passive and an active data connection."""

import ftplib
import io
import sys

ftp = ftplib.FTP(timeout=20)
print(ftp.connect(sys.argv[1]))
try:
    print(ftp.login("alice", "secret"))
except ftplib.error_perm as error:
    # vsftpd serves anonymous users only.
    print(error)
    print(ftp.login("anonymous", "user@example.org"))
for way in "passive", "active":
    ftp.set_pasv(way == "passive")
    content = io.BytesIO()
    ftp.retrbinary("RETR which", content.write)
    print(way + ":", content.getvalue().decode())
ftp.quit()
