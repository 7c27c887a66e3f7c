package dhcpd_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

var (
	serverIP  = netip.MustParseAddr("192.168.100.2")
	gatewayIP = netip.MustParseAddr("192.168.100.1")
	broadcast = netip.MustParseAddr("255.255.255.255")
	relayIP   = netip.MustParseAddr("192.168.200.1")
)

// blue is the segment of most tests.
func blue() dhcpd.SegmentConfig {
	return dhcpd.SegmentConfig{
		Subnet:  netip.MustParsePrefix("192.168.100.0/24"),
		Server:  serverIP,
		Ranges:  []dhcpd.Range{{First: addr(10), Last: addr(250)}},
		Gateway: gatewayIP,
		DNS:     []netip.Addr{gatewayIP},
		Domain:  "blue.example",
		MTU:     1450,
	}
}

// pool makes the range n addresses, from 192.168.100.10 on.
func pool(n int) func(*dhcpd.SegmentConfig) {
	return func(c *dhcpd.SegmentConfig) { c.Ranges = []dhcpd.Range{{First: addr(10), Last: addr(9 + n)}} }
}

// relayed adds the subnet 192.168.200.0/24 behind the relay at its .1.
func relayed(c *dhcpd.SegmentConfig) {
	c.Relays = []dhcpd.RelaySubnet{{
		Subnet: netip.MustParsePrefix("192.168.200.0/24"), Gateway: relayIP,
		Ranges: []dhcpd.Range{{First: netip.MustParseAddr("192.168.200.10"), Last: netip.MustParseAddr("192.168.200.99")}},
	}}
}

// addr is the host n of blue's subnet.
func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 100, byte(n)}) }

func mac(n int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, byte(n >> 8), byte(n)} }

func client(n int) *dhcpdtest.Client { return &dhcpdtest.Client{MAC: mac(n)} }

// world is a service with one segment, a clock that stands still and a store
// that obeys. Nothing reaches the store but by commit or run.
type world struct {
	*testing.T
	clock *dhcpdtest.Clock
	store *dhcpdtest.Store
	svc   *dhcpd.Service
	srv   *dhcpd.Server

	mu     sync.Mutex
	events []dhcpd.Event
}

func newWorld(t *testing.T, edits ...func(*dhcpd.SegmentConfig)) *world {
	t.Helper()
	return newWorldOn(t, dhcpdtest.NewClock(), nil, edits...)
}

// newWorldOn makes a world over a store, as after a restart.
func newWorldOn(t *testing.T, clock *dhcpdtest.Clock, under dhcpd.Store, edits ...func(*dhcpd.SegmentConfig)) *world {
	t.Helper()
	w := &world{T: t, clock: clock, store: dhcpdtest.NewStore(under)}
	var err error
	w.svc, err = dhcpd.NewService(dhcpd.Config{
		Store: w.store, Clock: clock.Now, Elapsed: clock.Elapsed,
		Events: func(e dhcpd.Event) {
			w.mu.Lock()
			w.events = append(w.events, e)
			w.mu.Unlock()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.svc.ByHand()
	w.srv = w.add(100, edits...)
	return w
}

func (w *world) add(segment uint32, edits ...func(*dhcpd.SegmentConfig)) *dhcpd.Server {
	w.Helper()
	cfg := blue()
	for _, edit := range edits {
		edit(&cfg)
	}
	srv, err := w.svc.Add(segment, cfg)
	if err != nil {
		w.Fatal(err)
	}
	return srv
}

// run starts the commit loop; stop ends it and waits.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.svc.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
	})
	w.Cleanup(stop)
	return stop
}

// kinds are the events so far.
func (w *world) kinds() []dhcpd.EventKind {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []dhcpd.EventKind
	for _, e := range w.events {
		out = append(out, e.Kind)
	}
	return out
}

func (w *world) happened(kind dhcpd.EventKind) bool { return slices.Contains(w.kinds(), kind) }

// result is what became of one message.
type result struct {
	outcome dhcpd.Outcome
	replies []*reply
}

// from is who sends a message and how it comes in.
type from struct {
	src, dst netip.Addr
	srcMAC   [6]byte
	port     string
	max      int           // leases that the port may have
	srv      *dhcpd.Server // nil: the world's
}

// serve hands a message over and returns a result that fills up when the reply
// waits for the disk.
func (w *world) serve(payload []byte, f from) *result {
	if !f.src.IsValid() {
		f.src = netip.IPv4Unspecified()
	}
	if !f.dst.IsValid() {
		f.dst = broadcast
	}
	if f.srcMAC == [6]byte{} && len(payload) >= 34 {
		f.srcMAC = [6]byte(payload[28:34])
	}
	if f.srv == nil {
		f.srv = w.srv
	}
	r := &result{}
	r.outcome = f.srv.Serve(&dhcpd.Request{Payload: payload, Src: f.src, Dst: f.dst, SrcMAC: f.srcMAC, Port: f.port, MaxLeases: f.max},
		func(p dhcpd.Reply) { r.replies = append(r.replies, read(w.T, p)) })
	return r
}

// ask is a broadcast message, the disk written and the one reply, nil if none.
func (w *world) ask(payload []byte) *reply { w.Helper(); return w.askFrom(payload, from{}) }

