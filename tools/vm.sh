#!/bin/bash
# A throw-away Debian machine with systemd and cgroup v2, for tests that need another kernel setup
# than this machine's, or a plug to pull.
#
#   tools/vm.sh create           lay a fresh disk and boot it (the base image is built once)
#   tools/vm.sh start            boot the same disk again
#   tools/vm.sh run 'COMMAND'    run it inside as root; its exit code is ours
#   tools/vm.sh push FILE PATH   copy a file to a path inside, executable
#   tools/vm.sh powercut         end the machine at once: what it had not written is lost
#   tools/vm.sh stop             shut it down
#   tools/vm.sh log              what it wrote to its console
#   tools/vm.sh destroy          end it and remove its disk
#
# Environment:
#   BERTH_VM_DIR       where base images and machines are (/var/tmp/berth-vm)
#   BERTH_VM_NAME      which machine (one)
#   BERTH_VM_SUITE     Debian's release (bookworm)
#   BERTH_VM_PACKAGES  what is installed beside the bare system; each set has a base image of its own
#   BERTH_VM_BRING     create: a directory whose content is found at /bring, on a disk of its own
#   BERTH_VM_MEMORY    in MiB (2048)
#   BERTH_VM_BOOT      seconds a boot may take (600)
#   BERTH_VM_OWNER     create: a process; when it ends, the machine does, and its disk goes
# Needs qemu-system-x86, mmdebstrap, e2fsprogs and openssh-client: cargo xtask deps vm.
set -euo pipefail

top=${BERTH_VM_DIR:-/var/tmp/berth-vm}
name=${BERTH_VM_NAME:-one}
suite=${BERTH_VM_SUITE:-bookworm}
packages=${BERTH_VM_PACKAGES:-}
memory=${BERTH_VM_MEMORY:-2048}
patience=${BERTH_VM_BOOT:-600}
machine=$top/machines/$name
revision=4 # raise when the recipe below changes
base=$top/base-$suite-$revision${packages:+-$(md5sum <<< "$packages" | cut -c1-8)}

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
  rm -f "$machine/process" "$machine/mux"
}
destroy() { unplug; rm -rf "$machine"; }
# Ends the machine when its owner is gone without having done so.
guard() {
  local owner=$1 since
  since=$(started "$owner")
  [[ -n $since ]] || fail "no process $owner"
  (
    exec < /dev/null > /dev/null 2>&1
    while [[ -e $machine && $(started "$owner") == "$since" ]]; do sleep 2; done
    destroy
  ) &
  disown
}

in_guest() {
  # One connection for many commands: its beginning is most of their time. A socket's name is short (unix(7)).
  local shared=(-o ControlMaster=auto -o ControlPersist=yes -o "ControlPath=$machine/mux")
  ((${#machine} < 80)) || shared=()
  ssh -F none -i "$top/key" -p "$(< "$machine/port")" -o BatchMode=yes -o LogLevel=ERROR \
    -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o ConnectTimeout=20 -o ServerAliveInterval=10 -o ServerAliveCountMax=12 \
    "${shared[@]}" root@127.0.0.1 "$@"
}

build_base() {
  mkdir -p "$top"
  exec 9> "$top/base.lock"
  flock 9
  build_base_alone 9>&-
  exec 9>&-
}

build_base_alone() {
  [[ -e $base/complete ]] && return 0
  [[ $(id -u) == 0 ]] || fail "building the base image needs root"
  for program in mmdebstrap mke2fs ssh-keygen; do
    command -v "$program" > /dev/null || fail "$program is missing (cargo xtask deps vm)"
  done
  rm -rf "$base"
  mkdir -p "$base"
  [[ -e $top/key ]] || ssh-keygen -q -t ed25519 -N '' -C berth-vm -f "$top/key"
  echo "vm.sh: building the base image of $suite${packages:+ with $packages}, once" >&2
  # Only the modules the disk needs: a full initrd takes long to unpack without hardware help.
  mmdebstrap --quiet --variant=minbase \
    --include=systemd-sysv,udev,openssh-server,iproute2,kmod,procps,util-linux,linux-image-cloud-amd64,initramfs-tools,zstd"${packages:+,${packages// /,}}" \
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
  mkdir "$base/root/bring"
  chroot "$base/root" systemctl -q enable systemd-networkd ssh
  # Packages bring services with them; the tests start their own.
  chroot "$base/root" systemctl -q mask docker.service docker.socket containerd.service docker-registry.service \
    podman.service podman.socket podman-auto-update.timer podman-restart.service firewalld.service ufw.service \
    nfs-server.service nfs-blkmap.service rpcbind.service rpcbind.socket smbd.service nmbd.service samba-ad-dc.service \
    apt-daily.timer apt-daily-upgrade.timer
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
  local port attempt pid bring=()
  [[ ! -e $machine/bring ]] || bring=(-drive "file=$machine/bring,if=virtio,format=raw,cache=writeback")
  for attempt in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 10000))
    setsid qemu-system-x86_64 -machine q35 -accel "$accelerator" -cpu max -smp 2 -m "$memory" \
      -nodefaults -display none -serial "file:$machine/console" \
      -kernel "$base/kernel" -initrd "$base/initrd" \
      -append "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off quiet" \
      -drive "file=$machine/disk,if=virtio,format=raw,cache=writeback" "${bring[@]}" \
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
  [[ ! -e $machine/bring ]] || in_guest mount /dev/vdb /bring < /dev/null
}

# A file system of a directory's content, with room for half as much again.
lay_bring() {
  local kib
  kib=$(du -sk "$BERTH_VM_BRING" | cut -f1)
  truncate -s "$((kib * 3 / 2 + 262144))K" "$machine/bring"
  mke2fs -q -t ext4 -F -d "$BERTH_VM_BRING" "$machine/bring"
}

verb=${1:-help}
shift || true
case $verb in
  create)
    is_up && fail "$name is up (destroy it first)"
    build_base
    rm -rf "$machine"
    mkdir -p "$machine"
    [[ -z ${BERTH_VM_OWNER:-} ]] || guard "$BERTH_VM_OWNER"
    cp --sparse=always --reflink=auto "$base/disk" "$machine/disk"
    [[ -z ${BERTH_VM_BRING:-} ]] || lay_bring
    boot ;;
  start) [[ -e $machine/disk ]] || fail "no machine $name (create it first)"; boot ;;
  run) is_up || fail "$name is not up"; in_guest "$*" ;;
  push)
    (($# == 2)) || fail "push FILE PATH"
    is_up || fail "$name is not up"
    in_guest "mkdir -p ${2%/*} && cat > $2.new && chmod 755 $2.new && sync $2.new && mv $2.new $2" < "$1" ;;
  powercut) is_up || fail "$name is not up"; unplug ;;
  stop)
    if is_up; then
      in_guest 'systemctl poweroff' < /dev/null > /dev/null 2>&1 || true
      for _ in $(seq 600); do is_up || break; sleep 0.1; done
      unplug
    fi ;;
  log) cat "$machine/console" ;;
  destroy) destroy ;;
  *) sed -n '2,/^set -/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; [[ $verb == help ]] ;;
esac
