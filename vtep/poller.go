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
	port   *Port       // nil: the underlay
	worker *worker     // who reads it
	ready  atomic.Bool // readers without a descriptor: something is there
	dead   atomic.Bool // detached; not to be read any more

	failed int  // reads that failed in a row; the worker's, as told
	told   bool // that one failed was logged
}

// notifier is a reader without a descriptor (Fd is -1): it calls wake when it
// becomes readable. The doubles are such readers.
type notifier interface{ Notify(wake func()) }
