#!/bin/dash
# The life of a test machine, as its first process: a Kubernetes node of network namespaces, one
# way of making Services after the other on it, each path traced; then it switches itself off.
#
#   host (this namespace)      nothing
#   node                       bridge cni0 10.244.1.1, dummy eth0 192.168.77.11, default route
#   pod-a, pod-b               eth0 10.244.1.2 and .3, to vetha and vethb on cni0
#
# The first serial line is for people; the second carries the results, in sections:
#
#   @@ begin NAME
#   .. what the tracer wrote to its standard output ..
#   ! what it wrote to its standard error
#   @@ end NAME STATUS
#
# dash, because busybox's shell would run its own `ip`.

PATH=/usr/sbin:/usr/bin
export PATH

RESULTS=/dev/ttyS1

boot() {
    /usr/bin/busybox --install -s /opt
    PATH=$PATH:/opt
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t devtmpfs devtmpfs /dev
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /tmp
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec </dev/ttyS0 >/dev/ttyS0 2>&1
    stty -F $RESULTS raw -echo
    while read -r module; do
        insmod "/modules/$module.ko" || echo "cannot load $module"
    done </modules/order
    ip link set lo up
    # Service addresses need no module for their own.
    sysctl -q -w kernel.printk='3 3 1 3'
}

# The results that follow are called $1.
begin() { echo "@@ begin $1" >$RESULTS; }

# Ends the results called $1; $2 is the tracer's exit status, and its messages are in /tmp/messages.
end() {
    sed 's/^/! /' /tmp/messages >$RESULTS
    echo "@@ end $1 $2" >$RESULTS
}

# Says on the results' line and here what went wrong with what is not the tracer.
fail() {
    echo "@@ fail $*" >$RESULTS
    echo "failed: $*"
}

# Sets a sysctl in namespace $1.
tune() { ip netns exec "$1" sysctl -q -w "$2"; }

# Raises the node and its pods.
raise() {
    for netns in node pod-a pod-b; do
        ip netns add $netns
        ip -n $netns link set lo up
        tune $netns net.ipv6.conf.default.accept_dad=0
        tune $netns net.ipv6.conf.all.accept_dad=0
    done
    tune node net.ipv4.ip_forward=1
    tune node net.ipv6.conf.all.forwarding=1
    tune node net.ipv4.conf.all.route_localnet=1
    tune node net.bridge.bridge-nf-call-iptables=1
    tune node net.bridge.bridge-nf-call-ip6tables=1
    # The addresses of the link layer are given, and neighbours known, so that each packet of a
    # path takes the same way: the first one to an unknown neighbour would take another.
    ip -n node -batch - <<-END
	link add cni0 address 02:00:00:00:01:01 type bridge
	addr add 10.244.1.1/24 dev cni0
	addr add fd00:10:244:1::1/64 dev cni0 nodad
	link set cni0 up
	link add eth0 type dummy
	addr add 192.168.77.11/24 dev eth0
	addr add fd00:192:168:77::11/64 dev eth0 nodad
	link set eth0 up
	neigh replace 192.168.77.1 lladdr 02:00:00:00:77:01 dev eth0 nud permanent
	neigh replace fd00:192:168:77::1 lladdr 02:00:00:00:77:01 dev eth0 nud permanent
	route add default via 192.168.77.1
	route add default via fd00:192:168:77::1
	END
    attach a 2
    attach b 3
    ip netns exec pod-b lab-server b 8080 5353 >/run/server &
    server=$!
    until grep -q ready /run/server; do sleep 0.1; done
}

# Attaches pod $1 with the address that ends in $2.
attach() {
    ip -n node -batch - <<-END
	link add veth$1 type veth peer name eth0 address 02:00:00:00:01:0$2 netns pod-$1
	link set veth$1 master cni0 up
	link set veth$1 type bridge_slave hairpin on
	neigh replace 10.244.1.$2 lladdr 02:00:00:00:01:0$2 dev cni0 nud permanent
	neigh replace fd00:10:244:1::$2 lladdr 02:00:00:00:01:0$2 dev cni0 nud permanent
	END
    ip -n pod-"$1" -batch - <<-END
	link set eth0 up
	addr add 10.244.1.$2/24 dev eth0
	addr add fd00:10:244:1::$2/64 dev eth0 nodad
	neigh replace 10.244.1.1 lladdr 02:00:00:00:01:01 dev eth0 nud permanent
	neigh replace fd00:10:244:1::1 lladdr 02:00:00:00:01:01 dev eth0 nud permanent
	route add default via 10.244.1.1
	route add default via fd00:10:244:1::1
	END
}

# Makes the Services in the form $1.
services() {
    case $1 in
    iptables-nft | iptables-legacy)
        ip netns exec node ip"${1#ip}"-restore --noflush </lab/iptables.4 &&
            ip netns exec node ip6"${1#ip}"-restore --noflush </lab/iptables.6
        ;;
    nftables)
        ip netns exec node nft -f /lab/nftables.4 &&
            ip netns exec node nft -f /lab/nftables.6
        ;;
    ipvs)
        ip -n node -batch /lab/ipvs.addresses &&
            tune node net.ipv4.vs.conntrack=1 &&
            ip netns exec node ipvsadm -R </lab/ipvs.services
        ;;
    esac
}

# Makes the node drop what it forwards to pod b's server, in the form $1.
forbid() {
    case $1 in
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
        ip netns exec node "$1" -I FORWARD -d 10.244.1.3 -p tcp --dport 8080 -j DROP
        ;;
    esac || fail "the rule that drops in the form $1"
}

# Takes down the node and its pods.
lower() {
    kill $server
    { wait $server; } 2>/dev/null
    ip netns del pod-a
    ip netns del pod-b
    ip netns del node
}

# Raises a lab whose Services have the form $1.
lab() {
    echo "$(cut -d ' ' -f 1 /proc/uptime) lab $1"
    raise
    services "$1" || fail "the Services in the form $1"
}

# Traces path $1: the command that follows, run in namespace $2. It has run once untraced, so that
# what is to be learnt of neighbours and bridge ports is known.
trace() {
    name=$1
    netns=$2
    shift 2
    echo "$(cut -d ' ' -f 1 /proc/uptime) trace $name"
    ip netns exec "$netns" "$@" >/tmp/untraced 2>&1
    begin "$name"
    # shellcheck disable=SC2086
    tracer run --json $OPTIONS --netns "$netns" -- "$@" >$RESULTS 2>/tmp/messages
    end "$name" $?
}

# Asks the tracer what it can do here.
doctor() {
    echo "$(cut -d ' ' -f 1 /proc/uptime) doctor"
    begin doctor
    tracer doctor --json >$RESULTS 2>/tmp/messages
    end doctor $?
}

boot
. /lab/plan
echo "@@ done" >$RESULTS
sync
reboot -f
