package vtep

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/underlay"
)

// How long it is until a group that cannot be joined is tried again: twice as long
// each time.
const (
	rejoinFirst = 2 * time.Second
	rejoinMost  = time.Minute
)

// membership is a segment's in its multicast group. A group that cannot be joined,
// as its interface is not there, say, is tried again for as long as it takes: the
// segment does without meanwhile.
type membership struct {
	group  netip.Addr // the zero Addr = none
	device string     // "" = the underlay's
	remote *underlay.Remote
	err    error // why it has not been joined; nil: it has
	next   fdb.Seconds
	wait   time.Duration // until then
}

// enter joins a group, if it can be joined.
func (s *Segment) enter(group netip.Addr, device string) membership {
	m := membership{group: group, device: device}
	if group.IsValid() {
		s.try(&m)
	}
	return m
}

func (s *Segment) try(m *membership) {
	if m.remote, m.err = s.v.ep.Join(m.group, m.device); m.err == nil {
		return
	}
	m.wait = min(max(2*m.wait, rejoinFirst), rejoinMost)
	m.next = s.v.seconds() + fdb.Seconds(m.wait/time.Second)
}

// leave undoes enter.
func (s *Segment) leave(m membership) error {
	if m.remote == nil {
		return nil
	}
	return s.v.ep.Leave(m.group, m.device)
}

// tellMembership tells of a group that has just been tried for the first time, and
// was not joined.
func (s *Segment) tellMembership() {
	if m := &s.member; m.err != nil {
		s.v.cfg.Logger.Warn("a multicast group cannot be joined; trying again for as long as it takes", "vni", s.vni, "group", m.group, "err", m.err)
		s.tell(Event{Kind: EventGroupFailed, Group: m.group, Detail: m.err.Error()})
	}
}

// rejoin tries again, when it is time.
func (s *Segment) rejoin(now fdb.Seconds) {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	m := &s.member
	if s.closed || m.err == nil || now < m.next {
		return
	}
	if s.try(m); m.err != nil {
		return
	}
	vw := *s.view.Load()
	vw.group = m.remote
	s.view.Store(&vw)
	s.v.cfg.Logger.Info("a multicast group is joined at last", "vni", s.vni, "group", m.group)
	s.tell(Event{Kind: EventGroupJoined, Group: m.group})
}

// GroupError is why the segment's multicast group has not been joined; nil where
// it has, or there is none. It is tried again at intervals.
func (s *Segment) GroupError() error {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if s.member.err == nil {
		return nil
	}
	return fmt.Errorf("segment %v: %w", s.vni, s.member.err)
}
