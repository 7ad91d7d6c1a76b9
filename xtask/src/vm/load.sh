# The part of the script that lets traffic run with and without a tracer, for `cargo xtask bench vm`.
# Each measurement is a line:
#
#   KIND OBSERVER with|without ARRIVED JSON     what `lab-load` says; ARRIVED datagrams, of a flood

# So many pairs of each kind with each observer, of so many seconds.
load() {
    pairs=$1
    seconds=$2
    # The server of load takes the place of the pod's.
    kill "${servers%% *}"
    mkfifo /tmp/orders /tmp/counts
    ip netns exec pod-b lab-load serve 8080 1 0 </tmp/orders >/tmp/counts &
    servers="${servers#* } $!"
    exec 8>/tmp/orders 9</tmp/counts
    read -r ready <&9
    [ "$ready" = ready ] || fail "the server of load: $ready"
    : >/tmp/load.messages >/tmp/load.output
    pair=0
    while [ "$pair" -lt "$pairs" ]; do
        say "pair $pair"
        for observer in nothing everything; do
            if [ $((pair % 2)) = 0 ]; then
                run without
                observed
            else
                observed
                run without
            fi
        done
        pair=$((pair + 1))
    done
    results load load 0
}

# Both kinds, beside a tracer.
observed() {
    filter=
    if [ $observer = nothing ]; then filter='host 203.0.113.7'; fi
    # What the one before said must not be taken for this one's.
    : >/tmp/record.messages
    # shellcheck disable=SC2086
    tracer record --overwrite -o /tmp/load.rec $filter 2>>/tmp/record.messages &
    tracer=$!
    until grep -q recording /tmp/record.messages || ! [ -e "/proc/$tracer/exe" ]; do sleep 0.1; done
    run with
    kill -TERM $tracer
    wait $tracer || fail "tracer record: $(cat /tmp/record.messages)"
    tail -n 1 /tmp/record.messages >>/tmp/load.messages
    rm -f /tmp/load.rec
}

# Both kinds once. What is said meanwhile is no measurement.
run() {
    echo "ask $observer $1 0 $(ip netns exec pod-a lab-load ask 1 10.96.0.81:80 "$seconds")" >>/tmp/load.output
    echo >&8
    read -r before <&9
    sent=$(ip netns exec pod-a lab-load flood 0 10.244.1.3:8080 "$seconds")
    echo >&8
    read -r after <&9
    echo "flood $observer $1 $((after - before)) $sent" >>/tmp/load.output
}
