package guard

import (
	"encoding/binary"
	"net/netip"

	"github.com/uvtep/uvtep/internal/frame"
)

// Verdict is what a table says of a frame.
type Verdict uint8

const (
	Spoofed Verdict = iota // its source is not bound
	Bound                  // its source is bound
	Asks                   // from a MAC without any address, to get one: it passes, and nothing is learned of it
	Claims                 // duplicate address detection for a link-local address that is not bound
	Tries                  // from a link-local address that is not bound: the station may have claimed it unheard
	Unsure                 // its source is bound by a claim that does not count yet
)

// Judge says whether a frame's source is bound: whether it may come from the port.
// The pair is the claim that does not count yet, if the verdict is Unsure, and
// ClaimOf is the address if it is Claims or Tries. What is
// of another kind than ARP, IPv4 and IPv6, or cannot be read, is Spoofed. Tags are
// looked behind.
//
// Open tables have stations that nothing is bound to ask for addresses; in others
// they have nothing to say.
func (t *Table) Judge(f *frame.Frame, open bool) (Verdict, *Pair) {
	b, i := f.Bytes(), &f.Info
	if i.L3 == 0 {
		return Spoofed, nil
	}
	src := sourceOf(b)
	if i.Proto == frame.ProtoTCP && i.L4 != 0 && !i.Fragment && t.fewHave(src, sourceIP(i, b)) {
		return Bound, nil // most of what there is
	}
	switch i.EtherType {
	case frame.TypeIPv4:
		return t.judge4(f, b, src, open)
	case frame.TypeIPv6:
		return t.judge6(f, b, src, open)
	case frame.TypeARP:
		return t.judgeARP(f, src)
	}
	return Spoofed, nil
}

// sourceIP is the source of an IPv4 or IPv6 packet; a multicast address, which
// IPv4 has the place of, is none.
func sourceIP(i *frame.Info, b []byte) address {
	if i.EtherType == frame.TypeIPv4 {
		return of4(b[i.L3+12:])
	}
	if ip := of16(b[i.L3+8:]); ip.hi>>56 != group {
		return ip
	}
	return address{}
}

var unspecified4 = of4(make([]byte, 4))

// judgeARP: who says that an address is his must have it; so must who only asks
// whether anybody has it before he uses it (RFC 5227 section 2.1.1), for that
// keeps others from using it.
func (t *Table) judgeARP(f *frame.Frame, src MAC) (Verdict, *Pair) {
	p, ok := f.ARP()
	if !ok || macOf(p.SenderMAC()) != src {
		return Spoofed, nil
	}
	op, ip := p.Op(), of4(p.SenderIP())
	switch {
	case op != frame.ARPRequest && op != frame.ARPReply:
		return Spoofed, nil
	case ip == unspecified4 && op == frame.ARPRequest:
		ip = of4(p.TargetIP())
	}
	return verdict(t.has(src, ip))
}

func verdict(p *Pair) (Verdict, *Pair) {
	switch {
	case p == nil:
		return Spoofed, nil
	case !p.valid.Load():
		return Unsure, p
	}
	return Bound, nil
}

func (t *Table) judge4(f *frame.Frame, b []byte, src MAC, open bool) (Verdict, *Pair) {
	h := b[f.Info.L3:]
	v, p := verdict(t.has(src, of4(h[12:])))
	client := toServer(f, serverPort4)
	switch {
	case client && (f.Info.Fragment || !ofClient4(f, src)):
		return Spoofed, nil
	case v != Spoofed || !client:
		return v, p
	case binary.BigEndian.Uint32(h[16:]) != 0xffffffff:
		return Spoofed, nil
	}
	// From nowhere, or from where it believes to be: it asks all servers whether it
	// is (REBINDING, RFC 2131 section 4.3.6), and is to hear that it is not.
	const ciaddr = 12
	if ip := binary.BigEndian.Uint32(h[12:]); ip != 0 && ip != binary.BigEndian.Uint32(body(f)[ciaddr:]) {
		return Spoofed, nil
	}
	return t.asking(src, open)
}

// toServer reports whether a packet is for a DHCP server or a relay.
func toServer(f *frame.Frame, port uint16) bool {
	if f.Info.Proto != frame.ProtoUDP || f.Info.L4 == 0 {
		return false
	}
	_, dst := f.UDPPorts()
	return dst == port
}

// asking is the verdict of what a station says before it has an address.
func (t *Table) asking(src MAC, open bool) (Verdict, *Pair) {
	switch {
	case t.knows(src):
		return Bound, nil
	case open:
		return Asks, nil
	}
	return Spoofed, nil
}

// ofClient4 reports whether a message is a client's that has the MAC that it is
// sent from, and no relay's.
func ofClient4(f *frame.Frame, src MAC) bool {
	const bootRequest, ethernet = 1, 1
	const op, htype, hlen, giaddr, chaddr = 0, 1, 2, 24, 28
	m := body(f)
	return len(m) >= chaddr+16 && m[op] == bootRequest && m[htype] == ethernet && m[hlen] == 6 &&
		binary.BigEndian.Uint32(m[giaddr:]) == 0 && macOf(m[chaddr:]) == src
}

