package dhcpd

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// solicitOf is a SOLICIT with a DUID and more options.
func solicitOf(options ...byte) []byte {
	return append([]byte{1, 9, 9, 9, 0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1}, options...)
}

// requestSeeds6 are requests with what is easily read wrong.
func requestSeeds6() [][]byte {
	ia := func(code byte, options ...byte) []byte {
		return append([]byte{0, code, 0, byte(12 + len(options)), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, options...)
	}
	address := append([]byte{0, 5, 0, 24, 0x20, 1, 0xd, 0xb8, 1, 0}, make([]byte, 18)...)
	pd := append([]byte{0, 26, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 56, 0x20, 1, 0xd, 0xb8, 2, 0, 0xff, 0xff}, make([]byte, 8)...)
	relay := func(inner []byte, options ...byte) []byte {
		b := append([]byte{12, 0}, make([]byte, 32)...)
		b = append(append(b, options...), 0, 9, byte(len(inner)>>8), byte(len(inner)))
		return append(b, inner...)
	}
	many := solicitOf()
	for i := range 17 {
		a := ia(3)
		a[7] = byte(i)
		many = append(many, a...)
	}
	deep := solicitOf()
	for range 33 {
		deep = relay(deep)
	}
	return [][]byte{
		{}, {1}, solicitOf(), solicitOf(ia(3)...), solicitOf(ia(3, address...)...), solicitOf(ia(25, pd...)...),
		solicitOf(ia(25, address...)...),                      // an address where a prefix belongs
		solicitOf(0, 4, 0, 4, 0, 0, 0, 1),                     // IA_TA
		solicitOf(append(ia(3), ia(3)...)...),                 // one IAID twice
		solicitOf(ia(3, 0, 13, 0, 2, 0, 2)...),                // a status within
		solicitOf(ia(3, 0, 5, 0, 23)...),                      // an address cut short
		solicitOf(0, 1, 0, 3, 0, 3, 0),                        // two DUIDs
		solicitOf(0, 6, 0, 3, 0, 23, 0),                       // half an option code
		solicitOf(0, 14, 0, 0), solicitOf(0, 39, 0, 2, 1, 63), // a label that is not there
		solicitOf(0, 23, 0xff, 0xff),                            // longer than the message
		relay(solicitOf(), 0, 18, 0, 1, 7),                      // interface-id
		relay(relay(solicitOf()), 0, 43, 0, 2, 0, 37),           // what to echo is not there
		relay(solicitOf(), 0, 79, 0, 8, 0, 1, 2, 0, 0, 0, 0, 9), // the client's hardware
		relay(nil), // around nothing
		append(relay(solicitOf()), relay(solicitOf())[34:]...),          // around two
		append([]byte{13}, relay(solicitOf())[1:]...),                   // RELAY-REPL
		append(solicitOf(bytes.Repeat([]byte{0, 99, 0, 0}, 300)...), 0), // many options, and half of one
		many, deep,
	}
}

// FuzzParse6 holds the parser against the library where both read a message.
func FuzzParse6(f *testing.F) {
	for _, s := range requestSeeds6() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var m message6
		ok := m.parse(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the parser changed the message")
		}
		if !ok {
			return
		}
		if len(m.ias) > maxIAs || len(m.relays) > maxRelays || len(m.items) > maxIAs*maxItems {
			t.Fatalf("%d associations, %d relays, %d items", len(m.ias), len(m.relays), len(m.items))
		}
		lib, err := dhcpv6.FromBytes(b)
		if err != nil {
			return // it reads options that are no matter of ours, and may not like them
		}
		for i := 0; lib.IsRelay(); i++ {
			r := lib.(*dhcpv6.RelayMessage)
			if i >= len(m.relays) || m.relays[i].link().String() != addrOf(r.LinkAddr) || m.relays[i].head[1] != r.HopCount {
				t.Fatalf("relay %d: %+v, the library reads %s", i, m.relays, r.Summary())
			}
			if id := r.Options.InterfaceID(); !bytes.Equal(findOption(m.relays[i].options, dhcpv6.OptionInterfaceID), id) {
				t.Errorf("interface-id differs from %x", id)
			}
			lib = r.Options.RelayMessage()
		}
		msg := lib.(*dhcpv6.Message)
		if m.typ != msg.MessageType || m.xid != msg.TransactionID || m.rapid != (msg.GetOneOption(dhcpv6.OptionRapidCommit) != nil) {
			t.Errorf("%v %x, the library reads %s", m.typ, m.xid, msg.Summary())
		}
		if d := msg.Options.ClientID(); d != nil && !bytes.Equal(d.ToBytes(), m.clientID) || (d == nil) != (m.clientID == nil) {
			t.Errorf("client %x, the library reads %v", m.clientID, d)
		}
		if d := msg.Options.ServerID(); d != nil && !bytes.Equal(d.ToBytes(), m.serverID) || (d == nil) != (m.serverID == nil) {
			t.Errorf("server %x, the library reads %v", m.serverID, d)
		}
		for _, code := range msg.Options.RequestedOptions() {
			if special := m.wants(code); !special && code != dhcpv6.OptionInformationRefreshTime {
				t.Errorf("option %d is not asked for", code)
			}
		}
		var ours, theirs []netip.Prefix
		for _, a := range m.ias {
			ours = append(ours, a.items...)
		}
		for _, o := range msg.Options.Options {
			theirs = append(theirs, itemsOf(o)...)
		}
		if !slices.Equal(ours, theirs) {
			t.Errorf("associations with %v, the library reads %v", ours, theirs)
		}
	})
}

