//go:build !linux

package lab

import "context"

// Up returns ErrUnsupported.
func Up(ctx context.Context, o Options) (*Lab, error) { return nil, ErrUnsupported }

// Demo returns ErrUnsupported.
func Demo(ctx context.Context, o Options) (*Report, error) { return nil, ErrUnsupported }

// Load returns ErrUnsupported.
func Load(o Options) (*Lab, error) { return nil, ErrUnsupported }

// Down returns ErrUnsupported.
func (l *Lab) Down(ctx context.Context, told func(Step)) error { return ErrUnsupported }

// Exec returns ErrUnsupported.
func (l *Lab) Exec(node string, argv []string) error { return ErrUnsupported }
