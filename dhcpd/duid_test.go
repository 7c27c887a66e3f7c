package dhcpd_test

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/uvtep/uvtep/dhcpd"
)

func TestTheServersDUIDIsTheOneGivenOrMadeOfItsAddress(t *testing.T) {
	cfg := dhcpd.SegmentConfig6{Server: netip.MustParseAddr("2001:db8:100::2")}
	if got := hex.EncodeToString(cfg.ServerDUID()); got != "0003001b"+"0000000000000002" {
		t.Errorf("made: %s", got)
	}
	cfg.DUID = []byte{0, 2, 1}
	if got := hex.EncodeToString(cfg.ServerDUID()); got != "000201" {
		t.Errorf("given: %s", got)
	}
}
