package vtep

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/tap/taptest"
	"github.com/uvtep/uvtep/internal/underlay/underlaytest"
)

// running is a VTEP with two workers that runs, between doubles.
type running struct {
	net  *underlaytest.Network
	taps *taptest.Host
	v    *VTEP
	stop func()
}

func run(t *testing.T, net *underlaytest.Network, local netip.Addr, accept Accept) *running {
	t.Helper()
	svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore()})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{net: net, taps: taptest.NewHost()}
	r.v, err = New(Config{Local: local, Workers: 2, Accept: accept, DHCP: svc, OpenTAP: r.taps.Open, OpenUnderlay: net.Open})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, f := range []func(context.Context) error{svc.Run, r.v.Run} {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	r.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := r.v.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// Segment 1 has a conversation over two VTEPs that must not lose a frame; while
// it lasts everything else is changed and sent to as fast as it goes.
func TestChangesUnderTrafficDisturbNobodyElse(t *testing.T) {
	net := underlaytest.NewNetwork()
	here, far := run(t, net, self, AcceptAny), run(t, net, peer2, AcceptPeers)
	for _, c := range []struct {
		r    *running
		peer netip.Addr
	}{{here, peer2}, {far, self}} {
		s, err := c.r.v.AddSegment(SegmentConfig{VNI: 1, Peers: []netip.Addr{c.peer}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.AttachPort(PortConfig{Name: "steady"}); err != nil {
			t.Fatal(err)
		}
	}

	// Behind a stranger lives the station with its number, and no flood goes to
	// strangers: a packet to another one is one that followed an entry that
	// outlived its peer.
	stranger := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 1, byte(i)}) }
	net.OnPacket(func(p underlaytest.Packet) {
		to := p.Dst.Addr().As4()
		if p.Src.Addr() != self || to[2] != 1 {
			return
		}
		if dst := fdb.MACOf(p.Payload[encap.HeaderLen:]); dst != mac(200+int(to[3])) {
			t.Errorf("a frame to %v went to %v", dst, p.Dst)
		}
	})
	marked := func(vni int, dst, src fdb.MAC) []byte {
		b := eth(dst, src)
		b[14] = byte(vni)
		return b
	}

	done := make(chan struct{})
	var traffic sync.WaitGroup
	var carried atomic.Int64
	names := []string{"a", "b", "c", "d"}
	for _, vni := range []int{2, 3} {
		traffic.Go(func() { // guests
			rnd := rand.New(rand.NewPCG(uint64(vni), 2))
			for {
				select {
				case <-done:
					return
				default:
				}
				name := fmt.Sprint(vni, names[rnd.IntN(len(names))])
				d := here.taps.Device(name)
				if d == nil {
					time.Sleep(10 * time.Microsecond)
					continue
				}
				d.Send(marked(vni, mac(201+rnd.IntN(8)), mac(1+rnd.IntN(8))))
				d.Send(marked(vni, fdb.Broadcast, mac(1+rnd.IntN(8))))
				for b, ok := d.TryRecv(); ok; b, ok = d.TryRecv() {
					carried.Add(1)
					if typ := binary.BigEndian.Uint16(b[12:]); typ == 0x88b5 && int(b[14]) != vni {
						t.Errorf("port %s got a frame of segment %d", name, b[14])
					}
				}
			}
		})
		traffic.Go(func() { // strangers
			rnd := rand.New(rand.NewPCG(uint64(vni), 3))
			for {
				select {
				case <-done:
					return
				default:
				}
				i := 1 + rnd.IntN(8)
				net.Inject(underlaytest.Packet{
					Src: sources(stranger(i), uint16(rnd.IntN(1000))), Dst: sources(self, encap.Port),
					Payload: vxlan(encap.VNI(vni), marked(vni, mac(1+rnd.IntN(8)), mac(200+i))),
				})
				time.Sleep(10 * time.Microsecond)
			}
		})
	}
	var sent atomic.Int64
	traffic.Go(func() { // the conversation
		a, b := here.taps.Device("steady"), far.taps.Device("steady")
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for {
			select {
			case <-done:
				return
			default:
			}
			for i, pair := range [][2]*taptest.Device{{a, b}, {b, a}} {
				f := marked(1, mac(2-i), mac(1+i))
				binary.BigEndian.PutUint32(f[20:], uint32(sent.Load()))
				pair[0].Send(f)
				if got, err := pair[1].Recv(ctx); err != nil || string(got) != string(f) {
					t.Errorf("frame %d of the conversation: %x, %v", sent.Load(), got, err)
					return
				}
				sent.Add(1)
			}
		}
	})

	rnd := rand.New(rand.NewPCG(4, 4))
	may := func(err error, which ...error) {
		t.Helper()
		for _, w := range which {
			if errors.Is(err, w) {
				return
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	for n := 0; !t.Failed() && (n < 1500 || sent.Load() < 100 || carried.Load() < 100); n++ {
		vni := encap.VNI(2 + rnd.IntN(2))
		s, ok := here.v.Segment(vni)
		if !ok {
			var err error
			s, err = here.v.AddSegment(SegmentConfig{VNI: vni, Ageing: -1, DHCP: dhcpConfig(50)})
			may(err)
		}
		name := fmt.Sprint(vni, names[rnd.IntN(len(names))])
		i := 1 + rnd.IntN(8)
		switch rnd.IntN(12) {
		case 0, 1, 2:
			_, err := s.AttachPort(PortConfig{Name: name, Isolated: rnd.IntN(2) == 0, MaxMACs: rnd.IntN(3)})
			may(err, ErrExists)
		case 3, 4:
			may(s.DetachPort(name), ErrNotFound)
		case 5:
			if rnd.IntN(4) == 0 {
				may(here.v.RemoveSegment(vni))
			}
		case 6, 7, 8:
			may(s.RemovePeer(stranger(i)), ErrNotFound)
		case 9:
			may(s.AddStatic(StaticEntry{MAC: mac(200 + i), Dst: stranger(i)}))
			may(s.AddStatic(StaticEntry{MAC: mac(i), Port: name}), ErrNotFound)
		case 10:
			cfg := s.Config()
			cfg.NoLearning, cfg.MTU, cfg.MaxMACs = rnd.IntN(4) == 0, 1000+rnd.IntN(400), 1+rnd.IntN(20)
			if cfg.DHCP = nil; rnd.IntN(2) == 0 {
				cfg.DHCP = dhcpConfig(50)
			}
			may(s.Reconfigure(cfg))
		case 11:
			s.FlushFDB()
			s.FDB()
			s.Peers()
			s.Ports()
			here.v.Stats()
		}
	}
	close(done)
	traffic.Wait()
	for _, d := range far.v.Stats().Drops {
		t.Errorf("the far VTEP dropped %+v", d)
	}
	here.stop()
	if left := here.taps.Names(); len(left) != 0 {
		t.Errorf("TAPs left open: %v", left)
	}
	if net.Endpoint(sources(self, encap.Port)) != nil {
		t.Error("the underlay is left open")
	}
	for vni := range uint32(4) {
		if here.v.cfg.DHCP.Server(vni) != nil {
			t.Errorf("segment %d is still served", vni)
		}
	}
}

// The answer that waits for the disk finds its way when its request is long
// somebody else's.
func TestManyClientsAtOnceGetTheirOwnAnswers(t *testing.T) {
	r := run(t, underlaytest.NewNetwork(), self, AcceptPeers)
	var clients sync.WaitGroup
	for _, vni := range []encap.VNI{100, 200} {
		s, err := r.v.AddSegment(SegmentConfig{VNI: vni, DHCP: dhcpConfig(200)})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		given := map[netip.Addr]int{}
		for i := range 40 {
			name := fmt.Sprint(vni, "-", i)
			if _, err := s.AttachPort(PortConfig{Name: name}); err != nil {
				t.Fatal(err)
			}
			clients.Go(func() {
				d, c := r.taps.Device(name), dhcpdtest.Client{MAC: hw(mac(i + 1))}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				for next := c.Discover(); c.State != dhcpdtest.Bound; {
					if next != nil {
						d.Send(broadcastBOOTP(t, mac(i+1), next))
					}
					b, err := d.Recv(ctx)
					if err != nil {
						t.Errorf("client %d of %v, %v: %v", i, vni, c.State, err)
						return
					}
					next = nil
					if fdb.MACOf(b) == mac(i+1) {
						if next, err = c.Receive(b[14+20+8:]); err != nil {
							t.Errorf("client %d of %v: %v", i, vni, err)
							return
						}
					}
				}
				mu.Lock()
				defer mu.Unlock()
				if was, ok := given[c.IP]; ok {
					t.Errorf("segment %v gave %v to %d and to %d", vni, c.IP, was, i)
				}
				given[c.IP] = i
			})
		}
	}
	clients.Wait()
}

// However wakes and rounds fall together, a wake is followed by a round that
// looks at all sources.
func TestNoWakeIsLost(t *testing.T) {
	p, err := newPoller(DefaultBusyPoll)
	if err != nil {
		t.Fatal(err)
	}
	src := &source{r: brokenTAP{}}
	if err := p.add(src); err != nil {
		t.Fatal(err)
	}
	seen, stop := make(chan struct{}, 1), make(chan struct{})
	var poller sync.WaitGroup
	poller.Go(func() {
		for {
			for range p.wait() {
				seen <- struct{}{}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	<-seen // add makes it ready
	for n := range 150 {
		var noise sync.WaitGroup
		for range 2 {
			noise.Go(func() {
				for range 10_000 {
					p.wake()
				}
			})
		}
		noise.Wait()
		time.Sleep(100 * time.Microsecond) // by now it is likely to sleep
		src.ready.Store(true)
		p.wake()
		select {
		case <-seen:
		case <-time.After(30 * time.Second):
			t.Fatalf("wake %d was lost", n) // and the poller sleeps for good
		}
	}
	close(stop)
	p.wake()
	poller.Wait()
	if err := p.close(); err != nil {
		t.Error(err)
	}
}

// What a worker may still hold is given up only when its round has ended.
func TestSettlingWaitsForAWorkerInItsRoundAndForNoOther(t *testing.T) {
	r := newRig(t, Config{Workers: 3})
	r.v.settle() // all at rest
	w := r.v.workers[1]
	w.round.Add(1)
	settled := make(chan struct{})
	go func() {
		r.v.settle()
		close(settled)
	}()
	select {
	case <-settled:
		t.Error("settled in the middle of a round")
	case <-time.After(5 * time.Millisecond):
	}
	w.round.Add(2) // the round has ended, and the next has begun
	<-settled
}
