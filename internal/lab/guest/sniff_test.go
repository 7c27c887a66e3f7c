package guest

import (
	"strings"
	"testing"
)

func TestATagIsReadBack(t *testing.T) {
	for _, tag := range []Tag{{}, {1, 100}, {0xffffffff, 1<<24 - 1}} {
		s := tag.String()
		if len(s) != tagLen {
			t.Errorf("%q is %d bytes, want %d", s, len(s), tagLen)
		}
		if back, ok := parseTag([]byte(s + "behind")); !ok || back != tag {
			t.Errorf("%q read as %v, %v", s, back, ok)
		}
		for n := range s {
			if _, ok := parseTag([]byte(s[:n])); ok {
				t.Errorf("%q read as a tag", s[:n])
			}
		}
	}
}

func TestEveryMarkOfAFrameCounts(t *testing.T) {
	own, other, lab := Tag{7, 100}, Tag{7, 200}, Tag{8, 100}
	ether := strings.Repeat("\xff", 12)
	for _, c := range []struct {
		name, frame string
		want        Seen
	}{
		{"no mark", ether + "\x08\x06arp", Seen{Frames: 1, Unmarked: 1}},
		{"an empty frame", "", Seen{Frames: 1, Unmarked: 1}},
		{"own", ether + "\x08\x00.." + own.String() + "..", Seen{Frames: 1, Own: 1}},
		{"own twice", ether + "\x08\x00" + own.String() + own.String(), Seen{Frames: 1, Own: 1}},
		{"own, shouted", ether + "\x88\xb5" + own.String(), Seen{Frames: 1, Own: 1, Broadcast: 1}},
		{"another segment", ether + "\x08\x00" + other.String(), Seen{Frames: 1, Foreign: 1, Culprit: other}},
		{"another lab", ether + "\x08\x00" + lab.String(), Seen{Frames: 1, Foreign: 1, Culprit: lab}},
		{"own, then another", ether + "\x88\xb5" + own.String() + "-" + other.String(), Seen{Frames: 1, Foreign: 1, Culprit: other}},
		{"half a mark", ether + "\x08\x00" + own.String()[:tagLen-1], Seen{Frames: 1, Unmarked: 1}},
		{"a mark behind half a one", ether + "\x08\x00uvlab:uvlab:" + other.String()[len(tagPrefix):], Seen{Frames: 1, Foreign: 1, Culprit: other}},
	} {
		var got Seen
		got.inspect([]byte(c.frame), own)
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
