package screen

import (
	"bytes"
	"errors"
	"flag"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/lab"
	"github.com/uvtep/uvtep/internal/lab/guest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata, and holds it to 80 columns.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	for line := range strings.Lines(string(got)) {
		if n := lipgloss.Width(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%s: %d columns: %s", file, n, line)
		}
	}
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; got\n%s", file, got)
	}
}

// demo is what a run of the default demo found.
func demo() *lab.Report {
	lease := func(last byte, name string, took time.Duration) *guest.Lease {
		return &guest.Lease{
			Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 100, last}), 24), Server: netip.MustParseAddr("192.168.100.1"),
			ServerMAC: net.HardwareAddr{2, 0xb, 0, 0, 0, 1}, Hostname: name, Duration: 7 * 24 * time.Hour, Tries: 1, Took: took,
		}
	}
	l := &lab.Lab{
		Name: "lab", State: lab.StateUp, VNIs: []uint32{100, 200}, Subnet: netip.MustParsePrefix("192.168.100.0/24"), MTU: 1500, Port: 4789,
		Hosts: []*lab.Host{
			{Name: "h1", NetNS: "uvlab-lab-h1", Underlay: netip.MustParsePrefix("10.9.0.1/24"), PID: 4711, Running: true},
			{Name: "h2", NetNS: "uvlab-lab-h2", Underlay: netip.MustParsePrefix("10.9.0.2/24"), PID: 4712, Log: "/run/uvtep/lab-lab/h2.log"},
		},
		Guests: []*lab.Guest{
			{Name: "g1-v100", NetNS: "uvlab-lab-v100-g1", VNI: 100, Host: "h1", Tap: "v100g1", MAC: "02:00:00:00:00:01", Lease: lease(10, "g1-v100", 3*time.Millisecond)},
			{Name: "g2-v100", NetNS: "uvlab-lab-v100-g2", VNI: 100, Host: "h2", Tap: "v100g2", MAC: "02:00:00:00:00:02", Lease: lease(11, "g2-v100", 12*time.Millisecond)},
			{Name: "g1-v200", NetNS: "uvlab-lab-v200-g1", VNI: 200, Host: "h1", Tap: "v200g1", MAC: "02:00:00:00:00:01", Lease: lease(10, "g1-v200", 4*time.Millisecond)},
			{Name: "g2-v200", NetNS: "uvlab-lab-v200-g2", VNI: 200, Host: "h2", Tap: "v200g2", MAC: "02:00:00:00:00:02", Lease: lease(11, "g2-v200", 260*time.Millisecond)},
		},
	}
	l.Guests[3].Lease.Tries = 2
	r := &lab.Report{Lab: l}
	ping := func(a, b int) {
		r.Pings = append(r.Pings, lab.Ping{From: l.Guests[a], To: l.Guests[b], PingResult: guest.PingResult{
			Sent: 3, Received: 3, Min: 210 * time.Microsecond, Max: 1700 * time.Microsecond, Sum: 2400 * time.Microsecond,
		}})
	}
	ping(0, 1)
	ping(1, 0)
	ping(2, 3)
	ping(3, 2)
	for _, g := range l.Guests {
		r.Seen = append(r.Seen, lab.Arrived{Guest: g, Seen: guest.Seen{Frames: 22, Own: 18, Unmarked: 4}})
	}
	there := netip.MustParseAddr("10.9.0.2")
	r.FDBs = []lab.HostFDB{{Host: l.Hosts[0], Entries: []control.FDBEntry{
		{VNI: 100, MAC: fdb.MAC(0x020000000001), Ifname: &l.Guests[0].Tap, State: "dynamic"},
		{VNI: 100, MAC: fdb.MAC(0x020000000002), Dst: &there, State: "dynamic"},
		{VNI: 100, MAC: fdb.MAC(0x020b00000001), State: "self"},
		{VNI: 200, MAC: fdb.MAC(0x0200000000ff), Dst: &there, State: "static"},
	}}}
	return r
}