func addrOf(ip []byte) string {
	a, _ := netip.AddrFromSlice(ip)
	return a.String()
}

// itemsOf is what the library reads of an identity association, without what
// says nothing.
func itemsOf(o dhcpv6.Option) (out []netip.Prefix) {
	add := func(ip []byte, n int) {
		a, _ := netip.AddrFromSlice(ip)
		if p := netip.PrefixFrom(a, n).Masked(); n > 0 && (n < 128 || !a.IsUnspecified() || o.Code() == dhcpv6.OptionIAPD) {
			out = append(out, p)
		}
	}
	switch o := o.(type) {
	case *dhcpv6.OptIANA:
		for _, a := range o.Options.Addresses() {
			add(a.IPv6Addr, 128)
		}
	case *dhcpv6.OptIATA:
		for _, a := range o.Options.Addresses() {
			add(a.IPv6Addr, 128)
		}
	case *dhcpv6.OptIAPD:
		for _, p := range o.Options.Prefixes() {
			if p.Prefix != nil {
				n, _ := p.Prefix.Mask.Size()
				add(p.Prefix.IP, n)
			}
		}
	}
	return out
}

// FuzzPool6 holds the arithmetic of pools against itself: each cut is the
// pool's, the ones outside are not, and picking always finds what is left.
func FuzzPool6(f *testing.F) {
	f.Add(uint64(0x20010db8), uint64(0), uint8(64), uint16(3), uint16(1))
	f.Add(uint64(0), uint64(1)<<63, uint8(128), uint16(200), uint16(199)) // over the half
	f.Add(^uint64(0), ^uint64(0)-99, uint8(128), uint16(99), uint16(0))   // up to the last address
	f.Add(uint64(1), uint64(0), uint8(1), uint16(1), uint16(0))
	f.Fuzz(func(t *testing.T, hi, lo uint64, bits uint8, size, taken uint16) {
		n := int(bits)%128 + 1
		first := u128{hi, lo}.shr(128 - n).shl(128 - n)
		p := &pool6{first: first, bits: n, size: u128{0, uint64(size) + 1}}
		last := p.cut(u128{0, uint64(size)})
		if toU128(last.Addr()).less(first) || n < 17 && 1<<n <= int(size) {
			return // over the end of all addresses
		}
		if p.cut(u128{}).Addr() != first.addr() || !p.holds(p.cut(u128{})) || !p.holds(last) {
			t.Fatalf("%v does not hold %s", p, last)
		}
		if next := p.cut(p.size); toU128(first.addr()).less(toU128(next.Addr())) && p.holds(next) {
			t.Errorf("%v holds %s", p, next)
		}
		held := map[netip.Prefix]bool{}
		for i := range min(int(taken), int(size)) {
			got, ok := p.pick([]byte{byte(i), byte(i >> 8)}, func(q netip.Prefix) bool { return !held[q] }, false)
			if !ok || held[got] || !p.holds(got) || got != got.Masked() {
				t.Fatalf("%v of which %d are held picks %s, %t", p, p.held, got, ok)
			}
			held[got] = true
			p.held++
		}
	})
}
