// Command testreport runs go test and says at the end what became of the tests:
// what failed, what was skipped and why, and how many there were. Nothing skips
// silently that way, as it does in what go test itself prints.
//
//	testreport RUN...
//
// Each RUN is one word of arguments to go test, and one run of it, one after the
// other: testreport "-count=1 ./..." "-race ./...". The exit status is that of
// the first run that failed, or 1 if no test ran at all.
package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, `usage: testreport RUN..., each RUN the arguments of one go test, such as "-race ./..."`)
		os.Exit(2)
	}
	os.Exit(testAll(os.Stdout, "", os.Args[1:]))
}

// testAll does the runs in the directory dir and returns the exit status.
func testAll(out io.Writer, dir string, runs []string) (status int) {
	r := newReport(out)
	for _, run := range runs {
		r.begin(run)
		err := test(r, dir, run)
		var failed *exec.ExitError
		switch {
		case err == nil:
		case errors.As(err, &failed) && failed.ExitCode() > 0:
			status = cmp.Or(status, failed.ExitCode())
		default:
			fmt.Fprintf(out, "go test %s: %v\n", run, err)
			status = cmp.Or(status, 1)
		}
	}
	r.close()
	if status == 0 && (r.passed == 0 || len(r.failed) > 0) {
		status = 1
	}
	return status
}

func test(r *report, dir, run string) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, strings.Fields(run)...)...)
	cmd.Dir = dir
	cmd.Stderr = r.out
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for lines := bufio.NewReader(stdout); ; {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.line(line)
		}
		if err == io.EOF {
			return cmd.Wait()
		}
		if err != nil {
			return errors.Join(err, cmd.Wait())
		}
	}
}
