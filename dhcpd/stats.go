package dhcpd

import (
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// LatencyBounds are the upper bounds, in seconds, of the buckets of Latency;
// there is one more bucket for what took longer.
var LatencyBounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5}

// Latency is a histogram. Counts are of each bucket alone, not cumulative.
type Latency struct {
	Counts [len(LatencyBounds) + 1]uint64
	Sum    time.Duration
}

func (l *Latency) add(d time.Duration) {
	i, sec := 0, d.Seconds()
	for i < len(LatencyBounds) && sec > LatencyBounds[i] {
		i++
	}
	l.Counts[i]++
	l.Sum += d
}

// CommitStats is what the commit loop did.
type CommitStats struct {
	Commits  uint64  // transactions that succeeded
	Failures uint64  // transactions that did not
	Changes  uint64  // changes in those that succeeded
	Store    Latency // of a transaction
	Answers  Latency // of an ACK, from the request to its release
	Queued   int     // changes that wait now
}

type commitStats struct {
	mu sync.Mutex
	CommitStats
}

func (c *commitStats) add(d time.Duration, changes int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Store.add(d)
	if err != nil {
		c.Failures++
		return
	}
	c.Commits++
	c.Changes += uint64(changes)
}

func (c *commitStats) answered(d time.Duration) {
	c.mu.Lock()
	c.Answers.add(d)
	c.mu.Unlock()
}

// Stats is what the commit loop did since the service was made.
func (s *Service) Stats() CommitStats {
	s.stats.mu.Lock()
	out := s.stats.CommitStats
	s.stats.mu.Unlock()
	s.qmu.Lock()
	out.Queued = len(s.jobs)
	s.qmu.Unlock()
	return out
}

// MessageTypes is the length of an array indexed by message type: of DHCPv4
// (option 53), 1 (DISCOVER) to 8 (INFORM) and 0 for BOOTP, or of DHCPv6, 1 (SOLICIT) to 11
// (INFORMATION-REQUEST).
const MessageTypes = int(dhcpv6.MessageTypeInformationRequest) + 1

// Stats is what a segment's service did and how full it is.
type Stats struct {
	In, Out  [MessageTypes]uint64 // messages taken and sent, by type
	Outcomes [Outcomes]uint64

	Pool     int // addresses that any client may get
	Used     int // of those: bound, offered or declined
	Bound    int // leases, reservations included
	Offered  int
	Declined int
	Reserved int // reservations with an address

	Probes         uint64 // addresses that the segment was asked about
	ProbeConflicts uint64 // of those: claimed by somebody
	ProbesSkipped  uint64 // offers that went out unasked, too many waiting already
}

// Stats is a snapshot. It costs the same whatever the number of leases.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	out := s.common()
	out.Probes, out.ProbeConflicts, out.ProbesSkipped = s.probes.sent, s.probes.conflicts, s.probes.skipped
	for _, n := range s.nets {
		out.Pool += n.pool()
		out.Used += n.used()
		out.Reserved += len(n.hostIP)
	}
	return out
}
