// Package screen is what people see of a lab: its progress, in place on a
// terminal and a line a step elsewhere, and what was found. Colour is for
// terminals, and not with NO_COLOR.
package screen

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/term"

	"github.com/uvtep/uvtep/internal/lab"
)

// frameTime is how often a step's line is drawn anew while it goes on.
const frameTime = 80 * time.Millisecond

var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// Colours are the terminal's own sixteen, so that they suit its background.
var (
	good  = lipgloss.NewStyle().Foreground(lipgloss.Green)
	bad   = lipgloss.NewStyle().Foreground(lipgloss.Red)
	faint = lipgloss.NewStyle().Faint(true)
	bold  = lipgloss.NewStyle().Bold(true)
	// hues tell segments apart.
	hues = []lipgloss.Style{
		lipgloss.NewStyle().Foreground(lipgloss.Cyan),
		lipgloss.NewStyle().Foreground(lipgloss.Magenta),
		lipgloss.NewStyle().Foreground(lipgloss.Yellow),
		lipgloss.NewStyle().Foreground(lipgloss.Blue),
	}
)

// Screen writes for people. Its methods may be called from any goroutine; Close
// ends it.
type Screen struct {
	w    *colorprofile.Writer
	live bool       // a terminal, whose lines can be drawn over
	cols func() int // how wide it is
	stop func()     // ends the drawing

	mu      sync.Mutex
	current *lab.Step // that goes on
	since   time.Time // when it began
	err     error     // of the first write that failed
}

// New makes a screen of a file; env is the environment's NAME=value.
func New(out io.Writer, env []string) *Screen {
	s := &Screen{w: colorprofile.NewWriter(out, env), stop: func() {}}
	if f, ok := out.(*os.File); ok && term.IsTerminal(f.Fd()) && s.w.Profile != colorprofile.NoTTY {
		s.live = true
		s.cols = func() int {
			cols, _, err := term.GetSize(f.Fd())
			if err != nil || cols < 1 {
				cols = 80
			}
			return cols
		}
		s.animate()
	}
	return s
}

// animate draws the current step again and again.
func (s *Screen) animate() {
	quit, done := make(chan struct{}), make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(quit); <-done })
	go func() {
		defer close(done)
		t := time.NewTicker(frameTime)
		defer t.Stop()
		for {
			select {
			case <-quit:
				return
			case <-t.C:
				s.mu.Lock()
				s.draw()
				s.mu.Unlock()
			}
		}
	}()
}

// Close ends the drawing and returns the error of the first write that failed.
func (s *Screen) Close() error {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Screen) print(text string) {
	if s.err == nil {
		_, s.err = io.WriteString(s.w, text)
	}
}

func (s *Screen) printf(format string, a ...any) { s.print(fmt.Sprintf(format, a...)) }

// Step shows a step of work: it suits lab.Options.Progress.
func (s *Screen) Step(step lab.Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !step.Done {
		s.current, s.since = &step, time.Now().Add(-step.Took)
		s.draw()
		return
	}
	s.current = nil
	if s.live {
		s.print("\r\x1b[K")
	}
	mark := good.Render("✓")
	if step.Failed {
		mark = bad.Render("✗")
	}
	s.print(line(mark, step, step.Took) + "\n")
}

// draw shows the step that goes on, over what was shown of it before.
func (s *Screen) draw() {
	if !s.live || s.current == nil {
		return
	}
	took := time.Since(s.since)
	mark := faint.Render(spinner[int(took/frameTime)%len(spinner)])
	s.print("\r\x1b[K" + lipgloss.NewStyle().MaxWidth(s.cols()-1).Render(line(mark, *s.current, took)))
}

// line is a step in one line; its detail starts at column 38, and has room for 41.
func line(mark string, step lab.Step, took time.Duration) string {
	clock := faint.Render(fmt.Sprintf("%7s", elapsed(took)))
	if step.Detail == "" {
		return fmt.Sprintf("  %s  %s  %s", mark, clock, step.Name)
	}
	return fmt.Sprintf("  %s  %s  %-21s  %s", mark, clock, step.Name, faint.Render(step.Detail))
}

// elapsed is how long a step took: 84 ms, 1.25 s.
func elapsed(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
