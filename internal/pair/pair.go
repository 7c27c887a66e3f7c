// Package pair joins two segments by a cable with two ends, each a tap.Device in
// memory: what is written to one is read at the other. Each end may stand for one
// VLAN of its segment, whose tag then comes off or on in between. Super-frames stay
// whole.
//
// Frames are copied: they may belong to a flood whose bytes others still write
// out, and the other segment may change them in place.
package pair

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
)

// MaxCrossed is how many pairs a frame comes through. More of them in a row are
// most likely a loop.
const MaxCrossed = 4

// ErrTaken is what a third end gets.
var ErrTaken = errors.New("both of its ends are in use")

// Pair is a cable. It may be used by many goroutines.
type Pair struct {
	queues int

	mu   sync.Mutex // of changes of ends
	ends [2]atomic.Pointer[End]
}

// New makes a pair whose ends have so many queues: what is written to one of them
// is read from the one of the same number.
func New(queues int) *Pair { return &Pair{queues: queues} }

// Unplugged reports whether no end is in use.
func (p *Pair) Unplugged() bool { return p.ends[0].Load() == nil && p.ends[1].Load() == nil }

// End is one end, from Plug to Close.
type End struct {
	pair   *Pair
	side   int
	name   string
	vlan   uint16
	mtu    atomic.Int64
	queues []*queue
	ends   []tap.Queue
	told   atomic.Pointer[func(tap.Link)]
}

// Plug takes an end that is free. vlan is whose frames it takes, without their tag,
// and gives to what it gets; 0 = every frame, as it is. mtu is that of the segment:
// longer packets do not come in.
func (p *Pair) Plug(name string, vlan uint16, mtu int) (*End, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for side := range p.ends {
		if p.ends[side].Load() != nil {
			continue
		}
		e := &End{pair: p, side: side, name: name, vlan: vlan}
		e.mtu.Store(int64(mtu))
		for i := range p.queues {
			q := &queue{end: e, i: i}
			e.queues, e.ends = append(e.queues, q), append(e.ends, q)
		}
		p.ends[side].Store(e)
		e.tellOther(tap.Link{Up: true, What: "the other end of the pair is there"})
		return e, nil
	}
	return nil, ErrTaken
}

// other is the other end, nil while nobody has it.
func (e *End) other() *End { return e.pair.ends[1-e.side].Load() }

func (e *End) tellOther(l tap.Link) {
	if o := e.other(); o != nil {
		if tell := o.told.Load(); tell != nil {
			(*tell)(l)
		}
	}
}

// Name, Queues, SetMTU, Offload and Close implement tap.Device. What waits at an
// end that is closed is lost.
func (e *End) Name() string        { return e.name }
func (e *End) Queues() []tap.Queue { return e.ends }

func (e *End) SetMTU(mtu int) error {
	e.mtu.Store(int64(mtu))
	return nil
}

func (e *End) Offload() tap.Offload { return tap.All }

func (e *End) Close() error {
	e.pair.mu.Lock()
	defer e.pair.mu.Unlock()
	if e.pair.ends[e.side].CompareAndSwap(e, nil) {
		e.tellOther(tap.Link{What: "the other end of the pair is gone"})
	}
	return nil
}

// Up and Watch implement tap.Linked.
func (e *End) Up() bool { return e.other() != nil }

func (e *End) Watch(tell func(tap.Link)) { e.told.Store(&tell) }

// crossing is a frame's way from one end to the other: whether its outermost tag
// comes off, and what tag it gets, 0 = none.
type crossing struct {
	pop  bool
	push uint16
}

// cross decides what becomes of a frame that is written to e, or why it stays.
func (e *End) cross(f *frame.Frame, to *End) (c crossing, why frame.Reason) {
	if f.Crossed >= MaxCrossed {
		return c, frame.PairLoop
	}
	if f.Len() < frame.EthernetLen {
		return c, frame.PortError
	}
	if e.vlan != 0 {
		if vid, _, whole := f.VLAN(); vid != e.vlan || !whole {
			return c, frame.VLANUnmapped
		}
	}
	c = crossing{pop: e.vlan != 0, push: to.vlan}
	if packet(f) > int(to.mtu.Load()) || c.size(f) > frame.MaxLen {
		return c, frame.TooBig
	}
	return c, frame.NotDropped
}

// packet is the length of a frame's longest packet, without its Ethernet header
// and tags.
func packet(f *frame.Frame) int {
	header := max(int(f.Info.L3), frame.EthernetLen)
	if f.Offload.GSO != frame.GSONone {
		return int(f.Offload.HdrLen) + int(f.Offload.GSOSize) - header
	}
	return f.Size() - header
}

// size is the length of a frame that has crossed.
func (c crossing) size(f *frame.Frame) int {
	n := f.Size()
	if c.pop {
		n -= frame.TagLen
	}
	if c.push != 0 {
		n += frame.TagLen
	}
	return n
}
