package dhcpcheck

import (
	"bytes"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/verdict"
)

// bootServer is where boot files are.
var bootServer = at(9)

// boots are the classes of a network where all kinds of machines boot.
func boots() intent {
	file := func(name string) []option {
		return []option{optText(66, bootServer.String()), optText(67, name)}
	}
	return intent{classes: []class{
		{by: byUser, match: "iPXE", options: file("http://192.168.100.9/menu.ipxe")},
		{by: byArch, arch: 7, options: file("ipxe.efi")},
		{by: byArch, arch: 11, options: file("ipxe-arm64.efi")},
		{by: byArch, arch: 16, options: append(file("http://192.168.100.9/ipxe.efi"), optText(60, "HTTPClient"))},
		{by: byVendor, match: "PXEClient", options: append(file("undionly.kpxe"), optText(60, "PXEClient"), opt(43, 6, 1, 8))},
	}}
}

// boot is a DISCOVER as a boot ROM of an architecture sends it.
func (s *station) boot(vendor string, arch byte, more ...option) *packet {
	s.params = []byte{1, 3, 43, 54, 60, 66, 67}
	return expect("DISCOVER", offer, s.discover(append([]option{
		optText(60, vendor), opt(93, 0, arch), opt(94, 1, 3, 16), option{97, make([]byte, 17)},
	}, more...)...))
}

// bootChecks are about network boot.
func bootChecks() []check {
	return []check{
		{line: 52, title: "PXE: boot file and server, in the fields or in 66 and 67", in: boots(), run: func(w *world) {
			p := w.station(1).boot("PXEClient:Arch:00000:UNDI:002001", 0)
			loads(p, "undionly.kpxe")
		}},
		{line: 52, title: "… 60 and 43 come with it", in: boots(), run: func(w *world) {
			p := w.station(1).boot("PXEClient:Arch:00000:UNDI:002001", 0)
			if string(p.get(60)) != "PXEClient" || !bytes.Equal(p.get(43), []byte{6, 1, 8}) {
				verdict.Fail("60 is %q, 43 is %x", p.get(60), p.get(43))
			}
		}},
		{line: 52, title: "… by architecture (93): x86-64 and arm64 UEFI, HTTP boot", in: boots(), run: func(w *world) {
			loads(w.station(1).boot("PXEClient:Arch:00007:UNDI:003016", 7), "ipxe.efi")
			loads(w.station(2).boot("PXEClient:Arch:00011:UNDI:003000", 11), "ipxe-arm64.efi")
			p := w.station(3).boot("HTTPClient:Arch:00016:UNDI:003001", 16)
			loads(p, "http://192.168.100.9/ipxe.efi")
			if string(p.get(60)) != "HTTPClient" {
				verdict.Fail("HTTP boot: 60 is %q", p.get(60))
			}
		}},
		{line: 53, title: "User class (77): iPXE goes on to its script; bare, and as RFC 3004 has it", in: boots(), run: func(w *world) {
			loads(w.station(1).boot("PXEClient:Arch:00007:UNDI:003016", 7, optText(77, "iPXE")), "http://192.168.100.9/menu.ipxe")
			loads(w.station(2).boot("PXEClient:Arch:00007:UNDI:003016", 7, optText(77, "\x04iPXE")), "http://192.168.100.9/menu.ipxe")
		}},
		{line: 54, title: "Vendor class (60): options for who matches, and for nobody else", in: intent{classes: []class{
			{by: byVendor, match: "acme-", options: []option{optText(224, "for acme")}},
		}}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.params, b.params = []byte{1, 224}, []byte{1, 224}
			if p := expect("DISCOVER", offer, a.discover(optText(60, "acme-2000"))); string(p.get(224)) != "for acme" {
				verdict.Fail("%q", p.get(224))
			}
			if p := expect("DISCOVER", offer, b.discover(optText(60, "other"))); p.has(224) {
				verdict.Fail("for everybody")
			}
		}},
	}
}

// loads wants a boot ROM to be told of a file and of bootServer, wherever it
// looks first.
func loads(p *packet, file string) {
	name := string(p.file)
	if d := p.get(67); d != nil {
		name = string(bytes.TrimRight(d, "\x00"))
	}
	if name != file {
		verdict.Fail("the file is %q", name)
	}
	told := p.siaddr == bootServer
	if a, err := netip.ParseAddr(string(bytes.TrimRight(p.get(66), "\x00"))); err == nil && a == bootServer {
		told = true
	}
	if !told {
		verdict.Fail("the server is %s", p.siaddr)
	}
}

// The example of the table.Document, as it stands there, boots what it says.
func TestTheBootExampleOfTheDocsBootsEveryMachine(t *testing.T) {
	nettest.Root(t)
	text, err := os.ReadFile(table.Document)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n## Network boot\n")
	_, after, _ = strings.Cut(after, "```yaml\n")
	example, _, ok := strings.Cut(after, "```")
	if !ok || !strings.Contains(example, "\n    dhcp:\n") {
		t.Fatalf("%s has no example of network boot", table.Document)
	}
	example = strings.Replace(example, "    dhcp:\n", "    dhcp:\n      server: "+serverIP.String()+"\n      probe: off\n", 1)
	d := newDaemon(t, func(d *daemon) string {
		return strings.Replace(example, "    dhcp:\n", "    ports: [{tap: "+tapOf(100)+", netns: "+d.guests.Name+"}]\n    dhcp:\n", 1)
	})
	w := &world{wire: openWire(t, d.guests, tapOf(100)), instance: &segment{d, 100}}
	const ipxe = "\x04iPXE"
	for i, m := range []struct {
		vendor string
		arch   byte
		user   string
		file   string
	}{
		{"PXEClient:Arch:00000:UNDI:002001", 0, "", "undionly.kpxe"},
		{"PXEClient:Arch:00007:UNDI:003016", 7, "", "ipxe.efi"},
		{"PXEClient:Arch:00009:UNDI:003016", 9, "", "ipxe.efi"},
		{"PXEClient:Arch:00011:UNDI:003000", 11, "", "ipxe-arm64.efi"},
		{"HTTPClient:Arch:00016:UNDI:003001", 16, "", "http://192.168.100.9/ipxe.efi"},
		{"HTTPClient:Arch:00019:UNDI:003001", 19, "", "http://192.168.100.9/ipxe-arm64.efi"},
		{"PXEClient:Arch:00000:UNDI:002001", 0, ipxe, "http://192.168.100.9/menu.ipxe"},
		{"PXEClient:Arch:00011:UNDI:003000", 11, ipxe, "http://192.168.100.9/menu.ipxe"},
	} {
		v := verdict.Try(func() {
			if i == 0 {
				w.meet()
			}
			var more []option
			if m.user != "" {
				more = append(more, optText(77, m.user))
			}
			p := w.station(byte(10+i)).boot(m.vendor, m.arch, more...)
			loads(p, m.file)
			if strings.HasPrefix(m.vendor, "HTTP") && string(p.get(60)) != "HTTPClient" {
				verdict.Fail("60 is %q", p.get(60)) // without it the firmware takes it for no answer
			}
		})
		if v.Kind != verdict.Passes {
			t.Errorf("%s, user class %q: %v", m.vendor, m.user, v)
		}
	}
}
