package dhcpcheck

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/nettest"
)

var broadcastMAC = mac{255, 255, 255, 255, 255, 255}

// packet is a DHCP message with the headers that it came in.
type packet struct {
	*message
	srcMAC, dstMAC mac
	src, dst       netip.Addr
	sport, dport   uint16
	payload        int    // bytes of the DHCP message
	ipLen          int    // bytes of the IP packet, as its header says
	badSum         string // which checksum is wrong or missing, "" if none
	at             time.Time
	unreadable     error
}

// wire is a packet socket on the clients' end of a cable, and the machines that
// live there: who answers ARP and ping, and from where.
type wire struct {
	f      *os.File
	open   func() *os.File
	owners map[netip.Addr]mac // answer ARP for these
	pings  bool               // they answer ping as well
	asked  []netip.Addr       // ARP requests that came, whoever owns the address
	pended []*packet          // came while something else was waited for
	all    []*packet          // every reply so far
}

// openWire opens a socket on a link of a namespace.
func openWire(t testing.TB, ns *nettest.NS, link string) *wire {
	t.Helper()
	w := &wire{owners: map[netip.Addr]mac{}, open: func() (f *os.File) {
		ns.Do(func() {
			fd, err := packetSocket(link)
			if err != nil {
				t.Fatalf("packet socket on %s: %v", link, err)
			}
			f = os.NewFile(uintptr(fd), link)
		})
		return f
	}}
	w.f = w.open()
	t.Cleanup(func() { w.f.Close() })
	return w
}

// reopen is for after the link was gone, or down.
func (w *wire) reopen() {
	w.f.Close()
	w.f, w.pended = w.open(), nil
}

// packetSocket opens a socket that sees all frames of a link but those it sends.
func packetSocket(link string) (int, error) {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(i.Index), Type: unix.PACKET_MR_PROMISC}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}))
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// pump takes frames until one satisfies want or the deadline has come. ARP
// requests and pings are answered on the way.
func (w *wire) pump(until time.Time, want func(*packet) bool) (*packet, error) {
	for i, p := range w.pended {
		if want(p) {
			w.pended = append(w.pended[:i:i], w.pended[i+1:]...)
			return p, nil
		}
	}
	b := make([]byte, 2048)
	for {
		if err := w.f.SetReadDeadline(until); err != nil {
			return nil, err
		}
		n, err := w.f.Read(b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, nil
		case err != nil:
			return nil, err
		}
		p, err := w.take(b[:n])
		if err != nil {
			return nil, err
		}
		if p == nil {
			continue
		}
		w.all = append(w.all, p)
		if want(p) {
			return p, nil
		}
		w.pended = append(w.pended, p)
	}
}

// take looks at one frame and answers it if it is none of DHCP's.
func (w *wire) take(b []byte) (*packet, error) {
	if len(b) < 34 {
		return nil, nil
	}
	switch binary.BigEndian.Uint16(b[12:]) {
	case 0x0806:
		return nil, w.arp(b)
	case 0x0800:
		switch {
		case b[23] == 1:
			return nil, w.ping(b)
		case b[23] == 17:
			return readPacket(b), nil
		}
	}
	return nil, nil
}

// arp answers a request for an address that somebody on the wire has.
func (w *wire) arp(b []byte) error {
	if len(b) < 42 || binary.BigEndian.Uint16(b[20:]) != 1 {
		return nil
	}
	want := netip.AddrFrom4([4]byte(b[38:42]))
	w.asked = append(w.asked, want)
	owner, ok := w.owners[want]
	if !ok {
		return nil
	}
	return w.send(arpFrame(2, owner, want, mac(b[22:28]), netip.AddrFrom4([4]byte(b[28:32]))))
}

