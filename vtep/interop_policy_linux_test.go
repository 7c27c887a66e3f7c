package vtep_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// What Linux makes of a tag's flags in a packet's mark (VXLAN_GBP_…, linux/vxlan.h).
const (
	markApplied   = 1 << 19
	markDontLearn = 1 << 22
)

// marked is a UDP socket of a namespace that sends with a mark, and is told that
// of what it receives.
func marked(t *testing.T, ns *nettest.NS, ip string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	ns.Do(func() {
		var err error
		if c, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip), Port: 7}); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { c.Close() })
	setMark(t, c, unix.SO_RCVMARK, 1)
	return c
}

func setMark(t *testing.T, c *net.UDPConn, option, value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if ctlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, value) }); ctlErr != nil || err != nil {
		t.Fatal(ctlErr, err)
	}
}

// hear waits for a datagram and returns it, its sender and its mark.
func hear(t *testing.T, c *net.UDPConn) (string, netip.AddrPort, uint32) {
	t.Helper()
	buf, oob := make([]byte, 100), make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, m, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_MARK {
			return string(buf[:n]), from, binary.NativeEndian.Uint32(m.Data)
		}
	}
	return string(buf[:n]), from, 0
}

// The kernel's driver has the group in the mark of what it receives, and takes it
// from the mark of what it sends.
func TestGroupsAreTheKernelsMarksAndBack(t *testing.T) {
	nettest.Root(t)
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		const vni = 300
		na, nk := cable(t, u)
		nk.Exec("ip", "link", "add", "vx", "type", "vxlan", "id", fmt.Sprint(vni), "local", u.b.String(), "remote", u.a.String(),
			"dstport", fmt.Sprint(encap.Port), "gbp")
		nk.Addr("vx", "192.168.100.9/24")
		nk.Exec("ip", "link", "set", "vx", "up")
		base.Local, base.GBP, base.Strict = u.a, true, true
		a := start(t, na, base)
		s := a.segment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{u.b}})
		guests := map[string]*net.UDPConn{}
		for i, port := range []vtep.PortConfig{
			{Name: "none", GBPAllow: []uint16{0}}, {Name: "seven", GBP: 7, GBPAllow: []uint16{0, 7}}, {Name: "any", GBP: 0xffff},
		} {
			g := nettest.New(t, "g-"+port.Name)
			a.attach(t, s, g, port)
			g.Addr("eth0", fmt.Sprintf("192.168.100.%d/24", i+1))
			guests[port.Name] = marked(t, g, fmt.Sprintf("192.168.100.%d", i+1))
		}
		kernel := marked(t, nk, "192.168.100.9")
		to := netip.MustParseAddrPort("192.168.100.9:7")
		addr := map[string]netip.AddrPort{}
		for name, mark := range map[string]uint32{"none": 0, "seven": 7, "any": 0xffff} {
			if _, err := guests[name].WriteToUDPAddrPort([]byte(name), to); err != nil {
				t.Fatal(err)
			}
			text, from, got := hear(t, kernel)
			if text != name || got != mark {
				t.Errorf("the kernel got %q with the mark %#x, want %q and %#x", text, got, name, mark)
			}
			addr[name] = from
		}
		say := func(mark int, text, name string) {
			setMark(t, kernel, unix.SO_MARK, mark)
			if _, err := kernel.WriteToUDPAddrPort([]byte(text), addr[name]); err != nil {
				t.Fatal(err)
			}
		}
		refused := uint64(0)
		for _, c := range []struct {
			mark        int
			none, seven bool // get it
		}{
			{0, true, true}, {7, false, true}, {8, false, false}, {8 | markApplied, true, true}, {7 | markDontLearn, false, true}, {8 | markApplied | markDontLearn, true, true},
		} {
			for name, gets := range map[string]bool{"none": c.none, "seven": c.seven, "any": true} {
				want := fmt.Sprintf("mark %#x", c.mark)
				say(c.mark, want, name)
				if !gets {
					refused++
					want = "behind"
					say(markApplied|1, want, name) // which everybody gets
				}
				if got, _, _ := hear(t, guests[name]); got != want {
					t.Errorf("mark %#x: %s got %q, want %q", c.mark, name, got, want)
				}
			}
		}
		// What guests tell each other of themselves may be among it.
		eventually(t, "the others are dropped", func() bool { return a.dropped(frame.GroupPolicy) >= refused })
		if n := a.dropped(frame.OuterReserved); n != 0 {
			t.Errorf("%d tags were taken for reserved bits", n)
		}
	})
}
