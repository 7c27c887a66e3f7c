package guest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/nettest"
)

var (
	left, right   = netip.MustParseAddr("192.168.100.1"), netip.MustParseAddr("192.168.100.2")
	left6, right6 = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
)

// pair is two namespaces that a cable joins; eth0 is up at both ends.
func pair(t *testing.T) (a, b *nettest.NS) {
	t.Helper()
	a, b = nettest.New(t, "left"), nettest.New(t, "right")
	nettest.Veth(t, a, "eth0", b, "eth0")
	a.Exec("ip", "link", "set", "eth0", "up")
	b.Exec("ip", "link", "set", "eth0", "up")
	return a, b
}

// addressedPair is a pair with IPv4 and IPv6 addresses.
func addressedPair(t *testing.T) (a, b *nettest.NS) {
	t.Helper()
	a, b = pair(t)
	a.Exec("ip", "addr", "add", left.String()+"/24", "dev", "eth0")
	b.Exec("ip", "addr", "add", right.String()+"/24", "dev", "eth0")
	a.Exec("ip", "addr", "add", left6.String()+"/64", "dev", "eth0", "nodad")
	b.Exec("ip", "addr", "add", right6.String()+"/64", "dev", "eth0", "nodad")
	return a, b
}

func TestAPingIsAnsweredByBothProtocols(t *testing.T) {
	a, _ := addressedPair(t)
	for _, dst := range []netip.Addr{right, right6} {
		var replies []Reply
		res, err := Ping(t.Context(), a.Name, dst, PingOptions{
			Count: 3, Interval: time.Millisecond, Timeout: 5 * time.Second, Payload: []byte("marked"),
			OnReply: func(r Reply) { replies = append(replies, r) },
		})
		if err != nil || res.Sent != 3 || res.Received != 3 || res.Duplicates != 0 {
			t.Fatalf("%s: %+v, %v", dst, res, err)
		}
		if res.Min <= 0 || res.Min > res.Avg() || res.Avg() > res.Max {
			t.Errorf("%s: round trips %v, %v, %v", dst, res.Min, res.Avg(), res.Max)
		}
		for _, r := range replies {
			if r.From != dst || r.Bytes != 8+len("marked") {
				t.Errorf("%s: reply %+v", dst, r)
			}
		}
		if len(replies) != 3 {
			t.Errorf("%s: %d replies were told", dst, len(replies))
		}
	}
}

func TestAPingThatNobodyAnswersIsNoError(t *testing.T) {
	a, _ := addressedPair(t)
	res, err := Ping(t.Context(), a.Name, netip.MustParseAddr("192.168.100.77"), PingOptions{Count: 2, Interval: time.Millisecond, Timeout: 20 * time.Millisecond})
	if err != nil || res.Sent != 2 || res.Received != 0 || res.Avg() != 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestAPingWithoutARouteSaysSo(t *testing.T) {
	a, _ := addressedPair(t)
	if _, err := Ping(t.Context(), a.Name, netip.MustParseAddr("8.8.8.8"), PingOptions{}); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("%v, want ENETUNREACH", err)
	}
}

