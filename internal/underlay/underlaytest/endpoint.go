package underlaytest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/underlay"
)

// DefaultCapacity is how many packets wait at a queue before more are lost.
const DefaultCapacity = 4096

// Stats are what an endpoint has counted.
type Stats struct {
	Sent     uint64 // packets that Write sent
	Refused  uint64 // packets that Write did not send
	Arrived  uint64 // packets that were put into a queue
	Overflow uint64 // packets that were lost as their queue was full
}

// Endpoint is an underlay.Endpoint on a Network.
type Endpoint struct {
	net    *Network
	cfg    underlay.Config
	addr   netip.AddrPort
	queues []*Queue
	ends   []underlay.Queue

	// Guarded by net.mu.
	groups   map[netip.Addr]*membership // whatever the interface: there is one network
	next     int                        // the queue that the next group goes to
	offload  underlay.Offload
	capacity int
	full     bool
	stats    Stats
}

type membership struct {
	queue   *Queue
	times   int
	devices []string
}

func newEndpoint(n *Network, cfg underlay.Config) *Endpoint {
	cfg.TTL = cmp.Or(cfg.TTL, 64)
	cfg.Sources = cmp.Or(cfg.Sources, 16)
	cfg.SourceLow = cmp.Or(cfg.SourceLow, 49152)
	cfg.SourceHigh = cmp.Or(cfg.SourceHigh, 65535)
	e := &Endpoint{
		net: n, cfg: cfg, addr: netip.AddrPortFrom(cfg.Local, cfg.Port),
		groups: map[netip.Addr]*membership{}, capacity: DefaultCapacity, offload: cfg.Offload & n.Offload,
	}
	for range max(1, cfg.Queues) {
		q := &Queue{end: e}
		e.queues = append(e.queues, q)
		e.ends = append(e.ends, q)
	}
	return e
}

// Queues implements underlay.Endpoint.
func (e *Endpoint) Queues() []underlay.Queue { return e.ends }

// Join implements underlay.Endpoint.
func (e *Endpoint) Join(group netip.Addr, device string) (*underlay.Remote, error) {
	group = group.Unmap().WithZone("")
	if !group.IsMulticast() {
		return nil, fmt.Errorf("underlay: join %s: %w", group, underlay.ErrNotMulticast)
	}
	if group.Is4() != e.cfg.Local.Is4() {
		return nil, fmt.Errorf("underlay: join %s: the group and underlay.local (%s) must both be IPv4 or both IPv6", group, e.cfg.Local)
	}
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	m := e.groups[group]
	if m == nil {
		m = &membership{queue: e.queues[e.next%len(e.queues)]}
		e.next++
		e.groups[group] = m
	}
	m.times++
	m.devices = append(m.devices, device)
	return underlay.NewRemote(group, e.cfg.Port), nil
}

// Leave implements underlay.Endpoint.
func (e *Endpoint) Leave(group netip.Addr, device string) error {
	group = group.Unmap().WithZone("")
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if m := e.groups[group]; m != nil {
		if i := slices.Index(m.devices, device); i >= 0 {
			m.devices = slices.Delete(m.devices, i, i+1)
		}
		if m.times--; m.times == 0 {
			delete(e.groups, group)
		}
	}
	return nil
}

// MTU implements underlay.Endpoint.
func (e *Endpoint) MTU() (int, error) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	return e.net.mtu, nil
}

// PathMTU implements underlay.Endpoint.
func (e *Endpoint) PathMTU(dst *underlay.Remote) (int, error) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	return e.net.pathMTU(dst.Addr()), nil
}

// Offload implements underlay.Endpoint: what was asked for and its network can
// do, unless SetOffload changed it.
func (e *Endpoint) Offload() underlay.Offload {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	return e.offload
}

// SetOffload sets what is done, as a kernel that refuses an offload does.
func (e *Endpoint) SetOffload(o underlay.Offload) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.offload = o
}

