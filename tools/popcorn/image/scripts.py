# SPDX-License-Identifier: GPL-2.0
"""The scripts that a secondary runs, for the shell of busybox."""

from __future__ import annotations

__all__ = (
    "INIT",
    "MODULES",
    "POWEROFF",
    "REBOOT",
    "ROOT",
    "ROOT_SCRIPT",
    "RUN",
    "TERMINALS",
    "TERMINALS_SCRIPT",
)

# Where INIT finds the names of the modules to load, in order, and the user's script.
MODULES = "etc/popcorn/modules"
RUN = "etc/popcorn/run"
TERMINALS = "etc/popcorn/terminals"
ROOT = "etc/popcorn/root"

INIT = rb"""#!/bin/sh
# PID 1 of a secondary. Must not end: the kernel would panic. On a root of another kernel it is run
# once more: with the argument `rooted`, and what it needs of the image below /run/popcorn.

# There may be no console, or one that blocks its writers. All that is said goes to the log.
exec </dev/null >/dev/null 2>&1

export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root
parts=/etc/popcorn
# What programs are given; PID 1 itself does without that root, which may fail.
theirs=$PATH
if [ "$1" = rooted ]; then
	parts=/run/popcorn PATH=/run/popcorn/bin:$PATH
	theirs=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/popcorn/bin
fi
cd /
set -f

# To the log by one write each; opened anew, so that the rate limit of an open file never bites.
# 14 and 11 are facility user with level info and error.
log() { printf '<%d>popcorn-%s: %.900s\n' "$1" "$2" "$3" >/dev/kmsg; }
say() { log 14 init "$*"; }
fail() { log 11 init "$*"; }

log_lines() {
	# When all are told to end, what they still say is to be seen.
	trap '' TERM
	while IFS= read -r line || [ -n "$line" ]; do
		log 14 "$1" "$line"
	done
}

# What is mounted already stays; without devtmpfs the nodes of the image serve.
mount_once() {
	while read -r _ where _; do
		[ "$where" = "$2" ] && return 0
	done </proc/mounts
	mkdir -p "$2"
	reason=$(mount -t "$1" "$1" "$2" 2>&1) || fail "$2: $reason"
}

mount_all() {
	mkdir -p /proc
	[ -r /proc/cmdline ] || mount -t proc proc /proc
	mount_once sysfs /sys
	mount_once devtmpfs /dev
	mount_once devpts /dev/pts
	mount_once tmpfs /run
	mount_once tmpfs /tmp
}

[ "$1" = rooted ] || mount_all

# MODULE.KEY=VALUE on the kernel's command line is KEY=VALUE for the module.
parameters() {
	for word in $(cat /proc/cmdline); do
		case $word in
		popcorn.name=*) ;;
		"$1".*=*) printf '%s\n' "${word#"$1".}" ;;
		esac
	done
}

for word in $(cat /proc/cmdline); do
	case $word in
	popcorn.name=*) hostname "${word#popcorn.name=}" ;;
	esac
done

# insmod is called once for each module. It may still insert one twice: when a module refuses,
# busybox tries again by the older system call.
load() {
	if [ ! -f "/lib/modules/$1.ko" ]; then
		fail "$1: there is no /lib/modules/$1.ko in this image"
		return 1
	fi
	reason=$(insmod "/lib/modules/$1.ko" $(parameters "$1") 2>&1) && return 0
	fail "$1: $reason"
	return 1
}

# This kernel's link, with the private address that `popcornctl link add` would give it, unless the
# command line has others: popcorn_link.address=ADDRESS/PREFIX, which may come twice or be empty for
# none; popcorn_link.gateway=ADDRESS, by default the primary's; popcorn_link.mtu=BYTES.
set_up_link() {
	[ -d /sys/module/popcorn_net ] || return 0
	addresses= given= gateway= mtu=
	for word in $(cat /proc/cmdline); do
		case $word in
		popcorn_link.address=*) given=1 addresses="$addresses ${word#*=}" ;;
		popcorn_link.gateway=*) gateway="${word#*=}" ;;
		popcorn_link.mtu=*) mtu="mtu ${word#*=}" ;;
		esac
	done
	try_ip link add popcorn0 type popcorn || return 0
	read -r mac </sys/class/net/popcorn0/address
	if [ -z "$given" ]; then
		IFS=: read -r _ _ _ x y node <<-END
			$mac
		END
		subnet="10.$((0x$x)).$((0x$y))"
		addresses="$subnet.$((0x$node + 1))/24" gateway="${gateway:-$subnet.1}"
	fi
	for address in $addresses; do
		try_ip addr add "$address" dev popcorn0
	done
	try_ip link set popcorn0 $mtu up
	[ -z "$gateway" ] || try_ip route add default via "$gateway"
	say "popcorn0 is $mac" $addresses
}

try_ip() {
	reason=$(ip "$@" 2>&1) && return 0
	fail "ip $*: $reason"
	return 1
}

# Who made the image gets in with his key, and nobody else; on a root of another kernel those who
# get in there as well, by its own server.
start_ssh() {
	mkdir -p /etc/dropbear /var/run
	if [ -x /usr/sbin/dropbear ]; then
		reason=$(/usr/sbin/dropbear -R -s 2>&1) || fail "dropbear: $reason"
	elif [ -x /usr/sbin/sshd ]; then
		mkdir -p /run/sshd
		reason=$(/usr/sbin/sshd 2>&1) || fail "sshd: $reason"
	fi
}

load_all() {
	for module in $(cat /etc/popcorn/modules); do
		load "$module" || return 1
	done
}

serve() {
	start_ssh
	if [ -f $parts/terminals ]; then
		PATH=$theirs busybox sh $parts/terminals &
	fi
	if [ -f $parts/run ]; then
		{
			PATH=$theirs $parts/run 2>&1
			echo "ended with status $?"
		} | log_lines run &
	fi
}

trap /sbin/poweroff USR1 USR2
trap /sbin/reboot TERM

if [ "$1" = rooted ]; then
	mount_once tmpfs /dev/shm
	serve
elif try_ip link set lo up && load_all; then
	say "joined as $(hostname)"
	set_up_link
	# Where that fails, this is what there is to look around in.
	[ ! -f $parts/root ] || . $parts/root
	serve
else
	fail "not joined"
fi

# While it waits for this one child, the shell reaps every other that ends.
while :; do
	sleep 3600 &
	wait $!
done
"""

