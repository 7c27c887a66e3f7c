//go:build !linux

package nic

import (
	"errors"
	"fmt"

	"github.com/uvtep/uvtep/internal/tap"
)

// Open returns an error that is errors.ErrUnsupported: packet sockets exist on
// Linux only.
func Open(cfg Config) (tap.Device, error) {
	return nil, fmt.Errorf("nic %s: ports over an interface need Linux: %w", cfg.Name, errors.ErrUnsupported)
}
