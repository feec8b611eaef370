#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0
# Process 1 of the guest, on the real root: set the machine up, run the command, report its status.
# How the run ended goes through the virtio port "status": "start UPTIME", then "exit STATUS".

lab=/run/lab
. "$lab/settings"
. "$lab/environment"

# BusyBox, and from memory, wherever it can do the work: starting a program off 9p takes ten times as long.
bb=$lab/busybox
$bb mkdir -p /dev/pts /dev/shm /run/lock
$bb mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
$bb mount -t tmpfs -o mode=1777 tmpfs /dev/shm
# A checkout below /tmp must stay where it is.
case $LAB_CWD in
/tmp/*) ;;
*) $bb mount -t tmpfs -o mode=1777 tmpfs /tmp ;;
esac
$bb mount -t tracefs tracefs /sys/kernel/tracing
$bb mount -t debugfs debugfs /sys/kernel/debug
$bb mount -t securityfs securityfs /sys/kernel/security
$bb mount -t bpf bpf /sys/fs/bpf
$bb mount -t cgroup2 cgroup2 /sys/fs/cgroup
$bb ln -s /proc/self/fd /dev/fd
$bb ln -s fd/0 /dev/stdin
$bb ln -s fd/1 /dev/stdout
$bb ln -s fd/2 /dev/stderr
echo lab >/proc/sys/kernel/hostname
$bb ip link set lo up
ulimit -c 0

# No coldplug: what is there already is in devtmpfs, and the daemon is for what comes later.
if [ -x /lib/systemd/systemd-udevd ]; then
	# The checkout's rules, as if they were installed.
	$bb mkdir -p /run/udev/rules.d
	$bb cp "$LAB_CWD"/udev/*.rules /run/udev/rules.d/
	/lib/systemd/systemd-udevd --daemon 2>/dev/kmsg &
	udevd=$!
fi

# Every kernel that was fetched, as if it were installed here.
$bb mount -t tmpfs tmpfs "$($bb readlink -f /lib/modules)"
while read -r release base; do
	$bb ln -s "$base/lib/modules/$release" "/lib/modules/$release"
	for file in "$base"/boot/*"-$release"; do
		$bb ln -sf "$file" /boot/
	done
done <"$lab/kernels"

$bb mkdir /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
	if read -r name <"$port/name"; then
		$bb ln -s "/dev/${port##*/}" "/dev/virtio-ports/$name"
	fi
done 2>/dev/null
# The daemon listens once its first process has ended.
[ -z "${udevd-}" ] || wait "$udevd"

cd "$LAB_CWD" || exit 1
exec 9>/dev/virtio-ports/status
read -r uptime _ </proc/uptime
echo "start $uptime" >&9

if [ -e "$lab/command" ]; then
	# Pipes between the command and the ports: a port opens once only, and /dev/stderr opens again.
	$bb mkfifo "$lab/out" "$lab/err"
	$bb cat <"$lab/out" >/dev/virtio-ports/out 9>&- &
	out=$!
	$bb cat <"$lab/err" >/dev/virtio-ports/err 9>&- &
	err=$!
	$bb setsid /bin/sh "$lab/command" </dev/null >"$lab/out" 2>"$lab/err" 9>&-
	status=$?
	# All that the command wrote is in the pipes. Something it left running may hold them open.
	($bb sleep 3 && kill $out $err) 9>&- 2>/dev/null &
	wait $out $err
else
	# A login's start-up files would put another PATH in the place of the lab's.
	export PS1="lab $LAB_KERNEL:\\w# "
	{
		$bb stty rows "${LINES:-24}" cols "${COLUMNS:-80}"
		$bb setsid -c /bin/bash --norc 9>&-
	} </dev/hvc0 >/dev/hvc0 2>&1
	status=$?
fi
echo "exit $status" >&9
while :; do $bb sleep 3600; done
