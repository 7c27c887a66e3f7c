package dhcpd_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

var (
	servers6 = netip.MustParseAddr("ff02::1:2")
	local6   = netip.MustParseAddr("fe80::1")
	server6  = netip.MustParseAddr("2001:db8:100::2")
)

// green is the segment of most tests of DHCPv6.
func green() dhcpd.SegmentConfig6 {
	return dhcpd.SegmentConfig6{
		Subnet: netip.MustParsePrefix("2001:db8:100::/64"),
		Server: server6,
		Ranges: []dhcpd.Range{{First: addr6(0x1000), Last: addr6(0xffff)}},
		DNS:    []netip.Addr{netip.MustParseAddr("2001:db8:100::1")},
		Search: []string{"green.example", "example"},
		Delegations: []dhcpd.Delegation{
			{Prefix: netip.MustParsePrefix("2001:db8:200::/48"), Length: 56},
		},
	}
}

// addr6 is the host n of green's subnet.
func addr6(n int) netip.Addr {
	a := netip.MustParseAddr("2001:db8:100::").As16()
	binary.BigEndian.PutUint64(a[8:], uint64(n))
	return netip.AddrFrom16(a)
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func one(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 128) }

// pool6 makes the range n addresses, from ::1000 on, and nothing to delegate.
func pool6(n int) func(*dhcpd.SegmentConfig6) {
	return func(c *dhcpd.SegmentConfig6) {
		c.Ranges, c.Delegations = []dhcpd.Range{{First: addr6(0x1000), Last: addr6(0xfff + n)}}, nil
	}
}

func reserved6(r ...dhcpd.Reservation6) func(*dhcpd.SegmentConfig6) {
	return func(c *dhcpd.SegmentConfig6) { c.Hosts = r }
}

func client6(n int) *dhcpdtest.Client6 { return &dhcpdtest.Client6{MAC: mac(n)} }

// world6 is a world whose segment has DHCPv6.
type world6 struct {
	*world
	srv6 *dhcpd.Server6
}

func newWorld6(t *testing.T, edits ...func(*dhcpd.SegmentConfig6)) *world6 {
	t.Helper()
	return newWorld6On(t, dhcpdtest.NewClock(), nil, edits...)
}

// newWorld6On makes a world over a store, as after a restart.
func newWorld6On(t *testing.T, clock *dhcpdtest.Clock, under dhcpd.Store, edits ...func(*dhcpd.SegmentConfig6)) *world6 {
	t.Helper()
	w := &world6{world: newWorldOn(t, clock, under)}
	w.srv6 = w.add6(100, edits...)
	return w
}

func (w *world6) add6(segment uint32, edits ...func(*dhcpd.SegmentConfig6)) *dhcpd.Server6 {
	w.Helper()
	srv, err := w.svc.Add6(segment, config6(edits...))
	if err != nil {
		w.Fatal(err)
	}
	return srv
}

func config6(edits ...func(*dhcpd.SegmentConfig6)) dhcpd.SegmentConfig6 {
	cfg := green()
	for _, edit := range edits {
		edit(&cfg)
	}
	return cfg
}

// result6 is what became of one message.
type result6 struct {
	outcome dhcpd.Outcome
	replies []*reply6
}

// from6 is who sends a message and how it comes in.
type from6 struct {
	src, dst netip.Addr
	srcMAC   [6]byte
	port     string
	vtep     netip.Addr
	max      int
	srv      *dhcpd.Server6 // nil: the world's
}

// serve6 hands a message over and returns a result that fills up when the reply
// waits for the disk.
func (w *world6) serve6(payload []byte, f from6) *result6 { return w.serve6With(payload, f, true) }

// serve6With is serve6 where the replies are read only on demand.
func (w *world6) serve6With(payload []byte, f from6, readable bool) *result6 {
	if !f.src.IsValid() {
		f.src = local6
	}
	if !f.dst.IsValid() {
		f.dst = servers6
	}
	if f.srcMAC == [6]byte{} {
		f.srcMAC = [6]byte{2, 0xee}
	}
	if f.srv == nil {
		f.srv = w.srv6
	}
	r := &result6{}
	r.outcome = f.srv.Serve(&dhcpd.Request{
		Payload: payload, Src: f.src, Dst: f.dst, SrcMAC: f.srcMAC, Port: f.port, VTEP: f.vtep, MaxLeases: f.max,
	}, func(p dhcpd.Reply) {
		if !readable {
			r.replies = append(r.replies, &reply6{Reply: p})
			return
		}
		r.replies = append(r.replies, w.read6(p))
	})
	return r
}

