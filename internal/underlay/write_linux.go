package underlay

import (
	"syscall"
	"time"
	"unsafe"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/mmsg"
	"golang.org/x/sys/unix"
)

const (
	maxMessages = 64   // of one system call
	maxIovecs   = 1024 // of all its messages
)

// writer is what sendmmsg needs, made once. The sockets are the endpoint's: all
// writers send by them, so that a flow has one source port whichever worker
// carries it.
type writer struct {
	end     *endpoint
	sockets []int
	withDF  int // how many of them are for packets with DF, or for all
	ttl     uint8
	v6      bool
	kernel  kernel
	wait    time.Duration // how long it may still wait for room
	napped  bool          // it has slept for room that no poll tells of

	starts []int // by socket: where in order its packets start, and then end
	order  [frame.BatchLen]*Packet

	n        int // messages that are ready
	pieces   int // iovecs in use
	messages [maxMessages]message
	msgs     [maxMessages]mmsg.Header
	iovecs   [maxIovecs]unix.Iovec
	controls [maxMessages]control
	one      [1]mmsg.Header // of those that are sent singly
}

// kernel is what a writer asks of the system: a test plays one that has no room.
type kernel struct {
	send func(fd int, msgs []mmsg.Header) (int, syscall.Errno)
	// wait returns when a socket may have room, after a while at most, and how
	// long that took. It just lets the time pass if fd is -1.
	wait func(fd int, atMost time.Duration) time.Duration
}

// message is what a message carries: the datagrams of packets order[from:to], or
// one of several that are of packet from.
type message struct {
	from, to int
	size     int // bytes
	segment  int // of a train; else the length of its only datagram
	count    int // datagrams
	ended    bool
}

func (w *writer) init(e *endpoint) {
	w.end, w.sockets, w.withDF, w.ttl, w.v6 = e, e.sources, e.withDF, e.cfg.TTL, e.family == unix.AF_INET6
	w.starts = make([]int, len(w.sockets)+1)
	w.kernel = kernel{mmsg.Send, poll}
}

// Allow implements Queue.
func (q *queue) Allow(wait time.Duration) { q.out.wait, q.out.napped = wait, false }

// Write implements Queue.
func (q *queue) Write(packets []Packet) int {
	sent := 0
	for len(packets) > 0 {
		n := min(len(packets), frame.BatchLen)
		q.out.write(packets[:n])
		for i := range packets[:n] {
			sent += packets[i].Sent
		}
		packets = packets[n:]
	}
	return sent
}

// write sends at most a batch.
func (w *writer) write(packets []Packet) {
	w.sort(packets)
	for s, fd := range w.sockets {
		for i := w.starts[s]; i < w.starts[s+1]; i++ {
			w.add(fd, i)
		}
		w.flush(fd)
	}
}

// sort sets order to the packets by their socket, those of one socket in the
// order in which they came; and starts.
func (w *writer) sort(packets []Packet) {
	clear(w.starts)
	for i := range packets {
		p := &packets[i]
		p.Sent, p.Reason = 0, frame.NotDropped
		// Counted one further on than where they belong ...
		if s := w.socket(p) + 2; s < len(w.starts) {
			w.starts[s]++
		}
	}
	for s := 1; s < len(w.starts); s++ {
		w.starts[s] += w.starts[s-1]
	}
	for i := range packets {
		// ... and moved along while they are placed, each start ends up right.
		s := w.socket(&packets[i]) + 1
		w.order[w.starts[s]] = &packets[i]
		w.starts[s]++
	}
}

// socket is the index of the socket that a packet is sent by: one for all of its
// flow, that differ in nothing else.
func (w *writer) socket(p *Packet) int {
	first, n := 0, w.withDF
	if p.NoDF && n < len(w.sockets) {
		first, n = n, len(w.sockets)-n
	}
	return first + int(uint64(p.Entropy)*uint64(n)>>32)
}

// add makes packet order[i] part of the message before it, or a message of its
// own, or one for each of its datagrams.
func (w *writer) add(fd, i int) {
	p := w.order[i]
	gso := w.end.Offload()&GSO != 0
	switch {
	case p.Segment == 0:
		if gso && w.join(i) {
			return
		}
		size := length(p.Data)
		w.begin(fd, i, p.Data, message{from: i, to: i + 1, size: size, segment: size, count: 1})
	case gso:
		w.begin(fd, i, p.Data, message{from: i, to: i + 1, size: length(p.Data), segment: p.Segment, count: p.Count, ended: true})
	default:
		for data := p.Data; len(data) > 0; {
			var one [][]byte
			one, data = cut(data, p.Segment)
			size := length(one)
			w.begin(fd, i, one, message{from: i, to: i + 1, size: size, segment: size, count: 1, ended: true})
		}
	}
}

