package vtep

import (
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/guard/guardtest"
)

// Whatever is sent from a bound port, what leaves the VTEP is from it, or the
// VTEP's own.
func TestOfForgedFramesNoneIsDelivered(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	g.attach(s, PortConfig{Name: "isolated", Isolated: true})
	w := guardtest.NewForger(7, true)
	var bound []Address
	for _, p := range w.Bound {
		bound = append(bound, Address{fdb.MACOf(p.MAC), p.IP})
	}
	g.attach(s, PortConfig{Name: "a", Bind: BindLease, Addresses: bound, Isolated: true})
	own := hw(serviceMAC(self, 100))
	const n = 100_000
	sent, forged, delivered, passed := 0, 0, 0, 0
	for ; forged < n; sent++ {
		b := w.Frame()
		answer, rogue := w.Judge(b), guardtest.Rogue(b)
		legitimate := (answer == guardtest.Bound || answer == guardtest.Asks || answer == guardtest.Claims) && !rogue
		if !legitimate {
			forged++
		}
		for _, o := range g.send("a", b) {
			switch eth := gopacket.NewPacket(o.bytes, layers.LayerTypeEthernet, gopacket.Lazy).LinkLayer().LinkFlow().Src(); {
			case o.where == "isolated":
				t.Fatalf("%x came to a port that is isolated from it", b)
			case eth.String() == own.String() || isProbe6(o.bytes, b):
				// An answer, or the question whether somebody else has an address.
			case legitimate:
				passed++
			default:
				delivered++
				t.Errorf("%x was delivered to %s as %x", b, o.where, o.bytes)
			}
		}
		if delivered > 5 {
			t.FailNow()
		}
	}
	t.Logf("%d of %d frames were forged, %d of those delivered; %d deliveries of the others", forged, sent, delivered, passed)
	if passed < n/100 {
		t.Errorf("%d frames that were not forged came through: too few to say anything", passed)
	}
	if st := s.FDB(); slices.ContainsFunc(st, func(e FDBEntry) bool {
		return e.Port == "a" && e.MAC != mac(1) && e.MAC != mac(2) && e.MAC != mac(3) && e.MAC != mac(4)
	}) {
		t.Errorf("learned: %+v", st)
	}
}

// isProbe6 reports whether a frame is the VTEP's question about the address that
// another frame claims.
func isProbe6(b, claims []byte) bool {
	var f frame.Frame
	f.Attach(make([]byte, frame.Headroom+4096))
	return f.Load(claims) && f.Parse() && f.Info.EtherType == frame.TypeIPv6 && f.Info.L3 != 0 && slices.Equal(b, composeProbe6(&f))
}

// FuzzWhatABoundPortSends holds the way through the switch against the oracle.
func FuzzWhatABoundPortSends(f *testing.F) {
	w := guardtest.NewForger(8, true)
	for range 100 {
		f.Add(w.Frame())
	}
	g := newGuarded(f, nil)
	s := g.segment(SegmentConfig{VNI: 100}, "b")
	var bound []Address
	for _, p := range w.Bound {
		bound = append(bound, Address{fdb.MACOf(p.MAC), p.IP})
	}
	g.attach(s, PortConfig{Name: "a", Bind: BindStatic, Addresses: bound})
	w.Open = false
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 4096 {
			return
		}
		g.t = t
		for _, o := range g.send("a", b) {
			if slices.Equal(o.bytes, b) && (guardtest.Rogue(b) || w.Judge(b) != guardtest.Bound && w.Judge(b) != guardtest.Claims && w.Judge(b) != guardtest.Tries) {
				t.Errorf("%x went to %s", b, o.where)
			}
		}
	})
}
