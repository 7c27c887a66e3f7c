package control

import (
	"context"
	"log/slog"
	"net"
	"net/http"
)

// caller is the process at the other end of a unix socket, as it was when it
// connected.
type caller struct {
	uid uint32
	pid int32
}

type callerKey struct{}

// withCaller is http.Server's ConnContext: requests carry who sent them.
func withCaller(ctx context.Context, conn net.Conn) context.Context {
	who, ok := callerOf(conn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, who)
}

// audit logs who asked for a change, and what came of it.
func audit(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, known := r.Context().Value(callerKey{}).(caller)
		if !known || r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(s, r)
		log.Info("asked for a change", "uid", who.uid, "pid", who.pid, "method", r.Method, "path", r.URL.EscapedPath(), "status", s.status)
	})
}

// statusWriter remembers how a request was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
