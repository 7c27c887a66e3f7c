// Package dhcpcheck holds every behaviour of a DHCPv4 server that operators rely
// on as one check each, and runs the same checks against this program, dnsmasq
// and Kea. A check sees frames only: it speaks through a packet socket and reads
// what comes back byte for byte, its Ethernet, IP and UDP headers included. The
// package has nothing but tests; what they find is the table in docs/dhcp.md.
package dhcpcheck
