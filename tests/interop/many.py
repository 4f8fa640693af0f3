"""Usage: HOST USER PASSWORD. Sixteen sessions at once, half of them active, each with three files there and back."""

import ftplib
import hashlib
import io
import random
import sys
import threading

host, user, password = sys.argv[1:]
failures = []


def session(number):
    ftp = ftplib.FTP(timeout=20)
    ftp.trust_server_pasv_ipv4_address = True
    ftp.connect(host)
    ftp.login(user, password)
    ftp.set_pasv(number % 2 == 0)
    for file in range(3):
        content = random.Random(f"{number} {file}").randbytes(300_000 + number)
        name = f"many/{number}-{file}"
        ftp.storbinary("STOR " + name, io.BytesIO(content))
        hash = hashlib.sha256()
        ftp.retrbinary("RETR " + name, hash.update)
        assert hash.digest() == hashlib.sha256(content).digest(), name + " differs"
    ftp.quit()


def guarded(number):
    try:
        session(number)
    except Exception as error:
        failures.append(f"session {number}: {error!r}")


threads = [threading.Thread(target=guarded, args=[number]) for number in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if failures:
    sys.exit("\n".join(failures))
print("done")
