package verdict

import (
	"os"
	"strings"
	"testing"
)

// Table is the part of a document between two marks, which a suite writes and
// holds to be right.
type Table struct {
	Document string // a file in Markdown
	By       string // the command that writes it
}

func (tb Table) marks() (begin, end string) {
	return "<!-- table: written by " + tb.By + " -->\n", "<!-- end of table -->\n"
}

// Row is a line of a table in Markdown.
func Row(cells ...string) string {
	escaped := make([]string, len(cells))
	for i, c := range cells {
		escaped[i] = strings.ReplaceAll(c, "|", `\|`)
	}
	return "| " + strings.Join(escaped, " | ") + " |\n"
}

func (tb Table) cut(t testing.TB) (before, table, after string) {
	t.Helper()
	b, err := os.ReadFile(tb.Document)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := tb.marks()
	before, rest, ok := strings.Cut(string(b), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no table between its marks", tb.Document)
	}
	return before + begin, table, end + after
}

// Rows are the lines of the table as it is, its heading aside.
func (tb Table) Rows(t testing.TB) []string {
	t.Helper()
	_, table, _ := tb.cut(t)
	return strings.Split(strings.TrimSpace(table), "\n")[2:]
}

// Hold fails the test for every line of want that the document does not have in
// its place, or writes them there.
func (tb Table) Hold(t testing.TB, want string, write bool) {
	t.Helper()
	before, table, after := tb.cut(t)
	if write {
		if err := os.WriteFile(tb.Document, []byte(before+want+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	was, now := strings.Split(table, "\n"), strings.Split(want, "\n")
	for i, line := range now {
		if i >= len(was) || was[i] != line {
			t.Errorf("not in the table (%s): %s", tb.By, line)
		}
	}
	if len(was) > len(now) {
		t.Errorf("the table is %d lines longer (%s)", len(was)-len(now), tb.By)
	}
}
