# Runs a PostgreSQL server for as long as standard input stays open. The process that needs the server holds the other end, so
# every end of that process, SIGKILL included, closes it and stops the server. Then removes what was only of use to the server.
#
# Arguments: a folder to remove or "", another one or "", the server's argument vector.
first=$1
second=$2
shift 2
# A signal to the whole group must not leave the server alone.
trap '' HUP INT TERM
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
(
    # Nothing is ever written: the read ends when the other side is gone.
    while read -r _; do :; done <&3
    exec 3<&-
    # SIGINT is PostgreSQL's fast stop, SIGQUIT the immediate one. Sent again each second, because a server that is just starting
    # may not listen yet.
    seconds=0
    while [ "$seconds" -lt 60 ] && kill -INT "$server"; do
        sleep 1
        seconds=$((seconds + 1))
    done
    kill -QUIT "$server"
) >/dev/null 2>&1 &
watcher=$!
exec </dev/null 3<&-
wait "$server"
status=$?
kill -KILL "$watcher" 2>/dev/null
[ -z "$first" ] || rm -rf -- "$first"
[ -z "$second" ] || rm -rf -- "$second"
exit "$status"
