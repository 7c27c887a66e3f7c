package underlay

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// steps is how many places between the lowest hash of a flow and the highest one
// the lowest byte of a source port tells apart.
const steps = 256

// openAllSources opens the sockets that are sent from. DF is a property of a
// socket: where packets differ in it there are two sets of them.
func (e *endpoint) openAllSources() error {
	both := e.cfg.DF == DFInherit && e.family == unix.AF_INET
	if err := e.openSources(e.cfg.DF != DFClear || e.family == unix.AF_INET6); err != nil {
		return err
	}
	if e.withDF = len(e.sources); both {
		return e.openSources(false)
	}
	return nil
}

// openSources opens a set of the sockets that are sent from. They share the hashes of
// flows evenly, and the lowest byte of the port of each says where its share
// starts: so the receiver can give a flow to the worker that frame.QueueOf does
// (spread). Beyond that they lie in the range at random, so that two hosts seldom
// use the same ones.
func (e *endpoint) openSources(df bool) error {
	low, high := int(e.cfg.SourceLow), int(e.cfg.SourceHigh)
	if low > high {
		return fmt.Errorf("source ports %d-%d: the lowest is above the highest", low, high)
	}
	room := high - low + 1
	want := min(e.cfg.Sources, room)
	start, slots, next, had := rand.IntN(room), (room+steps-1)/steps, 0, len(e.sources)
	for i := range want {
		first := low + (i*steps/want-low)&(steps-1)
		opened := false
		for k := 0; k < slots && !opened; k++ {
			port := first + steps*((start+i*slots/want+k)%slots)
			if port > high {
				continue
			}
			var err error
			if opened, err = e.trySource(port, df); err != nil {
				return err
			}
		}
		// In a narrow range there may be none; then any does.
		for ; next < room && !opened; next++ {
			var err error
			if opened, err = e.trySource(low+(start+next)%room, df); err != nil {
				return err
			}
		}
	}
	if len(e.sources) == had {
		return fmt.Errorf("%w: all source ports %d-%d of %s are taken; widen the range", ErrPortInUse, low, high, e.cfg.Local)
	}
	return nil
}

// trySource opens a socket that is sent from, if its port is not taken.
func (e *endpoint) trySource(port int, df bool) (opened bool, err error) {
	fd, err := e.openSource(uint16(port), df)
	if err == unix.EADDRINUSE {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e.sources = append(e.sources, fd)
	return true, nil
}

// spread has the kernel choose the queue of what arrives by the lowest byte of
// its source port, as openSources chose that, if it is from the same range. All
// others, of whom nothing is known, are spread as the kernel does it.
func (e *endpoint) spread() error {
	const (
		network = 0xfff00000 // offsets from here on are those in the IP header (SKF_NET_OFF)
		unknown = 0xffffffff // no queue: the kernel's own choice
	)
	length := []bpf.Instruction{
		bpf.LoadAbsolute{Off: network, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 15},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2},
	}
	if e.family == unix.AF_INET6 {
		length = []bpf.Instruction{
			bpf.LoadAbsolute{Off: network + 6, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 1},
			bpf.RetConstant{Val: unknown}, // there are extension headers
			bpf.LoadConstant{Dst: bpf.RegA, Val: 40},
		}
	}
	return attach(e.queues[0].fd, unix.SO_ATTACH_REUSEPORT_CBPF, append(length,
		bpf.TAX{},
		bpf.LoadIndirect{Off: network, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: uint32(e.cfg.SourceLow), SkipTrue: 5},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(e.cfg.SourceHigh), SkipTrue: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: steps - 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: uint32(len(e.queues))},
		bpf.ALUOpConstant{Op: bpf.ALUOpDiv, Val: steps},
		bpf.RetA{},
		bpf.RetConstant{Val: unknown},
	))
}
