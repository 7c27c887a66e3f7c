package tap_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/tap"
	"golang.org/x/sys/unix"
)

// someFrame makes one frame of many kinds of flows, of which no two are equal.
func someFrame(t *testing.T, r *rand.Rand, serial int) []byte {
	t.Helper()
	addr := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	eth := &layers.Ethernet{SrcMAC: addr(6), DstMAC: addr(6), EthernetType: layers.EthernetTypeIPv4}
	eth.SrcMAC[0], eth.DstMAC[0] = 2, 2
	v4 := &layers.IPv4{Version: 4, TTL: 64, SrcIP: addr(4), DstIP: addr(4)}
	v6 := &layers.IPv6{Version: 6, HopLimit: 64, SrcIP: addr(16), DstIP: addr(16)}
	udp := &layers.UDP{SrcPort: layers.UDPPort(r.Uint32()), DstPort: layers.UDPPort(r.Uint32())}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(r.Uint32()), DstPort: layers.TCPPort(r.Uint32()), DataOffset: 5}
	data := gopacket.Payload(fmt.Appendf(make([]byte, 30), "<%d>", serial))

	parts := []gopacket.SerializableLayer{eth}
	switch six := r.IntN(2) == 1; {
	case six:
		eth.EthernetType = layers.EthernetTypeIPv6
		parts = append(parts, v6)
	case r.IntN(3) == 0:
		v4.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}}
		fallthrough
	default:
		parts = append(parts, v4)
	}
	switch r.IntN(5) {
	case 0:
		v4.Protocol, v6.NextHeader = layers.IPProtocolTCP, layers.IPProtocolTCP
		parts = append(parts, tcp)
	case 1:
		v4.Protocol, v6.NextHeader = layers.IPProtocolUDP, layers.IPProtocolUDP
		switch r.IntN(4) {
		case 0:
			udp.SrcPort, udp.DstPort = 68, 67
		case 1:
			udp.SrcPort, udp.DstPort = 67, 68
		}
		parts = append(parts, udp)
	case 2: // of a protocol without ports
		v4.Protocol, v6.NextHeader = 99, 99
	case 3: // a fragment that is not the first, of a packet with ports; of IPv4 only
		v4.Protocol, v6.NextHeader, v4.FragOffset = layers.IPProtocolUDP, 59, 10
	case 4: // no IP
		eth.EthernetType = 0x88b5
		parts = parts[:1]
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, append(parts, data)...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Hosts have to come to the same queue for a flow, so what the kernel's program
// computes has to be what the parser does.
func TestAFlowHasTheQueueOfItsHash(t *testing.T) {
	for _, queues := range []int{2, 3, 8, 16, 17, 40} {
		for _, o := range []tap.Offload{0, tap.All} {
			k := newKernel(t)
			dev := mustOpen(t, k, tap.Config{Name: "tap0", MTU: 1450, Queues: queues, Offload: o})
			if dev.Offload() != o|tap.Steering {
				t.Fatalf("%d queues: it does %s", queues, dev.Offload())
			}
			r, want, used := rand.New(rand.NewPCG(2, uint64(queues))), map[string]int{}, map[int]bool{}
			for i := range 400 {
				b := someFrame(t, r, i)
				f := load(b)[0]
				if !f.Parse() {
					t.Fatalf("%x", b)
				}
				want[string(b)] = frame.QueueOf(f.Hash(), queues)
				k.send(t, "tap0", b)
			}
			batch := frame.NewBatch(400, 2048)
			for i, q := range dev.Queues() {
				batch.Clear()
				if _, err := q.Read(batch); err != nil {
					t.Fatal(err)
				}
				for j := range batch.N {
					b := batch.Frames[j].Bytes()
					w, ok := want[string(b)]
					if !ok {
						t.Fatalf("%d queues: never sent, or read twice: %x", queues, b)
					}
					if w != i {
						t.Errorf("%d queues: queue %d, want %d: %x", queues, i, w, b)
					}
					delete(want, string(b))
					used[i] = true
				}
			}
			if len(want) != 0 || len(used) != queues {
				t.Errorf("%d queues: %d frames are missing, %d queues were used", queues, len(want), len(used))
			}
		}
	}
}

// moves reports whether an answer that is written to another queue takes its flow
// along.
func moves(t *testing.T, k *kernel, dev tap.Device) bool {
	t.Helper()
	there, back := conversation(t)
	was := queueOf(t, k, dev, there)
	fs := load(back)
	if dev.Queues()[1-was].Write(fs) != 1 {
		t.Fatalf("verdict %+v", fs[0].Verdict)
	}
	return queueOf(t, k, dev, there) != was
}

// conversation is a frame of a flow, and its answer.
func conversation(t *testing.T) (there, back []byte) {
	t.Helper()
	one := func(a, b byte) []byte {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 0, 0, a}, DstIP: net.IP{10, 0, 0, b}}
		udp := &layers.UDP{SrcPort: 1000 + layers.UDPPort(a), DstPort: 1000 + layers.UDPPort(b)}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		return nettest.Serialize(t,
			&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, a}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, b}, EthernetType: layers.EthernetTypeIPv4},
			ip, udp, gopacket.Payload("a conversation"))
	}
	return one(1, 2), one(2, 1)
}

// queueOf sends a frame out of the kernel and returns the queue that it comes by.
func queueOf(t *testing.T, k *kernel, dev tap.Device, b []byte) int {
	t.Helper()
	k.send(t, "tap0", b)
	batch := frame.NewBatch(8, 2048)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		for i, q := range dev.Queues() {
			batch.Clear()
			if n, err := q.Read(batch); n == 1 && err == nil {
				return i
			}
		}
	}
	t.Fatal("nothing came")
	return -1
}

func TestAnAnswerDoesNotMoveItsFlow(t *testing.T) {
	for _, o := range []tap.Offload{0, tap.All} {
		k := newKernel(t)
		cfg := tap.Config{Name: "tap0", MTU: 1450, Queues: 2, Offload: o}
		if moves(t, k, mustOpen(t, k, cfg)) {
			t.Errorf("with %q it moved", o)
		}
	}
}

// A kernel that loads no program, or not for us, keeps its own way, and a found
// device gets that back.
func TestWhoMayNotSteerDoesWithout(t *testing.T) {
	k := newKernel(t)
	k.ns.Exec("ip", "tuntap", "add", "tap0", "mode", "tap", "multi_queue")
	cfg := tap.Config{Name: "tap0", MTU: 1450, Queues: 2, Offload: tap.All}
	for range 2 {
		dev, err := k.open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if moves(t, k, dev) {
			t.Error("it moved")
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		k.ns.Do(func() {
			nettest.RefuseCall(t, unix.EPERM, unix.SYS_BPF)
			if dev, err = tap.Open(cfg); err != nil {
				t.Fatal(err)
			}
			k.packets["tap0"] = openPackets(t, "tap0")
		})
		if dev.Offload() != tap.All {
			t.Errorf("it does %s", dev.Offload())
		}
		if !moves(t, k, dev) {
			t.Error("it is steered")
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
