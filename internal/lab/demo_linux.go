package lab

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/lab/guest"
)

const (
	pings        = 3 // of every pair
	pingInterval = 5 * time.Millisecond
	pingTimeout  = 2 * time.Second

	askTries  = 10
	askWindow = 100 * time.Millisecond // in which a second one who answers is heard

	shouts       = 10                     // of every guest
	shoutTimeout = 3 * time.Second        // for all of them to arrive
	settle       = 100 * time.Millisecond // for what should not arrive

	talkers = 64 // pairs that talk at a time
)

// Demo makes a lab and proves what it is for: every guest has the address that
// its own segment's server keeps for it, reaches every other guest of its
// segment, and nobody of another. The lab stays up; if anything is not as it
// should be, or the context ends, all of it is taken down. Errors are those of
// Up, and those that Report's checks find.
func Demo(ctx context.Context, o Options) (*Report, error) {
	l, err := claim(o)
	if err != nil {
		return nil, err
	}
	p := &progress{tell: o.Progress}
	w := &witness{lab: l}
	defer w.close()
	if err := l.make(ctx, p, w.start); err != nil {
		w.close() // or its sockets would keep the namespaces
		return nil, l.abandon(ctx, p, err)
	}
	r, err := w.examine(ctx, p)
	if err != nil {
		w.close()
		return nil, l.abandon(ctx, p, err)
	}
	return r, nil
}

// witness sits in every guest: it looks at each frame that arrives, and answers
// whoever asks for the guest's name.
type witness struct {
	lab        *Lab
	sniffers   []*guest.Sniffer // in the order of the lab's guests
	responders []*guest.Responder
}

func (w *witness) start() error {
	for _, g := range w.lab.Guests {
		s, err := guest.Sniff(g.NetNS, guestInterface, w.lab.tag(g.VNI))
		if err != nil {
			return fmt.Errorf("%s: %w", w.lab, err)
		}
		w.sniffers = append(w.sniffers, s)
		r, err := guest.Listen(g.NetNS, g.Name)
		if err != nil {
			return fmt.Errorf("%s: %w", w.lab, err)
		}
		w.responders = append(w.responders, r)
	}
	return nil
}

// close ends all of it. It may be called again.
func (w *witness) close() {
	for _, s := range w.sniffers {
		s.Close()
	}
	for _, r := range w.responders {
		r.Close()
	}
	w.sniffers, w.responders = nil, nil
}

// examine lets the guests talk, and judges.
func (w *witness) examine(ctx context.Context, p *progress) (*Report, error) {
	r := &Report{Lab: w.lab}
	for _, step := range []struct {
		name string
		work func(context.Context, *Report, func(string, ...any)) error
	}{
		{"ping in each segment", w.ping},
		{"ask who is who", w.ask},
		{"look at every frame", w.shout},
		{"read the FDBs", w.readFDBs},
	} {
		err := p.step(ctx, step.name, func(ctx context.Context, say func(string, ...any)) error {
			return step.work(ctx, r, say)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.lab, err)
		}
	}
	return r, nil
}

// talk calls fn for every pair, several at a time.
func (w *witness) talk(ctx context.Context, say func(string, ...any), fn func(context.Context, int, pair) error) (int, error) {
	all := w.lab.pairs()
	var done atomic.Int32
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(talkers)
	for i, p := range all {
		group.Go(func() error {
			if err := fn(ctx, i, p); err != nil {
				return err
			}
			say("%d of %d", done.Add(1), len(all))
			return nil
		})
	}
	return len(all), group.Wait()
}

func (w *witness) ping(ctx context.Context, r *Report, say func(string, ...any)) error {
	r.Pings = make([]Ping, len(w.lab.pairs()))
	n, err := w.talk(ctx, say, func(ctx context.Context, i int, p pair) error {
		res, err := guest.Ping(ctx, p.from.NetNS, p.to.Lease.Address.Addr(), guest.PingOptions{
			Count: pings, Interval: pingInterval, Timeout: pingTimeout, Payload: []byte(w.lab.tag(p.from.VNI).String()),
		})
		if err != nil {
			return fmt.Errorf("%s to %s: %w", p.from.Name, p.to.Name, err)
		}
		r.Pings[i] = Ping{p.from, p.to, res}
		return r.Pings[i].check()
	})
	if err != nil {
		return err
	}
	if n == 0 {
		say("no two guests are in one segment")
		return nil
	}
	all := Summarize(r.Pings)
	say("%s, %d of %d back, %s on average", count(n, "pair"), all.Received, all.Sent, Milliseconds(all.Avg()))
	return nil
}

func (w *witness) ask(ctx context.Context, _ *Report, say func(string, ...any)) error {
	n, err := w.talk(ctx, say, func(ctx context.Context, _ int, p pair) error {
		answers, err := guest.Ask(ctx, p.from.NetNS, p.to.Lease.Address.Addr(), w.lab.tag(p.from.VNI), askTries, askWindow)
		if err != nil {
			return err
		}
		return p.checkAnswers(answers)
	})
	if err != nil {
		return err
	}
	if n > 0 {
		say("%s, each from the own segment", count(n, "answer"))
	}
	return nil
}

// shout has every guest broadcast, and then judges all that has arrived since
// the witness came.
func (w *witness) shout(ctx context.Context, r *Report, say func(string, ...any)) error {
	var group errgroup.Group
	group.SetLimit(talkers)
	for _, g := range w.lab.Guests {
		group.Go(func() error { return guest.Shout(g.NetNS, guestInterface, w.lab.tag(g.VNI), shouts) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	want := func(g *Guest) uint64 { return uint64(shouts * (len(w.lab.of(g.VNI)) - 1)) }
	for deadline := time.Now().Add(shoutTimeout); ; {
		waiting := 0
		for i, g := range w.lab.Guests {
			if w.sniffers[i].Seen().Broadcast < want(g) {
				waiting++
			}
		}
		if waiting == 0 || time.Now().After(deadline) {
			break
		}
		say("%s to hear all", count(waiting, "guest"))
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	var total uint64
	for i, g := range w.lab.Guests {
		a := Arrived{g, w.sniffers[i].Seen()}
		if err := a.checkOrigin(w.lab.Run); err != nil {
			return err
		}
		total += a.Frames
		r.Seen = append(r.Seen, a)
	}
	for _, a := range r.Seen {
		if err := a.checkBroadcasts(want(a.Guest)); err != nil {
			return err
		}
	}
	say("%s, none of another segment", count(int(total), "frame"))
	return nil
}

func (w *witness) readFDBs(ctx context.Context, r *Report, say func(string, ...any)) error {
	r.FDBs = make([]HostFDB, len(w.lab.Hosts))
	var entries int
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, h := range w.lab.Hosts {
		group.Go(func() error {
			all, err := control.NewClient(h.Socket).FDB(ctx, 0)
			if err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
			r.FDBs[i] = HostFDB{h, all}
			mu.Lock()
			entries += len(all)
			mu.Unlock()
			return w.lab.checkFDB(r.FDBs[i])
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	say("%d entries, each guest where it is", entries)
	return nil
}

// sleep waits, or returns the context's error if it ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
