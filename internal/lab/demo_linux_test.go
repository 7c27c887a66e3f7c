package lab

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/lab/guest"
	"github.com/uvtep/uvtep/internal/netns"
)

func TestTheDemoProvesItsCaseAndLeavesNothing(t *testing.T) {
	for _, flags := range [][]string{nil, {"--ipv6", "--port=8472", "--mtu=9000", "--hosts=3", "--guests=3"}} {
		tr := newTrial(t)
		out, errOut, code := tr.run("demo", append(flags, tr.vniFlag())...)
		if code != 0 || errOut != "" {
			t.Fatalf("%v: exit code %d, %s\n%s", flags, code, errOut, out)
		}
		a, b := tr.vnis[0], tr.vnis[1]
		for _, want := range []string{
			fmt.Sprintf("g1-v%d  h1    02:00:00:00:00:01  192.168.100.10  192.168.100.1    1", a),
			fmt.Sprintf("g2-v%d  h2    02:00:00:00:00:02  192.168.100.11  192.168.100.1    1", b),
			fmt.Sprintf("g1-v%d on h1  g2-v%d on h2  192.168.100.11  3 of 3", a, a),
			fmt.Sprintf("g2-v%d on h2  g1-v%d on h1  192.168.100.10  3 of 3", b, b),
			"each from the own segment", "none of another segment", "each guest where it is", "take all of it down",
			"FDB of h1", "FDB of h2", fmt.Sprintf("port v%dg1", a), "DHCP responder",
			"guests have their address and reach their own segment, nobody else",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: lacks %q:\n%s", flags, want, out)
			}
		}
		if strings.Contains(out, "\x1b") {
			t.Error("a file gets escape sequences")
		}
		tr.nothingIsLeft()
	}
}

// examined makes a lab, lets a test spoil it, and returns what the examination
// finds.
func examined(t *testing.T, spoil func(*Lab, *witness)) error {
	t.Helper()
	l, err := claim(newTrial(t).options())
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{lab: l}
	t.Cleanup(func() { // before the trial looks for what is left
		w.close()
		if err := l.Down(context.Background(), nil); err != nil {
			t.Error(err)
		}
	})
	p := new(progress)
	if err := l.make(t.Context(), p, w.start); err != nil {
		t.Fatal(err)
	}
	if spoil != nil {
		spoil(l, w)
	}
	_, err = w.examine(t.Context(), p)
	return err
}

func TestASoundLabPassesTheExamination(t *testing.T) {
	if err := examined(t, nil); err != nil {
		t.Error(err)
	}
}

// packetSocket sees and sends all frames of a guest's interface.
func packetSocket(t *testing.T, g *Guest) *os.File {
	t.Helper()
	var fd int
	err := netns.Do(g.NetNS, func() error {
		ifi, err := net.InterfaceByName(guestInterface)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bits.ReverseBytes16(unix.ETH_P_ALL), Ifindex: ifi.Index}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "packet:"+g.Name)
}

func TestAGuestThatCarriesFramesIntoAnotherSegmentIsFound(t *testing.T) {
	var from, to *os.File
	done := make(chan struct{})
	err := examined(t, func(l *Lab, w *witness) {
		a, b := l.of(l.VNIs[0]), l.of(l.VNIs[1])
		from, to = packetSocket(t, a[1]), packetSocket(t, b[1])
		go func() {
			defer close(done)
			for buf := make([]byte, 1<<16); ; {
				n, err := from.Read(buf)
				if err != nil {
					return
				}
				to.Write(buf[:n]) // one that is lost is as good as one that did not leak
			}
		}()
		if err := guest.Shout(a[0].NetNS, guestInterface, l.tag(a[0].VNI), 1); err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			if w.sniffers[2].Seen().Foreign > 0 { // of the first guest of the other segment
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		from.Close()
		<-done
		to.Close()
	})
	if !errors.Is(err, ErrLeak) || !strings.Contains(err.Error(), ", got ") {
		t.Errorf("%v, want that a frame crossed", err)
	}
}

func TestAnUnpluggedHostIsFound(t *testing.T) {
	err := examined(t, func(l *Lab, _ *witness) {
		err := inside(l.Hosts[1].NetNS, func(h *netlink.Handle) error {
			link, err := h.LinkByName(guestInterface)
			if err != nil {
				return err
			}
			return h.LinkSetDown(link)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v, want that guests do not reach each other", err)
	}
}

func TestAGuestWithTheNameOfAnotherSegmentIsFound(t *testing.T) {
	err := examined(t, func(l *Lab, w *witness) {
		// Who answers at the address is as from the other segment.
		a, b := l.of(l.VNIs[0])[1], l.of(l.VNIs[1])[1]
		if err := w.responders[1].Close(); err != nil {
			t.Fatal(err)
		}
		r, err := guest.Listen(a.NetNS, b.Name)
		if err != nil {
			t.Fatal(err)
		}
		w.responders[1] = r
	})
	if !errors.Is(err, ErrLeak) || !strings.Contains(err.Error(), "asks who is 192.168.100.11, and hears g2-v") {
		t.Errorf("%v, want that somebody else answers", err)
	}
}

func TestAFaultThatTheDemoFindsEndsItWithOneLineAndNothingLeft(t *testing.T) {
	tr := newTrial(t)
	// Host h2's VTEP has the segments crossed: each guest there gets its lease
	// from the other segment's responder.
	o := tr.options()
	o.Binary = script(t, fmt.Sprintf(`case "$3" in *h2.yaml)
	sed -e 's/vni: %d/vni: x/; s/vni: %d/vni: %d/; s/vni: x/vni: %d/' "$3" > "$3.new" && mv "$3.new" "$3";; esac
exec %s "$@"`, tr.vnis[0], tr.vnis[1], tr.vnis[0], tr.vnis[1], program))
	var last Step
	o.Progress = func(s Step) { last = s }
	_, err := Demo(t.Context(), o)
	if !errors.Is(err, ErrWrongLease) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, want that a guest has a lease of the other segment", err)
	}
	if last.Name != takeDown || !last.Done || last.Failed {
		t.Errorf("the last step was %+v", last)
	}
}
