"""Usage: HOST USER PASSWORD passive|active. Aborts a download and an upload, each time going on afterwards."""

import ftplib
import socket
import sys

host, user, password, mode = sys.argv[1:]
ftp = ftplib.FTP(timeout=10)
ftp.set_debuglevel(1)
ftp.trust_server_pasv_ipv4_address = True
ftp.connect(host)
ftp.login(user, password)
ftp.set_pasv(mode == "passive")
ftp.voidcmd("TYPE I")


def abort(data):
    # Telnet's IP and Synch as all BSD clients send them (RFC 959 section 4.1.3). ftplib's own abort() leaves them out,
    # and its urgent byte is the line feed: servers that do not read urgent data inline miss the end of the line.
    ftp.sock.sendall(b"\xff\xf4\xff", socket.MSG_OOB)
    ftp.sock.sendall(b"\xf2ABOR\r\n")
    # 426 for the transfer, 226 for ABOR itself.
    replies = [ftp.getmultiline()[:3]]
    data.close()
    replies.append(ftp.getmultiline()[:3])
    assert replies == ["426", "226"], replies
    # The replies are in step, and data connections still work.
    assert ftp.sendcmd("NOOP")[:3] == "200"
    content = []
    ftp.retrbinary("RETR abort/small", content.append)
    assert b"".join(content) == b"small", content


data = ftp.transfercmd("RETR abort/big")
assert len(data.recv(1 << 20)) > 0
abort(data)

data = ftp.transfercmd("STOR abort/upload")
data.sendall(bytes(1 << 20))
abort(data)

ftp.quit()
print("done")
