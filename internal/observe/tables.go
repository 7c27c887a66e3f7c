package observe

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/uvtep/uvtep/internal/control"
)

// none stands where there is nothing to show.
const none = "-"

// Segments writes the table of segments. Like all tables here it is for people:
// columns may change, programs read the JSON.
func Segments(w io.Writer, all []control.Segment) error {
	t := newTable(column{"VNI", true}, column{"NAME", false}, column{"MTU", true}, column{"PORTS", false},
		column{"PEERS", false}, column{"GROUP", false}, column{"MACS", true}, column{"LEARNING", false},
		column{"AGEING", true}, column{"DHCP", false}, column{"DHCP6", false})
	for _, s := range all {
		peers := make([]string, len(s.Peers))
		for i, p := range s.Peers {
			peers[i] = p.String()
		}
		group := orNone(s.Group)
		if s.GroupError != nil {
			group = fmt.Sprint(group, " (not joined)")
		}
		t.row(s.VNI, s.Name, s.MTU, list(s.Ports), list(peers), group, s.MACs, onOff(s.Learning),
			ageing(s.Ageing), orNone(s.DHCP), orNone(s.DHCP6))
	}
	return t.write(w)
}

// Ports writes the table of ports, which fits in 80 columns; the rest is in the
// JSON.
func Ports(w io.Writer, all []control.Port) error {
	t := newTable(column{"VNI", true}, column{"PORT", false}, column{"STATE", false}, column{"OFFLOAD", false},
		column{"RX", true}, column{"BYTES", true}, column{"DROPS", true}, column{"TX", true}, column{"BYTES", true}, column{"DROPS", true})
	for _, p := range all {
		t.row(p.VNI, p.Name, p.State, offload(p.Offload), short(p.RxPackets), short(p.RxBytes), short(p.RxDropped),
			short(p.TxPackets), short(p.TxBytes), short(p.TxDropped))
	}
	return t.write(w)
}

// offload is a port's offloads in a word: gso is taking super-frames from the
// kernel, gro is giving them to it.
func offload(names []string) string {
	has := func(either ...string) bool {
		return slices.ContainsFunc(either, func(n string) bool { return slices.Contains(names, n) })
	}
	switch gso, gro := has("tso", "uso"), has("tcp-gro", "udp-gro"); {
	case gso && gro:
		return "gso+gro"
	case gso:
		return "gso"
	case gro:
		return "gro"
	case len(names) > 0:
		return names[0]
	}
	return none
}

// short is a count in at most five characters: 99999, 100k, 1.23M.
func short(n uint64) string {
	if n < 100_000 {
		return strconv.FormatUint(n, 10)
	}
	unit := 0
	for ; n >= 1_000_000; n /= 1000 {
		unit++
	}
	whole, rest := n/1000, n%1000
	switch u := "kMGTPE"[unit : unit+1]; {
	case whole >= 100:
		return fmt.Sprintf("%d%s", whole, u)
	case whole >= 10:
		return fmt.Sprintf("%d.%d%s", whole, rest/100, u)
	default:
		return fmt.Sprintf("%d.%02d%s", whole, rest/10, u)
	}
}

// FDB writes the table of forwarding database entries.
func FDB(w io.Writer, all []control.FDBEntry) error {
	t := newTable(column{"VNI", true}, column{"MAC", false}, column{"BEHIND", false}, column{"STATE", false}, column{"AGE", true})
	for _, e := range all {
		age := none
		if e.State == "dynamic" {
			age = seconds(e.Age)
		}
		state := e.State
		if e.Frozen {
			state = "frozen"
		}
		t.row(e.VNI, e.MAC, place(e.Ifname, e.Dst), state, age)
	}
	return t.write(w)
}

// Neighbours writes the table of who has which address.
func Neighbours(w io.Writer, all []control.Neighbour) error {
	t := newTable(column{"VNI", true}, column{"IP", false}, column{"MAC", false}, column{"SOURCE", false}, column{"ROUTER", false},
		column{"BEHIND", false}, column{"AGE", true})
	for _, n := range all {
		behind, age := none, none
		if n.Ifname != nil || n.Dst != nil {
			behind = place(n.Ifname, n.Dst)
		}
		if n.Source == "snooped" {
			age = seconds(n.Age)
		}
		t.row(n.VNI, n.IP, n.MAC, n.Source, yesNo(n.Router), behind, age)
	}
	return t.write(w)
}

// place is where a station is: behind a port, a VTEP, or at the segment itself.
func place(port *string, vtep *netip.Addr) string {
	switch {
	case port != nil:
		return "port " + *port
	case vtep != nil:
		return "vtep " + vtep.String()
	}
	return "this segment"
}

// Peers writes the table of remote VTEPs.
func Peers(w io.Writer, all []control.Peer) error {
	t := newTable(column{"VNI", true}, column{"PEER", false}, column{"ORIGIN", false}, column{"REPLICATE", false}, column{"PMTU", true},
		column{"RX", true}, column{"BYTES", true}, column{"TX", true}, column{"BYTES", true})
	for _, p := range all {
		pmtu := any(none)
		if p.PMTU != 0 {
			pmtu = p.PMTU
		}
		t.row(p.VNI, p.Dst, p.Origin, yesNo(p.Replicate), pmtu, short(p.RxPackets), short(p.RxBytes), short(p.TxPackets), short(p.TxBytes))
	}
	return t.write(w)
}

