package daemon_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/tap/taptest"
)

// broadcastBOOTP is a DHCP message of a client without an address in a frame.
func broadcastBOOTP(t *testing.T, src net.HardwareAddr, msg []byte) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4zero, DstIP: net.IPv4bcast}
	udp := &layers.UDP{SrcPort: 68, DstPort: 67}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return nettest.Serialize(t, &layers.Ethernet{DstMAC: layers.EthernetBroadcast, SrcMAC: src, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(msg))
}

// What is on the disk was promised: whoever is in there must have been told, at
// whatever moment the daemon is stopped.
func TestWhoeverHasALeaseWhenTheDaemonStopsHasBeenTold(t *testing.T) {
	for acks := range 16 {
		t.Run(fmt.Sprintf("after %d answers", acks), func(t *testing.T) { stopAfter(t, acks) })
	}
}

func stopAfter(t *testing.T, acks int) {
	w := newWorld(t)
	w.write("segments: [{vni: 100, ports: [{tap: tap1}], dhcp: {subnet: 192.168.100.0/24, probe: off}}]\n")
	d := w.start(w.options())
	w.mu.Lock()
	dev := w.devices["tap1"].Device.(*taptest.Device)
	w.mu.Unlock()

	clients := map[string]*dhcpdtest.Client{}
	bound := 0
	take := func(b []byte) []byte {
		t.Helper()
		c := clients[net.HardwareAddr(b[:6]).String()]
		if c == nil || len(b) < 14+20+8 {
			t.Fatalf("a frame for nobody: %x", b)
		}
		send, err := c.Receive(b[14+20+8:])
		if err != nil {
			t.Fatal(err)
		}
		if c.State == dhcpdtest.Bound {
			bound++
		}
		return send
	}
	const n = 150
	for i := range n {
		mac := binary.BigEndian.AppendUint32([]byte{2, 0}, uint32(i+1))
		c := &dhcpdtest.Client{MAC: mac}
		clients[c.MAC.String()] = c
		if !dev.Send(broadcastBOOTP(t, mac, c.Discover())) {
			t.Fatal("the port is full")
		}
	}
	var requests [][]byte
	for range n {
		b, err := dev.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		requests = append(requests, broadcastBOOTP(t, b[:6], take(b)))
	}
	for _, r := range requests {
		if !dev.Send(r) {
			t.Fatal("the port is full")
		}
	}
	for range acks { // others are on their way to the disk
		b, err := dev.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		take(b)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	for {
		b, err := dev.Recv(context.Background())
		if err != nil { // the device is closed, and all that was written to it is taken
			break
		}
		take(b)
	}
	store, err := dhcpd.OpenBolt(filepath.Join(w.dir, "state", "leases.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	stored := 0
	if err := store.Load(100, func(l dhcpd.Lease) error {
		stored++
		if c := clients[l.HardwareAddr().String()]; c == nil || c.State != dhcpdtest.Bound || c.IP != l.IP {
			t.Errorf("%v of %v is on the disk, and the client knows nothing of it", l.IP, l.HardwareAddr())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d clients have a lease, %d were told", stored, n, bound)
}
