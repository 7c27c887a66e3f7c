// Package nettest gives tests network namespaces of their own: made with a
// unique name, entered on threads that are thrown away, and checked for what
// the test left behind. Only tests import it.
package nettest

import (
	"os"
	"os/exec"
	"testing"
)

// Root ends the test unless it runs as root on Linux with iproute2 there. In CI
// (CI=true) that is a failure; elsewhere the test is skipped.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "this test makes network namespaces and needs root")
	}
	Need(t, "ip")
}

// Need ends the test unless all programs are installed. In CI (CI=true) that is
// a failure; elsewhere the test is skipped.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Missing(t, "this test needs the program "+p)
		}
	}
}

// Missing ends a test for want of what it needs. In CI (CI=true) that is a
// failure; elsewhere the test is skipped.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
