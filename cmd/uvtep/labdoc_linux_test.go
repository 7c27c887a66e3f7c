package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
)

// The commands of docs/lab.md are typed into one shell, in their order. /run is
// empty there, so that they meet no other lab and leave none.
func TestTheCommandsOfTheLabsDocumentDoWhatItSays(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "unshare", "ping")
	text, err := os.ReadFile(filepath.Join(repository, "docs/lab.md"))
	if err != nil {
		t.Fatal(err)
	}
	var typed strings.Builder
	for _, b := range parseDocument("docs/lab.md", string(text)).blocks {
		if b.language == "sh" {
			typed.WriteString(b.text)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const begin = `mount -t tmpfs none /run && exec bash -e -c "$0"`
	cmd := exec.CommandContext(ctx, "unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
		"sh", "-c", begin, typed.String()+"ls /run/netns\n")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, want := range []string{"3 received, 0% packet loss", "2 daemons, 7 namespaces"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q does not stand there:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "\nuvlab-") {
		t.Errorf("namespaces are left:\n%s", out)
	}
	svg, err := os.ReadFile(filepath.Join(cmd.Dir, "lab.svg"))
	if err != nil || !strings.Contains(string(svg), ">g2-v200</text>") {
		t.Errorf("the picture: %v, %s", err, svg)
	}
}
