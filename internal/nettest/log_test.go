package nettest_test

import (
	"io"
	"testing"

	"github.com/uvtep/uvtep/internal/nettest"
)

func TestALogTellsWhenALineWithSomeWordsIsWhole(t *testing.T) {
	var l nettest.Log
	wrote := l.Wrote("ready")
	for _, part := range []string{"starting\n", "msg=rea", "dy port=4789"} {
		io.WriteString(&l, part)
		select {
		case <-wrote:
			t.Fatalf("told after %q", l.String())
		default:
		}
	}
	io.WriteString(&l, "\n")
	<-wrote
	<-l.Wrote("starting") // what was there before
	if l.String() != "starting\nmsg=ready port=4789\n" {
		t.Errorf("%q", l.String())
	}
}
