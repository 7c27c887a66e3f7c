package daemon

import (
	"encoding/hex"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/vtep"
)

// Subscribe implements control.Reader.
func (d *server) Subscribe(f control.EventFilter) (*control.Subscription, error) {
	return d.events.Subscribe(f)
}

// tellDHCP is what a DHCP service calls with its events: it must not wait.
func (d *server) tellDHCP(e dhcpd.Event) {
	if !d.events.Heard() {
		return
	}
	out := control.Event{Time: e.Time, Kind: dhcpKind(e.Kind), VNI: encap.VNI(e.Segment), Detail: e.Detail}
	l := &e.Lease
	if l.IP.IsValid() {
		out.IP, out.Length = &l.IP, l.PrefixLen
	}
	if l.IP.Is6() {
		out.IAID = &l.IAID
	}
	if l.CHAddr != "" {
		out.MAC = l.HardwareAddr().String()
	}
	out.ClientID, out.Hostname, out.Port = hex.EncodeToString([]byte(l.ClientID)), l.Hostname, l.Port
	if l.VTEP.IsValid() {
		out.VTEP = &l.VTEP
	}
	if !l.Expires.IsZero() {
		out.Expires = &l.Expires
	}
	d.events.Publish(out)
}

// dhcpKind is the kind of an event of the DHCP service among those of the
// daemon.
func dhcpKind(k dhcpd.EventKind) string {
	switch k {
	case dhcpd.EventBound, dhcpd.EventRenewed, dhcpd.EventReleased, dhcpd.EventExpired, dhcpd.EventRefused, dhcpd.EventDeclined:
		return "lease_" + k.String()
	}
	return k.String()
}

// tellVTEP is what the switch calls with its events: it must not wait.
func (d *server) tellVTEP(e vtep.Event) {
	if !d.events.Heard() {
		return
	}
	out := control.Event{Time: time.Now(), Kind: e.Kind.String(), VNI: e.VNI, Port: e.Port, Detail: e.Detail}
	if e.Group.IsValid() {
		out.Group = &e.Group
	}
	if e.Peer.IsValid() {
		out.Dst = &e.Peer
	}
	if e.IP.IsValid() {
		out.IP = &e.IP
	}
	if e.MAC != 0 {
		out.MAC = e.MAC.String()
	}
	d.events.Publish(out)
}

// tellReload is what became of a reload.
func (d *server) tellReload(changes []string, err error) {
	e := control.Event{Time: time.Now(), Kind: "reloaded", Changes: changes}
	if err != nil {
		e.Kind, e.Detail = "reload_failed", oneLine(err)
	}
	d.events.Publish(e)
}
