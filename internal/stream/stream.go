// Package stream is how a virtual machine is attached without a TAP, and so
// without privileges: a Unix socket that QEMU connects to, with -netdev stream,
// and sends its frames through, each behind its length. It touches the operating
// system as package tap does, whose Device it is.
package stream

import (
	"errors"
	"path/filepath"

	"github.com/uvtep/uvtep/internal/frame"
)

// MaxLen is the longest frame that is taken, bytes. The shortest has one byte;
// what is too short for Ethernet is the switch's affair.
const MaxLen = frame.MaxLen

// MaxPath is the longest path of a socket, bytes (unix(7)).
const MaxPath = 107

// Config describes a port.
type Config struct {
	Path string // of the socket; its directory is there
}

// Name is what the port of a socket is called: the last element of its path.
func Name(path string) string { return filepath.Base(path) }

// Errors that Open returns, to be told apart by errors.Is. The text around them
// says which socket and what to do.
var (
	ErrInUse       = errors.New("somebody listens there already")
	ErrNotSocket   = errors.New("a file is there that is no socket")
	ErrNoDirectory = errors.New("its directory is not there")
	ErrPermission  = errors.New("not permitted")
)