func TestAPingEndsWithItsContext(t *testing.T) {
	a, _ := addressedPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	res, err := Ping(ctx, a.Name, right, PingOptions{Count: -1, Interval: time.Millisecond, OnReply: func(r Reply) {
		if r.Seq == 4 {
			cancel()
		}
	}})
	if err != nil || res.Received != 5 {
		t.Errorf("without end: %+v, %v", res, err)
	}
	if _, err := Ping(ctx, a.Name, right, PingOptions{Count: 2, Interval: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Errorf("a run that had more to send: %v", err)
	}
}

func TestWhoIsAskedTellsTheirName(t *testing.T) {
	a, b := addressedPair(t)
	r, err := Listen(b.Name, "g2 of VNI 100")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := Ask(t.Context(), a.Name, right, Tag{1, 100}, 20, 100*time.Millisecond)
	if want := []Answer{{right, "g2 of VNI 100"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, nobody := range []netip.Addr{left, netip.MustParseAddr("192.168.100.77")} {
		if got, err := Ask(t.Context(), a.Name, nobody, Tag{1, 100}, 2, 10*time.Millisecond); err != nil || got != nil {
			t.Errorf("%s, where nobody is: %v, %v", nobody, got, err)
		}
	}
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 1000 {
		if cond() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func TestASnifferSeesWhatArrivesAndNotWhatLeaves(t *testing.T) {
	a, b := pair(t)
	own, other := Tag{1, 100}, Tag{1, 200}
	s, err := Sniff(b.Name, "eth0", own)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, err := range []error{
		Shout(a.Name, "eth0", own, 5), Shout(a.Name, "eth0", other, 2), Shout(b.Name, "eth0", other, 3),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "seven frames", func() bool { seen := s.Seen(); return seen.Own+seen.Foreign >= 7 })
	seen := s.Seen()
	if seen.Own != 5 || seen.Broadcast != 5 || seen.Foreign != 2 || seen.Culprit != other || seen.Lost != 0 {
		t.Errorf("%+v", seen)
	}
	if seen.Frames != seen.Own+seen.Foreign+seen.Unmarked {
		t.Errorf("the counts do not add up: %+v", seen)
	}
	if _, err := Sniff(b.Name, "eth9", own); !errors.Is(err, ErrNoInterface) {
		t.Errorf("no such interface: %v", err)
	}
}

// server is a DHCP server at the end of a cable. It takes its time, or refuses,
// as the test says.
type server struct {
	link   *link
	answer func(m *dhcpv4.DHCPv4, nth int) [][]dhcpv4.Modifier // one a reply
	asked  atomic.Int32
	done   chan struct{}

	mu   sync.Mutex
	last *dhcpv4.DHCPv4
}

func serve(t *testing.T, ns *nettest.NS, answer func(*dhcpv4.DHCPv4, int) [][]dhcpv4.Modifier) *server {
	t.Helper()
	l, err := openLink(ns.Name, "eth0", unix.ETH_P_IP)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{link: l, answer: answer, done: make(chan struct{})}
	go s.run()
	t.Cleanup(func() { l.Close(); <-s.done })
	return s
}

func (s *server) run() {
	defer close(s.done)
	buf := make([]byte, maxFrame)
	for {
		n, err := s.link.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		p, err := parseUDP(buf[:n])
		if err != nil || p.dst.Port() != serverPort {
			continue
		}
		m, err := dhcpv4.FromBytes(p.payload)
		if err != nil {
			continue
		}
		s.mu.Lock()
		s.last = m
		s.mu.Unlock()
		for _, mods := range s.answer(m, int(s.asked.Add(1))) {
			reply, err := dhcpv4.NewReplyFromRequest(m, mods...)
			if err != nil {
				continue
			}
			s.link.Write(udpPacket{
				srcMAC: s.link.mac, dstMAC: m.ClientHWAddr,
				src: netip.AddrPortFrom(right, serverPort), dst: netip.AddrPortFrom(left, clientPort),
				payload: reply.ToBytes(),
			}.marshal())
		}
	}
}

// grant is what a server says that has one address to give.
func grant(m *dhcpv4.DHCPv4, more ...dhcpv4.Modifier) [][]dhcpv4.Modifier {
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
	}
	return [][]dhcpv4.Modifier{append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(left.AsSlice()),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(3600),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(right.AsSlice())),
	}, more...)}
}

func TestALeaseIsObtainedAndApplied(t *testing.T) {
	a, b := pair(t)
	b.Exec("ip", "addr", "add", right.String()+"/24", "dev", "eth0")
	routed := netip.MustParsePrefix("10.7.0.0/16")
	s := serve(t, b, func(m *dhcpv4.DHCPv4, _ int) [][]dhcpv4.Modifier {
		return grant(m,
			dhcpv4.WithOption(dhcpv4.OptDNS(right.AsSlice())), dhcpv4.WithOption(dhcpv4.OptDomainName("blue.example")),
			dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(192, 168, 100, 99))), dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{1450 >> 8, 1450 & 0xff}),
			dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: ipNet(routed), Router: right.AsSlice()})))
	})
	lease, err := Acquire(t.Context(), a.Name, "eth0", Identity{Hostname: "g1", VendorClass: "uvlab"})
	if err != nil {
		t.Fatal(err)
	}
	if lease.Address.String() != "192.168.100.1/24" || lease.Server != right || lease.MTU != 1450 || lease.Duration != time.Hour ||
		lease.Domain != "blue.example" || !slices.Equal(lease.DNS, []netip.Addr{right}) || lease.ServerMAC.String() != s.link.mac.String() {
		t.Errorf("%+v", lease)
	}
	if lease.Gateway.IsValid() || !slices.Equal(lease.Routes, []Route{{routed, right}}) {
		t.Errorf("a client that was given option 121 must not use option 3: %+v", lease)
	}
	s.mu.Lock()
	if m := s.last; m.HostName() != "g1" || m.ClassIdentifier() != "uvlab" || !m.RequestedIPAddress().Equal(left.AsSlice()) || !m.ClientIPAddr.IsUnspecified() {
		t.Errorf("the request was %s", m.Summary())
	}
	s.mu.Unlock()
	for range 2 { // to apply a lease again changes nothing
		if err := lease.Apply(a.Name, "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	if out := a.Exec("ip", "-4", "addr", "show", "dev", "eth0"); !strings.Contains(out, "192.168.100.1/24") || !strings.Contains(out, "mtu 1450") || strings.Contains(out, "forever") {
		t.Errorf("the interface: %s", out)
	}
	if out := a.Exec("ip", "route"); !strings.Contains(out, "10.7.0.0/16 via 192.168.100.2") || strings.Contains(out, "default") {
		t.Errorf("the routes: %s", out)
	}
}

