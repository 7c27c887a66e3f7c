package nettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// WithProgram builds this repository's program as it is shipped, with more flags
// of go build, says in program where it is, and calls run: a TestMain's m.Run. It
// returns what run returned, or 1 where the program cannot be built. Whoever may
// run anything may run it.
func WithProgram(program *string, run func() int, flags ...string) int {
	dir, err := os.MkdirTemp("", "uvtep-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		*program, err = filepath.Join(dir, "uvtep"), Build(dir, flags...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run()
}

// Build builds the program, as uvtep in a directory.
func Build(dir string, flags ...string) error {
	args := slices.Concat([]string{"build", "-buildvcs=false", "-o", filepath.Join(dir, "uvtep")}, flags, []string{"github.com/uvtep/uvtep/cmd/uvtep"})
	build := exec.Command("go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build uvtep: %w\n%s", err, out)
	}
	return nil
}
