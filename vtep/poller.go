package vtep

import (
	"sync/atomic"

	"github.com/uvtep/uvtep/internal/frame"
)

// reader is what a worker reads from: a port's queue or the underlay's.
type reader interface {
	Fd() int
	Read(*frame.Batch) (int, error)
}

// source is one reader at one worker.
type source struct {
	r      reader
	port   *Port       // nil: a trunk's, or the underlay
	trunk  *trunk      // likewise
	worker *worker     // who reads it
	ready  atomic.Bool // readers without a descriptor: something is there
	dead   atomic.Bool // detached; not to be read any more

	failed int  // reads that failed in a row; the worker's, as told
	told   bool // that one failed was logged
}

// vanished takes down what was read from, as it is gone; the underlay never is.
func (s *source) vanished() bool {
	switch {
	case s.port != nil:
		s.port.gone.Store(true)
	case s.trunk != nil:
		s.trunk.vanish()
	default:
		return false
	}
	return true
}

// name says in a log what it is.
func (s *source) name() []any {
	switch {
	case s.port != nil:
		return []any{"vni", s.port.seg.vni, "port", s.port.cfg.Name}
	case s.trunk != nil:
		return []any{"trunk", s.trunk.cfg.Trunk}
	}
	return []any{"from", "tunnel"}
}

// notifier is a reader without a descriptor (Fd is -1): it calls wake when it
// becomes readable. The doubles are such readers.
type notifier interface{ Notify(wake func()) }