// ask6 is a message, the disk written and the one reply, nil if none.
func (w *world6) ask6(payload []byte, f from6) *reply6 {
	w.Helper()
	r := w.serve6(payload, f)
	w.svc.Commit()
	switch len(r.replies) {
	case 0:
		return nil
	case 1:
		return r.replies[0]
	}
	w.Fatalf("%d replies to one message", len(r.replies))
	return nil
}

// must6 is ask6 where there has to be a reply of a type.
func (w *world6) must6(typ dhcpv6.MessageType, payload []byte, f from6) *reply6 {
	w.Helper()
	r := w.ask6(payload, f)
	if r == nil {
		w.Fatalf("silence, want %v", typ)
	}
	if r.MessageType != typ {
		w.Fatalf("%v, want %v", r.Summary(), typ)
	}
	return r
}

// silent6 is ask6 where there must be no reply.
func (w *world6) silent6(want dhcpd.Outcome, payload []byte, f from6) {
	w.Helper()
	r := w.serve6(payload, f)
	w.svc.Commit()
	if len(r.replies) != 0 || r.outcome != want {
		w.Fatalf("outcome %v and %d replies, want %v and none", r.outcome, len(r.replies), want)
	}
}

// bind6 takes a client through SOLICIT, ADVERTISE, REQUEST, REPLY and returns
// both replies.
func (w *world6) bind6(c *dhcpdtest.Client6) (advertise, reply *reply6) {
	w.Helper()
	return w.bind6From(c, from6{})
}

func (w *world6) bind6From(c *dhcpdtest.Client6, f from6) (advertise, reply *reply6) {
	w.Helper()
	advertise = w.must6(dhcpv6.MessageTypeAdvertise, c.Solicit(), f)
	request := w.take(c, advertise)
	if request == nil {
		w.Fatalf("the ADVERTISE gives nothing: %s", advertise.Summary())
	}
	reply = w.must6(dhcpv6.MessageTypeReply, request, f)
	if next := w.take(c, reply); next != nil {
		w.Fatalf("the client has more to say after %s", reply.Summary())
	}
	return advertise, reply
}

// take gives a client a reply.
func (w *world6) take(c *dhcpdtest.Client6, r *reply6) (next []byte) {
	w.Helper()
	next, err := c.Receive(r.ToBytes())
	if err != nil {
		w.Fatal(err)
	}
	return next
}

// reply6 is a Reply as the library reads it; the message is the innermost.
type reply6 struct {
	dhcpd.Reply
	*dhcpv6.Message
	relays []*dhcpv6.RelayMessage // the outermost first
}

// read6 copies and parses a reply, and checks what holds of every one.
func (w *world6) read6(p dhcpd.Reply) *reply6 {
	w.Helper()
	p.Payload = slices.Clone(p.Payload)
	r := &reply6{Reply: p}
	d, err := dhcpv6.FromBytes(p.Payload)
	if err != nil {
		w.Fatalf("the library cannot read the reply: %v\n%x", err, p.Payload)
	}
	for d.IsRelay() {
		relay := d.(*dhcpv6.RelayMessage)
		r.relays = append(r.relays, relay)
		if relay.MessageType != dhcpv6.MessageTypeRelayReply || relay.Options.RelayMessage() == nil {
			w.Fatalf("a reply to a relay is %s", relay.Summary())
		}
		d = relay.Options.RelayMessage()
	}
	r.Message = d.(*dhcpv6.Message)
	if r.MessageType != dhcpv6.MessageTypeAdvertise && r.MessageType != dhcpv6.MessageTypeReply {
		w.Errorf("the server sends %v", r.MessageType)
	}
	if r.Options.ServerID() == nil {
		w.Errorf("%v without a server identifier", r.MessageType)
	}
	port := uint16(546)
	if len(r.relays) > 0 {
		port = 547
	}
	if p.DstPort != port || !p.Dst.Is6() || p.Src.IsValid() {
		w.Errorf("from %v to %v port %d", p.Src, p.Dst, p.DstPort)
	}
	for _, ia := range r.Options.IANA() {
		if ia.T1 > ia.T2 {
			w.Errorf("T1 %s is after T2 %s", ia.T1, ia.T2)
		}
		for _, a := range ia.Options.Addresses() {
			if a.PreferredLifetime > a.ValidLifetime {
				w.Errorf("preferred for %s, valid for %s", a.PreferredLifetime, a.ValidLifetime)
			}
		}
	}
	return r
}

