package vtep

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/guard"
)

// Link-local addresses are nobody's to lease: a station makes one up and asks
// whether anybody has it. So they are his who comes first (FCFS SAVI, RFC 6620).
// A claim begins with duplicate address detection, or, where a station whose MAC
// has a lease was not heard asking, with the segment being asked in its stead. It
// counts once nobody has spoken against it for a second.
const (
	claimWait    = time.Second // as a station waits (RFC 4861 section 10, RetransTimer)
	claimsAMAC   = 4           // that a MAC may have; an older one gives way
	claimsAPort  = 64          // of MACs that have no lease
	claimsASec   = 100         // that are looked at, a port
	elsewhereLen = 4096        // addresses that are remembered to be used elsewhere
	elsewhereAge = 300 * time.Second
)

// localClaim is a link-local address of a station at a bound port, or elsewhere.
type localClaim struct {
	ip    netip.Addr
	mac   guard.MAC
	at    *bound      // nil: elsewhere
	pair  *guard.Pair // in its table
	since time.Duration
}

// claims are those of a segment, under its keeper's lock.
type claims struct {
	held   map[netip.Addr]*localClaim
	trials map[netip.Addr]*localClaim // that do not count yet
	away   int                        // of held, those elsewhere

	trying atomic.Int32                // len(trials), for workers
	recent [elsewhereLen]atomic.Uint64 // hashes of what was heard of elsewhere, and in which second
}

// claim looks at duplicate address detection, and reports whether the station may
// go on with it.
func (b *bound) claim(w *worker, p *Port, f *frame.Frame) bool {
	now := w.v.since()
	if !b.rate.take(now, claimsASec, 1) {
		return false
	}
	begun, holder := b.begin(p, f, now)
	p.ask(holder, f)
	return begun
}

// try begins a claim for a station that was not heard asking.
func (b *bound) try(w *worker, p *Port, f *frame.Frame) {
	now := w.v.since()
	if !b.rate.take(now, claimsASec, 1) {
		return
	}
	begun, holder := b.begin(p, f, now)
	p.ask(holder, f)
	if begun {
		p.seg.inject(injected{to: everybody, as: p, bytes: composeProbe6(f)})
	}
}

// ask asks who has an address at another port, if there is one, whether he is
// still there: an isolated one would not hear who wants it.
func (p *Port) ask(holder *bound, f *frame.Frame) {
	if holder != nil {
		if at := p.seg.port(holder.name); at != nil {
			p.seg.inject(injected{to: origin{port: at}, bytes: composeProbe6(f)})
		}
	}
}

// begin begins the claim that a frame makes, or lets one go on. The holder is the
// port that the same station has had the address at.
func (b *bound) begin(p *Port, f *frame.Frame, now time.Duration) (ok bool, holder *bound) {
	k, ip, mac := b.keeper, guard.ClaimOf(f), guard.MAC(fdb.MACOf(f.Bytes()[6:]))
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.claims.trials[ip]; t != nil {
		return t.at == b && t.mac == mac, nil
	}
	switch h := k.claims.held[ip]; {
	case k.ports[b.name] != b:
		return false, nil // no longer bound
	case h == nil && k.elsewhere(b, p, mac):
		return false, nil
	case h != nil && h.mac != mac:
		return false, nil
	case h != nil:
		holder = h.at
	}
	if !k.room(b, p, mac) {
		return false, nil
	}
	pair := b.table.Claim(mac, ip, now+claimWait)
	t := &localClaim{ip: ip, mac: mac, at: b, pair: pair, since: now}
	k.claims.trials[ip] = t
	k.claims.trying.Store(int32(len(k.claims.trials)))
	b.claims[mac] = append(b.claims[mac], t)
	b.n.Store(int64(b.table.Len()))
	return true, holder
}

// elsewhere reports whether a station is known, but not at a port. The lock is held.
func (k *keeper) elsewhere(b *bound, p *Port, mac guard.MAC) bool {
	if b.table.Knows(mac) {
		return false
	}
	for _, o := range k.ports {
		if o.table.Knows(mac) {
			return true
		}
	}
	known, here := k.placed(p, mac)
	return known && !here
}

// placed says whether the forwarding database has a station, and at a port.
func (k *keeper) placed(p *Port, mac guard.MAC) (known, here bool) {
	e, ok := k.s.table.LookupEntry(fdb.MAC(mac), k.s.v.seconds())
	return ok, ok && e.Dst == fdb.Local(p.id)
}

// room makes room for a claim of a station. The lock is held.
func (k *keeper) room(b *bound, p *Port, mac guard.MAC) bool {
	if own := b.claims[mac]; len(own) >= claimsAMAC {
		k.drop(own[0])
		return true
	}
	if b.table.Firm(mac) {
		return true
	}
	var idle *localClaim
	n := 0
	for o, all := range b.claims {
		if !b.table.Firm(o) {
			n += len(all)
			if _, here := k.placed(p, o); idle == nil && !here {
				idle = all[0]
			}
		}
	}
	switch {
	case n < claimsAPort:
		return true
	case idle == nil:
		return false
	}
	k.drop(idle)
	return true
}

