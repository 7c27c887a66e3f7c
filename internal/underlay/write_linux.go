package underlay

import (
	"unsafe"

	"github.com/uvtep/uvtep/internal/frame"
	"golang.org/x/sys/unix"
)

// writer is what sendmmsg needs, made once. The sockets are the endpoint's: all
// writers send by them, so that a flow has one source port whichever worker
// carries it.
type writer struct {
	sockets []int
	ttl     uint8
	v6      bool

	starts   []int // by socket: where in order its packets start, and then end
	order    [frame.BatchLen]*Packet
	msgs     [frame.BatchLen]mmsghdr
	iovecs   [frame.BatchLen]unix.Iovec
	controls [frame.BatchLen]control
}

func (w *writer) init(e *endpoint) {
	w.sockets, w.ttl, w.v6 = e.sources, e.cfg.TTL, e.family == unix.AF_INET6
	w.starts = make([]int, len(w.sockets)+1)
	for i := range w.msgs {
		h := &w.msgs[i].hdr
		h.Iov = &w.iovecs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&w.controls[i]))
	}
}

// Write implements Queue.
func (q *queue) Write(packets []Packet) int {
	sent := 0
	for len(packets) > 0 {
		n := min(len(packets), frame.BatchLen)
		sent += q.out.write(packets[:n])
		packets = packets[n:]
	}
	return sent
}

// write sends at most a batch.
func (w *writer) write(packets []Packet) int {
	w.sort(packets)
	for i := range packets {
		w.fill(i)
	}
	sent := 0
	for s, fd := range w.sockets {
		if from, to := w.starts[s], w.starts[s+1]; from < to {
			sent += w.send(fd, from, to)
		}
	}
	return sent
}

// sort sets order to the packets by their socket, those of one socket in the
// order in which they came; and starts.
func (w *writer) sort(packets []Packet) {
	clear(w.starts)
	for i := range packets {
		// Counted one further on than where they belong ...
		if s := w.socket(packets[i].Entropy) + 2; s < len(w.starts) {
			w.starts[s]++
		}
	}
	for s := 1; s < len(w.starts); s++ {
		w.starts[s] += w.starts[s-1]
	}
	for i := range packets {
		// ... and moved along while they are placed, each start ends up right.
		s := w.socket(packets[i].Entropy) + 1
		w.order[w.starts[s]] = &packets[i]
		w.starts[s]++
	}
}

// socket is the index of the socket that a flow is sent by.
func (w *writer) socket(entropy uint32) int {
	return int(uint64(entropy) * uint64(len(w.sockets)) >> 32)
}

// fill makes message i that of packet order[i].
func (w *writer) fill(i int) {
	p, h := w.order[i], &w.msgs[i].hdr
	payload := p.Frame.WithRoom(int(p.Head))
	w.iovecs[i].Base = unsafe.SliceData(payload)
	w.iovecs[i].SetLen(len(payload))
	h.Name = &p.Dst.raw[0]
	h.Namelen = p.Dst.len

	// What is as the socket has it needs no control message.
	n, c := 0, &w.controls[i]
	if p.TOS != 0 {
		if w.v6 {
			n = c.put(n, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int32(p.TOS))
		} else {
			n = c.put(n, unix.IPPROTO_IP, unix.IP_TOS, int32(p.TOS))
		}
	}
	if p.TTL != 0 && p.TTL != w.ttl {
		if w.v6 {
			n = c.put(n, unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, int32(p.TTL))
		} else {
			n = c.put(n, unix.IPPROTO_IP, unix.IP_TTL, int32(p.TTL))
		}
	}
	h.SetControllen(n)
}

// send sends the messages from..to by one socket, sets the packets' Reason, and
// returns how many were sent.
func (w *writer) send(fd, from, to int) int {
	sent, again := 0, false
	for from < to {
		n, errno := sendmmsg(fd, w.msgs[from:to])
		if errno == 0 {
			for i := range n {
				w.order[from+i].Reason = frame.NotDropped
			}
			from, sent, again = from+n, sent+n, false
			continue
		}
		var why frame.Reason
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN: // the buffer is full, for the others behind it too
			for ; from < to; from++ {
				w.order[from].Reason = frame.TunnelFull
			}
			return sent
		case unix.ENOBUFS, unix.ENOMEM:
			why = frame.TunnelFull
		case unix.EMSGSIZE:
			why = frame.TooBig
		default:
			// It may be the pending error of an earlier packet, which the
			// kernel tells once.
			if !again {
				again = true
				continue
			}
			why = frame.TunnelError
		}
		w.order[from].Reason = why
		from, again = from+1, false
	}
	return sent
}
