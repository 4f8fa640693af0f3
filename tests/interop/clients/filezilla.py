"""FileZilla, without a person: its queue is written beforehand, Ctrl+P starts it, and it closes when the queue is done.

Usage: HOST PORT plain|explicit|implicit passive|active USER PASSWORD CERTIFICATE {put|get LOCAL REMOTE}...

Works in the current directory, with all of FileZilla's files under `home`. CERTIFICATE is the only one it trusts. What
servers have listed goes into `listing`. Fails unless every file has been moved.
"""

import os
import pathlib
import signal
import sqlite3
import ssl
import subprocess
import sys
import time

host, port, kind, mode, user, password, certificate, *steps = sys.argv[1:]
steps = [steps[n : n + 3] for n in range(0, len(steps), 3)]
home = pathlib.Path("home").absolute()
conf = home / ".config/filezilla"
log = home / "log"
conf.mkdir(parents=True)

# An update check and a greeting would be windows that somebody has to close. 3 as the completion action: close.
(conf / "filezilla.xml").write_text(f"""<?xml version="1.0"?>
<FileZilla3 platform="*nix"><Settings>
<Setting name="Update Check">0</Setting>
<Setting name="Greeting version">99.0.0</Setting>
<Setting name="Queue completion action">3</Setting>
<Setting name="Reconnect count">0</Setting>
<Setting name="Number of Transfers">1</Setting>
<Setting name="Timeout">10</Setting>
<Setting name="Logging file" platform="unix">{log}</Setting>
<Setting name="Logging Debug Level">2</Setting>
<Setting name="Logging Raw Listing">1</Setting>
</Settings></FileZilla3>""")

# That the server has been seen to resume TLS sessions: from then on FileZilla refuses data connections that do not.
trust = ""
if kind == "plain":
    trust = f'<InsecureHosts><Host Port="{port}">{host}</Host></InsecureHosts>'
else:
    der = ssl.PEM_cert_to_DER_cert(pathlib.Path(certificate).read_text()).hex()
    now = int(time.time())
    trust = f"""<TrustedCerts><Certificate>
<Data>{der}</Data><Host>{host}</Host><Port>{port}</Port><TrustSANs>0</TrustSANs>
<ActivationTime>{now - 3600}</ActivationTime><ExpirationTime>{now + 3600}</ExpirationTime>
</Certificate></TrustedCerts>
<FtpSessionResumption><Entry Host="{host}" Port="{port}">1</Entry></FtpSessionResumption>"""
(conf / "trustedcerts.xml").write_text(f'<?xml version="1.0"?>\n<FileZilla3 platform="*nix">{trust}</FileZilla3>')

# The tables and values of src/interface/queue_storage.cpp (3.63).
queue = sqlite3.connect(conf / "queue.sqlite3")
queue.executescript("""
CREATE TABLE servers (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, host TEXT NOT NULL, port INTEGER, user TEXT,
  password TEXT, account TEXT, keyfile TEXT, protocol INTEGER, type INTEGER, logontype INTEGER, timezone_offset INTEGER,
  transfer_mode TEXT, max_connections INTEGER, encoding TEXT, bypass_proxy INTEGER, post_login_commands TEXT, name TEXT,
  parameters TEXT, site_path TEXT DEFAULT NULL);
CREATE TABLE files (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, server INTEGER NOT NULL, source_file TEXT,
  target_file TEXT, local_path INTEGER, remote_path INTEGER, size INTEGER, error_count INTEGER, priority INTEGER,
  flags INTEGER, default_exists_action INTEGER, extra_flags TEXT);
CREATE TABLE local_paths (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, path TEXT NOT NULL);
CREATE TABLE remote_paths (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, path TEXT NOT NULL);
PRAGMA user_version = 7;
""")
protocol = {"plain": 6, "implicit": 3, "explicit": 4}[kind]
queue.execute(
    "INSERT INTO servers (host, port, user, password, protocol, type, logontype, timezone_offset, transfer_mode,"
    " max_connections, encoding, bypass_proxy) VALUES (?, ?, ?, ?, ?, 0, 1, 0, ?, 1, 'Auto', 0)",
    (host, int(port), user, password, protocol, mode),
)