// drop ends a claim. The lock is held.
func (k *keeper) drop(o *localClaim) {
	c := &k.claims
	switch {
	case c.trials[o.ip] == o:
		delete(c.trials, o.ip)
		c.trying.Store(int32(len(c.trials)))
	case c.held[o.ip] == o:
		delete(c.held, o.ip)
	}
	b := o.at
	if b == nil {
		c.away--
		return
	}
	b.table.Unbind(o.mac, netip.PrefixFrom(o.ip, 128), guard.Claimed)
	b.n.Store(int64(b.table.Len()))
	if b.claims[o.mac] = slices.DeleteFunc(b.claims[o.mac], func(c *localClaim) bool { return c == o }); len(b.claims[o.mac]) == 0 {
		delete(b.claims, o.mac)
	}
}

// forsake ends the claims of a station at a port whose leases are at another one
// now. The lock is held.
func (k *keeper) forsake(b *bound, mac guard.MAC) {
	if len(b.claims[mac]) == 0 || b.table.Firm(mac) {
		return
	}
	for _, o := range k.ports {
		if o != b && o.table.Firm(mac) {
			k.leave(b, mac)
			return
		}
	}
}

// leave ends all claims of a station at a port. The lock is held.
func (k *keeper) leave(b *bound, mac guard.MAC) {
	for _, o := range slices.Clone(b.claims[mac]) {
		k.drop(o)
	}
}

// settle reports whether a claim counts by now.
func (b *bound) settle(w *worker, pair *guard.Pair) bool {
	if w.v.since() < pair.Due() {
		return false
	}
	k := b.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	for ip, t := range k.claims.trials {
		if t.pair == pair {
			delete(k.claims.trials, ip)
			k.claims.trying.Store(int32(len(k.claims.trials)))
			if was := k.claims.held[ip]; was != nil {
				k.drop(was) // the station has moved
			}
			k.claims.held[ip] = t
			b.table.Validate(pair)
			break
		}
	}
	return pair.Valid()
}

// hearNeighbour takes what a station says of a link-local address, at a bound port
// or elsewhere: it ends a claim of another one that does not count yet, and keeps
// others from claiming the address.
func (k *keeper) hearNeighbour(w *worker, from *bound, f *frame.Frame) {
	ip, ok := spokenOf(f)
	if !ok || !ip.IsLinkLocalUnicast() || from != nil && k.claims.trying.Load() == 0 {
		return
	}
	mac := guard.MAC(fdb.MACOf(f.Bytes()[6:]))
	if from == nil && k.claims.trying.Load() == 0 && k.claims.heardOf(ip, mac, w.v.seconds()) {
		return
	}
	now := w.v.since()
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.claims.trials[ip]; t != nil && t.at != from {
		k.drop(t)
	}
	if from != nil {
		return
	}
	switch h := k.claims.held[ip]; {
	case h != nil && h.at == nil:
		h.mac, h.since = mac, now
		return
	case h != nil && h.mac != mac:
		return
	case h != nil:
		k.drop(h) // it has moved away
	}
	if k.claims.away < elsewhereLen {
		k.claims.away++
		k.claims.held[ip] = &localClaim{ip: ip, mac: mac, since: now}
	}
}

// spokenOf is the address of which a packet of neighbour discovery says that it is
// the sender's, or will be.
func spokenOf(f *frame.Frame) (ip netip.Addr, ok bool) {
	m, ok := f.ICMPv6()
	if !ok {
		return ip, false
	}
	src := netip.AddrFrom16([16]byte(f.Bytes()[f.Info.L3+8:]))
	switch target := m.Target(); {
	case m.Type() == frame.RouterAdvertisement:
		return src, true
	case target != nil && (m.Type() == frame.NeighbourAdvertisement || m.Type() == frame.NeighbourSolicitation && src.IsUnspecified()):
		return netip.AddrFrom16([16]byte(target)), true
	}
	return ip, false
}

// heardOf reports whether an address was heard of a moment ago, so that nobody has
// to be told again.
func (c *claims) heardOf(ip netip.Addr, mac guard.MAC, now fdb.Seconds) bool {
	const again = 60
	b := ip.As16()
	h := (binary.BigEndian.Uint64(b[8:])^uint64(mac)<<16)*0x9e3779b97f4a7c15 ^ binary.BigEndian.Uint64(b[:])
	entry := h&^0xffffffff | uint64(now)
	slot := &c.recent[h%elsewhereLen]
	if was := slot.Load(); was>>32 == entry>>32 && uint32(now)-uint32(was) < again && was != 0 {
		return true
	}
	slot.Store(entry)
	return false
}

// age forgets what was heard of elsewhere long ago. The lock is held.
func (k *keeper) age(now time.Duration) {
	for _, h := range k.claims.held {
		if h.at == nil && now-h.since > elsewhereAge {
			k.drop(h)
		}
	}
}

// composeProbe6 is duplicate address detection for the address that a frame claims
// (RFC 4862 section 5.4.2), as its sender would do it.
func composeProbe6(f *frame.Frame) []byte {
	a, mac := guard.ClaimOf(f).As16(), fdb.MACOf(f.Bytes()[6:])
	to := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: a[13], a[14], a[15]}) // RFC 4291 section 2.7.1
	b := make([]byte, frame.EthernetLen+ipv6Len+24)
	m := putIPv6(b, 0x3333ff000000|fdb.MAC(a[13])<<16|fdb.MAC(a[14])<<8|fdb.MAC(a[15]), mac, netip.IPv6Unspecified(), to, frame.ProtoICMPv6, ndHops)
	m[0] = frame.NeighbourSolicitation
	copy(m[8:], a[:])
	binary.BigEndian.PutUint16(m[2:], checksum(netip.IPv6Unspecified(), to, frame.ProtoICMPv6, m))
	return b
}
