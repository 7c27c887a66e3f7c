package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// charts are the pictures: a file each, with the measures that name it.
var charts = []struct{ name, title, better string }{
	{"tcp", "TCP throughput, Gbit/s", "more is better"},
	{"udp64", "64-byte UDP without loss, 1000 frames/s", "more is better"},
	{"rtt_p50", "Round trip, median, µs", "less is better"},
	{"rtt_p99", "Round trip, 99th percentile, µs", "less is better"},
	{"cpu", "CPU seconds a Gbit", "less is better"},
	{"memory", "Memory of a host, MiB", "less is better"},
}

// Write writes the result to a folder, as JSON and as pictures, and returns the
// files' names. The folder is made if it is not there.
func (r *Result) Write(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	type file struct {
		name string
		data []byte
	}
	files := []file{{"e2e.json", append(text, '\n')}}
	for _, c := range charts {
		if svg := r.chart(c.name, c.title, c.better); svg != nil {
			files = append(files, file{c.name + ".svg", svg})
		}
	}
	var names []string
	for _, f := range files {
		name := filepath.Join(dir, f.name)
		if err := os.WriteFile(name, f.data, 0o644); err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}

// The measures of a picture, in pixels.
const (
	chartWidth = 760
	chartEdge  = 24
	nameWidth  = 130 // of systems
	textWidth  = 150 // right of a bar: the value and its ratio
	barsWidth  = chartWidth - 2*chartEdge - nameWidth - textWidth
	rowHeight  = 24
	groupGap   = 34
	barHeight  = 16
)

// style has the colours, for a bright page and for a dark one: the kernel is
// grey, since it is what all others are held against.
const style = `<style>
svg { font: 13px system-ui, sans-serif; }
.page { fill: #ffffff; } text { fill: #1f2328; } .faint { fill: #656d76; } .title { font-size: 16px; font-weight: 600; } .group { font-weight: 600; }
.kernel { fill: #8c959f; } .kernel-bridge { fill: #b6bec7; } .ovs { fill: #d4762c; } .uvtep { fill: #1b7fd4; } .uvtep-offload-off { fill: #7fb8e8; }
.range { stroke: #1f2328; stroke-width: 1.5; fill: none; }
@media (prefers-color-scheme: dark) { .page { fill: #0d1117; } text { fill: #e6edf3; } .faint { fill: #8d96a0; } .range { stroke: #e6edf3; } }
</style>
`

// chart draws horizontal bars: a group for each mode and measure, in it a bar
// for each system, with a line from the least sample to the greatest. It is nil
// where there is nothing to draw.
func (r *Result) chart(name, title, better string) []byte {
	var b bytes.Buffer
	y := chartEdge + 44
	most := r.most(name)
	if most == 0 {
		return nil
	}
	for _, mode := range r.modes() {
		for _, m := range measures {
			if m.chart == name {
				y = r.group(&b, y, most, mode, m)
			}
		}
	}
	height := y + chartEdge - groupGap + rowHeight
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">`+"\n", chartWidth, height)
	fmt.Fprintf(&out, "<title>%s</title>\n%s", escape(title), style)
	fmt.Fprintf(&out, `<rect class="page" width="%d" height="%d"/>`+"\n", chartWidth, height)
	label(&out, chartEdge, chartEdge+10, "title", title)
	label(&out, chartEdge, chartEdge+30, "faint", fmt.Sprintf("%s; medians of %s, the line spans all of them; x: ratio to kernel vxlan",
		better, count(r.Settings.Rounds, "round")))
	out.Write(b.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// most is the greatest number of a chart, as it is shown.
func (r *Result) most(chart string) (most float64) {
	for _, v := range r.Values {
		if m := measureOf(v.Measure); m.chart == chart {
			most = max(most, v.Max/m.per)
		}
	}
	return most
}

// group draws one group of bars from y on, and returns where the next one starts.
func (r *Result) group(b *bytes.Buffer, y int, most float64, mode Mode, m measure) int {
	start := y
	for _, s := range r.measured() {
		v, ok := r.value(mode, s.Name, m.id)
		if !ok {
			continue
		}
		if y == start {
			label(b, chartEdge, y+10, "group", fmt.Sprintf("%s, %s", strings.TrimSpace(m.title), mode))
			y += rowHeight
		}
		at := func(value float64) float64 { return chartEdge + nameWidth + barsWidth*value/m.per/most }
		label(b, chartEdge, y+13, "", s.Title)
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n",
			s.Name, chartEdge+nameWidth, y, at(v.Median)-at(0), barHeight)
		if v.Max > v.Min {
			fmt.Fprintf(b, `<path class="range" d="M%.1f %dH%.1f"/>`+"\n", at(v.Min), y+barHeight/2, at(v.Max))
		}
		text := number(v.Median / m.per)
		if ratio := ratioText(v); ratio != "" {
			text += "  (" + ratio + ")"
		}
		label(b, int(at(v.Max))+8, y+13, "", text)
		y += rowHeight
	}
	if y > start {
		y += groupGap - rowHeight
	}
	return y
}

func label(b *bytes.Buffer, x, y int, class, text string) {
	if class != "" {
		class = ` class="` + class + `"`
	}
	fmt.Fprintf(b, `<text x="%d" y="%d"%s>%s</text>`+"\n", x, y, class, escape(text))
}

func escape(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) // a strings.Builder never fails
	return b.String()
}
