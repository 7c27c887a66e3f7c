package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Sniffer looks at every frame that arrives at an interface.
type Sniffer struct {
	link *link
	own  Tag
	done chan struct{}

	mu   sync.Mutex
	seen Seen
}

// Sniff starts to look at what arrives at an interface, for marks of its own
// segment and of others.
func Sniff(ns, ifname string, own Tag) (*Sniffer, error) {
	l, err := openLink(ns, ifname, unix.ETH_P_ALL)
	if err != nil {
		return nil, fmt.Errorf("sniff: %w", err)
	}
	s := &Sniffer{link: l, own: own, done: make(chan struct{})}
	go s.run()
	return s, nil
}

func (s *Sniffer) run() {
	defer close(s.done)
	buf := make([]byte, maxFrame)
	for {
		n, err := s.link.Read(buf)
		switch {
		case errors.Is(err, unix.ENETDOWN): // told once; the interface may come back
			continue
		case err != nil: // closed, or the interface is gone for good
			return
		}
		s.mu.Lock()
		s.seen.inspect(buf[:n], s.own)
		s.mu.Unlock()
	}
}

// Seen is what arrived so far.
func (s *Sniffer) Seen() Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Lost += s.link.lost()
	return s.seen
}

// Close ends the looking.
func (s *Sniffer) Close() error {
	err := s.link.Close()
	<-s.done
	return err
}

// Shout broadcasts n marked frames that no protocol stack listens to.
func Shout(ns, ifname string, tag Tag, n int) error {
	l, err := openLink(ns, ifname, etherShout)
	if err != nil {
		return fmt.Errorf("shout: %w", err)
	}
	defer l.Close()
	frame := make([]byte, 60)
	for i := range 6 {
		frame[i] = 0xff
	}
	copy(frame[6:], l.mac)
	binary.BigEndian.PutUint16(frame[12:], etherShout)
	copy(frame[etherLen:], tag.String())
	for range n {
		if _, err := l.Write(frame); err != nil {
			return fmt.Errorf("shout on %s in %s: %w", ifname, ns, err)
		}
	}
	return nil
}
