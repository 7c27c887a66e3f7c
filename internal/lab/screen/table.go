package screen

import (
	"fmt"
	"strings"

	"charm.land/lipgloss/v2"
)

// column is a table's column, and how its cells are aligned.
type column struct {
	name  string
	right bool
}

// mostRows is how long a table of a report may be; "uvtep show" has it all.
const mostRows = 24

// short is a table of a report, cut where it is too long.
func short(cols []column, rows [][]string) string {
	const indent = "  "
	if len(rows) <= mostRows {
		return table(indent, cols, rows)
	}
	return table(indent, cols, rows[:mostRows]) + indent + faint.Render(fmt.Sprintf("… %d more", len(rows)-mostRows)) + "\n"
}

// table is rows of cells below a heading, aligned, two blanks apart. Cells may
// be coloured.
func table(indent string, cols []column, rows [][]string) string {
	width := make([]int, len(cols))
	head := make([]string, len(cols))
	for i, c := range cols {
		head[i] = faint.Render(c.name)
		width[i] = lipgloss.Width(head[i])
		for _, row := range rows {
			width[i] = max(width[i], lipgloss.Width(row[i]))
		}
	}
	var b strings.Builder
	for _, row := range append([][]string{head}, rows...) {
		text := indent
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-lipgloss.Width(cell))
			if i > 0 {
				text += "  "
			}
			if cols[i].right {
				text += pad + cell
			} else {
				text += cell + pad
			}
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	return b.String()
}
