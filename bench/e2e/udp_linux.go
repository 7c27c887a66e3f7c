package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/netns"
)

const (
	// payloadLen makes a frame of 64 bytes: 14 of Ethernet, 20 of IPv4, 8 of
	// UDP, and 4 of FCS are around it.
	payloadLen = frameLen - 14 - 20 - 8 - 4
	udpPort    = 7777

	sendTick   = 250 * time.Microsecond // the sender sleeps until there is this much to send
	sendDebt   = 5 * time.Millisecond   // how far behind it may be and still make it good
	sendBatch  = 64                     // datagrams a call
	readTick   = time.Millisecond
	readBatch  = 256
	readBuffer = 16 << 20
	grace      = 100 * time.Millisecond // for what is still on its way
	patience   = time.Second            // for an answer
)

// udpPair is a connected socket in each of two guests, so that no datagram needs
// a lookup of its way, and nobody else's is read.
type udpPair struct {
	near, far int // file descriptors
	trial     uint64
}

func newUDPPair(near, far string) (*udpPair, error) {
	p := &udpPair{near: -1, far: -1}
	for _, end := range []struct {
		ns       string
		from, to netip.Addr
		fd       *int
	}{{near, guestAddr(0), guestAddr(1), &p.near}, {far, guestAddr(1), guestAddr(0), &p.far}} {
		err := netns.Do(end.ns, func() (err error) {
			*end.fd, err = udpSocket(end.from, end.to)
			return err
		})
		if err != nil {
			p.close()
			return nil, fmt.Errorf("UDP socket in %s: %w", end.ns, err)
		}
	}
	return p, nil
}

func (p *udpPair) close() {
	for _, fd := range []int{p.near, p.far} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func udpSocket(from, to netip.Addr) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	// Reading gives up now and then, to see whether it is still wanted.
	timeout := unix.NsecToTimeval(int64(patience))
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, readBuffer),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(fd, &unix.SockaddrInet4{Port: udpPort, Addr: from.As4()}),
		unix.Connect(fd, &unix.SockaddrInet4{Port: udpPort, Addr: to.As4()}),
	)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// flood offers datagrams at a rate for the time d, and counts what comes.
//
// The sender sleeps most of the time and sends what has become due in one call,
// the receiver looks once a millisecond: both leave the processors to what is
// measured, which on a small machine needs them itself.
func (p *udpPair) flood(ctx context.Context, rate float64, d time.Duration) (Trial, error) {
	p.trial++
	sent := make(chan uint64, 1) // how many there were, once all are sent
	r := &receiver{fd: p.far, trial: p.trial, sent: sent}
	var reading sync.WaitGroup
	reading.Go(r.run)
	t := Trial{Offered: rate}
	var err error
	t.Sent, t.Seconds, err = send(ctx, p.near, p.trial, rate, d)
	sent <- t.Sent
	reading.Wait()
	t.Received, t.Reordered = r.received, r.reordered
	return t, errors.Join(err, r.err)
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// messages are datagrams of payloadLen bytes, for one call. Each starts with the
// number of the trial and its own.
type messages struct {
	headers  []mmsghdr
	iovecs   []unix.Iovec
	payloads [][payloadLen]byte
}

func newMessages(n int) *messages {
	m := &messages{make([]mmsghdr, n), make([]unix.Iovec, n), make([][payloadLen]byte, n)}
	for i := range n {
		m.iovecs[i].Base = &m.payloads[i][0]
		m.iovecs[i].SetLen(payloadLen)
		m.headers[i].hdr.Iov = &m.iovecs[i]
		m.headers[i].hdr.SetIovlen(1)
	}
	return m
}

// call is sendmmsg or recvmmsg with the first n messages.
func (m *messages) call(trap uintptr, fd, n int, flags uintptr) (int, error) {
	for {
		done, _, errno := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(m.headers))), uintptr(n), flags, 0, 0)
		runtime.KeepAlive(m)
		switch errno {
		case 0:
			return int(done), nil
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS:
			return 0, nil
		default:
			return 0, errno
		}
	}
}

// onPreciseThread calls fn on a thread that sleeps as long as it is told to, and
// not up to 50 µs longer. The thread ends with it.
func onPreciseThread(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // coarser without, not wrong
		fn()
	}()
	<-done
}

// sleepUntil sleeps to the next whole tick.
func sleepUntil(start time.Time, tick time.Duration) {
	since := time.Since(start)
	t := unix.NsecToTimespec(int64(tick - since%tick))
	unix.Nanosleep(&t, nil) // being woken early does no harm
}

