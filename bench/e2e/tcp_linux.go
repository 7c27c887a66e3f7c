package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uvtep/uvtep/bench/proc"
	"github.com/uvtep/uvtep/internal/netns"
)

// tcpPort is what the receiving guest listens on.
const tcpPort = 5201

// transfer is what a TCP measurement moved.
type transfer struct {
	bits    float64
	seconds float64
}

// generator makes TCP traffic from the first guest of a system to the second.
type generator interface {
	String() string
	duration(d time.Duration) time.Duration // how long it sends when asked to for the time d
	run(ctx context.Context, s *system, streams int, d time.Duration) (transfer, error)
}

// newGenerator chooses one. iperf3 is what other people's figures come from.
func newGenerator(ctx context.Context, which, dir string) (generator, error) {
	if which == Builtin {
		return builtin{}, nil
	}
	path, err := exec.LookPath("iperf3")
	if errors.Is(err, exec.ErrNotFound) && which == Auto {
		return builtin{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w; install it, or choose --generator %s", err, Builtin)
	}
	text, err := proc.Output(ctx, nil, path, "--version")
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(text, "\n") // iperf 3.12 (cJSON 1.7.15)
	version := strings.TrimPrefix(line, "iperf ")
	version, _, _ = strings.Cut(version, " ")
	return &iperf3{path: path, version: version, dir: dir}, nil
}

// iperf3 is the program of that name.
type iperf3 struct{ path, version, dir string }

func (g *iperf3) String() string { return "iperf3 " + g.version }

// duration is whole seconds: iperf3 knows no others.
func (g *iperf3) duration(d time.Duration) time.Duration {
	return time.Duration(math.Ceil(d.Seconds())) * time.Second
}

func (g *iperf3) run(ctx context.Context, s *system, streams int, d time.Duration) (transfer, error) {
	ctx, cancel := context.WithTimeout(ctx, d+2*proc.ReadyTimeout)
	defer cancel()
	seconds := int(g.duration(d).Seconds())
	log := filepath.Join(g.dir, s.Name+"-iperf3")
	port := strconv.Itoa(tcpPort)
	// A server for each run: one that was left by its client would stay busy.
	server, err := proc.Start(s.guests[1], log+"-server", nil, g.path, "-s", "-1", "-p", port, "--forceflush")
	if err != nil {
		return transfer{}, err
	}
	defer server.End()
	if err := server.Await(ctx, func() bool { return server.Says("Server listening") }); err != nil {
		return transfer{}, err
	}
	client, err := proc.Start(s.guests[0], log+"-client", nil, g.path, "-c", guestAddr(1).String(), "-p", port,
		"-t", strconv.Itoa(seconds), "-P", strconv.Itoa(streams), "-J")
	if err != nil {
		return transfer{}, err
	}
	defer client.End()
	ended := client.Wait(ctx) // its report says more than its exit code
	if ctx.Err() != nil {
		return transfer{}, ended
	}
	return parseIPerf3(client)
}

// parseIPerf3 reads the client's report.
func parseIPerf3(client *proc.Process) (transfer, error) {
	var report struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				Seconds float64 `json:"seconds"`
				Bytes   float64 `json:"bytes"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := readJSON(client.Log, &report); err != nil {
		return transfer{}, fmt.Errorf("iperf3: %w", err)
	}
	if report.Error != "" {
		return transfer{}, fmt.Errorf("iperf3: %s", report.Error)
	}
	got := report.End.Received
	if got.Bytes <= 0 || got.Seconds <= 0 {
		return transfer{}, errors.New("iperf3: nothing was received")
	}
	return transfer{bits: 8 * got.Bytes, seconds: got.Seconds}, nil
}

// builtin is this program's own generator: as iperf3, it sends as fast as it can
// from and to buffers of 128 KiB.
type builtin struct{}

const tcpBuffer = 128 << 10

func (builtin) String() string                         { return "the built-in generator" }
func (builtin) duration(d time.Duration) time.Duration { return d }

func (builtin) run(ctx context.Context, s *system, streams int, d time.Duration) (transfer, error) {
	pairs, err := connect(ctx, s, streams)
	if err != nil {
		return transfer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { // wakes whoever waits for the other end
		for _, p := range pairs {
			p.near.Close()
			p.far.SetReadDeadline(time.Now().Add(patience)) // should the other end's farewell be lost
		}
	})
	defer stop()
	var running sync.WaitGroup
	var bytes atomic.Int64
	var last atomic.Int64 // when the last byte came, in nanoseconds from the start
	began := time.Now()
	for _, p := range pairs {
		running.Go(func() {
			defer p.near.Close()
			b := make([]byte, tcpBuffer)
			for {
				if _, err := p.near.Write(b); err != nil {
					return // closed: the time is over
				}
			}
		})
		running.Go(func() {
			defer p.far.Close()
			b := make([]byte, tcpBuffer)
			for {
				n, err := p.far.Read(b)
				if n > 0 && ctx.Err() == nil {
					bytes.Add(int64(n))
					last.Store(int64(time.Since(began)))
				}
				if err != nil {
					return
				}
			}
		})
	}
	running.Wait()
	switch err := ctx.Err(); {
	case err == nil:
		return transfer{}, errors.New("a connection broke")
	case !errors.Is(err, context.DeadlineExceeded):
		return transfer{}, err
	}
	if bytes.Load() == 0 {
		return transfer{}, errors.New("nothing was received")
	}
	return transfer{bits: 8 * float64(bytes.Load()), seconds: time.Duration(last.Load()).Seconds()}, nil
}

// tcpPair are the two ends of a connection.
type tcpPair struct{ near, far net.Conn }

// connect opens connections between the guests of a system.
func connect(ctx context.Context, s *system, n int) (pairs []tcpPair, err error) {
	var l net.Listener
	err = netns.Do(s.guests[1], func() error {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(guestAddr(1), tcpPort).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	defer func() {
		if err != nil {
			for _, p := range pairs {
				p.near.Close()
				p.far.Close()
			}
		}
	}()
	for range n {
		var near net.Conn
		err = netns.Do(s.guests[0], func() error {
			near, err = (&net.Dialer{Timeout: proc.ReadyTimeout}).DialContext(ctx, "tcp4", l.Addr().String())
			return err
		})
		if err != nil {
			return pairs, err
		}
		near.(*net.TCPConn).SetLinger(0) // what is still to be sent at the end counts no more
		far, err := l.Accept()
		if err != nil {
			return pairs, errors.Join(err, near.Close())
		}
		pairs = append(pairs, tcpPair{near, far})
	}
	return pairs, nil
}

func readJSON(file string, v any) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	err = json.NewDecoder(f).Decode(v)
	if errors.Is(err, io.EOF) {
		return errors.New("it reported nothing")
	}
	return err
}
