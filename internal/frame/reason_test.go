package frame_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
)

var row = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| .+ \\| .+ \\|$")

// docs/drops.md has every reason but the one that is none, in the order of
// this package.
func TestTheDocumentExplainsEveryReason(t *testing.T) {
	text, err := os.ReadFile("../../docs/drops.md")
	if err != nil {
		t.Fatal(err)
	}
	var has, want []string
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		has = append(has, m[1])
	}
	for r := frame.NotDropped + 1; int(r) < frame.Reasons; r++ {
		want = append(want, r.String())
	}
	if !slices.Equal(has, want) {
		t.Errorf("the document has\n%q, want\n%q", has, want)
	}
}
