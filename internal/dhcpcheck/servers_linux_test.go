package dhcpcheck

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/verdict"
)

// server is one of the programs that are held against the list.
type server interface {
	// start has a server of its own run with the intent, or says by cannot what
	// it has no words for. All of it ends with the test.
	start(t *testing.T, in *intent) *world
}

// process is a program that is running, was, and will be again.
type process struct {
	t       *testing.T
	ns      *nettest.NS
	command func() *exec.Cmd
	ready   string // what it writes once it serves
	reason  string // what it writes in front of why it does not start
	cmd     *exec.Cmd
	out     nettest.Log
	ended   chan struct{}
}

// begin starts the program and waits until it serves. A program that ends
// instead has refused its configuration: begin returns why.
func (p *process) begin() (why string) {
	p.cmd, p.ended = p.command(), make(chan struct{})
	before := len(p.out.String())
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	var err error
	p.ns.Do(func() { err = p.cmd.Start() })
	if err != nil {
		p.t.Fatal(err)
	}
	cmd, ended := p.cmd, p.ended
	go func() { cmd.Wait(); close(ended) }()
	for until := time.Now().Add(2 * patience); ; time.Sleep(2 * time.Millisecond) {
		if strings.Contains(p.out.String()[before:], p.ready) {
			return ""
		}
		select {
		case <-p.ended:
			_, why, _ = strings.Cut(p.out.String()[before:], p.reason)
			why, _, _ = strings.Cut(why, "\n")
			why, _, _ = strings.Cut(why, " (/") // the file
			return why
		default:
		}
		if time.Now().After(until) {
			p.t.Fatalf("%s does not get ready:\n%s", p.cmd, p.out.String())
		}
	}
}

// refused is panicked with for a server that does not start; it says why.
type refused struct{ why string }

func (p *process) finish(s syscall.Signal) {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	p.cmd.Process.Signal(s)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.ended
	}
}

func (p *process) restart(hard bool) {
	s := syscall.SIGTERM
	if hard {
		s = syscall.SIGKILL
	}
	p.finish(s)
	if why := p.begin(); why != "" {
		verdict.Fail("it does not start again: %s", why)
	}
}

func (p *process) log() string { return p.out.String() }

// cable is a network between a server's host, which has serverIP, and clients.
type cable struct{ ns, clients *nettest.NS }

// newCable makes the two namespaces. Checksums are computed before a frame
// leaves, as on a real cable.
func newCable(t *testing.T) *cable {
	t.Helper()
	c := &cable{ns: nettest.New(t, "srv"), clients: nettest.New(t, "cli")}
	c.clients.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	c.ns.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	c.link(t, "srv", "cli")
	c.ns.Exec("ip", "route", "add", branch.String(), "via", routerIP.String())
	return c
}

func (c *cable) link(t *testing.T, srv, cli string) {
	t.Helper()
	nettest.Veth(t, c.ns, srv, c.clients, cli)
	c.ns.Exec("ethtool", "-K", srv, "tx", "off")
	c.ns.Addr(srv, serverIP.String()+"/24")
}

// flap takes the link that a server sits on down and up.
func (c *cable) flap() {
	c.ns.Exec("ip", "link", "set", "srv", "down")
	c.ns.Exec("ip", "link", "set", "srv", "up")
	c.ns.Exec("ip", "route", "replace", branch.String(), "via", routerIP.String())
}

// linesWith are the lines of a log that have all the words.
func linesWith(log string, words ...string) (found []string) {
next:
	for line := range strings.Lines(log) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}

// names says that a line has the address, and not one that only begins so.
func names(line string, a netip.Addr) bool {
	_, after, ok := strings.Cut(line, a.String())
	return ok && (after == "" || after[0] < '0' || after[0] > '9')
}

func colons(b []byte) string {
	var s []string
	for _, v := range b {
		s = append(s, hex.EncodeToString([]byte{v}))
	}
	return strings.Join(s, ":")
}

func (m mac) String() string { return colons(m[:]) }

// printable says that an option's value is text.
func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(b) > 0
}

// output runs a command to its end and returns what it wrote.
func output(ns *nettest.NS, cmd *exec.Cmd) (string, error) {
	var out []byte
	var err error
	ns.Do(func() { out, err = cmd.CombinedOutput() })
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = errors.New(strings.TrimSpace(string(out)))
	}
	return string(out), err
}

// awaitLog waits for something that is written after the first bytes.
func (p *process) awaitLog(before int, what string) {
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
		if after := p.log()[before:]; after != "" && strings.Contains(after, what) {
			return
		}
	}
	verdict.Fail("it never wrote %q", what)
}
