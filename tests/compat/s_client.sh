# Usage: HOST explicit|implicit USER PASSWORD DIRECTORY -tls1_2|-tls1_3. Every connection is OpenSSL's s_client, and each
# data connection resumes the session of the control connection if the server makes it possible.
set -eu
host=$1 kind=$2 user=$3 password=$4 dir=$5 version=$6
where=(-connect "$host:21" -starttls ftp)
[ "$kind" = explicit ] || where=(-connect "$host:990")
coproc CONTROL { openssl s_client "${where[@]}" "$version" -quiet -sess_out session 2>&1; }
trap 'cat data-log; kill "$CONTROL_PID"' EXIT
: >data-log

hear() { # CODE...: reads up to a line that begins with one of them
  local line code
  while IFS= read -r -t 15 line <&"${CONTROL[0]}"; do
    echo "$line"
    for code; do if [[ $line == "$code "* ]]; then return; fi; done
    if [[ $line == [45]??\ * ]]; then exit 1; fi
  done
  exit 1
}
ask() { # COMMAND CODE...
  printf '%s\r\n' "$1" >&"${CONTROL[1]}"
  hear "${@:2}"
}
passive() { # COMMAND: asks for it, and sets `port` (no subshell: those do not have the coprocess' streams)
  ask PASV 227 >answer
  cat answer
  local high low
  IFS=, read -r _ _ _ _ high low _ < <(tr '()' ',,' <answer | sed 's/^[^,]*,//')
  printf '%s\r\n' "$1" >&"${CONTROL[1]}"
  port=$((high * 256 + low))
}
data() { # PORT: from and to the standard streams
  local resume=()
  # Pure-FTPd gives nothing to resume with TLS 1.3.
  [ ! -e session ] || resume=(-sess_in session)
  openssl s_client -connect "$host:$1" "$version" -quiet "${resume[@]}" "${@:2}" 2>>data-log
}

# The greeting has been read by -starttls.
[ "$kind" = explicit ] || hear 220
ask "USER $user" 331
ask "PASS $password" 230
ask "PBSZ 0" 200
ask "PROT P" 200
ask "TYPE I" 200

passive "STOR $dir/up.bin"
# The end of the file ends it.
data "$port" -no_ign_eof -nocommands <up.bin
hear 150 125
hear 226 250
passive "RETR $dir/down.bin"
data "$port" </dev/null >down.bin
hear 150 125
hear 226 250
passive "LIST $dir/two"
data "$port" </dev/null >listing
hear 150 125
hear 226 250