def path(table, text):
    return queue.execute(f"INSERT INTO {table} (path) VALUES (?)", (text,)).lastrowid


def remote_directory(name):
    """An absolute path of Unix, as FileZilla writes it: its type, no prefix, then each part with its length."""
    parts = [part for part in name.split("/")[:-1] if part]
    return "1 0" + "".join(f" {len(part)} {part}" for part in parts)


for verb, local, remote in steps:
    local, name = pathlib.Path(local).absolute(), remote.split("/")[-1]
    source, target = (local.name, name) if verb == "put" else (name, local.name)
    queue.execute(
        "INSERT INTO files (server, source_file, target_file, local_path, remote_path, size, priority, flags)"
        " VALUES (1, ?, ?, ?, ?, ?, 2, ?)",
        (
            source,
            target,
            path("local_paths", f"{local.parent}/"),
            path("remote_paths", remote_directory(remote)),
            local.stat().st_size if verb == "put" else None,
            0 if verb == "put" else 0x10,
        ),
    )
queue.commit()
queue.close()


def said():
    return log.read_text(errors="replace") if log.exists() else ""


def until(what, patience):
    """Whether it came true."""
    deadline = time.monotonic() + patience
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# A number of its own: what Xvfb chooses by itself is what a second one chooses at the same moment in another network
# namespace, and there is one /tmp/.X11-unix for both.
screen = f":{100 + os.getpid() % 50_000}"
reader, writer = os.pipe()
display = subprocess.Popen(
    # -noreset: it would begin anew, and throw out who is just coming, whenever xdotool was the only one there.
    ["Xvfb", screen, "-noreset", "-displayfd", str(writer), "-nolisten", "tcp", "-screen", "0", "1024x768x24"],
    pass_fds=[writer],
    stderr=subprocess.DEVNULL,
)
os.close(writer)
# It says its number when it is ready.
if not os.read(reader, 16):
    sys.exit("no display")
environment = {
    "PATH": os.environ["PATH"],
    "HOME": str(home),
    "LC_ALL": "C.UTF-8",
    "DISPLAY": screen,
    # Else it forgets the two settings about its log.
    "FZDEBUG": "1",
    # Without a session bus it would start one, which would outlive it.
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent",
}
filezilla = subprocess.Popen(["filezilla"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def xdotool(*arguments):
    return subprocess.run(["xdotool", *arguments], env=environment, capture_output=True, text=True).stdout.split()


def started():
    """Ctrl+P is a switch: not pressed again before it is known to have been missed."""
    for window in xdotool("search", "--onlyvisible", "--name", "FileZilla")[-1:]:
        # There is no window manager: keys go to where the mouse is.
        xdotool("mousemove", "--window", window, "400", "300", "key", "ctrl+p")
        return until(lambda: "Connecting to" in said(), 5)
    return False


# Who ends this script wants to know how far it came.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("still running"))
has_started = ended = False
try:
    has_started = until(started, 30)
    ended = has_started and until(lambda: filezilla.poll() is not None, 60)
finally:
    filezilla.kill()
    filezilla.wait()
    display.terminate()
    display.wait()
    # Date, time, process and number of the connection go before the words.
    lines = [line.split(" ", 4)[-1] for line in said().splitlines()]
    print("\n".join(lines), flush=True)

with open("listing", "w") as listing:
    listing.writelines(line + "\n" for line in lines if line.startswith("Listing:"))
moved = sum("File transfer successful" in line for line in lines)
if moved != len(steps) or not ended:
    sys.exit(f"{moved} of {len(steps)} files moved; started: {has_started}, ended: {ended}")
