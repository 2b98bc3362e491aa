#!/bin/sh
# Runs a line of shell in a root directory as on a machine of its own: process ids, mounts, terminals and /run are
# its own; the network and the kernel, with its devices and control groups, are this machine's. Nothing is left
# running.
#   enter.sh ROOT LINE
set -eu
if [ "${3:-}" != inside ]; then
  exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --uts --ipc --propagation private \
    sh "$0" "$1" "$2" inside
fi
root=$1 line=$2
hostname bare
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs -o nosuid,nodev,mode=1777 shm "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=755 run "$root/run"
cd "$root"
mkdir -p .before
pivot_root . .before
cd /
umount -l /.before
rmdir /.before
code=0
env -i HOME=/root TERM=dumb PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  sh -c "$line" < /dev/null || code=$?
# The engine that the line has started removes its control groups when it may end by itself.
for process in /proc/[0-9]*; do
  case "$(readlink "$process/exe" || true)" in
    */berth) kill -TERM "${process#/proc/}" || true ;;
  esac
done 2> /dev/null
tries=0
while [ $tries -lt 200 ] && readlink /proc/[0-9]*/exe 2> /dev/null | grep -q '/berth$'; do
  tries=$((tries + 1))
  sleep 0.1
done
exit $code