func arpFrame(op byte, srcMAC mac, src netip.Addr, dstMAC mac, dst netip.Addr) []byte {
	to := dstMAC
	if op == 1 {
		to = broadcastMAC
	}
	b := append(append(to[:], srcMAC[:]...), 8, 6, 0, 1, 8, 0, 6, 4, 0, op)
	b = append(append(b, srcMAC[:]...), src.AsSlice()...)
	return append(append(b, dstMAC[:]...), dst.AsSlice()...)
}

// ping answers an echo request (RFC 792).
func (w *wire) ping(b []byte) error {
	to := netip.AddrFrom4([4]byte(b[30:34]))
	owner, ok := w.owners[to]
	if !ok || !w.pings || len(b) < 42 || b[34] != 8 {
		return nil
	}
	r := append([]byte(nil), b...)
	copy(r, b[6:12])
	copy(r[6:], owner[:])
	copy(r[26:], b[30:34])
	copy(r[30:], b[26:30])
	r[34], r[36], r[37] = 0, 0, 0
	end := 14 + int(binary.BigEndian.Uint16(r[16:]))
	binary.BigEndian.PutUint16(r[36:], checksum(r[34:min(end, len(r))], 0))
	return w.send(r)
}

func (w *wire) send(frame []byte) error {
	if _, err := w.f.Write(frame); err != nil {
		return fmt.Errorf("send a frame: %w", err)
	}
	return nil
}

// readPacket reads a frame with UDP in it; nil if it is not for DHCP's ports.
func readPacket(b []byte) *packet {
	ip := b[14:]
	ihl := int(ip[0]&15) * 4
	length := int(binary.BigEndian.Uint16(ip[2:]))
	if ihl < 20 || length > len(ip) || length < ihl+8 {
		return nil
	}
	ip = ip[:length]
	udp := ip[ihl:]
	p := &packet{
		dstMAC: mac(b[:6]), srcMAC: mac(b[6:12]), at: time.Now(), ipLen: length,
		src: netip.AddrFrom4([4]byte(ip[12:16])), dst: netip.AddrFrom4([4]byte(ip[16:20])),
		sport: binary.BigEndian.Uint16(udp), dport: binary.BigEndian.Uint16(udp[2:]),
	}
	if p.sport != 67 || p.dport != 67 && p.dport != 68 {
		return nil
	}
	if checksum(ip[:ihl], 0) != 0 {
		p.badSum = "IP checksum wrong"
	}
	if n := int(binary.BigEndian.Uint16(udp[4:])); n != len(udp) {
		p.unreadable = fmt.Errorf("UDP says %d bytes, IP has %d", n, len(udp))
		return p
	}
	switch pseudo := uint32(17+len(udp)) + sum(ip[12:20]); {
	case binary.BigEndian.Uint16(udp[6:]) == 0:
		p.badSum = "no UDP checksum"
	case checksum(udp, pseudo) != 0:
		p.badSum = "UDP checksum wrong"
	}
	p.payload = len(udp) - 8
	p.message, p.unreadable = readMessage(udp[8:])
	return p
}

// sum adds up 16-bit words; checksum is the Internet's (RFC 1071), 0 over what
// carries a right one.
func sum(b []byte) (s uint32) {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	return s
}

func checksum(b []byte, start uint32) uint16 {
	s := start + sum(b)
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// way is the headers that a message is sent with.
type way struct {
	srcMAC, dstMAC mac
	src, dst       netip.Addr
	sport, dport   uint16
}

// datagram is a frame with a UDP datagram in it.
func datagram(h way, payload []byte) []byte {
	b := append(append(h.dstMAC[:], h.srcMAC[:]...), 8, 0)
	ip := make([]byte, 20, 28)
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(28+len(payload)))
	copy(ip[12:], h.src.AsSlice())
	copy(ip[16:], h.dst.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip, 0))
	udp := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(udp, h.sport)
	binary.BigEndian.PutUint16(udp[2:], h.dport)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(payload)))
	udp = append(udp, payload...)
	s := checksum(udp, uint32(17+len(udp))+sum(ip[12:20]))
	if s == 0 {
		s = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], s)
	return append(append(b, ip...), udp...)
}