// Close implements underlay.Endpoint.
func (e *Endpoint) Close() error {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.net.endpoints[e.addr] == e {
		delete(e.net.endpoints, e.addr)
	}
	return nil
}

// Config is what the endpoint was opened with, its zeros filled in.
func (e *Endpoint) Config() underlay.Config { return e.cfg }

// Groups are the groups that are joined now, sorted.
func (e *Endpoint) Groups() []netip.Addr {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	var gs []netip.Addr
	for g := range e.groups {
		gs = append(gs, g)
	}
	slices.SortFunc(gs, netip.Addr.Compare)
	return gs
}

// Devices are the interfaces that a group is joined on now, once for each time.
func (e *Endpoint) Devices(group netip.Addr) []string {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if m := e.groups[group]; m != nil {
		return slices.Clone(m.devices)
	}
	return nil
}

// Stats are the counters so far.
func (e *Endpoint) Stats() Stats {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	return e.stats
}

// SetFull makes Write refuse with TunnelFull, as a socket whose buffer is full.
func (e *Endpoint) SetFull(full bool) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.full = full
}

// SetCapacity sets how many packets wait at each queue before more are lost.
func (e *Endpoint) SetCapacity(packets int) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.capacity = packets
}

// spread is the index of the queue that a sender's packets go to.
func (e *Endpoint) spread(src netip.AddrPort) int {
	h, a := fnv.New32a(), src.Addr().As16()
	h.Write(a[:])
	h.Write(binary.BigEndian.AppendUint16(nil, src.Port()))
	return int(h.Sum32() % uint32(len(e.queues)))
}

// source is the address and port that a flow is sent from.
func (e *Endpoint) source(entropy uint32) netip.AddrPort {
	room := int(e.cfg.SourceHigh) - int(e.cfg.SourceLow) + 1
	n := min(e.cfg.Sources, room)
	i := int(uint64(entropy) * uint64(n) >> 32)
	return netip.AddrPortFrom(e.cfg.Local, e.cfg.SourceLow+uint16(i*(room/n)))
}

// Queue is an underlay.Queue.
type Queue struct {
	end *Endpoint

	// Guarded by end.net.mu.
	waiting []arrived
	wake    func()
}

type arrived struct {
	src     netip.AddrPort
	tos     uint8
	segment int // of a merged payload
	payload []byte
}

// Fd is -1: there is nothing to poll. Use Notify.
func (q *Queue) Fd() int { return -1 }

// Notify sets what is called whenever Read may have something, and calls it at
// once if that is so already. It is called from the goroutine that sends.
func (q *Queue) Notify(wake func()) {
	q.end.net.mu.Lock()
	q.wake = wake
	ready := len(q.waiting) > 0
	q.end.net.mu.Unlock()
	if ready && wake != nil {
		wake()
	}
}

func (q *Queue) notified() func() {
	q.end.net.mu.Lock()
	defer q.end.net.mu.Unlock()
	return q.wake
}

// put adds a packet and reports whether there was room. The caller holds the
// network's mu.
func (q *Queue) put(p Packet) bool {
	if len(q.waiting) >= q.end.capacity {
		q.end.stats.Overflow++
		return false
	}
	q.end.stats.Arrived++
	q.waiting = append(q.waiting, arrived{src: p.Src, tos: p.TOS, payload: slices.Clone(p.Payload)})
	return true
}

// Read implements underlay.Queue.
func (q *Queue) Read(b *frame.Batch) (int, error) {
	q.end.net.mu.Lock()
	defer q.end.net.mu.Unlock()
	n := 0
	for len(q.waiting) > 0 {
		f := b.Next()
		if f == nil {
			break
		}
		w := q.next(len(f.Buffer()))
		if len(w.payload) <= len(f.Buffer()) {
			b.Commit(copy(f.Buffer(), w.payload))
		} else {
			b.Commit(0)
			f.Drop(frame.TooBig)
		}
		f.Outer = frame.Outer{Src: w.src.Addr(), TOS: w.tos, Segment: uint16(w.segment)}
		n++
	}
	return n, nil
}

