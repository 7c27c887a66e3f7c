//go:build !linux

package stream

import (
	"errors"
	"fmt"

	"github.com/uvtep/uvtep/internal/tap"
)

// Open returns an error that is errors.ErrUnsupported: sockets that are polled in
// batches exist on Linux only.
func Open(cfg Config) (tap.Device, error) {
	return nil, fmt.Errorf("stream %s: ports of virtual machines need Linux: %w", cfg.Path, errors.ErrUnsupported)
}
