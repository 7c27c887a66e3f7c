package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// faultCases are the pairs of a file and its faults in testdata/faults.txt.
func faultCases(t testing.TB) (files, faults []string) {
	data, err := os.ReadFile("testdata/faults.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range strings.Split(string(data), "=== file\n")[1:] {
		file, want, ok := strings.Cut(c, "\n=== faults\n")
		if !ok {
			t.Fatalf("a case without faults: %q", c)
		}
		files, faults = append(files, file), append(faults, strings.TrimSuffix(want, "\n"))
	}
	return files, faults
}

func TestEachFaultIsToldInTheseWords(t *testing.T) {
	files, faults := faultCases(t)
	for i, file := range files {
		c, err := Parse("uvtep.yaml", []byte(file))
		if err == nil {
			t.Errorf("%s\nis accepted, want\n%s", file, faults[i])
			continue
		}
		if c != nil {
			t.Errorf("%s\nis refused and returned", file)
		}
		if err.Error() != faults[i] {
			t.Errorf("%s\ngot\n%s\nwant\n%s", file, err, faults[i])
		}
	}
}

func TestAllFaultsComeAtOnceInTheOrderOfTheFile(t *testing.T) {
	const file = `workrs: 2
underlay:
  port: 70000
  accept: peers
  ttl: forever
segments:
  - vni: 16777216
    group: 239.1.1.1
    ports:
      - {tap: a-very-long-tap-name}
      - {tap: tap0, mac: "ff:ff:ff:ff:ff:ff"}
  - vni: 100
    vni: 101
    suppress: [arp, arp]
    ports:
      - {tap: tap0}
    dhcp:
      subnet: 192.168.100.0/24
      gateway: 192.168.101.1
      ranges: [192.168.100.10-192.168.100.20, 192.168.100.15-192.168.100.30]
      lease: 1h
      t1: 2h
      options: [{code: 53, hex: "01"}, {code: 42}, {number: 2}]
  - vni: 100
`
	const want = `uvtep.yaml:1:1: workrs: unknown key; did you mean workers?
uvtep.yaml:2:1: underlay.local: is missing: this VTEP's address is needed, such as 10.9.0.1
uvtep.yaml:3:9: underlay.port: 70000 is outside 1..65535
uvtep.yaml:5:8: underlay.ttl: "forever" is neither a number nor inherit
uvtep.yaml:7:10: segments[0].vni: 16777216 is outside 1..16777215
uvtep.yaml:8:12: segments[0].group: a group needs underlay.accept: any, as its senders are not known beforehand; underlay.accept (line 4) is peers
uvtep.yaml:10:15: segments[0].ports[0].tap: "a-very-long-tap-name" has 20 characters; an interface name has at most 15
uvtep.yaml:11:26: segments[0].ports[1].mac: ff:ff:ff:ff:ff:ff is a group address, no machine's
uvtep.yaml:13:5: segments[1].vni: is given twice, first on line 12
uvtep.yaml:14:21: segments[1].suppress[1]: arp is listed twice
uvtep.yaml:16:15: segments[1].ports[0].tap: tap0 is also the name of segments[0].ports[1].tap (line 11)
uvtep.yaml:19:16: segments[1].dhcp.gateway: 192.168.101.1 is outside 192.168.100.0/24
uvtep.yaml:20:47: segments[1].dhcp.ranges[1]: 192.168.100.15-192.168.100.30 overlaps 192.168.100.10-192.168.100.20 of segments[1].dhcp.ranges[0] (line 20)
uvtep.yaml:22:11: segments[1].dhcp.t1: 2h is not less than t2, 52m30s
uvtep.yaml:23:24: segments[1].dhcp.options[0].code: option 53 is not for configuration: it is the server's own
uvtep.yaml:23:40: segments[1].dhcp.options[1]: has no value: ip, text, hex or number is needed
uvtep.yaml:23:52: segments[1].dhcp.options[2].code: is missing: an option needs its number
uvtep.yaml:24:10: segments[2].vni: 100 is also the VNI of segments[1].vni (line 12)`
	_, err := Parse("uvtep.yaml", []byte(file))
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != strings.Count(want, "\n")+1 {
		t.Fatalf("the error is %T of %d faults", err, len(faults))
	}
	if f := faults[4]; f != (Fault{"uvtep.yaml", 7, 10, "segments[0].vni", "16777216 is outside 1..16777215"}) {
		t.Errorf("the fifth fault is %#v", f)
	}
}

func TestAFileThatIsNotUTF8HasItsPlaceTold(t *testing.T) {
	_, err := Parse("uvtep.yaml", []byte("underlay:\n  local: é\xff\n"))
	if want := "uvtep.yaml:2:11: is not UTF-8 text"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAFileThatIsNotThereIsNoFault(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "uvtep.yaml"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if errors.As(err, new(Faults)) {
		t.Errorf("%v is a fault of a file", err)
	}
}

func TestSuggestKnowsSlipsFromOtherWords(t *testing.T) {
	known := []string{"vni", "name", "peers", "learning", "max_macs", "dhcp"}
	for word, want := range map[string]string{
		"vnii": "vni", "vin": "vni", "nmae": "name", "peer": "peers", "max-macs": "max_macs", "maxmacs": "max_macs",
		"laerning": "learning", "DHCP": "", "dhcp6": "", "ra": "", "stream": "", "": "",
	} {
		if got := suggest(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestFaultsAreSortedByPlace(t *testing.T) {
	f := Faults{{Line: 2, Col: 1, Msg: "c"}, {Line: 1, Col: 9, Msg: "b"}, {Line: 1, Col: 2, Msg: "a"}, {Line: 2, Col: 1, Msg: "d"}}
	f.sorted()
	if !slices.IsSortedFunc(f, func(a, b Fault) int { return strings.Compare(a.Msg, b.Msg) }) {
		t.Errorf("got %v", f)
	}
}

func TestATextThatNobodyWroteHasItsFaultsToldWithoutLines(t *testing.T) {
	_, err := ParseSpelt([]byte("underlay: {local: 10.9.0.1}\nsegments: [{vni: 1, peers: [10.9.0.1]}]\n"), func(p string) string { return "<" + p + ">" })
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 1 || faults[0].Msg != "10.9.0.1 is this VTEP's own address, <underlay.local>" {
		t.Errorf("got %v", err)
	}
}
