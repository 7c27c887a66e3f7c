package conformance

import (
	"net"
	"time"

	"github.com/uvtep/uvtep/internal/verdict"
)

// behindGuest is a new station that has spoken there.
func (b *bed) behindGuest(g int) net.HardwareAddr {
	mac := b.mac()
	b.moves(mac, g)
	return mac
}

// moves has a station speak behind a guest.
func (b *bed) moves(mac net.HardwareAddr, g int) {
	m := b.mark()
	b.from(g, plain(broadcast, mac, m))
	b.at(g%3+1, m)
	b.calm()
}

// behindB is a new station that has spoken through the tunnel.
func (b *bed) behindB() net.HardwareAddr {
	mac := b.mac()
	b.movesToB(mac)
	return mac
}

func (b *bed) movesToB(mac net.HardwareAddr) {
	m := b.mark()
	b.tunnel(b.u.b, plain(broadcast, mac, m))
	b.at(1, m)
	b.calm()
}

// asks has guest 1 send to a station, and wants the frame at these places.
func (b *bed) asks(dst net.HardwareAddr, want ...string) {
	m := b.mark()
	b.from(1, plain(dst, b.mac(), m))
	b.goes(m, want...)
}

var (
	flooded = []string{"guest 2", "guest 3", "peer b", "peer c"} // from guest 1
	group   = net.HardwareAddr{1, 0, 0x5e, 1, 2, 3}
)

