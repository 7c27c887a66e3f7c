//go:build !linux

package tap

import (
	"errors"
	"fmt"
)

// Open returns an error that is errors.ErrUnsupported: TAP devices that are
// moved, enslaved and polled in batches exist on Linux only.
func Open(cfg Config) (Device, error) {
	return nil, fmt.Errorf("tap %s: TAP devices need Linux: %w", cfg.Name, errors.ErrUnsupported)
}
