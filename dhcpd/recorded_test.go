package dhcpd_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
)

// recorded is a line of testdata/clients: what a real client sent, as it came
// out of a tunnel, or what was served from then on.
type recorded struct {
	kind     string // "serve", or what the client wanted
	subnet   netip.Prefix
	server   netip.Addr
	src, dst netip.Addr
	payload  []byte
}

// readRecorded reads a file: one message a line, its kind, where from and where
// to, and the UDP payload. "serve SUBNET SERVER" stands where the configuration
// changed. The files are written by go test ./vtep -run Real -record.
func readRecorded(t testing.TB, name string) (lines []recorded) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var r recorded
		var x, y, z string
		if n, _ := fmt.Sscan(line, &r.kind, &x, &y, &z); n == 3 && r.kind == "serve" {
			r.subnet, r.server = netip.MustParsePrefix(x), netip.MustParseAddr(y)
		} else if n == 4 {
			r.src, r.dst = netip.MustParseAddr(x), netip.MustParseAddr(y)
			if r.payload, err = hex.DecodeString(z); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		} else {
			t.Fatalf("%s: what is %q?", name, line)
		}
		lines = append(lines, r)
	}
	return lines
}

// recordedFiles are those of one version of DHCP.
func recordedFiles(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "clients", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing recorded: %v", err)
	}
	return files
}

// chosen is the address that the client chose of the first lines' service.
func chosen(lines []recorded) (ip netip.Addr) {
	for _, r := range lines {
		if r.kind == "serve" {
			break
		}
		m, err := dhcpv4.FromBytes(r.payload)
		if err == nil && r.kind == "select" {
			ip, _ = netip.AddrFromSlice(m.RequestedIPAddress().To4())
			break
		}
	}
	return ip
}

func TestEveryClientWeRecordedIsServed(t *testing.T) {
	for _, file := range recordedFiles(t, "*.txt") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			lines := readRecorded(t, file)
			var w *world
			cfg := blue()
			for i, r := range lines {
				if r.kind != "serve" {
					w.clock.Advance(time.Second)
					serveRecorded(t, w, cfg, r)
					continue
				}
				cfg.Subnet, cfg.Server, cfg.Gateway = r.subnet, r.server, r.subnet.Addr().Next()
				cfg.DNS = []netip.Addr{cfg.Gateway}
				if ip := chosen(lines[i+1:]); ip.IsValid() {
					cfg.Ranges = []dhcpd.Range{{First: ip, Last: ip}}
				}
				if w == nil {
					w = newWorld(t, func(c *dhcpd.SegmentConfig) { *c = cfg })
				} else if err := w.srv.Reconfigure(cfg); err != nil {
					t.Fatal(err)
				}
			}
			if lines[len(lines)-1].kind == "release" && len(w.srv.Leases()) != 0 {
				t.Errorf("leases at the end: %+v", w.srv.Leases())
			}
		})
	}
}

// serveRecorded serves a message and looks at the answer as the client would.
func serveRecorded(t *testing.T, w *world, cfg dhcpd.SegmentConfig, r recorded) {
	t.Helper()
	asked, err := dhcpv4.FromBytes(r.payload)
	if err != nil {
		t.Fatal(err)
	}
	var got *dhcpv4.DHCPv4
	w.srv.Serve(&dhcpd.Request{Payload: r.payload, Src: r.src, Dst: r.dst, SrcMAC: [6]byte(asked.ClientHWAddr)}, func(p dhcpd.Reply) {
		if got, err = dhcpv4.FromBytes(p.Payload); err != nil {
			t.Errorf("%s: %v", r.kind, err)
		}
	})
	w.svc.Commit()
	ip := cfg.Ranges[0].First
	has, _ := netip.AddrFromSlice(asked.ClientIPAddr.To4())
	if r.kind == "reboot" {
		has, _ = netip.AddrFromSlice(asked.RequestedIPAddress().To4())
	}
	want := map[string]dhcpv4.MessageType{
		"discover": dhcpv4.MessageTypeOffer, "select": dhcpv4.MessageTypeAck, "inform": dhcpv4.MessageTypeAck,
		"reboot": dhcpv4.MessageTypeAck, "renew": dhcpv4.MessageTypeAck, "rebind": dhcpv4.MessageTypeAck,
	}[r.kind]
	switch {
	case r.kind == "release" || r.kind == "decline":
		if got != nil {
			t.Errorf("%s is answered: %v", r.kind, got.Summary())
		}
		return
	case got == nil:
		t.Fatalf("%s of %v is not answered", r.kind, has)
	case has.IsValid() && !has.IsUnspecified() && !cfg.Subnet.Contains(has):
		if got.MessageType() != dhcpv4.MessageTypeNak {
			t.Errorf("%s of %v, which is of no subnet, is answered %v", r.kind, has, got.MessageType())
		}
		return
	}
	if y, _ := netip.AddrFromSlice(got.YourIPAddr.To4()); got.MessageType() != want || y != ip && r.kind != "inform" {
		t.Errorf("%s is answered %v of %v, want %v of %v", r.kind, got.MessageType(), y, want, ip)
	}
	if got.TransactionID != asked.TransactionID || !bytes.Equal(got.ClientHWAddr, asked.ClientHWAddr) ||
		!bytes.Equal(got.Options.Get(dhcpv4.OptionClientIdentifier), asked.Options.Get(dhcpv4.OptionClientIdentifier)) {
		t.Errorf("%s: the answer is not this client's: %v", r.kind, got.Summary())
	}
	for _, code := range asked.ParameterRequestList() {
		switch code.Code() {
		case 1, 3, 6, 15, 26, 51, 54, 58, 59:
			if !got.Options.Has(code) {
				t.Errorf("%s asks for %v, which is not there", r.kind, code)
			}
		}
	}
}

func TestARecordedNetworkBootIsGivenItsFileByClass(t *testing.T) {
	next := netip.MustParseAddr("192.168.100.5")
	w := newWorld(t, func(c *dhcpd.SegmentConfig) {
		c.Classes = []dhcpd.Class{
			{Match: dhcpd.MatchUser, Value: "iPXE", NextServer: next, BootFile: "boot.ipxe"},
			{Match: dhcpd.MatchArch, Arch: 0, NextServer: next, BootFile: "undionly.kpxe"},
		}
	})
	var discover []byte
	for _, r := range readRecorded(t, filepath.Join("testdata", "clients", "ipxe.txt")) {
		if r.kind == "discover" {
			discover = r.payload
		}
	}
	const userClass = 77
	firmware := edit(discover, func(m *dhcpv4.DHCPv4) {
		m.Options.Del(dhcpv4.GenericOptionCode(userClass)) // as the firmware that loads iPXE
		m.Options.Del(dhcpv4.GenericOptionCode(175))       // iPXE's own
	})
	for _, tc := range []struct {
		file    string
		message []byte
	}{{"boot.ipxe", discover}, {"undionly.kpxe", firmware}} {
		r := w.must(offer, tc.message)
		if got := string(bytes.TrimRight(r.dhcp.File, "\x00")); got != tc.file || r.dhcp.NextServerIP.String() != next.String() {
			t.Errorf("file %q from %v, want %q from %v", got, r.dhcp.NextServerIP, tc.file, next)
		}
	}
}
