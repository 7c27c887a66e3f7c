package graph

import (
	"encoding/xml"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/internal/lab"
	"github.com/uvtep/uvtep/internal/lab/guest"
)

// drawing is what the tests read of an SVG.
type drawing struct {
	ViewBox string `xml:"viewBox,attr"`
	Style   string `xml:"style"`
	Rects   []struct {
		Class  string `xml:"class,attr"`
		X      int    `xml:"x,attr"`
		Y      int    `xml:"y,attr"`
		Width  int    `xml:"width,attr"`
		Height int    `xml:"height,attr"`
	} `xml:"rect"`
	Texts []struct {
		X    int    `xml:"x,attr"`
		Y    int    `xml:"y,attr"`
		Text string `xml:",chardata"`
	} `xml:"text"`
}

// area is a rectangle; what touches does not overlap.
type area struct{ left, top, right, bottom int }

func (a area) overlaps(b area) bool {
	return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
}

func (a area) holds(b area) bool {
	return a.left <= b.left && b.right <= a.right && a.top <= b.top && b.bottom <= a.bottom
}

// made is a lab as it is when it is up, with guests of the longest names.
func made(hosts, guests int, vnis ...uint32) *lab.Lab {
	l := &lab.Lab{Name: "lab", State: lab.StateUp, MTU: 65535, Port: 65535, VNIs: vnis, Subnet: netip.MustParsePrefix("192.168.100.0/22")}
	for i := range hosts {
		l.Hosts = append(l.Hosts, &lab.Host{
			Name: fmt.Sprintf("h%d", i+1), Running: true,
			Underlay: netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 3: 9, 15: byte(i + 1)}), 64),
		})
	}
	for _, vni := range vnis {
		for i := range guests {
			l.Guests = append(l.Guests, &lab.Guest{
				Name: fmt.Sprintf("g%d-v%d", i+1, vni), VNI: vni, Host: l.Hosts[i%hosts].Name,
				Lease: &guest.Lease{Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(100 + i/250), byte(1 + i%250)}), 22)},
			})
		}
	}
	return l
}

func read(t *testing.T, l *lab.Lab) drawing {
	t.Helper()
	var d drawing
	if err := xml.Unmarshal(SVG(l), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestNoTextOverlapsAnotherOrLeavesThePicture(t *testing.T) {
	for _, l := range []*lab.Lab{
		made(1, 1, 100), made(2, 2, 100), made(2, 2, 100, 200), made(3, 999, 16777215), made(5, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
		made(50, 200, 100), made(99, 10, 16777214, 16777215),
	} {
		what := fmt.Sprintf("%d hosts, %d guests", len(l.Hosts), len(l.Guests))
		d := read(t, l)
		var whole area
		if _, err := fmt.Sscanf(d.ViewBox, "%d %d %d %d", &whole.left, &whole.top, &whole.right, &whole.bottom); err != nil {
			t.Fatal(err)
		}
		var boxes []area
		for _, r := range d.Rects {
			if r.Class == "box" {
				boxes = append(boxes, area{r.X, r.Y, r.X + r.Width, r.Y + r.Height})
			}
		}
		if len(boxes) != len(l.Hosts) {
			t.Errorf("%s: %d boxes", what, len(boxes))
		}
		for i, a := range boxes {
			if !whole.holds(a) {
				t.Errorf("%s: box %d leaves the picture", what, i)
			}
			for _, b := range boxes[:i] {
				if a.overlaps(b) {
					t.Errorf("%s: boxes overlap: %v, %v", what, a, b)
				}
			}
		}
		var texts []area
		for _, text := range d.Texts {
			// A monospaced character is 0.6 of its height wide; 8 pixels are more.
			a := area{text.X, text.Y - fontSize, text.X + 8*len(text.Text), text.Y + 4}
			if !whole.holds(a) {
				t.Errorf("%s: %q leaves the picture", what, text.Text)
			}
			for _, box := range boxes {
				if box.overlaps(a) && !box.holds(a) {
					t.Errorf("%s: %q leaves its box", what, text.Text)
				}
			}
			for i, b := range texts {
				if a.overlaps(b) {
					t.Errorf("%s: %q overlaps %q", what, text.Text, d.Texts[i].Text)
				}
			}
			texts = append(texts, a)
		}
	}
}

func TestEveryHostAndGuestIsDrawnOnceWithItsAddress(t *testing.T) {
	l := made(50, 200, 100, 200)
	seen := map[string]int{}
	for _, text := range read(t, l).Texts {
		seen[text.Text]++
	}
	for _, h := range l.Hosts {
		if seen[h.Name] != 1 || seen[h.Underlay.String()] != 1 {
			t.Errorf("%s is drawn %d times, its address %d times", h.Name, seen[h.Name], seen[h.Underlay.String()])
		}
	}
	for _, g := range l.Guests {
		// Equal addresses are in both segments.
		if address := g.Lease.Address.Addr().String(); seen[g.Name] != 1 || seen[address] != 2 {
			t.Errorf("%s is drawn %d times, its address %d times", g.Name, seen[g.Name], seen[address])
		}
	}
	if seen["DHCP server of every segment"] != 1 {
		t.Errorf("the DHCP server is named %d times", seen["DHCP server of every segment"])
	}
}

func TestWhatIsNotAsItShouldBeIsSaid(t *testing.T) {
	l := made(2, 2, 100)
	l.State, l.Hosts[1].Running, l.Guests[0].Lease = lab.StateStarting, false, nil
	seen := map[string]int{}
	for _, text := range read(t, l).Texts {
		seen[text.Text]++
	}
	for _, want := range []string{"lab is starting", "its daemon has ended", "no address yet"} {
		if seen[want] != 1 {
			t.Errorf("%q stands there %d times", want, seen[want])
		}
	}
}

func TestThePictureSuitsLightAndDarkAndNeedsNoOtherFile(t *testing.T) {
	svg := string(SVG(made(2, 2, 100)))
	if !strings.Contains(svg, "@media (prefers-color-scheme:dark)") {
		t.Error("it has no dark colours")
	}
	for _, outside := range []string{"href", "url(", "@import", "<script", "<image"} {
		if strings.Contains(svg, outside) {
			t.Errorf("it has %s", outside)
		}
	}
	light, dark, _ := strings.Cut(style, "@media")
	for _, class := range []string{"text", ".back", ".box", ".box,.cable", ".faint", ".bad", ".v0", ".v1", ".v2", ".v3"} {
		for name, rules := range map[string]string{"light": light, "dark": dark} {
			if !regexp.MustCompile(`(?m)(^|})` + regexp.QuoteMeta(class) + `{[^}]*(fill|stroke):#`).MatchString(rules) {
				t.Errorf("%s has no colour for %s backgrounds", class, name)
			}
		}
	}
}
