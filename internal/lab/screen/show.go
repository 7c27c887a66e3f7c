package screen

import (
	"fmt"

	"github.com/uvtep/uvtep/internal/lab"
)

// Show shows a lab: where everything is, and what of it runs.
func (s *Screen) Show(l *lab.Lab) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.State == lab.StateBroken {
		s.printf("%s is %s: a crash left parts; %s takes them down\n", l, bad.Render(l.State), l.Command("down"))
		return
	}
	s.printf("%s is %s: guests in %s, underlay MTU %d, UDP port %d\n\n", bold.Render(l.String()), l.State, l.Subnet, l.MTU, l.Port)
	var rows [][]string
	for _, h := range l.Hosts {
		daemon := bad.Render("ended: see " + h.Log)
		if h.Running {
			daemon = fmt.Sprintf("runs, pid %d", h.PID)
		}
		rows = append(rows, []string{h.Name, h.NetNS, h.Underlay.String(), daemon})
	}
	s.print(table("", []column{{"HOST", false}, {"NAMESPACE", false}, {"UNDERLAY", false}, {"DAEMON", false}}, rows) + "\n")
	rows = nil
	for _, g := range l.Guests {
		address := faint.Render("none yet")
		if g.Lease != nil {
			address = g.Lease.Address.Addr().String()
		}
		rows = append(rows, []string{name(l, g), fmt.Sprint(g.VNI), g.Host, g.Tap, g.NetNS, g.MAC, address})
	}
	s.print(table("", []column{
		{"GUEST", false}, {"VNI", true}, {"HOST", false}, {"PORT", false}, {"NAMESPACE", false}, {"MAC", false}, {"ADDRESS", false},
	}, rows))
}

// Addresses shows who has which address, from whom.
func (s *Screen) Addresses(l *lab.Lab) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print(addresses(l))
}

// LookAround says what can be done with a lab that is up.
func (s *Screen) LookAround(l *lab.Lab) {
	s.mu.Lock()
	defer s.mu.Unlock()
	exec := func(rest string) string { return l.Command("exec") + " " + rest }
	lines := []string{l.Command("show")}
	if first, second, ok := neighbours(l); ok {
		lines = append(lines, exec(fmt.Sprintf("%s -- ping %s", first.Name, second.Lease.Address.Addr())))
	}
	last := l.Hosts[len(l.Hosts)-1].Name
	lines = append(lines,
		exec(last+" -- uvtep show fdb"),
		exec(l.Hosts[0].Name+" -- uvtep show leases"),
		exec(l.Guests[0].Name+" -- sh"),
		l.Command("down"),
	)
	s.print(heading("Look around", "it stays up until it is taken down"))
	for _, line := range lines {
		s.print("  " + line + "\n")
	}
}

// neighbours are two guests of one segment.
func neighbours(l *lab.Lab) (a, b *lab.Guest, ok bool) {
	for _, b := range l.Guests[1:] {
		if b.VNI == l.Guests[0].VNI {
			return l.Guests[0], b, true
		}
	}
	return nil, nil, false
}