func (t *Table) judge6(f *frame.Frame, b []byte, src MAC, open bool) (Verdict, *Pair) {
	i := &f.Info
	if (i.L4 == 0 || i.Fragment) && obscure(f) {
		return Spoofed, nil
	}
	if toServer(f, serverPort6) && (i.Fragment || relayed6(f)) {
		return Spoofed, nil
	}
	ip := of16(b[i.L3+8:])
	if i.Proto == frame.ProtoICMPv6 && i.L4 != 0 {
		if m, ok := f.ICMPv6(); ok {
			return t.judgeICMPv6(f, m, src, ip, open)
		} else if t := b[i.L4]; t >= frame.RouterSolicitation && t <= redirect {
			return Spoofed, nil // in fragments it is nobody's (RFC 6980)
		}
	}
	return t.sent6(src, ip, open)
}

// sent6 is from6 for a packet that only has to come from its source.
func (t *Table) sent6(src MAC, ip address, open bool) (Verdict, *Pair) {
	v, p := t.from6(src, ip)
	if v == Spoofed && ip.linkLocal() && (open || t.knows(src)) {
		v = Tries
	}
	return v, p
}

// ClaimOf is the address that a frame claims whose verdict is Claims or Tries.
func ClaimOf(f *frame.Frame) netip.Addr {
	src := f.Bytes()[f.Info.L3+8:]
	if m, ok := f.ICMPv6(); ok && m.Type() == frame.NeighbourSolicitation && of16(src) == (address{}) {
		src = m.Target()
	}
	return netip.AddrFrom16([16]byte(src))
}

// relayed6 reports whether a message to a server is a relay's, which would ask for
// addresses in the name of others.
func relayed6(f *frame.Frame) bool {
	const relayForward = 12
	m := body(f)
	return len(m) == 0 || m[0] == relayForward
}

// from6 is the verdict of an IPv6 source address: bound, or made of a MAC that is.
func (t *Table) from6(src MAC, ip address) (Verdict, *Pair) {
	if ip.hi>>56 == group {
		return Spoofed, nil
	}
	v, p := verdict(t.has(src, ip))
	if v != Bound && ip == eui64(src) && t.knows(src) {
		return Bound, nil
	}
	return v, p
}

// judgeICMPv6 is judge6 where the packet may be one of neighbour discovery, in
// which a station says of an address that it is at its MAC (RFC 4861 section 4).
func (t *Table) judgeICMPv6(f *frame.Frame, m frame.ICMPv6, src MAC, ip address, open bool) (Verdict, *Pair) {
	const advertisement, others = 16, 24 // where options begin
	none := ip == address{}
	switch m.Type() {
	case frame.NeighbourSolicitation:
		target := m.Target()
		if target == nil || !says(m, others, frame.OptionSourceMAC, src, !none) {
			return Spoofed, nil
		}
		if none {
			return t.judgeProbe(src, of16(target), open)
		}
	case frame.NeighbourAdvertisement:
		target := m.Target()
		if target == nil || !says(m, others, frame.OptionTargetMAC, src, true) {
			return Spoofed, nil
		}
		if v, p := t.from6(src, of16(target)); v != Bound {
			return v, p
		}
	case frame.RouterSolicitation:
		if !says(m, 8, frame.OptionSourceMAC, src, !none) {
			return Spoofed, nil
		}
		if none {
			return t.asking(src, open)
		}
	case frame.RouterAdvertisement:
		if !says(m, advertisement, frame.OptionSourceMAC, src, true) {
			return Spoofed, nil
		}
	case listenerReport, listenerDone, listenerReport2:
		if none { // RFC 3590
			return t.asking(src, open)
		}
	}
	return t.sent6(src, ip, open)
}

// Messages of multicast listeners (RFC 2710, RFC 3810).
const (
	listenerReport  = 131
	listenerDone    = 132
	listenerReport2 = 143
)

// says reports whether the options of a message, which begin at a byte, are whole
// and say nothing of another MAC; or, unless there may be one, of any.
func says(m frame.ICMPv6, from int, option uint8, src MAC, may bool) bool {
	if len(m) < from {
		return false
	}
	v, ok := m.Option(from, option)
	return ok && (v == nil || may && macOf(v) == src && !twice(m, from, option))
}

// twice reports whether an option is there more than once: which of them counts
// is the receiver's choice.
func twice(m frame.ICMPv6, from int, option uint8) bool {
	n := 0
	for len(m)-from >= 8 {
		if m[from] == option {
			n++
		}
		from += 8 * int(m[from+1])
	}
	return n > 1
}

// judgeProbe is the verdict of duplicate address detection (RFC 4862 section
// 5.4.2): for an address that is the station's own or, if it is link-local, may
// become so.
func (t *Table) judgeProbe(src MAC, target address, open bool) (Verdict, *Pair) {
	if v, p := t.from6(src, target); v == Bound {
		return v, p
	} else if v == Unsure {
		return Asks, nil // again
	}
	if target.linkLocal() && (open || t.knows(src)) {
		return Claims, nil
	}
	return Spoofed, nil
}