// next takes what arrived first, and with GRO what arrived behind it from the
// same port in datagrams of the same length, the last of which may be shorter,
// up to room bytes.
func (q *Queue) next(room int) arrived {
	w := q.waiting[0]
	n, first := 1, len(w.payload)
	for q.end.offload&underlay.GRO != 0 && n < len(q.waiting) && n < underlay.MaxTrain {
		p := &q.waiting[n]
		if p.src != w.src || p.tos != w.tos || len(p.payload) > first || len(p.payload) == 0 || len(w.payload)+len(p.payload) > room {
			break
		}
		w.payload = append(w.payload[:len(w.payload):len(w.payload)], p.payload...)
		w.segment = first
		n++
		if len(p.payload) < first {
			break
		}
	}
	clear(q.waiting[:n])
	q.waiting = q.waiting[n:]
	return w
}

// Write implements underlay.Queue.
func (q *Queue) Write(packets []underlay.Packet) int {
	e, sent := q.end, 0
	for i := range packets {
		p := &packets[i]
		p.Sent, p.Reason = 0, frame.NotDropped
		for _, payload := range datagrams(p) {
			df := e.df(p)
			if why := e.refuse(p.Dst.Addr(), len(payload), df); why != frame.NotDropped {
				p.Reason = why
				continue
			}
			p.Sent++
			e.net.carry(Packet{
				Src: e.source(p.Entropy), Dst: p.Dst.AddrPort(),
				TOS: p.TOS, TTL: cmp.Or(p.TTL, e.cfg.TTL), DF: df, Payload: payload,
			}, e)
		}
		sent += p.Sent
	}
	return sent
}

// Allow implements underlay.Queue. Nobody makes room while Write waits, so it
// does not.
func (q *Queue) Allow(time.Duration) {}

// datagrams are those of a packet. It panics where Count and the pieces do not
// say the same, which is the caller's fault.
func datagrams(p *underlay.Packet) [][]byte {
	all := slices.Concat(p.Data...)
	if p.Segment == 0 {
		if p.Count != 1 {
			panic(fmt.Sprintf("%d datagrams without a segment length", p.Count))
		}
		return [][]byte{all}
	}
	var out [][]byte
	for d := range slices.Chunk(all, p.Segment) {
		out = append(out, d)
	}
	if len(out) != p.Count || p.Count > underlay.MaxTrain || len(all) > underlay.MaxTrainLen {
		panic(fmt.Sprintf("a train of %d datagrams and %d bytes that says it has %d", len(out), len(all), p.Count))
	}
	return out
}

// df is a packet's don't-fragment flag.
func (e *Endpoint) df(p *underlay.Packet) bool {
	return e.cfg.Local.Is4() && (e.cfg.DF == underlay.DFSet || e.cfg.DF == underlay.DFInherit && !p.NoDF)
}

// refuse counts a packet of n bytes, and says why it cannot be sent.
func (e *Endpoint) refuse(dst netip.Addr, n int, df bool) frame.Reason {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	headers := 20 + 8 // IPv4 and UDP
	if dst.Is6() {
		headers = 40 + 8
	}
	mtu := e.net.mtu
	if df || dst.Is6() {
		mtu = e.net.pathMTU(dst)
	}
	why := frame.NotDropped
	switch {
	case dst.Is4() != e.cfg.Local.Is4():
		why = frame.TunnelError
	case n+headers > mtu && !e.cfg.Fragment:
		why = frame.TooBig
	case e.full:
		why = frame.TunnelFull
	}
	if why == frame.NotDropped {
		e.stats.Sent++
	} else {
		e.stats.Refused++
	}
	return why
}
