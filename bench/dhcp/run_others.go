//go:build !linux

package dhcp

import "context"

// Run measures DHCP servers.
func Run(context.Context, Options) (*Result, error) { return nil, ErrUnsupported }
