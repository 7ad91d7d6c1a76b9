#!/bin/dash
# The life of a test machine, as its first process: a Kubernetes node of network namespaces, one
# way of making Services after the other on it, each path traced; then it switches itself off.
#
#   host (this namespace)      nothing
#   node                       bridge cni0 10.244.1.1, dummy eth0 192.168.77.11, default route
#   pod-a, pod-b               eth0 10.244.1.2 and .3, to vetha and vethb on cni0
#
# The first serial line is for people; the second carries the results:
#
#   @@ path NAME SECONDS       the path is walked from now on, seconds after the boot
#   @@ status NAME STATUS      its command has ended
#   @@ begin NAME
#   .. what a tracer wrote to its standard output ..
#   ! what it wrote to its standard error
#   @@ end NAME STATUS
#   @@ fail WORDS              something else went wrong
#   @@ done                    the script came to its end
#
# dash, because busybox's shell would run its own `ip`.

PATH=/usr/sbin:/usr/bin
export PATH

RESULTS=/dev/ttyS1
export RESULTS

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

# Says on the console where the machine has come to.
say() { echo "$(cut -d ' ' -f 1 /proc/uptime) $*"; }

# Says on the results' line and here what went wrong with what is not the tracer.
fail() {
    echo "@@ fail $*" >$RESULTS
    say "failed: $*"
}

# Passes on what the tracer called $1 wrote, as results called $2; $3 is its exit status.
results() {
    {
        echo "@@ begin $2"
        cat "/tmp/$1.output"
        sed 's/^/! /' "/tmp/$1.messages"
        echo "@@ end $2 $3"
    } >$RESULTS
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
    # The addresses of the link layer are given, neighbours known and bridge ports not forgotten,
    # so that each packet of a path takes the same way: the first one to an unknown neighbour
    # would take another.
    ip -n node -batch - <<-END
	link add cni0 address 02:00:00:00:01:01 type bridge ageing_time 1000000
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
    # The clients and the servers share a processor, as `traced.sh` has it.
    ip netns exec pod-b taskset 1 lab-server b 8080 5353 >/run/server.b &
    servers=$!
    ip netns exec node taskset 1 lab-server node 8080 5353 >/run/server.node &
    servers="$servers $!"
    until grep -q ready /run/server.b && grep -q ready /run/server.node; do sleep 0.1; done
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
            tune node net.ipv4.vs.expire_nodest_conn=1 &&
            tune node net.ipv4.vs.expire_quiescent_template=1 &&
            ip netns exec node ipvsadm -R </lab/ipvs.servers &&
            ip netns exec node ipset restore </lab/ipvs.sets &&
            ip netns exec node iptables-nft-restore --noflush </lab/ipvs.4 &&
            ip netns exec node ip6tables-nft-restore --noflush </lab/ipvs.6
        ;;
    esac
}

# Takes down the node and its pods.
lower() {
    # shellcheck disable=SC2086
    kill $servers
    # shellcheck disable=SC2086
    { wait $servers; } 2>/dev/null
    ip netns del pod-a
    ip netns del pod-b
    ip netns del node
}

# Raises a lab whose Services have the form $1. Exchanges that are not traced tell the bridge where
# the pods are, and prepare the node's headers for them: br_netfilter sends the first packet that it
# redirects there another way.
lab() {
    say "lab $1"
    raise
    services "$1" || fail "the Services in the form $1"
    for address in 10.244.1.3 '[fd00:10:244:1::3]'; do
        ip netns exec node curl -sS -m 60 -o /dev/null "http://$address:8080/" ||
            fail "$address does not answer in the form $1"
    done
    for address in 10.244.1.2 fd00:10:244:1::2; do
        ip netns exec node ping -c 1 -W 60 $address >/dev/null || fail "$address is not there"
    done
}

# Traces the paths of the form $1: `tracer run` makes them, and other tracers watch, each by a way
# of its own. All of them see the same packets.
trace() {
    say "trace $1"
    watch
    # shellcheck disable=SC2086
    tracer run --json $OPTIONS -- dash /lab/traced "$1" >/tmp/run.output 2>/tmp/run.messages
    status=$?
    say "traced $1"
    unwatch "$1"
    results run "$1" $status
}

# Starts the other tracers, and waits until each of them watches or has given up.
watch() {
    watchers=
    while read -r way; do
        # shellcheck disable=SC2086
        tracer watch --json --netfilter "$way" $OPTIONS 'tcp or udp' \
            >"/tmp/$way.output" 2>"/tmp/$way.messages" &
        watchers="$watchers $way:$!"
    done </lab/ways
    for watcher in $watchers; do
        until grep -q 'watching' "/tmp/${watcher%:*}.messages" || ! [ -e "/proc/${watcher#*:}/exe" ]; do
            sleep 0.1
        done
    done
}

# Ends the other tracers, which watched the form $1.
unwatch() {
    for watcher in $watchers; do
        kill -TERM "${watcher#*:}" 2>/dev/null
    done
    for watcher in $watchers; do
        wait "${watcher#*:}"
        results "${watcher%:*}" "$1+${watcher%:*}" $?
    done
}

# Asks the tracer what it can do here.
doctor() {
    say doctor
    tracer doctor --json >/tmp/doctor.output 2>/tmp/doctor.messages
    results doctor doctor $?
}

boot
. /lab/plan
echo "@@ done" >$RESULTS
sync
say done
reboot -f