func (w *world) askFrom(payload []byte, f from) *reply {
	w.Helper()
	r := w.serve(payload, f)
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

// must is ask where there has to be a reply of a type.
func (w *world) must(typ dhcpv4.MessageType, payload []byte) *reply {
	w.Helper()
	return w.mustFrom(typ, payload, from{})
}

func (w *world) mustFrom(typ dhcpv4.MessageType, payload []byte, f from) *reply {
	w.Helper()
	r := w.askFrom(payload, f)
	if r == nil {
		w.Fatalf("silence, want %v", typ)
	}
	if r.typ() != typ {
		w.Fatalf("%v (%q), want %v", r.typ(), r.opt[56], typ)
	}
	return r
}

// silent is ask where there must be no reply.
func (w *world) silent(want dhcpd.Outcome, payload []byte, f from) {
	w.Helper()
	r := w.serve(payload, f)
	w.svc.Commit()
	if len(r.replies) != 0 || r.outcome != want {
		w.Fatalf("outcome %v and %d replies, want %v and none", r.outcome, len(r.replies), want)
	}
}

// bind takes a client through DISCOVER, OFFER, REQUEST, ACK and returns both
// replies.
func (w *world) bind(c *dhcpdtest.Client) (offer, ack *reply) {
	w.Helper()
	return w.bindFrom(c, from{})
}

func (w *world) bindFrom(c *dhcpdtest.Client, f from) (offer, ack *reply) {
	w.Helper()
	offer = w.mustFrom(dhcpv4.MessageTypeOffer, c.Discover(), f)
	request, err := c.Receive(offer.Payload)
	if err != nil {
		w.Fatal(err)
	}
	ack = w.mustFrom(dhcpv4.MessageTypeAck, request, f)
	if _, err := c.Receive(ack.Payload); err != nil {
		w.Fatal(err)
	}
	return offer, ack
}

// reply is a Reply as a parser that is not ours reads it.
type reply struct {
	dhcpd.Reply
	dhcp  layers.DHCPv4
	order []byte          // codes of the options field, each instance
	opt   map[byte][]byte // options of all fields, instances joined (RFC 3396)
}

// read copies and parses a reply, and checks what holds of every one.
func read(t *testing.T, p dhcpd.Reply) *reply {
	t.Helper()
	p.Payload = slices.Clone(p.Payload)
	r := &reply{Reply: p, opt: map[byte][]byte{}}
	if err := r.dhcp.DecodeFromBytes(p.Payload, gopacket.NilDecodeFeedback); err != nil {
		t.Fatalf("the reply cannot be read: %v\n%x", err, p.Payload)
	}
	if _, err := dhcpv4.FromBytes(p.Payload); err != nil {
		t.Errorf("the library cannot read the reply: %v", err)
	}
	for _, o := range r.dhcp.Options {
		code := byte(o.Type)
		if code == 0 || code == 255 {
			continue
		}
		r.order = append(r.order, code)
		r.opt[code] = append(append([]byte{}, r.opt[code]...), o.Data...)
	}
	if v := r.opt[52]; v != nil {
		if v[0]&1 != 0 {
			r.field(t, r.dhcp.File)
		}
		if v[0]&2 != 0 {
			r.field(t, r.dhcp.ServerName)
		}
	}
	if r.dhcp.Operation != layers.DHCPOpReply || r.dhcp.Secs != 0 || r.dhcp.HardwareOpts != 0 {
		t.Errorf("op %d, secs %d, hops %d, want 2, 0, 0", r.dhcp.Operation, r.dhcp.Secs, r.dhcp.HardwareOpts)
	}
	if len(p.Payload) < 300 {
		t.Errorf("a reply of %d bytes is shorter than 300", len(p.Payload))
	}
	bootp := r.opt[53] == nil && r.opt[54] == nil
	if !bootp && (r.opt[53] == nil || string(r.opt[54]) != string(serverIP.AsSlice())) || p.Src != serverIP {
		t.Errorf("type %x, server %x, from %s", r.opt[53], r.opt[54], p.Src)
	}
	return r
}

// field reads options that overload a BOOTP field.
func (r *reply) field(t *testing.T, b []byte) {
	t.Helper()
	for len(b) > 0 && b[0] != 255 {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			t.Fatalf("an option of an overloaded field is cut short: %x", b)
		}
		r.opt[b[0]] = append(append([]byte{}, r.opt[b[0]]...), b[2:2+int(b[1])]...)
		b = b[2+int(b[1]):]
	}
	if len(b) == 0 {
		t.Error("an overloaded field has no End")
	}
}

func (r *reply) typ() dhcpv4.MessageType { return dhcpv4.MessageType(r.opt[53][0]) }

func (r *reply) yiaddr() netip.Addr {
	a, _ := netip.AddrFromSlice(r.dhcp.YourClientIP.To4())
	return a
}

// sent says where the reply goes.
func (r *reply) sent() string {
	return fmt.Sprintf("%s:%d %s", r.Dst, r.DstPort, net.HardwareAddr(r.DstMAC[:]))
}

// edit changes a message with the library.
func edit(payload []byte, f func(m *dhcpv4.DHCPv4)) []byte {
	m, err := dhcpv4.FromBytes(payload)
	if err != nil {
		panic(err)
	}
	f(m)
	return m.ToBytes()
}

// with adds or replaces an option of a message.
func with(payload []byte, code uint8, data ...byte) []byte {
	return edit(payload, func(m *dhcpv4.DHCPv4) { m.Options[code] = data })
}
