// Package dhcpd is a DHCPv4 service (RFC 2131, RFC 2132) for many segments that
// share nothing: equal subnets, MACs and addresses in two segments are as
// independent as in two buildings.
//
// A Service owns the lease store and the commit loop; a Server is one segment.
// Server.Serve turns a request into a reply without ever waiting: an OFFER, a
// NAK or the answer to an INFORM is handed over at once, an ACK from the commit
// loop, after the lease has reached the disk. The changes of all clients that
// came in while the disk was busy share one transaction.
//
// The package knows messages, not frames: the caller takes the BOOTP message
// out of the packet and puts the reply into one. Reply says where it goes.
//
// Message types, option codes and the encodings of option values are those of
// github.com/insomniacslk/dhcp. The two ends of the wire format are the
// package's own, for what that library leaves to its user: option overload
// (option 52) is read and written, the client's limit (option 57) is kept, the
// options go out in the order that the client asked for, and a request costs no
// map. Tests hold both ends against the library.
package dhcpd
