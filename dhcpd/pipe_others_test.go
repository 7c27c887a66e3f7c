//go:build !windows

package dhcpd_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/uvtep/uvtep/dhcpd"
)

func TestAPipeInTheStoresPlaceIsRefusedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	must(t, syscall.Mkfifo(path, 0o600))
	if _, err := dhcpd.OpenBolt(path); !errors.Is(err, dhcpd.ErrStoreDamaged) {
		t.Errorf("error %v, want that it is no store", err)
	}
}
