//go:build !linux

package underlay

import (
	"errors"
	"fmt"
)

// Open returns an error that is errors.ErrUnsupported: batches of datagrams
// that are polled for exist on Linux only.
func Open(cfg Config) (Endpoint, error) {
	return nil, fmt.Errorf("underlay %s: batched sockets need Linux: %w", cfg.Local, errors.ErrUnsupported)
}
