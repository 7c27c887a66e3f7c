package vtep_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// twoCables is cable, and a second link by interfaces named other.
func twoCables(t testing.TB, u family) (a, b *nettest.NS) {
	a, b = cable(t, u)
	nettest.Veth(t, a, "other", b, "other")
	for i, ns := range []*nettest.NS{a, b} {
		ns.Addr("other", netip.PrefixFrom(map[bool]netip.Addr{
			true:  netip.MustParseAddr(fmt.Sprintf("10.8.0.%d", i+1)),
			false: netip.MustParseAddr(fmt.Sprintf("fd00:8::%d", i+1)),
		}[u.a.Is4()], u.bits).String())
		if u.a.Is4() { // the underlay's addresses are not those of this link
			ns.Sysctl("net/ipv4/conf/all/rp_filter", "0")
			ns.Sysctl("net/ipv4/conf/other/rp_filter", "0")
		}
	}
	return a, b
}

// member says of a packet about a group whether it is a report, or leaves it.
func member(b []byte, g netip.Addr) (report, leave bool) {
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	for _, l := range p.Layers() {
		switch m := l.(type) {
		case *layers.IGMPv1or2:
			if is, _ := netip.AddrFromSlice(m.GroupAddress.To4()); is == g {
				report = report || m.Type == layers.IGMPMembershipReportV2
				leave = leave || m.Type == layers.IGMPLeaveGroup
			}
		case *layers.IGMP:
			for _, r := range m.GroupRecords {
				if is, _ := netip.AddrFromSlice(r.MulticastAddress.To4()); is == g {
					report = report || r.Type == layers.IGMPToEx || r.Type == layers.IGMPIsEx
					leave = leave || r.Type == layers.IGMPToIn
				}
			}
		case *layers.MLDv1MulticastListenerReportMessage:
			is, _ := netip.AddrFromSlice(m.MulticastAddress)
			report = report || is == g
		case *layers.MLDv1MulticastListenerDoneMessage:
			is, _ := netip.AddrFromSlice(m.MulticastAddress)
			leave = leave || is == g
		case *layers.MLDv2MulticastListenerReportMessage:
			for _, r := range m.MulticastAddressRecords {
				if is, _ := netip.AddrFromSlice(r.MulticastAddress); is == g {
					report = report || r.RecordType == layers.MLDv2MulticastAddressRecordTypeChangeToExcludeMode || r.RecordType == layers.MLDv2MulticastAddressRecordTypeModeIsExcluded
					leave = leave || r.RecordType == layers.MLDv2MulticastAddressRecordTypeChangeToIncludeMode
				}
			}
		}
	}
	return report, leave
}

func TestAGroupIsReportedAndLeftOnItsOwnInterfaceInEachVersionOfIGMPAndMLD(t *testing.T) {
	nettest.Root(t)
	for _, c := range []struct {
		u            family
		key, version string
	}{
		{families[0], "net/ipv4/conf/other/force_igmp_version", "2"},
		{families[0], "net/ipv4/conf/other/force_igmp_version", "3"},
		{families[1], "net/ipv6/conf/other/force_mld_version", "1"},
		{families[1], "net/ipv6/conf/other/force_mld_version", "2"},
	} {
		t.Run(c.u.name+" version "+c.version, func(t *testing.T) {
			na, nb := twoCables(t, c.u)
			na.Sysctl(c.key, c.version)
			here, elsewhere := nettest.Sniff(t, nb, "other"), nettest.Sniff(t, nb, "ul")
			a := start(t, na, vtep.Config{Local: c.u.a, Accept: vtep.AcceptAny})
			a.segment(t, vtep.SegmentConfig{VNI: 100, Group: c.u.group, Device: "other"})
			reported := func() (report, leave bool) {
				for _, f := range here.Seen() {
					r, l := member(f.Bytes, c.u.group)
					report, leave = report || r, leave || l
				}
				return report, leave
			}
			eventually(t, "a report", func() bool { r, _ := reported(); return r })
			if _, left := reported(); left {
				t.Error("it was left at once")
			}
			if err := a.v.RemoveSegment(100); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a leave", func() bool { _, l := reported(); return l })
			if n := len(elsewhere.With(string(c.u.group.AsSlice()))); n != 0 {
				t.Errorf("%d packets about it on the underlay's own interface", n)
			}
		})
	}
}

func TestTwoSegmentsHaveOneGroupOnTwoInterfaces(t *testing.T) {
	nettest.Root(t)
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, nb := twoCables(t, u)
		base.Accept = vtep.AcceptAny
		var guests [2][2]*nettest.NS // by host and segment
		for i, ns := range []*nettest.NS{na, nb} {
			base.Local = []netip.Addr{u.a, u.b}[i]
			h := start(t, ns, base)
			for j, dev := range []string{"", "other"} {
				s := h.segment(t, vtep.SegmentConfig{VNI: encap.VNI(100 + j), Group: u.group, Device: dev})
				guests[i][j] = h.guest(t, s, fmt.Sprintf("t%d%d", i, j))
			}
		}
		ul, other := nettest.Sniff(t, nb, "ul"), nettest.Sniff(t, nb, "other")
		var at [2]*nettest.Sniffer
		for j := range at {
			at[j] = nettest.Sniff(t, guests[1][j], "eth0")
		}
		const each = 50
		for j, mark := range []string{"<first>", "<second>"} {
			out := nettest.Inject(t, guests[0][j], "eth0")
			for range each {
				out.Send(plainFrame(all, mac1, mark))
			}
			at[j].Wait(mark, each)
		}
		for what, s := range map[string]struct {
			at   *nettest.Sniffer
			mark string
			want int // on a wire, where several may be one: any number
		}{
			"the first segment's guest":            {at[0], "<first>", each},
			"the second segment's guest":           {at[1], "<second>", each},
			"the first one with another's":         {at[0], "<second>", 0},
			"the second one with another's":        {at[1], "<first>", 0},
			"the underlay's own interface":         {ul, "<first>", each},
			"the other one":                        {other, "<second>", each},
			"the underlay's own, with the other's": {ul, "<second>", 0},
			"the other one, with the first's":      {other, "<first>", 0},
		} {
			n := len(s.at.With(s.mark))
			if wire := s.at == ul || s.at == other; n != s.want && !(wire && n > 0 && s.want > 0) {
				t.Errorf("%s: %d frames, want %d", what, n, s.want)
			}
		}
	})
}
