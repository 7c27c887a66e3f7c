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
	srv := &Server{}
	return add(s, s.servers, segment, srv, func() error {
		srv.init(s, segment, srv, "")
		return srv.apply(cfg)
	})
}

// Remove stops serving a segment. Its leases stay in the store for when it
// comes back; those on their way there are stored, but no longer acknowledged.
func (s *Service) Remove(segment uint32) error { return remove(s, s.servers, segment) }

// Server is the service of one segment, nil if it has none.
func (s *Service) Server(segment uint32) *Server { return of(s, s.servers, segment) }

// server is the service of a segment by one of the families.
type server interface {
	comparable
	load() error
	close(removed bool)
}

// add puts a server among those of its family, once it is made and has its leases.
func add[S server](s *Service, to map[uint32]S, segment uint32, srv S, begin func() error) (none S, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if to[segment] != none {
		return none, fmt.Errorf("segment %d: %w", segment, ErrSegmentExists)
	}
	if err := begin(); err != nil {
		return none, err
	}
	if err := srv.load(); err != nil {
		return none, fmt.Errorf("segment %d: load leases: %w", segment, err)
	}
	to[segment] = srv
	return srv, nil
}

func remove[S server](s *Service, from map[uint32]S, segment uint32) error {
	s.mu.Lock()
	srv := from[segment]
	delete(from, segment)
	s.mu.Unlock()
	if srv == *new(S) {
		return fmt.Errorf("segment %d: %w", segment, ErrNoSegment)
	}
	srv.close(true)
	return nil
}

func of[S server](s *Service, all map[uint32]S, segment uint32) S {
	s.mu.Lock()
	defer s.mu.Unlock()
	return all[segment]
}

// running is a server of either family.
type running interface {
	close(removed bool)
	restamp()
}

// each calls do with every server, those of DHCPv4 first, by segment.
func (s *Service) each(do func(running)) {
	s.mu.Lock()
	four, six := bySegment(s.servers), bySegment(s.servers6)
	s.mu.Unlock()
	for _, srv := range four {
		do(srv)
	}
	for _, srv := range six {
		do(srv)
	}
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
			s.each(func(srv running) { srv.close(false) })
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

// load puts the stored leases in their places.
func (s *Server) load() error {
	s.mu.Lock()
	defer s.unlock()
	now, wall := s.svc.elapsed(), s.svc.wall()
	var all []*binding
	err := s.svc.cfg.Store.Load(s.segment, func(l Lease) error {
		b := &binding{ip: toU32(l.IP), htype: l.HType, tenure: tenure{key: l.key()}}
		if !s.restore(b, l, now, wall) {
			return nil
		}
		if b.key[0] == keyHardware {
			b.chaddr = b.key[2:] // the same bytes
		}
		all = append(all, b)
		return nil
	})
	if err != nil {
		return err
	}
	s.insertAll(all)
	s.restored()
	return nil
}

func (s *Server) close(removed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.close(removed)
	s.stopProbes()
}

func hexString(b []byte) string { return hex.EncodeToString(b) }
