package nettest

import (
	"strings"
	"sync"
)

// Log is what a program writes, and can be read while it writes. The zero value
// is empty.
type Log struct {
	mu      sync.Mutex
	text    strings.Builder
	waiting map[string]chan struct{}
}

// Write implements io.Writer.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	for what, wrote := range l.waiting {
		if l.has(what) {
			close(wrote)
			delete(l.waiting, what)
		}
	}
	return len(b), nil
}

// has reports whether a whole line, or several, have these words.
func (l *Log) has(what string) bool {
	_, after, ok := strings.Cut(l.text.String(), what)
	return ok && strings.Contains(after, "\n")
}

// Wrote is closed once what was written, up to the end of its line.
func (l *Log) Wrote(what string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if wrote, ok := l.waiting[what]; ok {
		return wrote
	}
	wrote := make(chan struct{})
	if l.has(what) {
		close(wrote)
		return wrote
	}
	if l.waiting == nil {
		l.waiting = map[string]chan struct{}{}
	}
	l.waiting[what] = wrote
	return wrote
}

// String is all that was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
