package vtep_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/nic"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/vtep"
)

// tagger is what a bridge with vlan_filtering is, which a kernel need not have: in
// the namespace of a trunk's TAP, eth0, it joins each VLAN with an interface that
// knows of no tags.
type tagger struct {
	trunk   tap.Device
	members map[uint16]tap.Device // by VLAN

	in, out atomic.Uint64 // super-frames that came by the trunk, and that it took
	refused atomic.Uint64 // frames that a device did not take

	mu    sync.Mutex
	stack [][]byte // what came by the trunk with two tags
}

// tagged is a frame with the tag of a VLAN in front of its type, and what is
// left to a card moved along with it.
func tagged(vlan uint16, f *frame.Frame) ([]byte, frame.Offload) {
	b, o := f.Bytes(), f.Offload
	if o.Flags&frame.NeedsCsum != 0 {
		o.CsumStart += 4
	}
	if o.GSO != frame.GSONone {
		o.HdrLen += 4
	}
	return slices.Concat(b[:12], []byte{0x81, 0, byte(vlan >> 8), byte(vlan)}, b[12:]), o
}

// untagged is the opposite; without a tag it has no VLAN.
func untagged(f *frame.Frame) (vlan uint16, b []byte, o frame.Offload) {
	b, o = f.Bytes(), f.Offload
	if len(b) < 18 || b[12] != 0x81 || b[13] != 0 {
		return 0, nil, o
	}
	if o.Flags&frame.NeedsCsum != 0 {
		o.CsumStart -= 4
	}
	if o.GSO != frame.GSONone {
		o.HdrLen -= 4
	}
	return binary.BigEndian.Uint16(b[14:]) & 0xfff, slices.Concat(b[:12], b[16:]), o
}

// run carries frames until the test ends.
func (g *tagger) run(t *testing.T) {
	ending, ended := make(chan struct{}), make(chan struct{})
	fds := []unix.PollFd{{Fd: int32(g.trunk.Queues()[0].Fd()), Events: unix.POLLIN}}
	for _, d := range g.members {
		fds = append(fds, unix.PollFd{Fd: int32(d.Queues()[0].Fd()), Events: unix.POLLIN})
	}
	go func() {
		defer close(ended)
		batch, out := frame.NewBatch(frame.BatchLen, frame.MaxLen), &frame.NewBatch(1, frame.MaxLen).Frames[0]
		for {
			select {
			case <-ending:
				return
			default:
				_, _ = unix.Poll(fds, 20) // EINTR is as good as nothing
			}
			g.fromTrunk(batch, out)
			for vlan, d := range g.members {
				g.fromMember(vlan, d, batch, out)
			}
		}
	}()
	t.Cleanup(func() {
		close(ending)
		<-ended
		for _, d := range g.members {
			d.Close()
		}
		g.trunk.Close()
	})
}

func (g *tagger) fromTrunk(batch *frame.Batch, out *frame.Frame) {
	batch.Clear()
	n, _ := g.trunk.Queues()[0].Read(batch) // of a device that goes nothing comes
	for i := range n {
		f := &batch.Frames[i]
		vlan, b, o := untagged(f)
		if len(b) >= 14 && b[12] == 0x81 {
			g.mu.Lock()
			g.stack = append(g.stack, bytes.Clone(f.Bytes()))
			g.mu.Unlock()
		}
		if o.GSO != frame.GSONone {
			g.in.Add(1)
		}
		if d := g.members[vlan]; d != nil {
			g.send(d, out, b, o)
		}
	}
}

func (g *tagger) fromMember(vlan uint16, d tap.Device, batch *frame.Batch, out *frame.Frame) {
	batch.Clear()
	n, _ := d.Queues()[0].Read(batch)
	for i := range n {
		b, o := tagged(vlan, &batch.Frames[i])
		if g.send(g.trunk, out, b, o) && o.GSO != frame.GSONone {
			g.out.Add(1)
		}
	}
}

func (g *tagger) send(d tap.Device, out *frame.Frame, b []byte, o frame.Offload) bool {
	out.Load(b)
	out.Offload = o
	if d.Queues()[0].Write([]*frame.Frame{out}) == 1 {
		return true
	}
	g.refused.Add(1)
	return false
}

// double is whether anything came by the trunk in two VLANs, one in the other,
// with a mark.
func (g *tagger) double(outer, inner uint16, mark string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	want := []byte{0x81, 0, byte(outer >> 8), byte(outer), 0x81, 0, byte(inner >> 8), byte(inner)}
	return slices.ContainsFunc(g.stack, func(b []byte) bool {
		return bytes.HasPrefix(b[12:], want) && bytes.HasSuffix(b, []byte(mark))
	})
}