// send sends at a rate for the time d and says how many and how long it took. A
// sender that comes too late makes good a little, not more: a burst that nobody
// ordered would measure something else.
func send(ctx context.Context, fd int, trial uint64, rate float64, d time.Duration) (sent uint64, seconds float64, err error) {
	onPreciseThread(func() {
		m := newMessages(sendBatch)
		for i := range m.payloads {
			binary.NativeEndian.PutUint64(m.payloads[i][:], trial)
		}
		began := time.Now()
		origin := began // the rate counts from here
		before := uint64(0)
		for {
			now := time.Now()
			since := now.Sub(began)
			if since >= d || ctx.Err() != nil {
				seconds = since.Seconds()
				err = ctx.Err()
				return
			}
			due := rate*now.Sub(origin).Seconds() - float64(sent-before)
			if debt := rate * sendDebt.Seconds(); due > debt && due > sendBatch {
				origin, before = now.Add(-sendDebt), sent
				due = debt
			}
			if due < 1 {
				sleepUntil(began, sendTick)
				continue
			}
			n := min(int(due), sendBatch)
			for i := range n {
				binary.NativeEndian.PutUint64(m.payloads[i][8:], sent+uint64(i))
			}
			done, e := m.call(unix.SYS_SENDMMSG, fd, n, 0)
			if e != nil && !harmless(e) {
				err = fmt.Errorf("sendmmsg: %w", e)
				return
			}
			sent += uint64(done)
		}
	})
	return sent, seconds, err
}

// receiver counts what arrives of a trial.
type receiver struct {
	fd    int
	trial uint64
	sent  <-chan uint64

	received, reordered uint64
	err                 error
}

// run reads until all that was sent has come, or nothing has for a while.
func (r *receiver) run() {
	onPreciseThread(func() {
		m := newMessages(readBatch)
		var seen set
		next, total, known := uint64(0), uint64(0), false
		began := time.Now()
		last := began
		for {
			n, err := m.call(unix.SYS_RECVMMSG, r.fd, readBatch, unix.MSG_DONTWAIT)
			if err != nil && !harmless(err) {
				r.err = fmt.Errorf("recvmmsg: %w", err)
				return
			}
			for i := range n {
				b := m.payloads[i][:]
				if m.headers[i].len != payloadLen || binary.NativeEndian.Uint64(b) != r.trial {
					continue // late, of a trial before
				}
				number := binary.NativeEndian.Uint64(b[8:])
				if !seen.add(number) {
					continue
				}
				r.received++
				if number < next {
					r.reordered++
				}
				next = max(next, number+1)
			}
			if n > 0 {
				last = time.Now()
			}
			if n == readBatch {
				continue
			}
			if !known {
				select {
				case total = <-r.sent:
					known, last = true, time.Now()
				default:
				}
			}
			if known && (r.received >= total || time.Since(last) > grace) {
				return
			}
			sleepUntil(began, readTick)
		}
	})
}

// set is which numbers have been seen, a bit for each.
type set []uint64

// add tells whether a number is new.
func (s *set) add(number uint64) bool {
	word, bit := int(number/64), uint64(1)<<(number%64)
	if word >= len(*s) {
		*s = append(*s, make([]uint64, word+1-len(*s))...)
	}
	if (*s)[word]&bit != 0 {
		return false
	}
	(*s)[word] |= bit
	return true
}

// roundTrips sends a datagram, waits for its answer, and sends the next one, for
// the time d. It returns how long each took, sorted. Those that did not come back
// are not among them; only if none did, that is an error.
func (p *udpPair) roundTrips(ctx context.Context, d time.Duration) ([]time.Duration, error) {
	p.trial++
	var over atomic.Bool
	var echoing sync.WaitGroup
	echoing.Go(func() { echo(p.far, &over) })
	var all []time.Duration
	var err error
	onPreciseThread(func() { all, err = ask(ctx, p.near, p.trial, d) })
	over.Store(true)
	unix.Write(p.near, make([]byte, payloadLen)) // wakes the other end; it looks again by itself if that is lost
	echoing.Wait()
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("no answer within %s", max(d, patience))
	}
	slices.Sort(all)
	return all, err
}

func ask(ctx context.Context, fd int, trial uint64, d time.Duration) (all []time.Duration, err error) {
	all = make([]time.Duration, 0, 1<<16)
	var out, in [payloadLen]byte
	binary.NativeEndian.PutUint64(out[:], trial)
	for began, n := time.Now(), uint64(0); time.Since(began) < d; n++ {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		binary.NativeEndian.PutUint64(out[8:], n)
		start := time.Now()
		if _, err := unix.Write(fd, out[:]); err != nil && !harmless(err) {
			return nil, fmt.Errorf("send: %w", err)
		}
		for {
			_, err := unix.Read(fd, in[:])
			if err != nil && !harmless(err) {
				return nil, fmt.Errorf("receive: %w", err)
			}
			if err != nil || in == out {
				if err == nil {
					all = append(all, time.Since(start))
				}
				break
			}
		}
	}
	return all, nil
}

// echo sends back what it reads, until it is over.
func echo(fd int, over *atomic.Bool) {
	onPreciseThread(func() {
		var b [payloadLen]byte
		for !over.Load() {
			if n, err := unix.Read(fd, b[:]); err == nil && !over.Load() {
				unix.Write(fd, b[:n]) // what is lost is missed by whoever asked
			}
		}
	})
}

// harmless are errors that say no more than that nothing came, or that nobody
// listened yet.
func harmless(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNREFUSED) ||
		errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENOBUFS)
}
