// Package netns makes, enters and removes named network namespaces the way
// iproute2 does, without needing iproute2: a name is a bind mount of nsfs under
// [Dir], and Dir is a mount point that other mount namespaces share. What this
// package makes "ip netns" lists and removes, and the other way round.
//
// Wherever a namespace is asked for, it is given by its name or by a path: what
// contains a slash is a path (/proc/PID/ns/net, say).
package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Dir is where names live, as in iproute2.
const Dir = "/run/netns"

// Errors that this package's functions return, to be told apart by errors.Is.
// The text around them says which namespace.
var (
	ErrExists       = errors.New("a network namespace of that name exists")
	ErrNotExist     = errors.New("no such network namespace")
	ErrNotNamespace = errors.New("not a network namespace")
	ErrName         = errors.New("not a name for a network namespace")
	ErrUnsupported  = errors.New("network namespaces are a feature of Linux")
)

// Path is the file by which a namespace is opened.
func Path(nameOrPath string) string {
	if strings.Contains(nameOrPath, "/") {
		return nameOrPath
	}
	return filepath.Join(Dir, nameOrPath)
}

// checkName refuses what cannot be one file in Dir.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q: %w", name, ErrName)
	}
	return nil
}