// trunked is a host with a trunk: a station in each of its VLANs.
type trunked struct {
	*host
	tags     *tagger
	ns       *nettest.NS // of the TAP
	stations map[uint16]*nettest.NS
	segments map[uint16]*vtep.Segment
}

// trunkHost gives a host a trunk of VLANs 101 and 102 and stations of the same
// address in each. The one in VLAN 102 says nothing of its own accord.
func trunkHost(t *testing.T, h *host, far netip.Addr, n int) *trunked {
	t.Helper()
	tr := &trunked{host: h, ns: nettest.New(t, "trunk"), stations: map[uint16]*nettest.NS{}, segments: map[uint16]*vtep.Segment{}}
	tr.ns.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	tr.tags = &tagger{members: map[uint16]tap.Device{}}
	for _, vlan := range []uint16{101, 102} {
		s := h.segment(t, vtep.SegmentConfig{VNI: encap.VNI(900 + vlan), Peers: []netip.Addr{far}})
		h.attach(t, s, tr.ns, vtep.PortConfig{Trunk: "trunk0", VLAN: vlan})
		g := nettest.New(t, fmt.Sprint("vlan", vlan))
		if vlan == 102 {
			g.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
		}
		inner := fmt.Sprint("v", vlan)
		nettest.Veth(t, tr.ns, inner, g, "eth0")
		mtu := fmt.Sprint(s.Config().MTU)
		tr.ns.Exec("ip", "link", "set", inner, "mtu", mtu)
		g.Exec("ip", "link", "set", "eth0", "mtu", mtu, "address", fmt.Sprintf("02:00:00:00:00:%02x", n))
		g.Addr("eth0", fmt.Sprintf("192.168.100.%d/24", n))
		if vlan == 101 {
			g.Addr("eth0", fmt.Sprintf("fd00:100::%d/64", n))
		}
		tr.stations[vlan], tr.segments[vlan] = g, s
		tr.tags.members[vlan] = openNIC(t, tr.ns, inner)
	}
	tr.tags.trunk = openNIC(t, tr.ns, "eth0")
	tr.tags.run(t)
	return tr
}

func openNIC(t *testing.T, ns *nettest.NS, name string) (d tap.Device) {
	t.Helper()
	ns.Do(func() {
		var err error
		if d, err = nic.Open(nic.Config{Name: name, Queues: 1, Offload: tap.All}); err != nil {
			t.Fatal(err)
		}
	})
	return d
}

// Stations of the same addresses in two VLANs of a trunk on either host: those of
// one VLAN have all there is to say to each other, and the others hear nothing.
func TestWhatATrunkCarriesArrivesWholeAndInItsVLANOnly(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	eachSetting(t, func(t *testing.T, base vtep.Config) {
		u := families[0]
		na, nb := cable(t, u)
		ha, hb := pair(t, base, u, na, nb)
		a, b := trunkHost(t, ha, u.b, 1), trunkHost(t, hb, u.a, 2)
		var others []*nettest.Sniffer
		for _, h := range []*trunked{a, b} {
			others = append(others, nettest.Sniff(t, h.stations[102], "eth0"))
		}
		converse(t, a.stations[101], b.stations[101], a.segments[101].Config().MTU)
		for _, s := range others {
			if seen := s.Done(); len(seen) != 0 {
				t.Errorf("%d frames of VLAN 101 are in VLAN 102, the first is %x", len(seen), seen[0].Bytes)
			}
		}
		for _, h := range []*trunked{a, b} {
			if p := h.segments[102].Ports()[0]; p.RxPackets != 0 || p.TxPackets != 0 {
				t.Errorf("VLAN 102 carried %+v", p)
			}
			if n := h.v.Stats().LostOffloads; n != 0 {
				t.Errorf("%d offloads were lost", n)
			}
			if in, out := h.tags.in.Load(), h.tags.out.Load(); out == 0 || (in == 0) != (base.NoOffload != 0) {
				t.Errorf("%d super-frames came by the trunk, and it took %d", in, out)
			}
			if n := h.tags.refused.Load(); n != 0 {
				t.Errorf("%d frames were refused", n)
			}
		}
		carry(t, a.stations[102], b.stations[102], "192.168.100.2", 1<<20)
		carry(t, b.stations[102], a.stations[102], "192.168.100.1", 1<<20)

		nettest.Inject(t, a.stations[101], "eth0").Send(slices.Concat(
			[]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 7, 0x88, 0xb5}, make([]byte, 50), []byte("a guest's own VLAN")))
		eventually(t, "a frame in two VLANs has come by", func() bool { return b.tags.double(101, 7, "a guest's own VLAN") })
	})
}
