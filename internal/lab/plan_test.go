package lab

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/internal/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
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

func mustPlan(t *testing.T, o Options) *Lab {
	t.Helper()
	l, err := plan(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSegmentsDifferInNothingButTheVNI(t *testing.T) {
	l := mustPlan(t, Options{Guests: 3, VNIs: []uint32{100, 200}})
	if len(l.Hosts) != 2 || len(l.Guests) != 6 {
		t.Fatalf("%d hosts, %d guests", len(l.Hosts), len(l.Guests))
	}
	names := l.nodes()
	for i, a := range l.of(100) {
		b := l.of(200)[i]
		if a.MAC != b.MAC || a.Host != b.Host || a.Index != b.Index {
			t.Errorf("%+v and %+v", a, b)
		}
	}
	slices.Sort(names)
	if n := len(slices.Compact(names)); n != 8 {
		t.Errorf("%d names for 8 hosts and guests", n)
	}
	for _, g := range l.Guests {
		if len(g.Tap) > 15 {
			t.Errorf("%s is too long for an interface", g.Tap)
		}
	}
}

func (l *Lab) nodes() (names []string) {
	for _, h := range l.Hosts {
		names = append(names, h.NetNS)
	}
	for _, g := range l.Guests {
		names = append(names, g.NetNS)
	}
	return names
}

func TestTheLargestLabHasRoomForEveryName(t *testing.T) {
	l := mustPlan(t, Options{
		Name: strings.Repeat("x", 16), Hosts: 99, Guests: 999, VNIs: []uint32{1<<24 - 1}, Subnet: netip.MustParsePrefix("10.0.0.0/16"),
	})
	last := l.Guests[len(l.Guests)-1]
	if len(last.Tap) > 15 || last.MAC != "02:00:00:00:03:e7" || l.reserved(last.Index) != netip.MustParseAddr("10.0.3.240") {
		t.Errorf("%+v at %s", last, l.reserved(last.Index))
	}
	if len(l.Hosts[98].Socket) > 107 {
		t.Errorf("%s is too long for a socket", l.Hosts[98].Socket)
	}
}

func TestASmallSubnetIsUsedToTheLastAddress(t *testing.T) {
	l := mustPlan(t, Options{Guests: 4, Subnet: netip.MustParsePrefix("10.0.0.77/29")})
	if l.Subnet.String() != "10.0.0.72/29" || l.server().String() != "10.0.0.73" ||
		l.reserved(1).String() != "10.0.0.74" || l.reserved(4).String() != "10.0.0.77" || l.last().String() != "10.0.0.78" {
		t.Errorf("%s: server %s, %s to %s of %s", l.Subnet, l.server(), l.reserved(1), l.reserved(4), l.last())
	}
}

func TestOptionsThatMakeNoLabAreAllNamed(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Name: "Lab"}, `the name "Lab" is not 1 to 16 lower-case letters and digits`},
		{Options{Hosts: 100}, "100 hosts are not 1 to 99"},
		{Options{Guests: -1}, "-1 guests are not 1 to 999"},
		{Options{VNIs: []uint32{0}}, "the VNI 0 is outside 1..16777215"},
		{Options{VNIs: []uint32{1 << 24}}, "the VNI 16777216 is outside"},
		{Options{VNIs: []uint32{7, 7}}, "the VNI 7 is named twice"},
		{Options{MTU: 1279}, "the MTU 1279 is outside 1280..65535"},
		{Options{Subnet: netip.MustParsePrefix("fd00::/64")}, "not an IPv4 one"},
		{Options{Subnet: netip.MustParsePrefix("10.0.0.0/31")}, "of at least 4 addresses"},
		{Options{Subnet: netip.MustParsePrefix("10.0.0.0/30"), Guests: 1}, "has no room for 1 guests"},
		{Options{Hosts: 100, Guests: 1000}, "100 hosts are not 1 to 99; 1000 guests are not"},
	} {
		if _, err := plan(c.o); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

func TestHostsAndGuestsAreFoundByAnyOfTheirNames(t *testing.T) {
	two := mustPlan(t, Options{VNIs: []uint32{100, 200}})
	one := mustPlan(t, Options{Name: "x"})
	for _, c := range []struct {
		l           *Lab
		name, netns string
	}{
		{two, "h2", "uvlab-lab-h2"},
		{two, "uvlab-lab-h1", "uvlab-lab-h1"},
		{two, "g2-v200", "uvlab-lab-v200-g2"},
		{two, "v200-g2", "uvlab-lab-v200-g2"},
		{two, "uvlab-lab-v200-g2", "uvlab-lab-v200-g2"},
		{one, "g1", "uvlab-x-v100-g1"},
	} {
		ns, host, err := c.l.node(c.name)
		if err != nil || ns != c.netns || (host != nil) != strings.Contains(c.netns, "-h") {
			t.Errorf("%s: %s, %v, %v", c.name, ns, host, err)
		}
	}
	_, _, err := two.node("g1") // of which segment?
	if !errors.Is(err, ErrNoSuchNode) || !strings.Contains(err.Error(), "there are h1, h2, g1-v100, g2-v100, g1-v200, g2-v200") {
		t.Error(err)
	}
}

func TestTheConfigurationIsWhatTheDaemonReads(t *testing.T) {
	for _, c := range []struct {
		file string
		o    Options
		host int
	}{
		{"two-h1.yaml", Options{VNIs: []uint32{100, 200}}, 0},
		{"two-h2.yaml", Options{VNIs: []uint32{100, 200}}, 1},
		{"ipv6-h1.yaml", Options{Hosts: 3, Guests: 1, IPv6: true, Port: 8472}, 0},
	} {
		l := mustPlan(t, c.o)
		got, err := l.config(l.Hosts[c.host])
		if err != nil {
			t.Fatal(err)
		}
		golden(t, c.file, got)
		if _, err := config.Load(filepath.Join("testdata", c.file)); err != nil {
			t.Errorf("the daemon does not take %s: %v", c.file, err)
		}
	}
}

func TestARecordIsReadBackAsItWasWritten(t *testing.T) {
	l := mustPlan(t, Options{StateDir: t.TempDir(), VNIs: []uint32{100, 200}})
	if err := os.Mkdir(l.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.save(); err != nil {
		t.Fatal(err)
	}
	got, err := read(l.Dir)
	if err != nil || got.Hosts[1].Socket != l.Hosts[1].Socket || *got.Guests[3] != *l.Guests[3] || got.Subnet != l.Subnet {
		t.Errorf("%+v, %v", got, err)
	}
	if files, _ := filepath.Glob(filepath.Join(l.Dir, "*")); len(files) != 1 {
		t.Errorf("more than the record was left: %v", files)
	}
}