// Leases writes the table of leases; expiry is told relative to now.
func Leases(w io.Writer, all []control.Lease, now time.Time) error {
	t := newTable(column{"VNI", true}, column{"IP", false}, column{"MAC", false}, column{"CLIENT ID", false},
		column{"HOSTNAME", false}, column{"STATE", false}, column{"EXPIRES", false}, column{"BEHIND", false})
	for _, l := range all {
		what, behind := l.IP.String(), none
		if l.Length != nil {
			what = fmt.Sprintf("%s/%d", what, *l.Length)
		}
		switch {
		case l.VTEP != nil:
			behind = "vtep " + l.VTEP.String()
		case l.Port != nil:
			behind = "port " + *l.Port
		}
		expires := "never"
		if l.Expires != nil {
			if left := l.Expires.Sub(now); left > 0 {
				expires = "in " + seconds(int64(left/time.Second))
			} else {
				expires = "expired"
			}
		}
		t.row(l.VNI, what, printable(l.MAC), printable(l.ClientID), printable(l.Hostname), l.State, expires, behind)
	}
	return t.write(w)
}

// DHCP writes the table of DHCP servers.
func DHCP(w io.Writer, all []control.DHCPServer) error {
	t := newTable(column{"VNI", true}, column{"SUBNET", false}, column{"SERVER", false}, column{"POOL", true}, column{"USED", true},
		column{"FULL", true}, column{"BOUND", true}, column{"OFFERED", true}, column{"DECLINED", true}, column{"RESERVED", true})
	for _, s := range all {
		full := none
		if s.Pool > 0 {
			full = strconv.Itoa(int(100*float64(s.Used)/float64(s.Pool))) + "%"
		}
		t.row(s.VNI, s.Subnet, s.Server, short(uint64(s.Pool)), s.Used, full, s.Bound, s.Offered, s.Declined, s.Reserved)
	}
	return t.write(w)
}

// Drops writes the table of dropped frames.
func Drops(w io.Writer, all []control.Drop) error {
	t := newTable(column{"REASON", false}, column{"VNI", true}, column{"COUNT", true})
	for _, d := range all {
		vni := any(d.VNI)
		if d.VNI == 0 {
			vni = none
		}
		t.row(d.Reason, vni, d.Count)
	}
	return t.write(w)
}

// Workers writes the table of workers.
func Workers(w io.Writer, all []control.Worker) error {
	t := newTable(column{"WORKER", true}, column{"CPU", true}, column{"RX PACKETS", true}, column{"TX PACKETS", true}, column{"BATCHES", true}, column{"OFFLOAD", false})
	for _, k := range all {
		cpu := any(k.CPU)
		if k.CPU < 0 {
			cpu = none
		}
		t.row(k.ID, cpu, k.RxPackets, k.TxPackets, k.Batches, list(k.Offload))
	}
	return t.write(w)
}

type column struct {
	name  string
	right bool // numbers
}

// columns is a table without borders: aligned, two blanks apart.
type columns struct{ t table.Writer }

func newTable(cols ...column) columns {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Box = table.BoxStyle{PaddingRight: "  "}
	style.Options = table.OptionsNoBordersAndSeparators
	t.SetStyle(style)
	head := make(table.Row, len(cols))
	configs := make([]table.ColumnConfig, len(cols))
	for i, c := range cols {
		head[i] = c.name
		align := text.AlignLeft
		if c.right {
			align = text.AlignRight
		}
		configs[i] = table.ColumnConfig{Number: i + 1, Align: align, AlignHeader: align}
	}
	t.AppendHeader(head)
	t.SetColumnConfigs(configs)
	t.SuppressTrailingSpaces()
	return columns{t}
}

func (c columns) row(cells ...any) { c.t.AppendRow(cells) }

func (c columns) write(w io.Writer) error {
	_, err := io.WriteString(w, c.t.Render()+"\n")
	return err
}

// list joins words; a long list is cut, as the JSON has it all.
func list(words []string) string {
	const most = 4
	if len(words) == 0 {
		return none
	}
	if len(words) > most {
		return strings.Join(words[:most], ",") + fmt.Sprintf(",… (%d)", len(words))
	}
	return strings.Join(words, ",")
}

func orNone[T netip.Addr | netip.Prefix](v *T) any {
	if v == nil {
		return none
	}
	return *v
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func ageing(s int64) string {
	if s == 0 {
		return "never"
	}
	return seconds(s)
}

// seconds is a duration in its two greatest units: 45s, 5m, 11h59m, 3d2h.
func seconds(s int64) string {
	units := []struct {
		name string
		size int64
	}{{"d", 24 * 60 * 60}, {"h", 60 * 60}, {"m", 60}, {"s", 1}}
	for i, u := range units {
		if s < u.size {
			continue
		}
		out := fmt.Sprint(s/u.size, u.name)
		if i+1 < len(units) {
			if rest := s % u.size / units[i+1].size; rest > 0 {
				out += fmt.Sprint(rest, units[i+1].name)
			}
		}
		return strings.ReplaceAll(out, " ", "")
	}
	return "0s"
}

// printable is text from a guest, harmless to a terminal.
func printable(s string) string {
	if s == "" {
		return none
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' ||
			r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return '?'
		}
		return r
	}, s)
}

// LeasesNow is Leases as of now.
func LeasesNow(w io.Writer, all []control.Lease) error { return Leases(w, all, time.Now()) }