ROOT_SCRIPT = rb"""
# Part of /init in images of profile full: in the place of this root put that of another kernel,
# which is where popcorn_root=ADDRESS:PORT says, and run the rest there. Returns if that fails.

server= port= mounts= own_init=
for word in $(cat /proc/cmdline); do
	case $word in
	popcorn_root=*:*)
		server=${word#popcorn_root=}
		port=${server##*:} server=${server%:*}
		;;
	popcorn_root.mounts=*) mounts=$(echo "${word#*=}" | tr , ' ') ;;
	popcorn_root.init=*) own_init=${word#*=} ;;
	esac
done

# To who serves the root, too: `kernel start` waits for it.
tell() {
	printf 'popcorn: %.400s\n' "$*" | nc -w 5 "$server" "$port"
}

root_fails() {
	fail "root: $*"
	tell "$*"
}

# Read-only by the network, below a layer in memory. Loose caching: what is read stays here.
mount_layers() {
	lower=/layers/$2/lower upper=/layers/$2/upper work=/layers/$2/work
	mkdir -p "$lower" "$upper" "$work"
	options=trans=tcp,port=$port,privport,version=9p2000.L,msize=65536,uname=root,access=any
	reason=$(mount -t 9p -o "$options,ro,cache=loose,aname=$1" "$server" "$lower" 2>&1) || return 1
	options=lowerdir=$lower,upperdir=$upper,workdir=$work
	reason=$(mount -t overlay -o "$options" overlay "/new$1" 2>&1)
}

mount_root() {
	[ -n "$server" ] || { reason="no popcorn_root= on the command line" && return 1; }
	mkdir -p /layers /new
	reason=$(mount -t tmpfs -o mode=755 layers /layers 2>&1) || return 1
	count=0
	mount_layers / 0 || return 1
	for place in $mounts; do
		count=$((count + 1))
		mount_layers "$place" $count || fail "root: $place: $reason"
	done
	reason=
	for place in dev proc run sys tmp; do
		[ -d /new/$place ] || { reason="it has no /$place" && return 1; }
	done
}

# What is of use there goes to /run, which goes along. Programs there find the root's own commands
# first, PID 1 these.
move_parts() {
	own=/run/popcorn/bin
	mkdir -p $own
	cp /bin/busybox $own/
	$own/busybox --install -s $own
	rm -f $own/poweroff $own/reboot $own/halt
	for file in /init /etc/popcorn/terminals /etc/popcorn/run; do
		[ ! -f $file ] || cp $file /run/popcorn/
	done
	[ ! -f /sbin/popcorn-agent ] || cp /sbin/popcorn-agent $own/
	for verb in poweroff reboot; do
		{
			printf '#!%s/busybox sh\nPATH=%s\n' $own $own
			sed "1d; s|/bin/busybox|$own/busybox|" /sbin/$verb
		} >/run/popcorn/$verb
		chmod 755 /run/popcorn/$verb
	done
	if [ -z "$own_init" ]; then
		# Those of the root would ask an init that does not run.
		ln -sf /run/popcorn/reboot /new/sbin/reboot
		ln -sf /run/popcorn/poweroff /new/sbin/poweroff
		ln -sf /run/popcorn/poweroff /new/sbin/halt
	fi
	if [ -f /root/.ssh/authorized_keys ]; then
		mkdir -p /new/root/.ssh
		cat /root/.ssh/authorized_keys >>/new/root/.ssh/authorized_keys
		chmod 700 /new/root/.ssh
		chmod 600 /new/root/.ssh/authorized_keys
	fi
	# The root stands on them; nobody needs to see them.
	umount -l /layers
	for place in proc sys dev run tmp; do
		mount --move /$place /new/$place
	done
}

if mount_root; then
	move_parts
	printf '<14>popcorn-init: the root is that of %s\n' "$server" >/new/dev/kmsg
	tell yes
	if [ -n "$own_init" ]; then
		exec /bin/busybox switch_root /new "$own_init"
	fi
	exec /bin/busybox switch_root /new /run/popcorn/bin/busybox sh /run/popcorn/init rooted
fi
root_fails "$reason"
"""

