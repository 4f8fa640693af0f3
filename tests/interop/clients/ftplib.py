"""Usage: HOST passive|active USER PASSWORD SECONDS {put|get|resume-put|resume-get|list LOCAL REMOTE}..."""

import ftplib
import os
import sys

host, mode, user, password, seconds, *steps = sys.argv[1:]
sys.stdout.reconfigure(encoding="latin-1")

# latin-1 is the encoding that changes no byte.
ftp = ftplib.FTP(timeout=int(seconds), encoding="latin-1")
ftp.set_debuglevel(1)
# Since 3.9.3 ftplib connects to the control connection's address unless told to trust the 227.
ftp.trust_server_pasv_ipv4_address = True
ftp.connect(host)
ftp.login(user, password)
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
