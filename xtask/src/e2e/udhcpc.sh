#!/bin/busybox sh
# What the guest does with a lease.
case $1 in
bound | renew)
    ip addr flush dev "$interface"
    ip addr add "$ip/$mask" dev "$interface"
    [ -n "$mtu" ] && ip link set "$interface" mtu "$mtu"
    for hop in $router; do
        ip route add default via "$hop" dev "$interface"
    done
    {
        [ -n "$domain" ] && echo "search $domain"
        for server in $dns; do
            echo "nameserver $server"
        done
    } >/etc/resolv.conf
    echo "E2E lease ip=$ip mask=$mask router=$router dns=$dns mtu=$mtu domain=$domain lease=$lease server=$serverid"
    ;;
esac
