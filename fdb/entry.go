package fdb

import "strconv"

// Dst says where a MAC lives: behind a local port, behind a remote VTEP, or at
// the segment itself. The zero Dst is none: unknown.
type Dst uint32

const (
	dstLocal  Dst = 1 << 30
	dstRemote Dst = 2 << 30
	dstIndex  Dst = 1<<30 - 1

	// Self is the destination of the segment's own addresses: those of its
	// responders. A frame to one of them is for us, a frame from one a lie.
	Self Dst = 3 << 30
)

// MaxIndex is the greatest number of a port or peer that a Dst holds.
const MaxIndex = uint32(dstIndex)

// Local is the local port with the segment's number port, at most MaxIndex.
func Local(port uint32) Dst { return dstLocal | Dst(port)&dstIndex }

// Remote is the remote VTEP with the segment's number peer, at most MaxIndex.
func Remote(peer uint32) Dst { return dstRemote | Dst(peer)&dstIndex }

// IsLocal tells a local port.
func (d Dst) IsLocal() bool { return d&^dstIndex == dstLocal }

// IsRemote tells a remote VTEP.
func (d Dst) IsRemote() bool { return d&^dstIndex == dstRemote }

// Index is the number that Local or Remote was given.
func (d Dst) Index() uint32 { return uint32(d & dstIndex) }

// String is for logs and tests: none, self, local 3, remote 7.
func (d Dst) String() string {
	switch d &^ dstIndex {
	case dstLocal:
		return "local " + strconv.FormatUint(uint64(d.Index()), 10)
	case dstRemote:
		return "remote " + strconv.FormatUint(uint64(d.Index()), 10)
	case Self:
		return "self"
	}
	return "none"
}

// Seconds is a time: whole seconds since an epoch of the caller's choice, by a
// clock that is never set back. Callers may differ by a few seconds: a time
// earlier than the one an entry has makes the entry no older.
//
// A table keeps the lower 28 bits, and with them tells ages of up to four years.
type Seconds uint32

// Origin says who put an entry into the table.
type Origin uint8

const (
	OriginDynamic Origin = iota // learned from a frame
	OriginStatic                // bound by configuration or API: never moves, never ages
	OriginSelf                  // an address of the segment itself
)

// String is the word that users see: dynamic, static, self.
func (o Origin) String() string {
	switch o {
	case OriginDynamic:
		return "dynamic"
	case OriginStatic:
		return "static"
	case OriginSelf:
		return "self"
	}
	return "origin " + strconv.Itoa(int(o))
}

// Entry is what the table knows of one MAC.
type Entry struct {
	MAC    MAC
	Dst    Dst
	Origin Origin
	Age    Seconds // since it was last seen as a source; 0 unless it is dynamic
	Frozen bool    // it moved too often, and stays for a while
}

// State is the word that users see: dynamic, static, self.
func (e Entry) State() string { return e.Origin.String() }

// Result says what Learn made of a source address.
type Result uint8

const (
	Known    Result = iota // bound to this destination already
	Learned                // new: now bound to this destination
	Moved                  // was bound to another destination
	Full                   // new, but the table holds Config.MaxMACs, or all tables their Total, and the destination its share: not learned
	PortFull               // the destination has as many as SetLimit allows: not learned, not moved
	Static                 // statically bound to another destination: to be dropped
	Frozen                 // moved too often, and is held elsewhere for a while: to be dropped
	Own                    // one of the segment's own: to be dropped
	Invalid                // not a station's address, or not a destination: not learned, to be dropped
)

// String names the result, for logs and traces.
func (r Result) String() string {
	names := [...]string{"known", "learned", "moved", "table full", "port full", "statically bound elsewhere", "frozen elsewhere", "own address", "invalid"}
	if int(r) < len(names) {
		return names[r]
	}
	return "result " + strconv.Itoa(int(r))
}

// EventKind says what happened to an entry.
type EventKind uint8

const (
	EventLearn   EventKind = iota // learned
	EventMove                     // its destination changed; Event.Old is the former one
	EventAge                      // aged out
	EventDelete                   // deleted or flushed
	EventAdd                      // bound by AddStatic or SetSelf; Event.Old is a former destination or 0
	EventEvict                    // gave way to a MAC of a destination that had less than its share
	EventFreeze                   // moved too often, and is held; Event.Old is a former destination or 0
	EventRelease                  // is held no longer
)

// String is the word that users see: learn, move, age, delete, add, evict,
// freeze, release.
func (k EventKind) String() string {
	names := [...]string{"learn", "move", "age", "delete", "add", "evict", "freeze", "release"}
	if int(k) < len(names) {
		return names[k]
	}
	return "event " + strconv.Itoa(int(k))
}

// Event is one change of the table.
type Event struct {
	Kind   EventKind
	MAC    MAC
	Dst    Dst    // where it lives now; of an entry that is gone: where it lived
	Old    Dst    // where it lived before, if elsewhere
	Origin Origin // of the entry; of one that is gone: what it had
	Seq    uint64 // rises with each change: the order of two events of one MAC
}
