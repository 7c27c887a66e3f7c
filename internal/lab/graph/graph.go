// Package graph draws a lab as an SVG: its underlay, the hosts that hang on it,
// and each host's guests in the colours of their segments.
package graph

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"

	"github.com/uvtep/uvtep/internal/lab"
)

// Lengths, in pixels of the picture's own scale. The widest line in a
// box is a guest of the largest number and VNI with its address, 14 and 15
// characters; a monospaced one of 13 pixels is about 8 wide.
const (
	margin     = 24
	boxWidth   = 300
	boxGap     = 24 // between boxes, and above them the cable
	line       = 20 // from one line of text to the next
	padding    = 12
	fontSize   = 13
	mostAcross = 4
)

// style names the colours for light backgrounds, and then for dark ones. It does
// without variables, which not all that draws an SVG knows.
const style = `
text{font:13px ui-monospace,monospace;fill:#1b1f24}.cable{stroke-width:2;fill:none}.name{font-weight:bold}
.back{fill:#fff}.box{fill:#f6f8fa}.box,.cable{stroke:#8c959f}.faint{fill:#59636e}.bad{fill:#b3261e}
.v0{fill:#0969da}.v1{fill:#9a3b00}.v2{fill:#8250df}.v3{fill:#1a7f37}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}
.back{fill:#0d1117}.box{fill:#161b22}.box,.cable{stroke:#6e7681}.faint{fill:#9198a1}.bad{fill:#ff7b72}
.v0{fill:#58a6ff}.v1{fill:#f0883e}.v2{fill:#bc8cff}.v3{fill:#56d364}
}
`

// hues is how many colours the style has for segments; more segments share them.
const hues = 4

// SVG draws a lab. The picture needs no other file, and suits light and dark
// backgrounds, as the reader prefers.
func SVG(l *lab.Lab) []byte {
	p := &picture{lab: l, across: min(mostAcross, max(1, len(l.Hosts)))}
	p.width = max(2*margin+boxGap+p.across*(boxWidth+boxGap), 720)
	p.body()
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n",
		p.width, p.height, p.width, p.height)
	fmt.Fprintf(&out, "<title>%s</title>\n<style>%s</style>\n", escape(l.String()), style)
	fmt.Fprintf(&out, `<rect class="back" width="%d" height="%d"/>`+"\n", p.width, p.height)
	out.Write(p.out.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// picture is an SVG that is being drawn.
type picture struct {
	lab           *lab.Lab
	across        int // boxes in a row
	width, height int
	out           bytes.Buffer
}

func (p *picture) text(class string, x, y int, format string, a ...any) {
	fmt.Fprintf(&p.out, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, escape(fmt.Sprintf(format, a...)))
}

// body draws all of it, from the top, and finds its height.
func (p *picture) body() {
	l := p.lab
	y := margin + fontSize
	p.text("name", margin, y, "%s is %s", l, l.State)
	y += line
	p.text("faint", margin, y, "underlay MTU %d, UDP port %d, guests in %s", l.MTU, l.Port, l.Subnet)
	y += line
	p.legend(&y)

	// The underlay is one trunk down the left side, with a branch above each row.
	top, last := y+boxGap/2, 0
	for row := range slices.Chunk(l.Hosts, p.across) {
		last = y + boxGap/2
		p.row(row, last)
		y = last + boxGap + p.rowHeight(row)
	}
	if last > 0 {
		fmt.Fprintf(&p.out, `<path class="cable" d="M%d %dV%d"/>`+"\n", margin, top, last)
	}
	p.height = y + margin
}

// legend says which colour is which segment, as many in a line as there is room.
func (p *picture) legend(y *int) {
	const each = 150
	for i, vni := range p.lab.VNIs {
		column := i % ((p.width - 2*margin) / each)
		if i > 0 && column == 0 {
			*y += line
		}
		p.segment(vni, margin+column*each, *y)
		p.text("", margin+column*each+padding, *y, "VNI %d", vni)
	}
}

// segment marks what stands right of x as part of a segment.
func (p *picture) segment(vni uint32, x, y int) {
	hue := max(0, slices.Index(p.lab.VNIs, vni)) % hues
	fmt.Fprintf(&p.out, `<circle class="v%d" cx="%d" cy="%d" r="4"/>`+"\n", hue, x+4, y-4)
}

func (p *picture) guestsOf(h *lab.Host) (guests []*lab.Guest) {
	for _, g := range p.lab.Guests {
		if g.Host == h.Name {
			guests = append(guests, g)
		}
	}
	return guests
}

// rowHeight is the height of the boxes of a row: that of the fullest.
func (p *picture) rowHeight(row []*lab.Host) int {
	most := 0
	for _, h := range row {
		most = max(most, len(p.guestsOf(h)))
	}
	return 2*padding + (2+most)*line
}

// row draws the boxes of some hosts below their branch of the underlay.
func (p *picture) row(hosts []*lab.Host, y int) {
	left := margin + boxGap
	middle := func(i int) int { return left + i*(boxWidth+boxGap) + boxWidth/2 }
	fmt.Fprintf(&p.out, `<path class="cable" d="M%d %dH%d"/>`+"\n", margin, y, middle(len(hosts)-1))
	height := p.rowHeight(hosts)
	for i, h := range hosts {
		fmt.Fprintf(&p.out, `<path class="cable" d="M%d %dv%d"/>`+"\n", middle(i), y, boxGap)
		x := left + i*(boxWidth+boxGap)
		fmt.Fprintf(&p.out, `<rect class="box" x="%d" y="%d" width="%d" height="%d" rx="6"/>`+"\n", x, y+boxGap, boxWidth, height)
		p.host(h, x+padding, y+boxGap+padding+fontSize)
	}
}

// host writes what is in a box.
func (p *picture) host(h *lab.Host, x, y int) {
	p.text("name", x, y, "%s", h.Name)
	p.text("faint", x+40, y, "%s", h.Underlay)
	y += line
	switch {
	case !h.Running:
		p.text("bad", x, y, "its daemon has ended")
	case h == p.lab.Hosts[0]:
		p.text("faint", x, y, "DHCP server of every segment")
	}
	for _, g := range p.guestsOf(h) {
		y += line
		p.segment(g.VNI, x, y)
		p.text("", x+padding, y, "%s", g.Name)
		address := "no address yet"
		if g.Lease != nil {
			address = g.Lease.Address.Addr().String()
		}
		p.text("faint", x+140, y, "%s", address)
	}
}

func escape(s string) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(s)) // a buffer takes all
	return b.String()
}
