#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Process 1 of the guest, on the real root: set the machine up, run the command, report its status.
# How the run ended goes through the virtio port "status": "start UPTIME", then "exit STATUS".

lab=/run/lab
. "$lab/settings"
. "$lab/environment"

mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts 2>/dev/null ||
	{ mkdir -p /dev/pts && mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts; }
mkdir -p /dev/shm /run/lock
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
busybox hostname lab
busybox ip link set lo up
ulimit -c 0

# Every kernel that was fetched, as if it were installed here.
mount -t tmpfs tmpfs "$(readlink -f /lib/modules)"
while read -r release base; do
	ln -s "$base/lib/modules/$release" "/lib/modules/$release"
	for file in vmlinuz config System.map; do
		ln -sf "$base/boot/$file-$release" "/boot/$file-$release"
	done
done <"$lab/kernels"

# No coldplug: what is there already is in devtmpfs, and the daemon is for what comes later.
if [ -x /lib/systemd/systemd-udevd ]; then
	/lib/systemd/systemd-udevd --daemon 2>/dev/kmsg
fi

mkdir /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
	read -r name <"$port/name" && ln -s "/dev/${port##*/}" "/dev/virtio-ports/$name"
done 2>/dev/null

cd "$LAB_CWD" || exit 1
exec 9>/dev/virtio-ports/status
read -r uptime _ </proc/uptime
echo "start $uptime" >&9

if [ -e "$lab/command" ]; then
	# Pipes between the command and the ports: a port opens once only, and /dev/stderr opens again.
	mkfifo "$lab/out" "$lab/err"
	busybox cat <"$lab/out" >/dev/virtio-ports/out 9>&- &
	out=$!
	busybox cat <"$lab/err" >/dev/virtio-ports/err 9>&- &
	err=$!
	setsid -w sh "$lab/command" </dev/null >"$lab/out" 2>"$lab/err" 9>&-
	status=$?
	# All that the command wrote is in the pipes. Something it left running may hold them open.
	(sleep 3 && kill $out $err) 9>&- 2>/dev/null &
	wait $out $err
else
	stty -F /dev/hvc0 rows "${LINES:-24}" cols "${COLUMNS:-80}"
	setsid -c -w bash -l </dev/hvc0 >/dev/hvc0 2>&1 9>&-
	status=$?
fi
echo "exit $status" >&9
while :; do sleep 3600; done