func shown(t *testing.T, env []string, show func(*Screen)) []byte {
	t.Helper()
	var b bytes.Buffer
	s := New(&b, env)
	show(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestADemoIsToldInFull(t *testing.T) {
	golden(t, "demo.txt", shown(t, nil, func(s *Screen) {
		for _, step := range []lab.Step{
			{Name: "make hosts and guests"},
			{Name: "make hosts and guests", Detail: "2 hosts, 4 guests in VNI 100 and 200", Took: 4 * time.Millisecond, Done: true},
			{Name: "get addresses by DHCP", Detail: "3 of 4"},
			{Name: "get addresses by DHCP", Detail: "4 leases from 192.168.100.1 within 260 ms", Took: 262 * time.Millisecond, Done: true},
			{Name: "take all of it down", Took: 1250 * time.Millisecond, Done: true, Failed: true},
		} {
			s.Step(step)
		}
		r := demo()
		s.Report(r)
		s.Verdict(r, 1530*time.Millisecond)
		r.Lab.Program = "sudo bin/uvtep"
		s.LookAround(r.Lab)
	}))
}

func TestTheVerdictSaysNoMoreThanWasSeen(t *testing.T) {
	for _, tc := range []struct {
		guests int
		pings  bool
		want   string
	}{
		{4, true, "4 guests have their address and reach their own segment, nobody else"},
		{2, false, "2 guests have their address; no segment has two of them to reach each other"},
		{1, false, "1 guest has its address; no segment has two of them to reach each other"},
	} {
		r := demo()
		r.Lab.Guests = r.Lab.Guests[:tc.guests]
		if !tc.pings {
			r.Pings = nil
		}
		got := string(shown(t, nil, func(s *Screen) { s.Verdict(r, time.Second) }))
		if want := "\n✓ " + tc.want + "  1.00 s\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestALargeDemoIsToldInShort(t *testing.T) {
	r := demo()
	for range 6 {
		r.Pings = append(r.Pings, r.Pings[:4]...)
		r.Seen = append(r.Seen, r.Seen[:4]...)
		r.FDBs[0].Entries = append(r.FDBs[0].Entries, r.FDBs[0].Entries[:4]...)
	}
	r.Pings = append(r.Pings, r.Pings[0])
	r.FDBs[0].Entries = append(r.FDBs[0].Entries, r.FDBs[0].Entries[0])
	for range 5 {
		r.FDBs = append(r.FDBs, demo().FDBs[0])
	}
	golden(t, "large.txt", shown(t, nil, func(s *Screen) { s.Report(r) }))
}

func TestALabIsShownWithWhatRunsOfIt(t *testing.T) {
	l := demo().Lab
	l.Guests[1].Lease = nil
	golden(t, "show.txt", shown(t, nil, func(s *Screen) { s.Show(l) }))
	golden(t, "broken.txt", shown(t, nil, func(s *Screen) { s.Show(&lab.Lab{Name: "x", State: lab.StateBroken}) }))
}

func TestColourIsForThoseWhoWantIt(t *testing.T) {
	report := func(s *Screen) { s.Report(demo()) }
	if got := shown(t, []string{"TERM=xterm-256color"}, report); bytes.Contains(got, []byte("\x1b")) {
		t.Error("a file gets escape sequences")
	}
	coloured := shown(t, []string{"TERM=xterm-256color", "CLICOLOR_FORCE=1"}, report)
	if !bytes.Contains(coloured, []byte("\x1b[36mg1-v100")) || !bytes.Contains(coloured, []byte("\x1b[35mg1-v200")) {
		t.Errorf("the segments do not differ in colour:\n%q", coloured)
	}
}

// full is a disk that is.
type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestAWriteThatFailsIsToldOnce(t *testing.T) {
	s := New(full{}, nil)
	s.Report(demo())
	s.Step(lab.Step{Name: "x", Done: true})
	if err := s.Close(); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
}
