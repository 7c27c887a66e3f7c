// Package verdict is what suites of black-box checks have in common: how a check
// ends, and the table of a document that tells what became of all of them. Only
// tests import it.
package verdict

import (
	"fmt"
	"strings"
)

// Kind says how a check ended.
type Kind uint8

const (
	Passes Kind = iota
	Fails
	NotOffered // the program has no words for what the check is about
)

// Verdict is what became of a check. Text says what happened instead, why it
// cannot be asked for, or what it takes.
type Verdict struct {
	Kind Kind
	Text string
}

// String is the verdict as a table has it.
func (v Verdict) String() string {
	switch v.Kind {
	case Passes:
		return strings.TrimSpace("✓ " + v.Text)
	case Fails:
		return "✗ " + v.Text
	}
	return "– " + v.Text
}

// ended is panicked with to end a check from within.
type ended struct{ Verdict }

// Try runs a check, or a part of one, and says how it ended.
func Try(run func()) (v Verdict) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case ended:
			v = p.Verdict
		default:
			panic(p)
		}
	}()
	run()
	return Verdict{}
}

// Fail ends a check that fails; the text says what happened instead.
func Fail(format string, args ...any) {
	panic(ended{Verdict{Fails, fmt.Sprintf(format, args...)}})
}

// Done ends a check that passes, with a word on what it takes.
func Done(what string) { panic(ended{Verdict{Passes, what}}) }

// Cannot ends a check that the program has no words for, and says why.
func Cannot(format string, args ...any) {
	panic(ended{Verdict{NotOffered, fmt.Sprintf(format, args...)}})
}
