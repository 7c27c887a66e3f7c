//go:build !linux

package guest

import (
	"context"
	"net/netip"
	"time"
)

// Acquire returns ErrUnsupported.
func Acquire(ctx context.Context, ns, ifname string, who Identity) (Lease, error) {
	return Lease{}, ErrUnsupported
}

// Apply returns ErrUnsupported.
func (l Lease) Apply(ns, ifname string) error { return ErrUnsupported }

// Ping returns ErrUnsupported.
func Ping(ctx context.Context, ns string, dst netip.Addr, o PingOptions) (PingResult, error) {
	return PingResult{}, ErrUnsupported
}

// Responder never exists here.
type Responder struct{}

// Listen returns ErrUnsupported.
func Listen(ns, answer string) (*Responder, error) { return nil, ErrUnsupported }

// Close does nothing.
func (r *Responder) Close() error { return nil }

// Ask returns ErrUnsupported.
func Ask(ctx context.Context, ns string, dst netip.Addr, tag Tag, tries int, window time.Duration) ([]Answer, error) {
	return nil, ErrUnsupported
}

// Sniffer never exists here.
type Sniffer struct{}

// Sniff returns ErrUnsupported.
func Sniff(ns, ifname string, own Tag) (*Sniffer, error) { return nil, ErrUnsupported }

// Seen returns nothing.
func (s *Sniffer) Seen() Seen { return Seen{} }

// Close does nothing.
func (s *Sniffer) Close() error { return nil }

// Shout returns ErrUnsupported.
func Shout(ns, ifname string, tag Tag, n int) error { return ErrUnsupported }
