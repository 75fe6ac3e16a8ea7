# Starts systemd as the first process of a host of its own: this machine's files under a layer that vanishes,
# its own processes, mounts and control groups. Arguments: a directory for the layer, and the
# balancer's binary, or nothing.
#
# Whatever would reach through to the machine is taken away first: devices, kernel settings, and every unit that
# is started by default (udev and sysctl among them).
set -eu
root="$1/root"
mkdir -p "$root"
mount -t tmpfs layer "$root"
mkdir "$root/upper" "$root/work" "$root/host"
mount -t overlay host -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/host"
cd "$root/host"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
mount -t tmpfs -o mode=755 dev dev
for device in null zero full random urandom tty; do
    : > "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 pts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
if [ -n "$2" ]; then
    : > usr/bin/evenkeel
    mount --bind "$2" usr/bin/evenkeel
fi
# Images for containers keep packages from starting services.
rm -f usr/sbin/policy-rc.d
: > etc/fstab
rm -rf etc/systemd/system/*.wants lib/systemd/system/*.wants lib/systemd/system-generators
printf '[Unit]\nRequires=basic.target systemd-journald.socket systemd-journald-dev-log.socket\n' > etc/systemd/system/bare.target
pivot_root . mnt
cd /
umount --lazy mnt
mount --make-rshared /
exec env -i container=evenkeel-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=bare.target --show-status=0 --log-target=journal
