package vtep_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/vtep"
	"github.com/uvtep/uvtep/vtep/vteptest"
)

// overlay runs a VTEP with one segment until ctx is done: frames of its guests
// reach the peers' guests, and whoever asks by DHCP gets an address.
func overlay(ctx context.Context, cfg vtep.Config, peers ...netip.Addr) error {
	var err error
	if cfg.DHCP, err = dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore()}); err != nil {
		return err
	}
	v, err := vtep.New(cfg)
	if err != nil {
		return err
	}
	defer v.Close()
	blue, err := v.AddSegment(vtep.SegmentConfig{VNI: 100, Peers: peers, DHCP: &vtep.DHCPConfig{Server: dhcpd.SegmentConfig{
		Subnet: netip.MustParsePrefix("192.168.100.0/24"),
		Server: netip.MustParseAddr("192.168.100.2"),
		Ranges: []dhcpd.Range{{First: netip.MustParseAddr("192.168.100.10"), Last: netip.MustParseAddr("192.168.100.99")}},
	}}})
	if err != nil {
		return err
	}
	if _, err := blue.AttachPort(vtep.PortConfig{Name: "tap100"}); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return cfg.DHCP.Run(ctx) })
	g.Go(func() error { return v.Run(ctx) })
	return g.Wait()
}

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	done := make(chan error)
	network, local := vteptest.NewNetwork(), netip.MustParseAddr("10.9.0.1")
	go func() { done <- overlay(ctx, network.Config(local)) }()

	guest, err := network.NewGuest(ctx, local, "tap100")
	if err != nil {
		fmt.Println(err)
		return
	}
	lease, err := guest.DHCP(ctx)
	fmt.Println("address:", lease.Address, err)
	fmt.Println("ping:", guest.Ping(ctx, lease.Server))

	cancel()
	fmt.Println("end:", <-done)
	// Output:
	// address: 192.168.100.10/24 <nil>
	// ping: <nil>
	// end: <nil>
}