// says is the reply in short: its status, then per association kind, IAID and
// status or what it gives, with the lifetimes where they are zero.
func (r *reply6) says() (out []string) {
	if s := r.Options.Status(); s != nil {
		out = append(out, s.StatusCode.String())
	}
	ia := func(kind string, id [4]byte, items []string, s *dhcpv6.OptStatusCode) {
		line := fmt.Sprintf("%s %d", kind, binary.BigEndian.Uint32(id[:]))
		for _, i := range items {
			line += " " + i
		}
		if s != nil {
			line += " " + s.StatusCode.String()
		}
		out = append(out, line)
	}
	item := func(s string, valid time.Duration) string {
		if valid == 0 {
			return s + " gone"
		}
		return s
	}
	for _, o := range r.Options.Options {
		var items []string
		switch o := o.(type) {
		case *dhcpv6.OptIANA:
			for _, a := range o.Options.Addresses() {
				items = append(items, item(a.IPv6Addr.String(), a.ValidLifetime))
			}
			ia("NA", o.IaId, items, o.Options.Status())
		case *dhcpv6.OptIATA:
			ia("TA", o.IaId, items, o.Options.Status())
		case *dhcpv6.OptIAPD:
			for _, p := range o.Options.Prefixes() {
				items = append(items, item(p.Prefix.String(), p.ValidLifetime))
			}
			ia("PD", o.IaId, items, o.Options.Status())
		}
	}
	return out
}

// gives are the leases that a reply gives.
func (r *reply6) gives() (out []netip.Prefix) {
	for _, ia := range r.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			if a.ValidLifetime > 0 {
				ip, _ := netip.AddrFromSlice(a.IPv6Addr)
				out = append(out, one(ip))
			}
		}
	}
	for _, ia := range r.Options.IAPD() {
		for _, p := range ia.Options.Prefixes() {
			if p.ValidLifetime > 0 {
				ip, _ := netip.AddrFromSlice(p.Prefix.IP)
				n, _ := p.Prefix.Mask.Size()
				out = append(out, netip.PrefixFrom(ip, n))
			}
		}
	}
	return out
}

// gift is the one lease that a reply gives.
func (w *world6) gift(r *reply6) netip.Prefix {
	w.Helper()
	all := r.gives()
	if len(all) != 1 {
		w.Fatalf("%v given, want one lease", all)
	}
	return all[0]
}

// option is an option of the message, hexadecimal; "-" if it has none.
func (r *reply6) option(code dhcpv6.OptionCode) string {
	if o := r.GetOneOption(code); o != nil {
		return hex.EncodeToString(o.ToBytes())
	}
	return "-"
}

// relayed6 wraps a message as a relay does.
func relayed6(payload []byte, link, peer netip.Addr, options ...dhcpv6.Option) []byte {
	d, err := dhcpv6.FromBytes(payload)
	if err != nil {
		panic(err)
	}
	r, err := dhcpv6.EncapsulateRelay(d, dhcpv6.MessageTypeRelayForward, net.IP(link.AsSlice()), net.IP(peer.AsSlice()))
	if err != nil {
		panic(err)
	}
	for _, o := range options {
		r.AddOption(o)
	}
	return r.ToBytes()
}

// option6 is an option of any value.
func option6(code dhcpv6.OptionCode, data ...byte) dhcpv6.Option {
	return &dhcpv6.OptionGeneric{OptionCode: code, OptionData: data}
}

// edit6 changes a message with the library.
func edit6(payload []byte, f func(m *dhcpv6.Message)) []byte {
	m, err := dhcpv6.MessageFromBytes(payload)
	if err != nil {
		panic(err)
	}
	f(m)
	return m.ToBytes()
}
