#!/bin/bash
# A throw-away Debian machine with systemd and cgroup v2, for tests that need another kernel setup
# than this machine's, or a plug to pull.
#
#   tools/vm.sh create           lay a fresh disk and boot it (the base image is built once)
#   tools/vm.sh start            boot the same disk again
#   tools/vm.sh run 'COMMAND'    run it inside as root; its exit code is ours
#   tools/vm.sh push FILE... DIR copy files into a directory inside
#   tools/vm.sh powercut         end the machine at once: what it had not written is lost
#   tools/vm.sh stop             shut it down
#   tools/vm.sh log              what it wrote to its console
#   tools/vm.sh destroy          end it and remove its disk
#
# Environment: BERTH_VM_DIR (target/vm), BERTH_VM_NAME (one), BERTH_VM_SUITE (bookworm),
# BERTH_VM_MEMORY in MiB (2048), BERTH_VM_BOOT seconds a boot may take (600).
# Needs qemu-system-x86, mmdebstrap, e2fsprogs and openssh-client: cargo xtask deps vm.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
top=${BERTH_VM_DIR:-$here/target/vm}
name=${BERTH_VM_NAME:-one}
suite=${BERTH_VM_SUITE:-bookworm}
memory=${BERTH_VM_MEMORY:-2048}
patience=${BERTH_VM_BOOT:-600}
machine=$top/machines/$name
revision=1 # raise when the recipe below changes
base=$top/base-$suite-$revision

fail() { echo "vm.sh: $*" >&2; exit 1; }

# A process is ours when its start time is the one noted: ids are used again.
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
is_up() {
  local pid since
  [[ -r $machine/process ]] || return 1
  read -r pid since < "$machine/process"
  [[ $(started "$pid") == "$since" ]]
}
unplug() {
  is_up || { rm -f "$machine/process"; return 0; }
  local pid since
  read -r pid since < "$machine/process"
  kill -KILL "$pid"
  while is_up; do sleep 0.05; done
  rm -f "$machine/process"
}

in_guest() {
  ssh -F none -i "$top/key" -p "$(< "$machine/port")" -o BatchMode=yes -o LogLevel=ERROR \
    -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o ConnectTimeout=20 -o ServerAliveInterval=10 -o ServerAliveCountMax=6 \
    root@127.0.0.1 "$@"
}

build_base() {
  [[ -e $base/complete ]] && return 0
  [[ $(id -u) == 0 ]] || fail "building the base image needs root"
  for program in mmdebstrap mke2fs ssh-keygen; do
    command -v "$program" > /dev/null || fail "$program is missing (cargo xtask deps vm)"
  done
  rm -rf "$base"
  mkdir -p "$base"
  [[ -e $top/key ]] || ssh-keygen -q -t ed25519 -N '' -C berth-vm -f "$top/key"
  echo "vm.sh: building the base image of $suite, once" >&2
  # Only the modules the disk needs: a full initrd takes long to unpack without hardware help.
  mmdebstrap --quiet --variant=minbase \
    --include=systemd-sysv,udev,openssh-server,iproute2,kmod,procps,util-linux,linux-image-cloud-amd64,initramfs-tools,zstd \
    --setup-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
    --setup-hook='echo MODULES=list > "$1/etc/initramfs-tools/conf.d/short"' \
    --setup-hook='printf "%s\n" virtio_pci virtio_blk virtio_net ext4 overlay > "$1/etc/initramfs-tools/modules"' \
    "$suite" "$base/root" > "$base/log" 2>&1 || { tail -n 20 "$base/log" >&2; fail "mmdebstrap failed"; }
  cp "$base"/root/boot/vmlinuz-* "$base/kernel"
  cp "$base"/root/boot/initrd.img-* "$base/initrd"
  install -d -m 700 "$base/root/root/.ssh"
  install -m 600 "$top/key.pub" "$base/root/root/.ssh/authorized_keys"
  printf '/dev/vda / ext4 defaults 0 1\n' > "$base/root/etc/fstab"
  printf 'guest\n' > "$base/root/etc/hostname"
  printf '127.0.0.1 localhost guest\n' > "$base/root/etc/hosts"
  printf '[Match]\nName=e*\n[Network]\nDHCP=ipv4\n' > "$base/root/etc/systemd/network/50-wired.network"
  chroot "$base/root" systemctl -q enable systemd-networkd ssh
  truncate -s 8G "$base/disk"
  mke2fs -q -t ext4 -F -d "$base/root" "$base/disk"
  rm -rf "$base/root"
  touch "$base/complete"
}

boot() {
  is_up && fail "$name is up already"
  command -v qemu-system-x86_64 > /dev/null || fail "qemu-system-x86_64 is missing (cargo xtask deps vm)"
  local accelerator=tcg,thread=multi,tb-size=512
  if [[ -w /dev/kvm ]] && grep -qwE 'vmx|svm' /proc/cpuinfo; then accelerator=kvm; fi
  local port attempt pid
  for attempt in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 10000))
    setsid qemu-system-x86_64 -machine q35 -accel "$accelerator" -cpu max -smp 2 -m "$memory" \
      -nodefaults -display none -serial "file:$machine/console" \
      -kernel "$base/kernel" -initrd "$base/initrd" \
      -append "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off quiet" \
      -drive "file=$machine/disk,if=virtio,format=raw,cache=writeback" \
      -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=net,romfile= \
      -device virtio-rng-pci < /dev/null > "$machine/qemu" 2>&1 &
    pid=$!
    disown
    echo "$port" > "$machine/port"
    echo "$pid $(started "$pid")" > "$machine/process"
    for _ in $(seq 20); do is_up || break; sleep 0.05; done
    is_up && break
    grep -q 'host forwarding' "$machine/qemu" || { cat "$machine/qemu" >&2; fail "qemu did not start"; }
  done
  local end=$((SECONDS + patience))
  until in_guest true < /dev/null 2> /dev/null; do
    is_up || { tail -n 20 "$machine/console" >&2; fail "the machine ended while booting"; }
    ((SECONDS < end)) || { tail -n 20 "$machine/console" >&2; fail "no answer after $patience s"; }
    sleep 1
  done
}

verb=${1:-help}
shift || true
case $verb in
  create)
    is_up && fail "$name is up (destroy it first)"
    build_base
    rm -rf "$machine"
    mkdir -p "$machine"
    cp --sparse=always --reflink=auto "$base/disk" "$machine/disk"
    boot ;;
  start) [[ -e $machine/disk ]] || fail "no machine $name (create it first)"; boot ;;
  run) is_up || fail "$name is not up"; in_guest "$*" ;;
  push)
    (($# >= 2)) || fail "push FILE... DIRECTORY"
    is_up || fail "$name is not up"
    for file in "${@:1:$#-1}"; do
      in_guest "mkdir -p ${*: -1} && cat > ${*: -1}/${file##*/} && chmod 755 ${*: -1}/${file##*/}" < "$file"
    done ;;
  powercut) is_up || fail "$name is not up"; unplug ;;
  stop)
    if is_up; then
      in_guest 'systemctl poweroff' < /dev/null > /dev/null 2>&1 || true
      for _ in $(seq 600); do is_up || break; sleep 0.1; done
      unplug
    fi ;;
  log) cat "$machine/console" ;;
  destroy) unplug; rm -rf "$machine" ;;
  *) sed -n '2,/^set -/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; [[ $verb == help ]] ;;
esac
