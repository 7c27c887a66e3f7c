package lab

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Step is a piece of work, as it is told to Options.Progress: once as it
// begins, any number of times while it goes on, and once when it is done.
type Step struct {
	Name   string
	Detail string        // how far it has come, or what it made
	Took   time.Duration // since it began
	Done   bool
	Failed bool // done, and in vain
}

// takeDown is a step that several kinds of work end with.
const takeDown = "take all of it down"

// progress tells of steps, one call at a time.
type progress struct {
	mu   sync.Mutex
	tell func(Step) // nil = nobody listens
}

// step does a piece of work, and tells as it begins, goes on and ends. The work
// tells by say how far it has come, from any goroutine; what it says last stays.
func (p *progress) step(ctx context.Context, name string, work func(ctx context.Context, say func(format string, a ...any)) error) error {
	start, detail := time.Now(), ""
	say := func(done, failed bool) {
		if p.tell != nil {
			p.tell(Step{Name: name, Detail: detail, Took: time.Since(start), Done: done, Failed: failed})
		}
	}
	say(false, false)
	err := work(ctx, func(format string, a ...any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		detail = fmt.Sprintf(format, a...)
		say(false, false)
	})
	say(true, err != nil)
	return err
}