TERMINALS_SCRIPT = rb"""#!/bin/sh
# A shell on the first lines to the primary, and a new one when it ends. Whoever reaches them is
# root there, so nobody is asked for a name. On lines 6 and 7 commands are run for `popcornctl
# kernel exec`; 4 and 5 are free for programs.

# On the root of another kernel, which may fail, these are the image's own.
busybox=/bin/busybox
[ ! -x /run/popcorn/bin/busybox ] || busybox=/run/popcorn/bin/busybox

serve() {
	while :; do
		# getty waits long when it cannot open the line: while the primary lacks the module.
		state=down
		read -r state <"/sys/class/tty/$1/popcorn/state"
		[ "$state" = down ] || $busybox getty -L -n -l /bin/sh 0 "$1" linux
		$busybox sleep 1
	done
}

cd /root
for line in ttyPCN0 ttyPCN1 ttyPCN2 ttyPCN3; do
	serve "$line" &
done
if command -v popcorn-agent >/dev/null; then
	popcorn-agent /dev/ttyPCN6 &
	popcorn-agent /dev/ttyPCN7 &
fi
wait
"""

# The kernel runs these by name when it is told to stop (orderly_poweroff, orderly_reboot).
_STOP = """#!/bin/sh
# Tell everybody but PID 1 to end, then do it without asking PID 1.
kill -TERM -1
sleep 1
sync
exec /bin/busybox {verb} -f
"""
POWEROFF = _STOP.format(verb="poweroff").encode()
REBOOT = _STOP.format(verb="reboot").encode()
