exec > /dev/console 2>&1
echo
echo "fact: hostname=$(hostname) $(cat /etc/hostname)"
ip -o -4 address show | awk '/eth0/ { print "fact: address=" $4 }'
ip route | awk '/^default/ { print "fact: gateway=" $3 }'
grep -h context /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys | sed 's/^/fact: key=/'
awk '/^nameserver/ { print "fact: dns=" $2 }' /etc/resolv.conf
awk '$1 ~ "/dev/" { print "fact: swap=" $1 }' /proc/swaps
df -Pk / | awk 'NR == 2 { print "fact: root_kib=" $2 }'
[ ! -f /mnt/notes.txt ] || echo "fact: notes=$(cat /mnt/notes.txt)"
echo "fact: odd=$ODD"
echo x >> /var/lib/starts
echo "fact: starts=$(grep -c x /var/lib/starts)"
