package screen

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/uvtep/uvtep/internal/lab"
)

// mostFDBs is how many hosts' FDBs a report has.
const mostFDBs = 4

// Report shows what a demo run found.
func (s *Screen) Report(r *lab.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print(addresses(r.Lab))
	s.print(roundTrips(r))
	s.print(frames(r))
	for i, f := range r.FDBs {
		if i == mostFDBs {
			s.print("\n" + faint.Render(fmt.Sprintf("… and the FDBs of %d more hosts, which agree", len(r.FDBs)-i)) + "\n")
			break
		}
		s.print(entries(r.Lab, f))
	}
}

// Verdict ends a demo run.
func (s *Screen) Verdict(r *lab.Report, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.printf("\n%s %s  %s\n", good.Render("✓"),
		bold.Render(verdict(r)),
		faint.Render(elapsed(took)))
}

// verdict is what a demo has shown: pings only where a segment has two guests.
func verdict(r *lab.Report) string {
	guests := "1 guest has its address"
	if n := len(r.Lab.Guests); n > 1 {
		guests = fmt.Sprintf("%d guests have their address", n)
	}
	if len(r.Pings) == 0 {
		return guests + "; no segment has two of them to reach each other"
	}
	return guests + " and reach their own segment, nobody else"
}

func heading(title, about string) string {
	return "\n" + bold.Render(title) + "  " + faint.Render(about) + "\n"
}

// hue is the colour of a segment.
func hue(l *lab.Lab, vni uint32) lipgloss.Style {
	for i, v := range l.VNIs {
		if v == vni {
			return hues[i%len(hues)]
		}
	}
	return lipgloss.NewStyle()
}

func name(l *lab.Lab, g *lab.Guest) string { return hue(l, g.VNI).Render(g.Name) }

// located is a guest's name with its host's.
func located(l *lab.Lab, g *lab.Guest) string { return name(l, g) + faint.Render(" on ") + g.Host }

func addresses(l *lab.Lab) string {
	var rows [][]string
	lasts := "for ever"
	for _, g := range l.Guests {
		if g.Lease.Duration > 0 {
			lasts = "for " + days(g.Lease.Duration)
		}
		rows = append(rows, []string{
			name(l, g), g.Host, g.MAC, g.Lease.Address.Addr().String(), g.Lease.Server.String(),
			fmt.Sprint(g.Lease.Tries), fmt.Sprintf("%.1f ms", g.Lease.Took.Seconds()*1000),
		})
	}
	return heading("Addresses", fmt.Sprintf("by DHCP from the responder on %s, %s", l.Hosts[0].Name, lasts)) +
		short([]column{{"GUEST", false}, {"HOST", false}, {"MAC", false}, {"ADDRESS", false}, {"FROM", false}, {"TRY", true}, {"IN", true}}, rows)
}

// days is a lease's duration, which is whole days or less than one.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

func roundTrips(r *lab.Report) string {
	if len(r.Pings) == 0 {
		return ""
	}
	to := "every other one of its segment"
	if !r.Everyone() {
		to = "the next few of its segment"
	}
	text := heading("Pings", "every guest to "+to)
	if len(r.Pings) > mostRows {
		return text + roundTripsBySegment(r)
	}
	var rows [][]string
	for _, p := range r.Pings {
		rows = append(rows, []string{
			located(r.Lab, p.From), located(r.Lab, p.To), p.To.Lease.Address.Addr().String(),
			fmt.Sprintf("%d of %d", p.Received, p.Sent), milliseconds(p.Min), milliseconds(p.Avg()), milliseconds(p.Max),
		})
	}
	return text + short([]column{{"FROM", false}, {"TO", false}, {"ADDRESS", false}, {"BACK", true}, {"MIN", true}, {"AVG", true}, {"MAX ms", true}}, rows)
}

// roundTripsBySegment sums up where there are many guests.
func roundTripsBySegment(r *lab.Report) string {
	var rows [][]string
	for _, vni := range r.Lab.VNIs {
		var all []lab.Ping
		for _, p := range r.Pings {
			if p.From.VNI == vni {
				all = append(all, p)
			}
		}
		s := lab.Summarize(all)
		rows = append(rows, []string{
			hue(r.Lab, vni).Render(fmt.Sprint(vni)), fmt.Sprint(len(all)),
			fmt.Sprintf("%d of %d", s.Received, s.Sent), milliseconds(s.Min), milliseconds(s.Avg()), milliseconds(s.Max),
		})
	}
	return short([]column{{"VNI", true}, {"PAIRS", true}, {"BACK", true}, {"MIN", true}, {"AVG", true}, {"MAX ms", true}}, rows)
}

// milliseconds is a number of them, to stand in a column.
func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1000) }

func frames(r *lab.Report) string {
	var rows [][]string
	for _, a := range r.Seen {
		rows = append(rows, []string{
			name(r.Lab, a.Guest), fmt.Sprint(a.Frames), fmt.Sprint(a.Own), fmt.Sprint(a.Foreign), fmt.Sprint(a.Unmarked),
		})
	}
	return heading("Frames", "that arrived at each guest, by the VNI their sender marked them with") +
		short([]column{{"GUEST", false}, {"ALL", true}, {"OWN VNI", true}, {"ANOTHER VNI", true}, {"UNMARKED", true}}, rows)
}

func entries(l *lab.Lab, f lab.HostFDB) string {
	var rows [][]string
	for _, e := range f.Entries {
		vni := uint32(e.VNI)
		who := ""
		for _, g := range l.Guests {
			switch mac := e.MAC.String(); {
			case g.VNI != vni:
			case g.MAC == mac:
				who = name(l, g)
			case g.Lease.ServerMAC.String() == mac:
				who = "DHCP responder"
			}
		}
		rows = append(rows, []string{hue(l, vni).Render(e.VNI.String()), e.MAC.String(), who, lab.Behind(e), e.State})
	}
	return heading("FDB of "+f.Host.Name, "at "+f.Host.Underlay.Addr().String()) +
		short([]column{{"VNI", true}, {"MAC", false}, {"WHO", false}, {"WHERE", false}, {"STATE", false}}, rows)
}
