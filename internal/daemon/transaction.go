package daemon

import "log/slog"

// transaction remembers how to undo what was done so far.
type transaction struct {
	undo []func() error
}

// did notes a step; undo may be nil.
func (t *transaction) did(undo func() error) {
	if undo != nil {
		t.undo = append(t.undo, undo)
	}
}

// rollback undoes everything, the last step first, and goes on where a step
// fails.
func (t *transaction) rollback(log *slog.Logger) {
	for i := len(t.undo) - 1; i >= 0; i-- {
		if err := t.undo[i](); err != nil {
			log.Error("a failed reload could not be undone in full", "err", err)
		}
	}
	t.undo = nil
}
