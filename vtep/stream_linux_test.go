package vtep_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/vtep"
	"github.com/uvtep/uvtep/vtep/vteptest"
)

// machine is QEMU's end of a stream: it stands for a virtual machine.
type machine struct {
	net.Conn
	t *testing.T
}

func connect(t *testing.T, path string) *machine {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &machine{c, t}
}

func (m *machine) send(frame []byte) {
	m.t.Helper()
	if _, err := m.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) recv() []byte {
	m.t.Helper()
	var n uint32
	err := binary.Read(m, binary.BigEndian, &n)
	b := make([]byte, n)
	if err == nil {
		_, err = io.ReadFull(m, b)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// news are the events of ports, as words.
type news struct {
	mu    sync.Mutex
	words []string
}

func (n *news) hear(e vtep.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Port != "" {
		n.words = append(n.words, e.Kind.String()+" "+e.Port)
	}
}

func (n *news) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.words, ", ")
}

func TestAMachineOnASocketIsAGuestLikeAnyOther(t *testing.T) {
	a, b := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")
	network, heard := vteptest.NewNetwork(), &news{}
	cfg := network.Config(a)
	cfg.Events = heard.hear
	ha, hb := network.NewHost(t, cfg), network.NewHost(t, network.Config(b))
	seg := ha.NewSegment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{b}})
	hb.NewSegment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{a}})
	far := hb.NewGuest(t, 100, vtep.PortConfig{Name: "far"})
	path := filepath.Join(t.TempDir(), "vm1.sock")
	if _, err := seg.AttachPort(vtep.PortConfig{Stream: path}); err != nil {
		t.Fatal(err)
	}
	port := func() vtep.PortStats { return seg.Ports()[0] }
	if p := port(); p.Name != "vm1.sock" || p.Kind != "stream" || p.State != "down" || p.Vanished || p.Queues != 1 {
		t.Errorf("nobody is there, and the port is %+v", p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	mac := fdb.MAC(0x525400000101)
	known := func() bool {
		return slices.ContainsFunc(seg.FDB(), func(e vtep.FDBEntry) bool { return e.MAC == mac && e.Port == "vm1.sock" })
	}
	// Each machine asks the guest, gets its answer, and sends garbage at last.
	for round := range 2 {
		m := connect(t, path)
		ask := stationFrame(mac, fdb.Broadcast, fmt.Sprintf("who is there? %d", round))
		m.send(ask)
		if got, err := far.Receive(ctx); err != nil || !bytes.Equal(got, ask) {
			t.Fatalf("the guest got %q: %v", got, err)
		}
		answer := stationFrame(far.MAC(), mac, "the guest")
		if err := far.Send(answer); err != nil {
			t.Fatal(err)
		}
		if got := m.recv(); !bytes.Equal(got, answer) {
			t.Errorf("the machine got %q", got)
		}
		if p := port(); p.State != "up" || !known() {
			t.Errorf("a machine is there, and the port is %+v; its address is known: %v", p, known())
		}
		m.Write([]byte{0xff, 0xff, 0xff, 0xff})
		if _, err := m.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("it sent garbage, and the connection goes on: %v", err)
		}
		eventually(t, "its address is no longer known", func() bool { return !known() })
		if p := port(); p.State != "down" {
			t.Errorf("the machine was hung up on, and the port is %+v", p)
		}
	}
	want := "port_up vm1.sock, port_down vm1.sock, port_up vm1.sock, port_down vm1.sock"
	eventually(t, "events: "+want, func() bool { return heard.String() == want })
	drops := ha.Stats().Drops
	if i := slices.IndexFunc(drops, func(d vtep.DropStats) bool { return d.Reason.String() == "bad_length" }); i < 0 || drops[i].Count != 2 || drops[i].VNI != 100 {
		t.Errorf("dropped %+v; want two bad_length in segment 100", drops)
	}
	if p := port(); p.RxDropped != 2 || p.RxPackets != 4 || p.TxPackets != 2 {
		t.Errorf("the port counted %+v", p.Traffic)
	}
}

// stationFrame is a frame with an ethertype for experiments.
func stationFrame(src, dst fdb.MAC, text string) []byte {
	d, s := dst.Bytes(), src.Bytes()
	return append(append(append(d[:], s[:]...), 0x88, 0xb5), fmt.Sprintf("%-46s", text)...)
}

func TestAStreamThatCannotBeIsRefused(t *testing.T) {
	network := vteptest.NewNetwork()
	h := network.NewHost(t, network.Config(netip.MustParseAddr("10.9.0.1")))
	seg := h.NewSegment(t, vtep.SegmentConfig{VNI: 100})
	path := filepath.Join(t.TempDir(), "vm1.sock")
	for _, tc := range []struct {
		cfg  vtep.PortConfig
		want error
	}{
		{vtep.PortConfig{Stream: path, NetNS: "a"}, vtep.ErrInvalid},
		{vtep.PortConfig{Stream: path, Bridge: "br0"}, vtep.ErrInvalid},
		{vtep.PortConfig{Stream: filepath.Join(path, "none")}, vtep.ErrNoDirectory},
	} {
		if _, err := seg.AttachPort(tc.cfg); !errors.Is(err, tc.want) {
			t.Errorf("%+v: %v, want %v", tc.cfg, err, tc.want)
		}
	}
	if _, err := seg.AttachPort(vtep.PortConfig{Stream: path}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		cfg  vtep.PortConfig
		want error
	}{
		{vtep.PortConfig{Stream: path, Name: "other"}, vtep.ErrSocketInUse},
		{vtep.PortConfig{Stream: path + "/../vm1.sock"}, vtep.ErrExists},
	} {
		if _, err := seg.AttachPort(tc.cfg); !errors.Is(err, tc.want) {
			t.Errorf("%+v: %v, want %v", tc.cfg, err, tc.want)
		}
	}
}
