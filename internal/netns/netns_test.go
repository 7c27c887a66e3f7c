package netns

import (
	"errors"
	"strings"
	"testing"
)

func TestWhatHasASlashIsAPath(t *testing.T) {
	for in, want := range map[string]string{
		"blue":            "/run/netns/blue",
		"/proc/1/ns/net":  "/proc/1/ns/net",
		"./blue":          "./blue",
		"/run/netns/blue": "/run/netns/blue",
	} {
		if got := Path(in); got != want {
			t.Errorf("Path(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestANameIsOneFile(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "a/b", "/", "a\x00b", strings.Repeat("x", 256)} {
		if err := checkName(bad); !errors.Is(err, ErrName) {
			t.Errorf("checkName(%q) = %v, want ErrName", bad, err)
		}
	}
	for _, good := range []string{"a", "...", "uvlab-lab-h1", strings.Repeat("x", 255)} {
		if err := checkName(good); err != nil {
			t.Errorf("checkName(%q) = %v", good, err)
		}
	}
}
