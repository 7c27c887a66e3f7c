package screen

import (
	"strings"

	"charm.land/lipgloss/v2"
)

// column is a table's column, and how its cells are aligned.
type column struct {
	name  string
	right bool
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