func switchChecks() []check {
	all := []check{
		{title: "a broadcast goes once to every other guest and every peer", run: func(b *bed) { b.asks(broadcast, flooded...) }},
		{title: "so does multicast", run: func(b *bed) { b.asks(group, flooded...) }},
		{title: "so does what is for an unknown station", run: func(b *bed) { b.asks(b.mac(), flooded...) }},
		{title: "a broadcast from the tunnel goes to the guests and not back into it", run: func(b *bed) {
			m := b.mark()
			b.tunnel(b.u.b, plain(broadcast, b.mac(), m))
			b.goes(m, everybody...)
		}},
		{title: "what is from the tunnel and for an unknown station goes to the guests", run: func(b *bed) {
			m := b.mark()
			b.tunnel(b.u.b, plain(b.mac(), b.mac(), m))
			b.goes(m, everybody...)
		}},
		{title: "what is from the tunnel and for a station behind it goes nowhere", run: func(b *bed) {
			dst, m := b.behindB(), b.mark()
			b.tunnel(b.u.c, plain(dst, b.mac(), m))
			b.nowhere(m)
		}},
		{title: "what is for a known guest goes to it alone", run: func(b *bed) { b.asks(b.behindGuest(2), "guest 2") }},
		{title: "what is for a station behind a peer goes to that peer alone", run: func(b *bed) { b.asks(b.behindB(), "peer b") }},
		{title: "what is from the tunnel and for a known guest goes to it alone", run: func(b *bed) {
			dst, m := b.behindGuest(3), b.mark()
			b.tunnel(b.u.b, plain(dst, b.mac(), m))
			b.goes(m, "guest 3")
		}},
		{title: "what is for a station behind the port it comes from goes nowhere", run: func(b *bed) { b.asks(b.behindGuest(1)) }},
		{title: "a peer is learned by its address, whatever its port", run: func(b *bed) {
			dst := b.behindB() // spoke from a port of its own
			m := b.mark()
			b.from(1, plain(dst, b.mac(), m))
			if o := b.one(m, 1); o.Dst != b.u.b || uint16(o.UDP.DstPort) != b.udpPort() {
				verdict.Fail("it goes to %v port %d", o.Dst, o.UDP.DstPort)
			}
		}},
		{title: "a station that moves from guest to guest is followed", run: func(b *bed) {
			mac := b.behindGuest(2)
			b.moves(mac, 3)
			b.asks(mac, "guest 3")
		}},
		{title: "a station that moves from a guest to a peer is followed", run: func(b *bed) {
			mac := b.behindGuest(2)
			b.movesToB(mac)
			b.asks(mac, "peer b")
		}},
		{title: "a station that moves from a peer to a guest is followed", run: func(b *bed) {
			mac := b.behindB()
			b.moves(mac, 2)
			b.asks(mac, "guest 2")
		}},
		{title: "a station that moves from peer to peer is followed", run: func(b *bed) {
			mac := b.behindB()
			m := b.mark()
			b.tunnel(b.u.c, plain(broadcast, mac, m))
			b.at(1, m)
			b.calm()
			b.asks(mac, "peer c")
		}},
		{title: "nothing is learned where learning is off", in: intent{noLearning: true}, run: func(b *bed) {
			b.asks(b.behindGuest(2), flooded...)
			b.asks(b.behindB(), flooded...)
		}},
		{title: "a station that is silent is forgotten", in: intent{ageing: 2 * time.Second}, run: func(b *bed) {
			local, remote := b.behindGuest(2), b.behindB()
			b.asks(local, "guest 2")
			b.asks(remote, "peer b")
			b.forgets(local)
			b.forgets(remote)
		}},
		{title: "a station that speaks is not forgotten", in: intent{ageing: 3 * time.Second}, run: func(b *bed) {
			mac := b.behindGuest(2)
			for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(500 * time.Millisecond) {
				b.moves(mac, 2)
			}
			b.asks(mac, "guest 2")
		}},
		{title: "a static entry behind a peer holds without a word from there", run: func(b *bed) {
			mac := b.mac()
			b.addStatic(mac, 0, b.u.c)
			b.asks(mac, "peer c")
		}},
		{title: "a static entry behind a guest holds without a word from there", run: func(b *bed) {
			mac := b.mac()
			b.addStatic(mac, 3, b.u.c)
			b.asks(mac, "guest 3")
		}},
		{title: "a static entry does not move", run: func(b *bed) {
			mac := b.mac()
			b.addStatic(mac, 3, b.u.c)
			b.from(2, plain(broadcast, mac, b.mark()))
			b.tunnel(b.u.b, plain(broadcast, mac, b.mark()))
			b.calm()
			b.asks(mac, "guest 3")
		}},
		{title: "what a station says that is statically bound elsewhere is dropped", run: func(b *bed) {
			mac, m := b.mac(), b.mark()
			b.addStatic(mac, 3, b.u.c)
			b.from(2, plain(broadcast, mac, m))
			b.nowhere(m)
		}, because: "a static entry says where a station is: a frame from elsewhere is forged or looped; Linux's bridge delivers it, its vxlan driver drops it too"},
		{title: "an entry that is deleted is flooded to again", run: func(b *bed) {
			mac := b.mac()
			b.addStatic(mac, 0, b.u.c)
			b.asks(mac, "peer c")
			b.remove(mac)
			b.asks(mac, flooded...)
		}},
		{title: "a flush forgets what was learned and keeps what is static", run: func(b *bed) {
			learned, static := b.behindGuest(2), b.mac()
			b.addStatic(static, 0, b.u.c)
			b.flush()
			b.asks(learned, flooded...)
			b.asks(static, "peer c")
		}},
		{title: "a full table forwards what it cannot learn, and keeps what it knows of others", in: intent{maxMACs: 8}, because: "maxaddress bounds the table of the vxlan driver; the bridge above it has one of its own, and gives what it knows to the driver alone", run: func(b *bed) {
			known, last := b.behindGuest(2), net.HardwareAddr(nil)
			for range 20 {
				last = b.behindB()
			}
			b.asks(last, flooded...)
			b.asks(known, "guest 2")
		}},
		{title: "isolated guests do not reach each other, and everybody else", in: intent{isolated: true}, run: func(b *bed) {
			b.asks(broadcast, "guest 3", "peer b", "peer c")
			b.asks(b.behindGuest(3), "guest 3")
			b.asks(b.behindB(), "peer b")
			m := b.mark()
			b.from(3, plain(broadcast, b.mac(), m))
			b.goes(m, "guest 1", "guest 2", "peer b", "peer c")
		}},
		{title: "a peer that is added live gets floods", in: intent{noPeers: true}, run: func(b *bed) {
			b.asks(broadcast, "guest 2", "guest 3")
			b.addPeer(b.u.c)
			b.asks(broadcast, "guest 2", "guest 3", "peer c")
			b.removePeer(b.u.c)
		}},
		{title: "a peer that is removed live gets none", in: intent{noPeers: true}, run: func(b *bed) {
			b.addPeer(b.u.b)
			b.addPeer(b.u.c)
			b.removePeer(b.u.b)
			b.asks(broadcast, "guest 2", "guest 3", "peer c")
			b.removePeer(b.u.c)
		}},
		{title: "what no bridge relays goes nowhere (IEEE 802.1Q table 8-1: pause, LACP, 802.1X, LLDP)", run: func(b *bed) {
			for last := byte(1); last < 16; last++ {
				m := b.mark()
				b.from(1, plain(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, last}, b.mac(), m))
				b.nowhere(m)
			}
		}},
	}
	return part("Switching", all)
}

// forgets waits until what is sent to a station is flooded.
func (b *bed) forgets(mac net.HardwareAddr) {
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		m := b.mark()
		b.from(1, plain(mac, b.mac(), m))
		b.calm()
		if len(b.guests[3].ear.With(m)) > 0 && len(b.onWire(m)) == 2 {
			return
		}
		if time.Now().After(until) {
			verdict.Fail("it is remembered")
		}
	}
}
