package conformance

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/verdict"
)

func checks() []check {
	return slices.Concat(outerChecks(), entryChecks(), ecnChecks(), switchChecks(), groupChecks(), mtuChecks(), policyChecks(), neighbourChecks())
}

// job are the checks that one switch can be asked, over one underlay.
type job struct {
	in     intent
	family int
	checks []int
}

// jobs share a switch between the checks with the same intent. Those that wait
// for something to age come first.
func jobs(all []check) (out []*job) {
	for f, u := range families {
		for i, c := range all {
			if c.only != "" && c.only != u.name {
				continue
			}
			n := slices.IndexFunc(out, func(j *job) bool { return j.family == f && j.in == c.in })
			if n < 0 {
				n = len(out)
				out = append(out, &job{in: c.in, family: f})
			}
			out[n].checks = append(out[n].checks, i)
		}
	}
	slices.SortStableFunc(out, func(a, b *job) int { return int(b.in.ageing - a.in.ageing) })
	return out
}

// verdicts are by family.
type verdicts [len(families)]verdict.Verdict

// judge runs all checks against a kind of switch, some switches at a time.
func judge(t *testing.T, kind func() subject, all []check) []verdicts {
	out := make([]verdicts, len(all))
	next := make(chan *job)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for j := range next {
				t.Run(families[j.family].name+" "+all[j.checks[0]].title, func(t *testing.T) {
					var b *bed
					offered := verdict.Try(func() { b = newBed(t, kind(), &j.in, families[j.family]) })
					for _, i := range j.checks {
						v, start := offered, time.Now()
						if b != nil {
							v = verdict.Try(func() { all[i].run(b) })
						}
						out[i][j.family] = v
						t.Logf("%s: %v in %v", all[i].title, v, time.Since(start).Round(time.Millisecond))
					}
				})
			}
		})
	}
	for _, j := range jobs(all) {
		next <- j
	}
	close(next)
	group.Wait()
	return out
}

func TestTheSwitchDoesWhatPeersAndGuestsRelyOn(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ethtool")
	all := checks()
	for i, v := range judge(t, func() subject { return &uvtep{} }, all) {
		for f, u := range families {
			if v[f].Kind != verdict.Passes {
				t.Errorf("%s: %s, over %s: %v", all[i].about, all[i].title, u.name, v[f])
			}
		}
	}
}

var (
	update = flag.Bool("update", false, "write the table into docs/conformance.md")
	table  = verdict.Table{Document: "../../docs/conformance.md", By: "make conformance-table"}
)

// cell is what became of a check over both underlays.
func (c *check) cell(v verdicts) string {
	switch four, six := v[0].String(), v[1].String(); {
	case c.only == families[0].name || four == six:
		return four
	case c.only == families[1].name:
		return six
	default:
		return fmt.Sprintf("IPv4 %s, IPv6 %s", four, six)
	}
}

// kernelOf is the series of Linux that the table is about; another one may do
// otherwise.
const kernelOf = "Linux 6.18"

// The column of uvtep is the other test's to hold: all of it passes.
func TestTheTableInTheDocsIsWhatLinuxDoes(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ethtool", "bridge")
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if _, series, _ := strings.Cut(kernelOf, " "); err != nil || !strings.HasPrefix(string(release), series+".") {
		nettest.Missing(t, fmt.Sprintf("the table is about %s, not %.20s (%v)", kernelOf, release, err))
	}
	all := checks()
	linux := judge(t, func() subject { return &kernel{} }, all)
	var b strings.Builder
	b.WriteString(verdict.Row("", "behaviour", "uvtep", kernelOf+" bridge and vxlan", "where we differ, why") + "|---|---|---|---|---|\n")
	about, passes := "", 0
	for i, c := range all {
		heading := ""
		if c.about != about {
			about, heading = c.about, c.about
		}
		theirs := c.cell(linux[i])
		if differ := !strings.HasPrefix(theirs, "✓"); differ != (c.because != "") {
			t.Errorf("%s: Linux: %s; the reason that is written down: %q", c.title, theirs, c.because)
		} else if !differ {
			passes++
		}
		b.WriteString(verdict.Row(heading, c.title, "✓", theirs, c.because))
	}
	b.WriteString(verdict.Row("", fmt.Sprintf("**✓ of %d**", len(all)), fmt.Sprintf("**%d**", len(all)), fmt.Sprintf("**%d**", passes), ""))
	table.Hold(t, b.String(), *update)
}
