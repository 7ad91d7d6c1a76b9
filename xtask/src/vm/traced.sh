#!/bin/dash
# The command of `tracer run` on a test machine: walks the paths of the form $1 one after the other.
#
# /lab/paths.FORM has a line for each: what goes on beside it, its name, the namespace and the
# command. The time between two of them is longer than the clock that is said is coarse, so that a
# flow's first packet tells which path it is of. Client and server share a processor: on two of
# them an acknowledgement can be overtaken by the data after it, and TCP drops it then.

set -f

# The devices that packets pass between the pods: namespace and name.
DEVICES='pod-a/eth0 node/vetha node/cni0 node/vethb pod-b/eth0'

nothing() { :; }

merging() {
    for device in $DEVICES; do
        ip netns exec "${device%/*}" ethtool -K "${device#*/}" gro on || failed "gro on $device"
    done
}

captures() { capture -p; }

promiscuous() { capture; }

# Captures on all devices, by tcpdump with the options given.
capture() {
    for device in $DEVICES; do
        said=/tmp/capture.${device%/*}.${device#*/}
        : >"$said"
        ip netns exec "${device%/*}" tcpdump "$@" -n -Z root -i "${device#*/}" -w /dev/null 2>"$said" &
        captures="$captures $!"
        until grep -q 'listening' "$said"; do
            if ! [ -e /proc/$!/exe ]; then
                failed "a capture on $device: $(cat "$said")"
                break
            fi
            sleep 0.1
        done
    done
}

forbidden() {
    case $form in
    nftables)
        ip netns exec node nft -f - <<-END
	table inet forbid {
	    chain forward {
	        type filter hook forward priority filter; policy accept;
	        ip daddr 10.244.1.3 tcp dport 8080 drop
	    }
	}
	END
        ;;
    *)
        ip netns exec node "$form" -I FORWARD -d 10.244.1.3 -p tcp --dport 8080 -j DROP
        ;;
    esac || failed "the rule that drops in the form $form"
}

failed() { echo "@@ fail $*" >"$RESULTS"; }

form=$1
while read -r beside name netns command; do
    captures=
    $beside
    sleep 0.05
    echo "@@ path $name $(cut -d ' ' -f 1 /proc/uptime)" >"$RESULTS"
    # shellcheck disable=SC2086
    ip netns exec "$netns" taskset 1 $command </dev/null 2>&1
    echo "@@ status $name $?" >"$RESULTS"
    for capture in $captures; do
        kill "$capture"
        wait "$capture"
    done
done <"/lab/paths.$form"
exit 0
