# SPDX-License-Identifier: GPL-2.0
"""The scripts that a secondary runs, for the shell of busybox."""

from __future__ import annotations

__all__ = ("INIT", "MODULES", "POWEROFF", "REBOOT", "RUN", "TERMINALS", "TERMINALS_SCRIPT")

# Where INIT finds the names of the modules to load, in order, and the user's script.
MODULES = "etc/popcorn/modules"
RUN = "etc/popcorn/run"
TERMINALS = "etc/popcorn/terminals"

INIT = rb"""#!/bin/sh
# PID 1 of a secondary. Must not end: the kernel would panic.

# There may be no console, or one that blocks its writers. All that is said goes to the log.
exec </dev/null >/dev/null 2>&1

export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root
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

mkdir -p /proc
[ -r /proc/cmdline ] || mount -t proc proc /proc
mount_once sysfs /sys
mount_once devtmpfs /dev
mount_once devpts /dev/pts
mount_once tmpfs /run
mount_once tmpfs /tmp

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

# Who made the image gets in with his key, and nobody else.
start_ssh() {
	[ -x /usr/sbin/dropbear ] || return 0
	mkdir -p /etc/dropbear /var/run
	reason=$(/usr/sbin/dropbear -R -s 2>&1) || fail "dropbear: $reason"
}

load_all() {
	for module in $(cat /etc/popcorn/modules); do
		load "$module" || return 1
	done
}

trap /sbin/poweroff USR1 USR2
trap /sbin/reboot TERM

try_ip link set lo up
if load_all; then
	say "joined as $(hostname)"
	set_up_link
	start_ssh
	if [ -f /etc/popcorn/terminals ]; then
		/etc/popcorn/terminals &
	fi
	if [ -f /etc/popcorn/run ]; then
		{
			/etc/popcorn/run 2>&1
			echo "ended with status $?"
		} | log_lines run &
	fi
else
	fail "not joined"
fi

# While it waits for this one child, the shell reaps every other that ends.
while :; do
	sleep 3600 &
	wait $!
done
"""

TERMINALS_SCRIPT = rb"""#!/bin/sh
# A shell on the first lines to the primary, and a new one when it ends. Whoever reaches them is
# root there, so nobody is asked for a name. On lines 6 and 7 commands are run for `popcornctl
# kernel exec`; 4 and 5 are free for programs.

serve() {
	while :; do
		# getty waits long when it cannot open the line: while the primary lacks the module.
		state=down
		read -r state <"/sys/class/tty/$1/popcorn/state"
		[ "$state" = down ] || getty -L -n -l /bin/sh 0 "$1" linux
		sleep 1
	done
}

cd /root
for line in ttyPCN0 ttyPCN1 ttyPCN2 ttyPCN3; do
	serve "$line" &
done
if [ -x /sbin/popcorn-agent ]; then
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
