//go:build !linux

package e2e

import "context"

// Run returns ErrUnsupported.
func Run(ctx context.Context, o Options) (*Result, error) { return nil, ErrUnsupported }
