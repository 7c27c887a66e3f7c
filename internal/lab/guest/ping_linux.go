package guest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/uvtep/uvtep/internal/netns"
)

// echo is what the two ICMPs call the same thing (RFC 792; RFC 4443, section 4).
type echo struct {
	network, listen string
	proto           int
	request, reply  icmp.Type
}

func echoOf(dst netip.Addr) echo {
	if dst.Is4() {
		return echo{"ip4:icmp", "0.0.0.0", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	}
	return echo{"ip6:ipv6-icmp", "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
}

// pinger is one run of Ping.
type pinger struct {
	echo
	conn net.PacketConn
	dst  netip.Addr
	id   int
	o    PingOptions
	sent []time.Time // by sequence number
	back []bool
	res  PingResult
}

// Ping sends echo requests from a namespace. That nobody answers is no error:
// the result tells. One that cannot be sent (no route, say) is, and so is a
// context that ends while requests are to be sent, unless Count is negative.
func Ping(ctx context.Context, ns string, dst netip.Addr, o PingOptions) (PingResult, error) {
	p := &pinger{echo: echoOf(dst), dst: dst, o: o, id: int(rand.Uint32() & 0xffff)}
	if p.o.Count == 0 {
		p.o.Count = 1
	}
	if p.o.Interval <= 0 {
		p.o.Interval = time.Second
	}
	if p.o.Timeout <= 0 {
		p.o.Timeout = time.Second
	}
	err := netns.Do(ns, func() (err error) {
		p.conn, err = net.ListenPacket(p.network, p.listen)
		return err
	})
	if err != nil {
		return PingResult{}, fmt.Errorf("ping %s from %s: %w", dst, ns, err)
	}
	defer p.conn.Close()
	stop := context.AfterFunc(ctx, func() { p.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := p.run(ctx); err != nil {
		return p.res, fmt.Errorf("ping %s from %s: %w", dst, ns, err)
	}
	return p.res, nil
}

// run sends and listens in turns, so that what it counts needs no lock.
func (p *pinger) run(ctx context.Context) error {
	for p.o.Count < 0 || p.res.Sent < p.o.Count {
		if err := p.send(); err != nil {
			return err
		}
		last := p.res.Sent == p.o.Count
		until := p.sent[len(p.sent)-1].Add(p.o.Interval)
		if last {
			until = p.sent[len(p.sent)-1].Add(p.o.Timeout)
		}
		for {
			if last && p.res.Received == p.res.Sent {
				return nil
			}
			err := p.receive(ctx, until)
			if ctx.Err() != nil {
				if p.o.Count < 0 || last {
					return nil
				}
				return ctx.Err()
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pinger) send() error {
	m := icmp.Message{Type: p.request, Body: &icmp.Echo{ID: p.id, Seq: p.res.Sent & 0xffff, Data: p.o.Payload}}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	p.sent = append(p.sent, time.Now())
	p.back = append(p.back, false)
	if _, err := p.conn.WriteTo(b, &net.IPAddr{IP: p.dst.AsSlice(), Zone: p.dst.Zone()}); err != nil {
		return err
	}
	p.res.Sent++
	return nil
}

// receive reads one message, and counts it if it answers a request of this run.
func (p *pinger) receive(ctx context.Context, until time.Time) error {
	p.conn.SetReadDeadline(until)
	if err := ctx.Err(); err != nil { // after the deadline, or it would undo the one that the context set
		return err
	}
	var buf [maxFrame]byte
	n, from, err := p.conn.ReadFrom(buf[:])
	if err != nil {
		return err
	}
	now := time.Now()
	m, err := icmp.ParseMessage(p.proto, buf[:n])
	if err != nil || m.Type != p.reply {
		return nil
	}
	body, ok := m.Body.(*icmp.Echo)
	if !ok || body.ID != p.id {
		return nil
	}
	seq := p.res.Sent - 1 - (p.res.Sent-1-body.Seq)&0xffff // numbers wrap after 65,536 requests
	if seq < 0 {
		return nil
	}
	if p.back[seq] {
		p.res.Duplicates++
		return nil
	}
	p.back[seq] = true
	rtt := now.Sub(p.sent[seq])
	if p.res.Received == 0 || rtt < p.res.Min {
		p.res.Min = rtt
	}
	p.res.Max = max(p.res.Max, rtt)
	p.res.Sum += rtt
	p.res.Received++
	if p.o.OnReply != nil {
		ip, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		p.o.OnReply(Reply{From: ip.Unmap(), Seq: seq, Bytes: n, RTT: rtt})
	}
	return nil
}