func length(data [][]byte) (n int) {
	for _, d := range data {
		n += len(d)
	}
	return n
}

// cut is the first datagram of a train, and the others.
func cut(data [][]byte, segment int) (one, others [][]byte) {
	n := 0
	for i, d := range data {
		if n += len(d); n >= segment {
			return data[:i+1], data[i+1:]
		}
	}
	return data, nil
}

// join appends packet order[i], one datagram, to the last message, if that makes
// a train of them.
func (w *writer) join(i int) bool {
	if w.n == 0 {
		return false
	}
	p, m := w.order[i], &w.messages[w.n-1]
	if m.ended || m.count == MaxTrain || w.pieces+len(p.Data) > maxIovecs {
		return false
	}
	q := w.order[m.from]
	size := length(p.Data)
	if size > m.segment || m.size+size > MaxTrainLen || p.Dst != q.Dst || p.TOS != q.TOS || p.TTL != q.TTL {
		return false
	}
	m.to, m.size, m.count, m.ended = i+1, m.size+size, m.count+1, size < m.segment
	w.gather(p.Data)
	h := &w.msgs[w.n-1].Hdr
	h.SetIovlen(int(h.Iovlen) + len(p.Data))
	return true
}

func (w *writer) gather(data [][]byte) {
	for _, d := range data {
		w.iovecs[w.pieces].Base = unsafe.SliceData(d)
		w.iovecs[w.pieces].SetLen(len(d))
		w.pieces++
	}
}

// begin makes a message of data, which is of packet order[i].
func (w *writer) begin(fd, i int, data [][]byte, m message) {
	if w.n == maxMessages || w.pieces+len(data) > maxIovecs {
		w.flush(fd)
	}
	p, h := w.order[i], &w.msgs[w.n].Hdr
	h.Iov = &w.iovecs[w.pieces]
	h.SetIovlen(len(data))
	w.gather(data)
	h.Name, h.Namelen = &p.Dst.raw[0], p.Dst.len
	w.messages[w.n] = m
	w.n++
}

// control writes a message's control messages, once it is known what it carries.
// What is as the socket has it needs none.
func (w *writer) control(i int) {
	m, c := &w.messages[i], &w.controls[i]
	p, n := w.order[m.from], 0
	if p.TOS != 0 {
		if w.v6 {
			n = c.putInt(n, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int32(p.TOS))
		} else {
			n = c.putInt(n, unix.IPPROTO_IP, unix.IP_TOS, int32(p.TOS))
		}
	}
	if p.TTL != 0 && p.TTL != w.ttl {
		if w.v6 {
			n = c.putInt(n, unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, int32(p.TTL))
		} else {
			n = c.putInt(n, unix.IPPROTO_IP, unix.IP_TTL, int32(p.TTL))
		}
	}
	if out := p.Dst.out; out != 0 {
		n = w.by(c, n, out)
	}
	if m.count > 1 {
		n = c.putUint16(n, unix.IPPROTO_UDP, udpSegment, uint16(m.segment))
	}
	h := &w.msgs[i].Hdr
	h.Control = (*byte)(unsafe.Pointer(c))
	h.SetControllen(n)
}

// by writes the control message that says which interface to send by, and returns
// where the next one goes. An IPv4 source address has to be said along with it.
func (w *writer) by(c *control, at int, device int32) int {
	if w.v6 {
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(c.put(at, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)))
		*info = unix.Inet6Pktinfo{Ifindex: uint32(device)}
		return at + unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	info := (*unix.Inet4Pktinfo)(unsafe.Pointer(c.put(at, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)))
	*info = unix.Inet4Pktinfo{Ifindex: device, Spec_dst: w.end.cfg.Local.As4()}
	return at + unix.CmsgSpace(unix.SizeofInet4Pktinfo)
}

