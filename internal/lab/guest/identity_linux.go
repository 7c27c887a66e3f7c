package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/netns"
)

// identityPort is the UDP port on which a guest tells its name: the question
// comes back as with echo (RFC 862), and the name behind it.
const identityPort = 7007

// Responder answers whoever asks a guest for its name.
type Responder struct {
	conn *net.UDPConn
	done chan struct{}
}

// Listen starts to answer in a namespace, on all its addresses, now and to come.
func Listen(ns, answer string) (*Responder, error) {
	r := &Responder{done: make(chan struct{})}
	err := netns.Do(ns, func() (err error) {
		r.conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: identityPort})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("answer in %s: %w", ns, err)
	}
	go func() {
		defer close(r.done)
		buf := make([]byte, maxFrame)
		for {
			n, from, err := r.conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				// One who cannot be answered asks again.
				r.conn.WriteToUDPAddrPort(append(buf[:n:n], answer...), from)
			}
		}
	}()
	return r, nil
}

// Close ends the answering.
func (r *Responder) Close() error {
	err := r.conn.Close()
	<-r.done
	return err
}

// Ask asks an address for its name, marked with a tag, and listens for the whole
// window even after the first answer, so that a second one who holds the same
// address is heard too. Without an answer it asks again, tries times in all; no
// answers is no error.
func Ask(ctx context.Context, ns string, dst netip.Addr, tag Tag, tries int, window time.Duration) ([]Answer, error) {
	var conn *net.UDPConn
	err := netns.Do(ns, func() (err error) {
		conn, err = net.ListenUDP("udp4", nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask %s from %s: %w", dst, ns, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	var answers []Answer
	for range tries {
		question := fmt.Appendf(nil, "%s %016x ", tag, rand.Uint64())
		if _, err := conn.WriteToUDPAddrPort(question, netip.AddrPortFrom(dst, identityPort)); err != nil && !unanswered(err) {
			return nil, fmt.Errorf("ask %s from %s: %w", dst, ns, err)
		}
		conn.SetReadDeadline(time.Now().Add(window))
		for buf := make([]byte, maxFrame); ; {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				if unanswered(err) {
					continue
				}
				return nil, fmt.Errorf("ask %s from %s: %w", dst, ns, err)
			}
			if text, ok := bytes.CutPrefix(buf[:n], question); ok {
				answers = append(answers, Answer{From: from.Addr().Unmap(), Text: string(text)})
			}
		}
		if len(answers) > 0 {
			break
		}
	}
	return answers, nil
}

// unanswered says whether an error is the network's way to say that nobody is
// there: no ARP reply, or nothing on the port.
func unanswered(err error) bool {
	return errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ECONNREFUSED)
}
