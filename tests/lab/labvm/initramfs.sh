#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0
# First program of the guest: this machine's root file system, read-only, below a layer in memory.

bb=/bin/busybox

fail() {
	echo "lab: $1" >/dev/kmsg
	$bb poweroff -f
}

$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
while read -r module; do
	$bb insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

# Loose caching is right for files that do not change while the guest runs, and much the fastest.
options=trans=virtio,version=9p2000.L,msize=512000
$bb mount -t 9p -o "$options,ro,cache=loose" root /lower || fail "cannot mount the root"
$bb mount -t tmpfs -o size=60% tmpfs /upper || fail "cannot mount the upper layer"
$bb mkdir /upper/files /upper/work
# xino: all files have one device number, as in any other file system. Servers of files go by it.
layers=lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work
$bb mount -t overlay -o "$layers,xino=on" overlay /root ||
	fail "cannot mount the overlay"

. /lab/settings
# Uncached, so that what the guest writes is on the other side at once.
$bb mkdir -p "/root$LAB_SHARED"
$bb mount -t 9p -o "$options,rw,cache=none" shared "/root$LAB_SHARED" ||
	fail "cannot mount the shared directory"
$bb mount -t tmpfs -o mode=755 tmpfs /root/run
$bb cp -r /lab /root/run/lab
$bb cp $bb /root/run/lab/busybox
$bb mount --move /proc /root/proc
$bb mount --move /sys /root/sys
$bb mount --move /dev /root/dev
# The overlay keeps both; nobody needs to see them.
$bb umount -l /lower
$bb umount -l /upper
exec $bb switch_root /root /run/lab/busybox sh "$LAB_INIT"