// flush sends all messages by one socket, and tells the packets what became of
// them.
func (w *writer) flush(fd int) {
	for i := range w.n {
		w.control(i)
	}
	again, waited := false, -1 // the message that was waited for last
	for i := 0; i < w.n; {
		n, errno := w.kernel.send(fd, w.msgs[i:w.n])
		if errno == 0 {
			for range n {
				w.sent(&w.messages[i])
				i++
			}
			again = false
			continue
		}
		var why frame.Reason
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			if i != waited && w.room(fd, errno) {
				waited = i
				continue
			}
			why = frame.TunnelFull
			if errno == unix.EAGAIN { // the buffer is full, for the others behind it too
				for ; i < w.n; i++ {
					w.refused(&w.messages[i], why)
				}
				continue
			}
		case unix.EMSGSIZE:
			why = frame.TooBig
			// The shorter one at the end of a train may fit, and none of them is
			// fragmented while they are one.
			if m := &w.messages[i]; m.to-m.from > 1 || m.count > 1 && w.end.cfg.Fragment {
				w.singly(fd, i)
				i, again = i+1, false
				continue
			}
		default:
			// It may be the pending error of an earlier packet, which the
			// kernel tells once.
			if !again {
				again = true
				continue
			}
			why = frame.TunnelError
			if w.messages[i].count > 1 && (errno == unix.EIO || errno == unix.EINVAL) {
				// If it takes them one by one, and whole, it cannot split, at least
				// for this destination, and is not asked to again.
				if w.singly(fd, i) && !w.fragmented(&w.messages[i]) {
					w.end.lose(GSO)
				}
				i, again = i+1, false
				continue
			}
		}
		w.refused(&w.messages[i], why)
		i, again = i+1, false
	}
	w.n, w.pieces = 0, 0
}

// room waits for room in a socket that had none, if there is time left for that,
// and reports whether it pays to try again. Who gets nothing sent after it does
// not ask again, so that it takes no more calls than there are messages.
func (w *writer) room(fd int, errno syscall.Errno) bool {
	if w.wait <= 0 {
		return false
	}
	if errno != unix.EAGAIN { // the memory is not the socket's
		if w.napped {
			return false
		}
		w.napped, fd = true, -1
	}
	w.wait -= w.kernel.wait(fd, w.wait)
	return true
}

func (w *writer) sent(m *message) {
	if m.to-m.from == 1 {
		w.order[m.from].Sent += m.count
		return
	}
	for _, p := range w.order[m.from:m.to] {
		p.Sent++
	}
}

func (w *writer) refused(m *message, why frame.Reason) {
	for _, p := range w.order[m.from:m.to] {
		p.Reason = why
	}
}

// singly sends the datagrams of a train one by one, which the kernel has just
// refused to split, and reports whether the splitting was at fault: it takes them now,
// and none is too big, of which some kernels say the same.
func (w *writer) singly(fd, i int) (atFault bool) {
	m := &w.messages[i]
	h := &w.one[0].Hdr
	*h = w.msgs[i].Hdr
	data := unsafe.Slice(h.Iov, int(h.Iovlen))
	w.messages[i].count = 1
	w.control(i)
	h.Control, h.Controllen = w.msgs[i].Hdr.Control, w.msgs[i].Hdr.Controllen
	packet, took, big, whole := m.from, false, false, true
	for len(data) > 0 {
		n, k := 0, 0
		for k < len(data) && n < m.segment {
			n += int(data[k].Len)
			k++
		}
		h.Iov = &data[0]
		h.SetIovlen(k)
		data = data[k:]
		p := w.order[packet]
		if packet+1 < m.to {
			packet++
		}
		if big && n == m.segment { // as was one of the same length
			p.Reason = frame.TooBig
			continue
		}
		switch errno := w.sendOne(fd); errno {
		case 0:
			p.Sent++
			took = true
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			p.Reason = frame.TunnelFull
		case unix.EMSGSIZE:
			p.Reason = frame.TooBig
			big = big || n == m.segment
			whole = false
		default:
			p.Reason = frame.TunnelError
		}
	}
	return took && whole
}

// fragmented reports whether the datagrams of a message are sent in fragments.
func (w *writer) fragmented(m *message) bool {
	if !w.end.cfg.Fragment {
		return false
	}
	mtu, err := w.end.PathMTU(w.order[m.from].Dst)
	return err != nil || m.segment+headers(w.v6) > mtu
}

// sendOne sends the message one, and waits for room once.
func (w *writer) sendOne(fd int) syscall.Errno {
	waited := false
	for {
		_, errno := w.kernel.send(fd, w.one[:])
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			if !waited && w.room(fd, errno) {
				waited = true
				continue
			}
		}
		return errno
	}
}
