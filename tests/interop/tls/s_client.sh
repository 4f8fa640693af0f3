# Usage: HOST USER PASSWORD -tls1_2|-tls1_3. Fetches dir/file as ./file; both connections are OpenSSL's s_client.
set -eu
coproc CONTROL { openssl s_client -starttls ftp -connect "$1:21" "$4" -quiet -sess_out session 2>&1; }
trap 'kill "$CONTROL_PID"' EXIT

hear() { # CODE: reads up to the line that begins with it
  local line
  while IFS= read -r -t 20 line <&"${CONTROL[0]}"; do
    echo "$line"
    if [[ $line == "$1 "* ]]; then return; fi
  done
  exit 1
}
ask() { # COMMAND CODE
  printf '%s\r\n' "$1" >&"${CONTROL[1]}"
  hear "$2"
}

ask "USER $2" 331
ask "PASS $3" 230
ask "PBSZ 0" 200
ask "PROT P" 200
ask "TYPE I" 200
ask PASV 227 >answer
cat answer
IFS=, read -r _ _ _ _ high low _ < <(tr '()' ',,' <answer | sed 's/^[^,]*,//')
# The server's 150 may wait for the connection, which is accepted before.
printf 'RETR dir/file\r\n' >&"${CONTROL[1]}"
openssl s_client -connect "$1:$((high * 256 + low))" "$4" -quiet -sess_in session </dev/null >file 2>/dev/null
hear 150
hear 226
