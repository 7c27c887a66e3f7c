//go:build !linux

package netns

import (
	"os"
	"os/exec"
)

// Create returns ErrUnsupported.
func Create(name string) error { return ErrUnsupported }

// Delete returns ErrUnsupported.
func Delete(name string) error { return ErrUnsupported }

// List returns no names.
func List() ([]string, error) { return nil, nil }

// Open returns ErrUnsupported.
func Open(nameOrPath string) (*os.File, error) { return nil, ErrUnsupported }

// Do returns ErrUnsupported and does not call fn.
func Do(nameOrPath string, fn func() error) error { return ErrUnsupported }

// Start returns ErrUnsupported and does not start cmd.
func Start(nameOrPath string, cmd *exec.Cmd) error { return ErrUnsupported }

// Exec returns ErrUnsupported.
func Exec(nameOrPath, path string, argv, env []string) error { return ErrUnsupported }

// PIDs returns ErrUnsupported.
func PIDs(nameOrPath string) ([]int, error) { return nil, ErrUnsupported }
