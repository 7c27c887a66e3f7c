package dhcpd

import "time"

// EventKind says what happened.
type EventKind uint8

const (
	EventBound     EventKind = iota // a client got a lease
	EventRenewed                    // a client prolonged its lease
	EventReleased                   // a client gave its lease back, or an operator took it
	EventExpired                    // a lease ran out
	EventRefused                    // a client was told that its address is not its own
	EventDeclined                   // a client found its address in use; it is left alone for a while
	EventAlarm                      // the declined address was a reservation: somebody else uses it
	EventBlocked                    // a reserved address is held by another client
	EventExhausted                  // a subnet has no address left
	EventFailed                     // leases could not be made durable; nobody was told that he has one
	EventRecovered                  // the store works again
	EventPoolHigh                   // nine tenths of a pool are in use
	EventConflict                   // a probed address is in use by somebody without a lease
	EventPortFull                   // the clients of a port may not have another lease
	EventClock                      // the wall clock was set; the stored times follow
	eventKinds
)

var eventNames = [eventKinds]string{
	"bound", "renewed", "released", "expired", "refused", "declined", "reservation_in_use",
	"reservation_blocked", "pool_exhausted", "store_failed", "store_recovered",
	"pool_high", "address_in_use", "port_full", "clock_set",
}

// String is the kind's word in JSON.
func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return "unknown"
}

// Event is something that an operator or another part of the program may want
// to know. Lease is zero where none is concerned.
type Event struct {
	Time    time.Time
	Segment uint32 // 0: the whole service
	Kind    EventKind
	Lease   Lease
	Detail  string
}
