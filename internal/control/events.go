package control

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uvtep/uvtep/encap"
)

// Event is something that happened. Which of the keys after vni are there
// depends on the kind; later versions add kinds and keys.
type Event struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind" doc:"such as lease_bound, port_up, peer_learned or reloaded"`
	VNI  encap.VNI `json:"vni" doc:"0: the daemon as a whole"`

	IP       *netip.Addr `json:"ip,omitempty" doc:"of a lease, or one that is claimed"`
	Length   uint8       `json:"length,omitempty" doc:"of a delegated prefix, bits"`
	MAC      string      `json:"mac,omitempty"`
	ClientID string      `json:"client_id,omitempty" doc:"option 61 or the DUID, in hexadecimal"`
	IAID     *uint32     `json:"iaid,omitempty"`
	Hostname string      `json:"hostname,omitempty"`
	Expires  *time.Time  `json:"expires,omitempty"`
	Port     string      `json:"port,omitempty"`
	VTEP     *netip.Addr `json:"vtep,omitempty" doc:"remote VTEP that a client is behind"`
	Dst      *netip.Addr `json:"dst,omitempty" doc:"remote VTEP that the event is about"`
	Group    *netip.Addr `json:"group,omitempty" doc:"multicast group"`
	Detail   string      `json:"detail,omitempty"`
	Changes  []string    `json:"changes,omitempty" doc:"of a reload, one line each"`
	Missed   uint64      `json:"missed,omitempty" doc:"events that the reader was too slow for"`
}

// EventMissed is the kind of event that tells a reader how many it was too slow
// for.
const EventMissed = "missed"

// EventFilter is what a reader wants to hear of; the zero value is everything.
type EventFilter struct {
	VNI   encap.VNI // 0: all segments
	Kinds []string  // a kind, or what it begins with, such as lease or port; none: all
}

func (f EventFilter) takes(e *Event) bool {
	if f.VNI != 0 && e.VNI != f.VNI {
		return false
	}
	for _, k := range f.Kinds {
		if e.Kind == k || strings.HasPrefix(e.Kind, k+"_") {
			return true
		}
	}
	return len(f.Kinds) == 0
}

const (
	eventBuffer    = 1024 // events that wait for one reader; what comes then is missed
	maxSubscribers = 64
)

// Hub hands events to readers. It never waits for one: whoever is slow misses
// some, and is told how many.
type Hub struct {
	readers atomic.Int32

	mu     sync.Mutex
	subs   map[*Subscription]bool
	closed bool
}

// Errors of Subscribe and Next.
var (
	ErrTooManyReaders = errors.New("as many readers of events as there may be")
	ErrHubClosed      = errors.New("no more events")
)

// Heard tells whether anybody reads. Whoever makes events may look first.
func (h *Hub) Heard() bool { return h.readers.Load() > 0 }

// Publish hands an event to everybody who wants it.
func (h *Hub) Publish(e Event) {
	if !h.Heard() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		if s.filter.takes(&e) {
			s.put(e)
		}
	}
}

// Subscribe starts to collect what f takes; the subscription must be closed.
func (h *Hub) Subscribe(f EventFilter) (*Subscription, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, ErrHubClosed
	case len(h.subs) >= maxSubscribers:
		return nil, ErrTooManyReaders
	}
	if h.subs == nil {
		h.subs = map[*Subscription]bool{}
	}
	s := &Subscription{hub: h, filter: f, wake: make(chan struct{}, 1)}
	h.subs[s] = true
	h.readers.Add(1)
	return s, nil
}

// Close ends all subscriptions, once their readers have read what there is.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.subs {
		s.end()
	}
}

// Subscription is one reader's share of the events.
type Subscription struct {
	hub    *Hub
	filter EventFilter
	wake   chan struct{}

	mu     sync.Mutex
	queue  []Event
	missed uint64
	ended  bool
}

func (s *Subscription) put(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= eventBuffer {
		s.missed++
		return
	}
	s.queue = append(s.queue, e)
	s.ring()
}

func (s *Subscription) ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.ring()
}

// Next waits for events and returns all that there are. The error is ctx's, or
// ErrHubClosed at the end.
func (s *Subscription) Next(ctx context.Context) ([]Event, error) {
	for {
		s.mu.Lock()
		out := s.queue
		s.queue = nil
		if s.missed > 0 { // then the queue was full
			out = append(out, Event{Time: out[len(out)-1].Time, Kind: EventMissed, VNI: s.filter.VNI, Missed: s.missed})
			s.missed = 0
		}
		ended := s.ended
		s.mu.Unlock()
		if len(out) > 0 {
			return out, nil
		}
		if ended {
			return nil, ErrHubClosed
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.hub.subs[s] {
		delete(s.hub.subs, s)
		s.hub.readers.Add(-1)
	}
}
