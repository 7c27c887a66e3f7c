package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	headerTimeout   = 5 * time.Second
	idleTimeout     = time.Minute
	shutdownTimeout = 2 * time.Second
	maxBody         = 1 << 20 // bytes of a request
)

// Handler serves the whole API: for the unix socket, whose mode says who may
// come in.
func Handler(b Backend, version string) http.Handler {
	mux := http.NewServeMux()
	api := newAPI(mux, version)
	registerReads(api, b)
	registerWrites(api, b)
	return http.MaxBytesHandler(mux, maxBody)
}

// ReadOnlyHandler serves what changes nothing, and metrics at /metrics: for a
// TCP port on a loopback address. Every program and every web page of the host
// reaches that one, so that a browser is answered only where it asks for this
// very address (no DNS rebinding) on behalf of a page from there.
func ReadOnlyHandler(r Reader, metrics http.Handler, version string) http.Handler {
	mux := http.NewServeMux()
	registerReads(newAPI(mux, version), r)
	mux.Handle("GET /metrics", metrics)
	return sameOrigin(http.MaxBytesHandler(mux, maxBody))
}

func sameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case !loopbackHost(r.Host):
			http.Error(w, "this API answers to a loopback address or localhost only", http.StatusForbidden)
		case r.Header.Get("Origin") != "" && !originOf(r.Header.Get("Origin"), r.Host),
			site == "cross-site", site == "same-site":
			http.Error(w, "this API answers no page of another origin", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func originOf(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "http" && u.Host == host
}

// loopbackHost tells whether a Host header names this host's loopback.
func loopbackHost(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if name == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.IsLoopback()
}

// ListenTCP opens a TCP port on a loopback address and refuses any other.
func ListenTCP(address string) (net.Listener, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !ap.Addr().IsLoopback() {
		return nil, fmt.Errorf("HTTP address %s: not a loopback address and port such as 127.0.0.1:9479; change api.http", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("HTTP address %s: %w; change api.http (of uvtep up: --http), or set it to \"\"", address, reason(err))
	}
	return l, nil
}

// Serve answers requests on l until ctx is cancelled; it then lets those at work
// finish, closes l and returns nil. It logs who asked by a unix socket for a
// change. Nobody who has connected and asks nothing
// holds that up.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	var mute silent
	srv := &http.Server{
		Handler:           audit(h, log),
		ConnContext:       withCaller,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       idleTimeout,
		ConnState:         mute.note,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		mute.close()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the API on %s: %w", l.Addr(), err)
}

// silent are the connections by which nothing has come yet. A server that shuts
// down waits for them, as if a request were on its way.
type silent struct {
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool // those that come are closed at once
}

// note is what http.Server tells of each connection.
func (s *silent) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(s.conns, c)
	case s.closed:
		c.Close()
	default:
		if s.conns == nil {
			s.conns = map[net.Conn]bool{}
		}
		s.conns[c] = true
	}
}

// close closes them.
func (s *silent) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
}
