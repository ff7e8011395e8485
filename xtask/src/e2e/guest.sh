#!/bin/busybox sh
# The first process of a guest: brings up the machine, then runs what the second serial port says,
# one line at a time, and answers with the output and the exit status.
/bin/busybox mkdir -p /proc /sys /dev /tmp /etc /sbin /usr/bin /usr/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
for module in /modules/*.ko; do
    insmod "$module" || echo "insmod $module failed"
done
ip link set lo up
# Raw: what is written arrives as it is, without echo or carriage returns.
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo "E2E ready" >&3
while read -r number line <&3; do
    sh -c "$line" </dev/null >/tmp/output 2>&1
    status=$?
    echo "E2E begin $number" >&3
    cat /tmp/output >&3
    # The output may not end in a newline; the answer begins on a line of its own.
    echo >&3
    echo "E2E end $number $status" >&3
done
poweroff -f
