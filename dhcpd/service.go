package dhcpd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
	"unique"
)

// Errors of Service and Server.
var (
	ErrSegmentExists = errors.New("the segment has a dhcp service already")
	ErrNoSegment     = errors.New("the segment has no dhcp service")
	ErrNoLease       = errors.New("no such lease")

	ErrReservation = errors.New("not a reservation that can be kept")
	ErrReserved    = errors.New("reserved already")
	ErrConfigured  = errors.New("reserved by the configuration")
)

// refusal is an error of one of the kinds above with a text of its own.
type refusal struct {
	kind error
	text string
}

func refusef(kind error, format string, args ...any) error {
	return &refusal{kind, fmt.Sprintf(format, args...)}
}

func (e *refusal) Error() string        { return e.text }
func (e *refusal) Is(target error) bool { return target == e.kind }

// Config is what a Service needs; Store is required.
type Config struct {
	Store  Store
	Logger *slog.Logger // nil: silent

	// Clock is the wall clock, for what is stored and shown; nil: time.Now.
	Clock func() time.Time
	// Elapsed is a clock that only ever runs forward at its own pace, by which
	// leases end; nil: the time that Clock shows to have passed, which for
	// time.Now is the monotonic one.
	Elapsed func() time.Duration

	// Events, if not nil, is told what happens, by whichever goroutine caused
	// it. It must not wait.
	Events func(Event)
}

// Service is the DHCP service of many segments over one lease store.
type Service struct {
	cfg     Config
	elapsed func() time.Duration
	after   func(time.Duration, func()) *time.Timer // time.AfterFunc, but for tests with a clock of their own

	mu       sync.Mutex // held while segments come and go, never while serving
	servers  map[uint32]*Server
	servers6 map[uint32]*Server6
	watchers map[uint32][]*watcher // by segment, whether it is there or not

	queue
	stats commitStats
	skew  time.Duration // wall clock less running clock, at the last look
}

// NewService makes a service without segments. Nothing is answered by an ACK
// before Run is running.
func NewService(cfg Config) (*Service, error) {
	if cfg.Store == nil {
		return nil, errors.New("dhcp service: no lease store given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	start := cfg.Clock()
	s := &Service{
		cfg: cfg, servers: map[uint32]*Server{}, servers6: map[uint32]*Server6{}, watchers: map[uint32][]*watcher{},
		elapsed: cfg.Elapsed, after: time.AfterFunc,
	}
	if s.elapsed == nil {
		s.elapsed = func() time.Duration { return cfg.Clock().Sub(start) }
	}
	s.queue.wake = make(chan struct{}, 1)
	s.skew = s.offset()
	return s, nil
}

// wall is the wall clock's time, without the monotonic reading.
func (s *Service) wall() time.Time { return s.cfg.Clock().Round(0) }

// zero is when the running clock showed nothing, by the wall clock as it stands
// now.
func (s *Service) zero() time.Time { return s.wall().Add(-s.elapsed()) }

// offset is how far the wall clock is ahead of the running clock, as far as
// the epoch.
func (s *Service) offset() time.Duration {
	return time.Duration(s.wall().UnixNano()) - s.elapsed()
}

// Add starts serving a segment and loads its leases.
func (s *Service) Add(segment uint32, cfg SegmentConfig) (*Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.servers[segment] != nil {
		return nil, fmt.Errorf("segment %d: %w", segment, ErrSegmentExists)
	}
	srv := &Server{svc: s, segment: segment, log: s.cfg.Logger.With("vni", segment)}
	srv.audience = audience[*binding]{s.watchers[segment], srv.aboutLease}
	srv.tally.ports, srv.tally.ended = map[string]*portUse{}, func(b *binding) { srv.note(b, false) }
	if err := srv.apply(cfg); err != nil {
		return nil, err
	}
	if err := srv.load(); err != nil {
		return nil, fmt.Errorf("segment %d: load leases: %w", segment, err)
	}
	s.servers[segment] = srv
	return srv, nil
}

// Remove stops serving a segment. Its leases stay in the store for when it
// comes back; those on their way there are stored, but no longer acknowledged.
func (s *Service) Remove(segment uint32) error {
	s.mu.Lock()
	srv := s.servers[segment]
	delete(s.servers, segment)
	s.mu.Unlock()
	if srv == nil {
		return fmt.Errorf("segment %d: %w", segment, ErrNoSegment)
	}
	srv.close(true)
	return nil
}

// Server is the service of one segment, nil if it has none.
func (s *Service) Server(segment uint32) *Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.servers[segment]
}

// all is every server, by segment.
func (s *Service) all() []*Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bySegment(s.servers)
}

// bySegment is the values of a map in the order of its keys.
func bySegment[T any](m map[uint32]T) []T {
	out := make([]T, 0, len(m))
	for _, segment := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[segment])
	}
	return out
}

// Run is the commit loop. It makes leases durable and releases the replies that
// wait for it, until ctx is done; then it commits what is queued, answers it and
// returns nil. A store that fails does not end it. The store stays open.
func (s *Service) Run(ctx context.Context) error {
	var last time.Time // when the last transaction began
	for {
		select {
		case <-s.wake:
			if wait := gather - time.Since(last); wait > 0 {
				sleep(ctx, wait)
			}
			last = time.Now()
			s.commit()
		case <-ctx.Done():
			s.stop()
			for _, srv := range s.all() {
				srv.close(false)
			}
			for _, srv := range s.all6() {
				srv.close(false)
			}
			s.commit()
			return nil
		}
	}
}

// gather is the least time from one transaction to the next. A client that comes
// alone does not wait; many that come at once share the disk's work, which costs
// more than all else of an answer.
const gather = time.Millisecond

// sleep waits, or returns sooner when ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// load puts the stored leases in their places. What the wall clock did while
// nobody looked cannot be known, so no lease gets more than its whole length
// again, and one that seems to have ended stays its client's until somebody
// else needs the address.
func (s *Server) load() error {
	s.mu.Lock()
	defer s.unlock()
	now, wall := s.svc.elapsed(), s.svc.wall()
	var all []*binding
	err := s.svc.cfg.Store.Load(s.segment, func(l Lease) error {
		b := &binding{
			ip: toU32(l.IP), state: l.State, htype: l.HType, key: l.key(), chaddr: l.CHAddr,
			hostname: l.Hostname, relay: l.Relay, stored: true,
		}
		left := min(l.Expires.Sub(wall), l.Expires.Sub(l.Start))
		b.expires = now + left
		b.start = b.expires - l.Expires.Sub(l.Start)
		if b.key[0] == keyHardware {
			b.chaddr = b.key[2:]
		}
		if l.Port != "" {
			b.place = unique.Make(place{port: l.Port})
		}
		switch {
		case left > 0 && l.State != StateFree:
			s.expiry.set(b)
		case l.State == StateDeclined:
			return nil
		default:
			b.state = StateFree
		}
		b.durable, b.durableStart, b.durableUntil = b.state, b.start, b.expires
		s.tally.add(b)
		all = append(all, b)
		return nil
	})
	if err != nil {
		return err
	}
	s.insertAll(all)
	for _, b := range s.expiry {
		if b.state == StateBound {
			s.note(b, true)
		}
	}
	s.arm()
	return nil
}

// close stops serving. What is queued is still committed and, unless the server
// was removed, answered.
func (s *Server) close(removed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.removed = true, removed
	if s.timer != nil {
		s.timer.Stop()
	}
	s.stopProbes()
	if removed {
		s.audience.close(s.expiry)
	}
}

func hexString(b []byte) string { return hex.EncodeToString(b) }
