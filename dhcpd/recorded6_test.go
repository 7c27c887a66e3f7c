package dhcpd_test

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/dhcpd"
)

// named is the address and the prefix that a message asks for or gives, for
// longer than least; either may be missing.
func named(m *dhcpv6.Message, least time.Duration) (ip netip.Addr, prefix netip.Prefix) {
	for _, ia := range m.Options.IANA() {
		if a := ia.Options.OneAddress(); a != nil && a.ValidLifetime > least {
			ip, _ = netip.AddrFromSlice(a.IPv6Addr)
		}
	}
	for _, ia := range m.Options.IAPD() {
		for _, p := range ia.Options.Prefixes() {
			if p.Prefix != nil && p.ValidLifetime > least && !p.Prefix.IP.IsUnspecified() {
				a, _ := netip.AddrFromSlice(p.Prefix.IP)
				ones, _ := p.Prefix.Mask.Size()
				prefix = netip.PrefixFrom(a, ones)
			}
		}
	}
	return ip, prefix
}

func TestEveryClientOfDHCPv6WeRecordedIsServed(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "clients6", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing recorded: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			lines := readRecorded(t, file)
			cfg := dhcpd.SegmentConfig6{
				DNS:         []netip.Addr{netip.MustParseAddr("fd00:100::53")},
				Lease:       time.Minute,
				RapidCommit: true,
			}
			for _, r := range lines { // what the client was given when it was recorded
				if r.kind != "renew" && r.kind != "request" {
					continue
				}
				m, err := dhcpv6.MessageFromBytes(r.payload)
				if err != nil {
					t.Fatal(err)
				}
				ip, prefix := named(m, -1) // not every client says for how long
				if ip.IsValid() {
					cfg.Ranges = []dhcpd.Range{{First: ip, Last: ip}}
				}
				if prefix.IsValid() {
					cfg.Delegations = []dhcpd.Delegation{{Prefix: prefix, Length: prefix.Bits()}}
				}
			}
			w := newWorld(t)
			var srv *dhcpd.Server6
			for _, r := range lines {
				if r.kind != "serve" {
					w.clock.Advance(time.Second)
					serveRecorded6(t, w, srv, cfg, r)
					continue
				}
				cfg.Subnet, cfg.Server = r.subnet, r.server
				var err error
				if srv == nil {
					srv, err = w.svc.Add6(100, cfg)
				} else {
					err = srv.Reconfigure(cfg)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, l := range srv.Leases() {
				if lines[len(lines)-1].kind == "release" && l.State == dhcpd.StateBound {
					t.Errorf("it still has %+v", l)
				}
			}
		})
	}
}

// serveRecorded6 serves a message and looks at the answer as the client would.
func serveRecorded6(t *testing.T, w *world, srv *dhcpd.Server6, cfg dhcpd.SegmentConfig6, r recorded) {
	t.Helper()
	asked, err := dhcpv6.MessageFromBytes(r.payload)
	if err != nil {
		t.Fatal(err)
	}
	var got *dhcpv6.Message
	srv.Serve(&dhcpd.Request{Payload: r.payload, Src: r.src, Dst: r.dst, SrcMAC: macOf(r.src)}, func(p dhcpd.Reply) {
		if got, err = dhcpv6.MessageFromBytes(p.Payload); err != nil {
			t.Errorf("%s: %v", r.kind, err)
		}
	})
	w.svc.Commit()
	want := dhcpv6.MessageTypeReply
	if r.kind == "solicit" && asked.GetOneOption(dhcpv6.OptionRapidCommit) == nil {
		want = dhcpv6.MessageTypeAdvertise
	}
	if id := asked.Options.ServerID(); id != nil && !bytes.Equal(id.ToBytes(), cfg.ServerDUID()) {
		if got != nil {
			t.Errorf("%s, for another server, is answered: %v", r.kind, got)
		}
		return
	}
	if got == nil {
		t.Fatalf("%s is not answered", r.kind)
	}
	if got.MessageType != want || got.TransactionID != asked.TransactionID || got.Options.ServerID() == nil ||
		!bytes.Equal(got.GetOneOption(dhcpv6.OptionClientID).ToBytes(), asked.GetOneOption(dhcpv6.OptionClientID).ToBytes()) {
		t.Errorf("%s is answered %v, want %v for this client", r.kind, got, want)
	}
	if s := got.Options.Status(); s != nil && s.StatusCode != 0 {
		t.Errorf("%s: status %v", r.kind, s)
	}
	if r.kind == "confirm" || r.kind == "release" || r.kind == "information-request" {
		return
	}
	ip, prefix := named(got, 0)
	if len(asked.Options.IANA()) > 0 && ip != cfg.Ranges[0].First {
		t.Errorf("%s gives the address %v, want %v", r.kind, ip, cfg.Ranges[0].First)
	}
	if len(asked.Options.IAPD()) > 0 && prefix != cfg.Delegations[0].Prefix {
		t.Errorf("%s gives the prefix %v, want %v", r.kind, prefix, cfg.Delegations[0].Prefix)
	}
}

// macOf is the hardware address that a link-local address is made from.
func macOf(link netip.Addr) (mac [6]byte) {
	b := link.As16()
	copy(mac[:3], b[8:11])
	copy(mac[3:], b[13:])
	mac[0] ^= 2
	return mac
}
