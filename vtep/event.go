package vtep

import (
	"net/netip"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

// EventKind says what happened.
type EventKind uint8

const (
	EventPortUp      EventKind = iota // a port is attached
	EventPortDown                     // a port is detached, or its device has vanished
	EventPeerAdded                    // a remote VTEP of the configuration or of the API
	EventPeerLearned                  // a remote VTEP was heard where everyone is accepted
	EventPeerRemoved                  // a remote VTEP was taken away, or has been silent for too long
	EventMACFrozen                    // a MAC moved too often, and is held for a while
	EventMACReleased                  // it may move again
	EventClaimed                      // a station claims an address that is another's, by a lease or the configuration
	EventGroupFailed                  // a multicast group cannot be joined, and is tried again
	EventGroupJoined                  // it is joined at last
)

var eventNames = [...]string{"port_up", "port_down", "peer_added", "peer_learned", "peer_removed", "mac_frozen", "mac_released", "address_claimed", "group_failed", "group_joined"}

// String is the kind's word in JSON.
func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return "unknown"
}

// Event is something that an operator may want to know of a segment.
type Event struct {
	Kind EventKind
	VNI  encap.VNI
	Port string     // of a port's, and where a MAC is
	Peer netip.Addr // of a remote VTEP's, and where a MAC is
	IP   netip.Addr // of a claim
	MAC  fdb.MAC    // of a MAC's, and who claims an address

	Group  netip.Addr // of a multicast group's
	Detail string     // why
}

// tell is for whoever wants to know.
func (s *Segment) tell(e Event) {
	if s.v.cfg.Events != nil {
		e.VNI = s.vni
		s.v.cfg.Events(e)
	}
}

// tellPeer tells of a remote VTEP that is new.
func (s *Segment) tellPeer(a netip.Addr, o fdb.PeerOrigin) {
	kind := EventPeerAdded
	if o == fdb.PeerLearned {
		kind = EventPeerLearned
	}
	s.tell(Event{Kind: kind, Peer: a})
}