func TestAGatewayIsUsedWhereNoRoutesAreGiven(t *testing.T) {
	a, b := pair(t)
	serve(t, b, func(m *dhcpv4.DHCPv4, _ int) [][]dhcpv4.Modifier {
		return grant(m, dhcpv4.WithOption(dhcpv4.OptRouter(right.AsSlice())), dhcpv4.WithLeaseTime(0xffffffff))
	})
	lease, err := Acquire(t.Context(), a.Name, "eth0", Identity{})
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Apply(a.Name, "eth0"); err != nil {
		t.Fatal(err)
	}
	if out := a.Exec("ip", "route"); !strings.Contains(out, "default via 192.168.100.2") {
		t.Errorf("the routes: %s", out)
	}
	if out := a.Exec("ip", "-4", "addr", "show", "dev", "eth0"); lease.Duration != 0 || !strings.Contains(out, "valid_lft forever") {
		t.Errorf("a lease without end: %v, %s", lease.Duration, out)
	}
}

func TestAClientAsksAgainAfterSilenceAndRefusal(t *testing.T) {
	a, b := pair(t)
	serve(t, b, func(m *dhcpv4.DHCPv4, nth int) [][]dhcpv4.Modifier {
		switch {
		case nth == 1: // the first DISCOVER gets lost
			return nil
		case nth == 3: // the first REQUEST is refused
			return [][]dhcpv4.Modifier{{dhcpv4.WithMessageType(dhcpv4.MessageTypeNak), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(right.AsSlice()))}}
		}
		return grant(m)
	})
	lease, err := Acquire(t.Context(), a.Name, "eth0", Identity{})
	if err != nil || lease.Tries != 3 || lease.Address.Addr() != left {
		t.Errorf("%+v, %v", lease, err)
	}
}

func TestAClientIsDeafToWhatIsNotForIt(t *testing.T) {
	a, b := pair(t)
	wrong := []dhcpv4.Modifier{
		dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, 4}),
		dhcpv4.WithHwAddr(net.HardwareAddr{2, 9, 9, 9, 9, 9}),
		dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), // to a DISCOVER
		func(m *dhcpv4.DHCPv4) { m.DeleteOption(dhcpv4.OptionServerIdentifier) },
		func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootRequest },
	}
	s := serve(t, b, func(m *dhcpv4.DHCPv4, _ int) (replies [][]dhcpv4.Modifier) {
		for _, w := range wrong {
			replies = append(replies, grant(m, w)[0])
		}
		return replies
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() { _, err := Acquire(ctx, a.Name, "eth0", Identity{}); done <- err }()
	eventually(t, "a second DISCOVER", func() bool { return s.asked.Load() >= 2 })
	cancel()
	s.mu.Lock()
	if s.last.MessageType() != dhcpv4.MessageTypeDiscover {
		t.Errorf("a wrong reply was answered with %s", s.last.Summary())
	}
	s.mu.Unlock()
	if err := <-done; !errors.Is(err, ErrNoOffer) || !strings.Contains(err.Error(), "eth0 in "+a.Name) {
		t.Errorf("%v, want ErrNoOffer", err)
	}
}
