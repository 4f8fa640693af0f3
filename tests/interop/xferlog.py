"""Transfers of every kind, for the logs. Arguments: host, user, password."""

import io
import sys
from ftplib import FTP, error_perm, error_temp

host, user, password = sys.argv[1:4]
ftp = FTP(host, user, password, timeout=20, encoding="latin-1")
ftp.storbinary("STOR /up/a b.bin", io.BytesIO(bytes(range(256)) * 400))
ftp.retrbinary("RETR /up/a b.bin", lambda block: None)
ftp.storbinary("APPE /up/a b.bin", io.BytesIO(b"more"))
ftp.storlines("STOR /up/text", io.BytesIO(b"line\r\n" * 100))
ftp.retrlines("LIST /up", lambda line: None)
ftp.retrbinary("RETR /up/empty", lambda block: None)
# In GBK.
ftp.storbinary("STOR /up/\xd6\xd0 \xce\xc4", io.BytesIO(b"12345"))
try:
    ftp.retrbinary("RETR /up/missing", lambda block: None)
    sys.exit("there is no such file")
except error_perm:
    pass
# Left in the middle.
ftp.voidcmd("TYPE I")
data = ftp.transfercmd("RETR /up/large")
data.recv(1000)
data.close()
try:
    ftp.voidresp()
except (error_perm, error_temp):
    pass
ftp.quit()
print("done")
