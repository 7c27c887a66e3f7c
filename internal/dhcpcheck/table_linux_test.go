package dhcpcheck

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/verdict"
)

// program is the binary under test, built once.
var program string

func TestMain(m *testing.M) { os.Exit(nettest.WithProgram(&program, m.Run)) }

// judge runs a check against a server.
func judge(t *testing.T, s server, c *check) (v verdict.Verdict) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case refused:
			if v = (verdict.Verdict{Kind: verdict.Fails, Text: "refused: " + p.why}); c.refusal != nil {
				v = verdict.Try(func() { c.refusal(p.why) })
			}
		default:
			panic(p)
		}
	}()
	var w *world
	if v = verdict.Try(func() { w = s.start(t, &c.in); w.meet() }); v.Kind != verdict.Passes {
		return v
	}
	v = verdict.Try(func() { c.run(w) })
	if v.Kind == verdict.Fails {
		t.Logf("%v\n%s", v, w.log())
	}
	return v
}

// judgeAll runs all checks, some at a time, and returns the verdicts in order.
func judgeAll(t *testing.T, s server, all []check, each func(*testing.T, *check, verdict.Verdict)) []verdict.Verdict {
	verdicts := make([]verdict.Verdict, len(all))
	next := make(chan int)
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			for i := range next {
				t.Run(fmt.Sprint(all[i].line, " ", all[i].title), func(t *testing.T) {
					start := time.Now()
					verdicts[i] = judge(t, s, &all[i])
					t.Logf("%v in %v", verdicts[i], time.Since(start).Round(time.Millisecond))
					if each != nil {
						each(t, &all[i], verdicts[i])
					}
				})
			}
		})
	}
	for _, first := range []bool{true, false} {
		for i := range all {
			if waits := all[i].in.lease != 0; waits == first { // for a lease to run out
				next <- i
			}
		}
	}
	close(next)
	group.Wait()
	return verdicts
}

// ours is this program, with a segment for every check that can share a daemon.
func ours(t *testing.T, all []check) server {
	var shared []*intent
	for i := range all {
		if !all[i].alone {
			shared = append(shared, &all[i].in)
		}
	}
	return newUvtep(t, shared)
}

func TestEveryBehaviourOfTheListHolds(t *testing.T) {
	nettest.Root(t)
	all := checks()
	judgeAll(t, ours(t, all), all, func(t *testing.T, _ *check, v verdict.Verdict) {
		if v.Kind != verdict.Passes {
			t.Errorf("%v", v)
		}
	})
}

var update = flag.Bool("update", false, "write the table into docs/dhcp.md")

var table = verdict.Table{Document: "../../docs/dhcp.md", By: "make dhcp-table"}

// passed counts the checks that a server passes.
func passed(all []verdict.Verdict) string {
	n := 0
	for _, v := range all {
		if v.Kind == verdict.Passes {
			n++
		}
	}
	return fmt.Sprintf("**%d**", n)
}

// The titles of the table are those of the checks, so that none is added,
// renamed or removed without the others being asked again.
func TestTheTableInTheDocsHasEveryCheck(t *testing.T) {
	rows := table.Rows(t)
	all := checks()
	if len(rows) != len(all)+1 { // and the sum
		t.Fatalf("%d rows, %d checks: make dhcp-table", len(rows), len(all))
	}
	for i, c := range all {
		if want := strings.TrimSuffix(verdict.Row(fmt.Sprint(c.line), c.title, "✓", ""), " |\n"); !strings.HasPrefix(rows[i], want) {
			t.Errorf("the table has\n%s\nnot\n%s…: make dhcp-table", rows[i], want)
		}
	}
}

// The versions that the table was made with; others may do otherwise.
const (
	dnsmasqVersion = "dnsmasq 2.90"
	keaVersion     = "Kea 2.2.0"
)

// The column of uvtep is TestEveryBehaviourOfTheListHolds's to hold: all of it passes.
func TestTheTableInTheDocsIsWhatTheServersDo(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "dnsmasq", "kea-dhcp4", "ethtool")
	for want, cmd := range map[string]*exec.Cmd{dnsmasqVersion: exec.Command("dnsmasq", "--version"), keaVersion: exec.Command("kea-dhcp4", "-v")} {
		out, err := cmd.Output()
		if _, number, _ := strings.Cut(want, " "); err != nil || !strings.Contains(string(out), number) {
			nettest.Missing(t, fmt.Sprintf("the table is about %s, not %.40q (%v)", want, out, err))
		}
	}
	all := checks()
	columns := [...][]verdict.Verdict{make([]verdict.Verdict, len(all)), judgeAll(t, dnsmasq{}, all, nil), judgeAll(t, kea{}, all, nil)}
	for i := range columns[0] {
		columns[0][i].Kind = verdict.Passes
	}
	var b strings.Builder
	b.WriteString(verdict.Row("", "behaviour", "uvtep", dnsmasqVersion, keaVersion) + "|---|---|---|---|---|\n")
	for i, c := range all {
		b.WriteString(verdict.Row(fmt.Sprint(c.line), c.title, columns[0][i].String(), columns[1][i].String(), columns[2][i].String()))
	}
	b.WriteString(verdict.Row("", fmt.Sprintf("**✓ of %d**", len(all)), passed(columns[0]), passed(columns[1]), passed(columns[2])))
	table.Hold(t, b.String(), *update)
}
