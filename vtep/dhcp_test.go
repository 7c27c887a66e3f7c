package vtep

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
)

// read has the workers read and carry what is there, and no more.
func (r *rig) read() {
	for _, w := range r.v.workers {
		for _, s := range *w.poll.mem.Load() {
			if s != nil && s.ready.Swap(false) && !s.dead.Load() {
				w.serve(s)
			}
		}
	}
}

// Numbers of ports and peers are given again, and an answer may have waited for
// a queue and a disk.
func TestAnAnswerGoesToNobodyWhoHasGotTheNumberOfTheClientsPlace(t *testing.T) {
	for _, answered := range []bool{false, true} {
		for _, c := range []struct {
			name, drop string
			ask        func(r *rig, b []byte)
			swap       func(r *rig, s *Segment) []error
		}{
			{"port", "port_down@100", func(r *rig, b []byte) { r.taps.Device("a").Send(b) }, func(r *rig, s *Segment) []error {
				err := s.DetachPort("a")
				r.attach(s, PortConfig{Name: "other"})
				return []error{err}
			}},
			{"port that is not replaced", "port_down@100", func(r *rig, b []byte) { r.taps.Device("a").Send(b) }, func(r *rig, s *Segment) []error {
				return []error{s.DetachPort("a")}
			}},
			{"peer", "no_way_out@100", func(r *rig, b []byte) { r.inject(peer2, 0, vxlan(100, b)) }, func(r *rig, s *Segment) []error {
				return []error{s.RemovePeer(peer2), s.AddPeer(peer3)}
			}},
		} {
			t.Run(fmt.Sprintf("%s, answered before %t", c.name, answered), func(t *testing.T) {
				r, s, _ := serving(t, *dhcpConfig(9))
				r.read()
				c.ask(r, broadcastBOOTP(t, mac(1), (&dhcpdtest.Client{MAC: hw(mac(1))}).Discover()))
				r.read()
				if answered {
					r.v.decide(<-r.v.requests)
				}
				for _, err := range c.swap(r, s) {
					if err != nil {
						t.Fatal(err)
					}
				}
				r.turn()
				if got := r.outs(); len(got) != 0 {
					t.Errorf("left: %+v", got)
				}
				if d := r.dropped(); d != c.drop {
					t.Errorf("drops: %s, want %s", d, c.drop)
				}
			})
		}
	}
}

// countingTAP counts what is written, and how often.
type countingTAP struct {
	brokenTAP
	writes, frames int
}

func (d *countingTAP) Queues() []tap.Queue { return []tap.Queue{d} }
func (d *countingTAP) Write(frames []*frame.Frame) int {
	d.writes++
	d.frames += len(frames)
	return len(frames)
}

// offers puts n answers to clients at a port into its worker's inbox.
func (r *rig) offers(s *Segment, p *Port, n int) {
	for i := range n {
		b := s.view.Load().service.v4.compose(dhcpd.Reply{Payload: make([]byte, 300), Dst: broadcast4, DstPort: 68, DstMAC: mac(i).Bytes()})
		s.inject(injected{to: origin{port: p}, bytes: b})
	}
}

func TestAnswersLeaveInBatchesAndNoMoreThanOneARound(t *testing.T) {
	r := newRig(t, Config{})
	w := r.v.workers[0]
	var segs []*Segment
	var ports []*Port
	devices := []*countingTAP{{}, {}}
	for i, d := range devices {
		s := r.segment(SegmentConfig{VNI: encap.VNI(100 * (i + 1)), DHCP: dhcpConfig(5)})
		segs, ports = append(segs, s), append(ports, r.attach(s, PortConfig{Name: fmt.Sprint("c", i), Device: d}))
	}
	const full = frame.BatchLen
	r.offers(segs[0], ports[0], 2*full+10)
	for i, want := range []int{full, 2 * full, 2*full + 10} {
		w.takeInbox()
		if d := devices[0]; d.writes != i+1 || d.frames != want || w.mail.Load() != (i < 2) {
			t.Errorf("round %d: %d frames by %d writes, more to come: %t", i+1, d.frames, d.writes, w.mail.Load())
		}
	}
	for range 5 { // those of two segments by turns
		r.offers(segs[0], ports[0], 1)
		r.offers(segs[1], ports[1], 2)
	}
	w.takeInbox()
	if a, b := devices[0], devices[1]; a.writes != 4 || a.frames != 2*full+15 || b.writes != 1 || b.frames != 10 {
		t.Errorf("two segments: %+v, %+v", *a, *b)
	}
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestAWorkerThatEndsLetsTheAnswersLeaveThatAreThere(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, DHCP: dhcpConfig(5)})
	d := &countingTAP{}
	r.offers(s, r.attach(s, PortConfig{Name: "c", Device: d}), 2*frame.BatchLen)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.v.workers[0].run(ctx)
	if d.frames != 2*frame.BatchLen {
		t.Errorf("%d answers left, want %d", d.frames, 2*frame.BatchLen)
	}
}
