package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/term"
)

const (
	redraw   = 100 * time.Millisecond
	barWidth = 24
)

// Screen shows people how a run goes: on a terminal a bar that moves, and above
// it, as elsewhere, a line for each measurement. Its methods may be called from
// any goroutine; Close ends it.
type Screen struct {
	w    *colorprofile.Writer
	cols func() int // how wide the terminal is; nil = it is none
	stop func()     // ends the drawing

	mu    sync.Mutex
	start time.Time
	last  Event
	err   error // of the first write that failed
}

// NewScreen makes a screen of a file; env is the environment's NAME=value.
func NewScreen(out io.Writer, env []string) *Screen {
	s := &Screen{w: colorprofile.NewWriter(out, env), stop: func() {}, start: time.Now()}
	if f, ok := out.(*os.File); ok && term.IsTerminal(f.Fd()) && s.w.Profile != colorprofile.NoTTY {
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

// Live tells whether the screen is a terminal, where progress can be watched.
func (s *Screen) Live() bool { return s.cols != nil }

// animate draws the bar again and again, so that its clock goes.
func (s *Screen) animate() {
	quit, done := make(chan struct{}), make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(quit); <-done })
	go func() {
		defer close(done)
		t := time.NewTicker(redraw)
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

// Event shows how far the run has come: it suits Options.Progress.
func (s *Screen) Event(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Line != "" {
		s.wipe()
		s.print(e.Line + "\n")
	}
	s.last = e
	s.draw()
}

// Report shows what was found, and which files have it too.
func (s *Screen) Report(r *Result, files []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.print(r.Table())
	if len(files) > 0 {
		var names []string
		for _, f := range files {
			names = append(names, filepath.Base(f))
		}
		s.print("\n" + good.Render("✓") + " in " + filepath.Dir(files[0]) + ": " + strings.Join(names, ", ") + "\n")
	}
}

// Close ends the drawing and returns the error of the first write that failed.
func (s *Screen) Close() error {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	return s.err
}

func (s *Screen) clear() {
	s.wipe()
	s.last = Event{}
}

func (s *Screen) wipe() {
	if s.cols != nil && s.last != (Event{}) {
		s.print("\r\x1b[K")
	}
}

func (s *Screen) draw() {
	if s.cols != nil && s.last != (Event{}) {
		s.print("\r\x1b[K" + lipgloss.NewStyle().MaxWidth(s.cols()-1).Render(bar(s.last, time.Since(s.start))))
	}
}

func (s *Screen) print(text string) {
	if s.err == nil {
		_, s.err = io.WriteString(s.w, text)
	}
}

// bar is a progress bar, what goes on, and how long it will take yet.
func bar(e Event, since time.Duration) string {
	full := min(barWidth, int(e.Share*barWidth))
	left := ""
	if e.Share > 0.02 {
		rest := time.Duration(float64(since) * (1 - e.Share) / e.Share)
		left = fmt.Sprintf("about %d:%02d left", int(rest.Minutes()), int(rest.Seconds())%60)
	}
	return fmt.Sprintf("%s%s %3.0f %%  %s  %s", good.Render(strings.Repeat("█", full)),
		faint.Render(strings.Repeat("░", barWidth-full)), 100*e.Share, e.Text, faint.Render(left))
}
