package e2e

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
)

var (
	faint = lipgloss.NewStyle().Faint(true)
	bold  = lipgloss.NewStyle().Bold(true)
	good  = lipgloss.NewStyle().Foreground(lipgloss.Green)
)

// Err is why uvtep itself, with whatever settings, could not be measured; nil if
// it was.
func (r *Result) Err() error {
	for _, s := range r.Systems {
		if s.Missing != "" && strings.HasPrefix(s.Name, "uvtep") {
			return fmt.Errorf("%s could not be measured: %s", s.Title, s.Missing)
		}
	}
	return nil
}

// value is what was measured, if it was.
func (r *Result) value(m Mode, system, measure string) (Value, bool) {
	i := slices.IndexFunc(r.Values, func(v Value) bool {
		return v.Mode == m && v.System == system && v.Measure == measure
	})
	if i < 0 {
		return Value{}, false
	}
	return r.Values[i], true
}

// modes are those of which there is something.
func (r *Result) modes() []Mode {
	return slices.DeleteFunc(Modes(), func(m Mode) bool {
		return !slices.ContainsFunc(r.Values, func(v Value) bool { return v.Mode == m })
	})
}

// measured are the systems of which there is something.
func (r *Result) measured() []System {
	return slices.DeleteFunc(slices.Clone(r.Systems), func(s System) bool {
		return !slices.ContainsFunc(r.Values, func(v Value) bool { return v.System == s.Name })
	})
}

// Table is the result for people. It has escape sequences for colours.
func (r *Result) Table() string {
	var b strings.Builder
	for _, m := range r.modes() {
		fmt.Fprintf(&b, "\n%s  %s\n", bold.Render(string(m)), faint.Render(m.about()))
		b.WriteString(r.modeTable(m))
	}
	b.WriteString("\n")
	for _, line := range r.legend() {
		b.WriteString(faint.Render(line) + "\n")
	}
	return b.String()
}

func (r *Result) modeTable(mode Mode) string {
	systems := r.measured()
	head := []string{"", ""}
	for _, s := range systems {
		head = append(head, faint.Render(s.Title), "", "")
	}
	rows := [][]string{head}
	for _, m := range measures {
		row, any := []string{m.title, faint.Render(m.shown)}, false
		for _, s := range systems {
			v, ok := r.value(mode, s.Name, m.id)
			if !ok {
				row = append(row, "–", "", "")
				continue
			}
			any = true
			row = append(row, number(v.Median/m.per), faint.Render(spreadText(v)), ratioText(v))
		}
		if any {
			rows = append(rows, row)
		}
	}
	return aligned(rows)
}

// spreadText is nothing where there is only one sample.
func spreadText(v Value) string {
	if len(v.Samples) < 2 {
		return ""
	}
	return fmt.Sprintf("±%.0f%%", 100*v.spread())
}

func ratioText(v Value) string {
	if v.Ratio == nil || v.System == Kernel {
		return ""
	}
	return number(*v.Ratio) + "x"
}

// aligned is rows in columns: what is measured and its unit, then for each
// system a value, its spread and its ratio, below the system's title.
func aligned(rows [][]string) string {
	width := make([]int, len(rows[0]))
	for _, row := range rows[1:] {
		for i, cell := range row {
			width[i] = max(width[i], lipgloss.Width(cell))
		}
	}
	for i := 2; i < len(width); i += 3 {
		width[i] = max(width[i], lipgloss.Width(rows[0][i])-width[i+1]-width[i+2]-gaps(width[i+1:i+3]))
	}
	var b strings.Builder
	for n, row := range rows {
		text := "  " + pad(row[0], width[0]) + "  " + pad(row[1], width[1])
		for i := 2; i < len(row); i += 3 {
			text += "   "
			if n == 0 {
				text += padLeft(row[i], width[i]+width[i+1]+width[i+2]+gaps(width[i+1:i+3]))
				continue
			}
			text += padLeft(row[i], width[i])
			for j := i + 1; j < i+3; j++ {
				if width[j] > 0 {
					text += " " + padLeft(row[j], width[j])
				}
			}
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	return b.String()
}

// gaps is the number of blanks in front of columns that are not empty.
func gaps(width []int) (n int) {
	for _, w := range width {
		if w > 0 {
			n++
		}
	}
	return n
}

func pad(s string, width int) string { return s + strings.Repeat(" ", max(0, width-lipgloss.Width(s))) }
func padLeft(s string, width int) string {
	return strings.Repeat(" ", max(0, width-lipgloss.Width(s))) + s
}

// number has three digits that mean something, and no exponent.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.9995:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// legend says what the figures mean and how they came about.
func (r *Result) legend() []string {
	s := r.Settings
	lines := []string{fmt.Sprintf("Medians of %s; ±: half their range; x: ratio to kernel vxlan.", count(s.Rounds, "round"))}
	for _, sys := range r.Systems {
		if sys.Missing != "" {
			lines = append(lines, fmt.Sprintf("%s: not measured: %s", sys.Title, sys.Missing))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", sys.Title, sys.Version, sys.About))
	}
	return append(lines,
		fmt.Sprintf("TCP by %s, %s each; guests' MTU is %d.", s.TCP, seconds(s.Time), s.MTU),
		fmt.Sprintf("%d-byte UDP by %s: the highest rate with at most %g %% loss,", s.Frame, s.UDP, 100*s.Loss),
		fmt.Sprintf("in trials of %s; one thread sends, and may be the limit.", seconds(s.Trial)),
		"CPU is the whole machine's, generators and others at work included.",
		fmt.Sprintf("%s, %s,", r.Machine.About, count(r.Machine.Cores, "core")),
		fmt.Sprintf("Linux %s, load %.1f before the run, which took %s.", r.Machine.Kernel, r.Machine.Load, seconds(r.Took)),
	)
}

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d > time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// line sums up one measurement of all systems.
func line(systems []System, of map[string]sample, m measure) string {
	var words []string
	for _, s := range systems {
		if v, ok := of[s.Name].values[m.id]; ok {
			words = append(words, s.Name+" "+number(v/m.per))
		}
	}
	return cmp.Or(strings.Join(words, "  "), "nothing") + " " + m.shown
}
