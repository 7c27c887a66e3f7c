package lab

import (
	"errors"
	"fmt"
	"strings"

	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/lab/guest"
)

// What a demo run can find wrong, to be told apart by errors.Is.
var (
	ErrWrongLease  = errors.New("a guest got a lease that is not its own")
	ErrUnreachable = errors.New("guests of one segment do not reach each other")
	ErrLeak        = errors.New("a frame crossed from one segment into another")
	ErrLoop        = errors.New("frames arrive more than once")
	ErrBlind       = errors.New("not every frame could be looked at")
	ErrFDB         = errors.New("a forwarding table is wrong")
)

// Report is what a demo run found, all of it as it should be.
type Report struct {
	Lab   *Lab      // its guests have their leases
	Pings []Ping    // see Everyone
	Seen  []Arrived // one a guest
	FDBs  []HostFDB // one a host
}

// Everyone says whether every guest pinged every other one of its segment. In a
// large lab it is the next few of them.
func (r *Report) Everyone() bool {
	of := len(r.Lab.of(r.Lab.VNIs[0]))
	return len(r.Pings) == len(r.Lab.Guests)*(of-1)
}

// Ping is what one guest measured to another.
type Ping struct {
	From, To *Guest
	guest.PingResult
}

// Arrived is what a guest's interface got, from before its first DHCP message to
// the end.
type Arrived struct {
	Guest *Guest
	guest.Seen
}

// HostFDB is the forwarding database of a host, as its daemon tells it.
type HostFDB struct {
	Host    *Host
	Entries []control.FDBEntry
}

// pair is two guests of one segment.
type pair struct{ from, to *Guest }

// mostPairs bounds the pairs that talk. What the kernel knows of neighbours is
// one table for all namespaces, of 1,024 entries; each pair makes up to two, and
// those of a lab before this one may linger.
const mostPairs = 200

// pairs is every guest with every other one of its segment; in a large lab with
// the next few of them, and with one at least.
func (l *Lab) pairs() []pair {
	most := max(1, mostPairs/len(l.Guests))
	var all []pair
	for _, vni := range l.VNIs {
		guests := l.of(vni)
		for i, from := range guests {
			for n := 1; n < len(guests) && n <= most; n++ {
				all = append(all, pair{from, guests[(i+n)%len(guests)]})
			}
		}
	}
	return all
}

// checkLease says whether a guest got what its own segment's server keeps for
// it. The host name tells the segments apart: all else is the same in each.
func (l *Lab) checkLease(g *Guest) error {
	switch want := l.reserved(g.Index); {
	case g.Lease.Hostname != g.Name:
		return fmt.Errorf("%w: %s got the lease of %s", ErrWrongLease, g.Name, g.Lease.Hostname)
	case g.Lease.Address.Addr() != want || g.Lease.Address.Bits() != l.Subnet.Bits():
		return fmt.Errorf("%w: %s got %s, and %s is reserved for it", ErrWrongLease, g.Name, g.Lease.Address, want)
	case g.Lease.Server != l.server():
		return fmt.Errorf("%w: %s got it from %s, and the server is %s", ErrWrongLease, g.Name, g.Lease.Server, l.server())
	}
	return nil
}

// check says whether the pings came back, and once each.
func (p Ping) check() error {
	switch {
	case p.Received == 0:
		return fmt.Errorf("%w: %s gets no answer from %s at %s (%d pings)",
			ErrUnreachable, p.From.Name, p.To.Name, p.To.Lease.Address.Addr(), p.Sent)
	case p.Duplicates > 0:
		return fmt.Errorf("%w: of %d pings from %s to %s, %d are answered twice", ErrLoop, p.Sent, p.From.Name, p.To.Name, p.Duplicates)
	}
	return nil
}

// checkAnswers says whether the one who was asked for their name is the one who
// answered, and nobody else.
func (p pair) checkAnswers(answers []guest.Answer) error {
	addr := p.to.Lease.Address.Addr()
	if len(answers) == 0 {
		return fmt.Errorf("%w: %s asks who is %s, and %s does not answer", ErrUnreachable, p.from.Name, addr, p.to.Name)
	}
	var names []string
	stranger := false
	for _, a := range answers {
		names = append(names, a.Text)
		stranger = stranger || a.Text != p.to.Name
	}
	switch {
	case stranger:
		return fmt.Errorf("%w: %s asks who is %s, and hears %s", ErrLeak, p.from.Name, addr, strings.Join(names, " and "))
	case len(answers) > 1:
		return fmt.Errorf("%w: %s asks who is %s once, and hears it from %s %d times", ErrLoop, p.from.Name, addr, p.to.Name, len(answers))
	}
	return nil
}

// checkOrigin says whether all that arrived was sent in the guest's segment.
func (a Arrived) checkOrigin(run uint32) error {
	switch {
	case a.Foreign > 0 && a.Culprit.Run != run:
		return fmt.Errorf("%w: %s got a frame of another lab", ErrLeak, a.Guest.Name)
	case a.Foreign > 0:
		return fmt.Errorf("%w: %s, in VNI %d, got %s of VNI %d",
			ErrLeak, a.Guest.Name, a.Guest.VNI, count(int(a.Foreign), "frame"), a.Culprit.VNI)
	case a.Lost > 0:
		return fmt.Errorf("%w: %s went by at %s", ErrBlind, count(int(a.Lost), "frame"), a.Guest.Name)
	}
	return nil
}

// checkBroadcasts says whether the guest heard each broadcast of its segment
// once.
func (a Arrived) checkBroadcasts(sent uint64) error {
	switch {
	case a.Broadcast < sent:
		return fmt.Errorf("%w: %s heard %d of %d broadcasts", ErrUnreachable, a.Guest.Name, a.Broadcast, sent)
	case a.Broadcast > sent:
		return fmt.Errorf("%w: %s heard %d broadcasts, and %d were sent", ErrLoop, a.Guest.Name, a.Broadcast, sent)
	}
	return nil
}

// checkFDB says whether a host knows every guest where it is.
func (l *Lab) checkFDB(f HostFDB) error {
	for _, g := range l.Guests {
		want := "port " + g.Tap
		if g.Host != f.Host.Name {
			want = "VTEP " + l.hostOf(g).Underlay.Addr().String()
		}
		got := "nowhere"
		for _, e := range f.Entries {
			if uint32(e.VNI) == g.VNI && e.MAC.String() == g.MAC {
				got = Behind(e)
			}
		}
		if got != want {
			return fmt.Errorf("%w: %s has %s of %s in VNI %d at %s, not at %s", ErrFDB, f.Host.Name, g.MAC, g.Name, g.VNI, got, want)
		}
	}
	return nil
}

// Behind is where an entry of a forwarding database points, in words.
func Behind(e control.FDBEntry) string {
	switch {
	case e.Ifname != nil:
		return "port " + *e.Ifname
	case e.Dst != nil:
		return "VTEP " + e.Dst.String()
	}
	return "the segment itself"
}

// Summarize adds up pings.
func Summarize(pings []Ping) guest.PingResult {
	var all guest.PingResult
	for _, p := range pings {
		if all.Received == 0 || p.Min < all.Min {
			all.Min = p.Min
		}
		all.Max = max(all.Max, p.Max)
		all.Sum += p.Sum
		all.Sent += p.Sent
		all.Received += p.Received
		all.Duplicates += p.Duplicates
	}
	return all
}
