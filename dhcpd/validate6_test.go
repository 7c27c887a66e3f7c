package dhcpd_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
)

func TestAllFaultsOfASegmentsDHCPv6AreToldAtTheirKeys(t *testing.T) {
	none := func(*dhcpd.SegmentConfig6) {}
	host := func(edit func(*dhcpd.Reservation6)) func(*dhcpd.SegmentConfig6) {
		return func(c *dhcpd.SegmentConfig6) {
			r := dhcpd.Reservation6{MAC: mac(1), IP: addr6(0x50)}
			edit(&r)
			c.Hosts = []dhcpd.Reservation6{{MAC: mac(2), IP: addr6(0x60), Prefix: prefix("2001:db8:200:700::/56")}, r}
		}
	}
	option := func(code uint16, n int) func(*dhcpd.SegmentConfig6) {
		return func(c *dhcpd.SegmentConfig6) { c.Options = []dhcpd.Option6{{Code: code, Data: make([]byte, n)}} }
	}
	addrs := func(first, last string) func(*dhcpd.SegmentConfig6) {
		return func(c *dhcpd.SegmentConfig6) {
			c.Ranges = []dhcpd.Range{c.Ranges[0], {First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}}
		}
	}
	delegate := func(p string, n int) func(*dhcpd.SegmentConfig6) {
		return func(c *dhcpd.SegmentConfig6) {
			c.Delegations = append(c.Delegations, dhcpd.Delegation{Prefix: netip.MustParsePrefix(p), Length: n})
		}
	}
	for name, tt := range map[string]struct {
		edit func(*dhcpd.SegmentConfig6)
		want []string // paths; none: it can be served
	}{
		"the usual":                    {none, nil},
		"no ranges":                    {func(c *dhcpd.SegmentConfig6) { c.Ranges, c.Delegations = nil, nil }, nil},
		"no subnet":                    {func(c *dhcpd.SegmentConfig6) { c.Subnet = netip.Prefix{} }, []string{"subnet"}},
		"an IPv4 subnet":               {func(c *dhcpd.SegmentConfig6) { c.Subnet = prefix("192.0.2.0/24") }, []string{"subnet"}},
		"a mapped subnet":              {func(c *dhcpd.SegmentConfig6) { c.Subnet = prefix("::ffff:192.0.2.0/120") }, []string{"subnet"}},
		"a subnet with host bits":      {func(c *dhcpd.SegmentConfig6) { c.Subnet = netip.PrefixFrom(server6, 64) }, []string{"subnet"}},
		"too small a subnet":           {func(c *dhcpd.SegmentConfig6) { c.Subnet = prefix("2001:db8:100::/127") }, []string{"subnet"}},
		"too large a subnet":           {func(c *dhcpd.SegmentConfig6) { c.Subnet = prefix("2000::/3") }, []string{"subnet"}},
		"a link-local subnet":          {func(c *dhcpd.SegmentConfig6) { c.Subnet = prefix("fe80::/64") }, []string{"subnet"}},
		"no server":                    {func(c *dhcpd.SegmentConfig6) { c.Server = netip.Addr{} }, []string{"server"}},
		"a server elsewhere":           {func(c *dhcpd.SegmentConfig6) { c.Server = netip.MustParseAddr("2001:db8::1") }, []string{"server"}},
		"an anycast server":            {func(c *dhcpd.SegmentConfig6) { c.Server = addr6(0) }, []string{"server"}},
		"a short DUID":                 {func(c *dhcpd.SegmentConfig6) { c.DUID = []byte{0, 3} }, []string{"duid"}},
		"a long DUID":                  {func(c *dhcpd.SegmentConfig6) { c.DUID = make([]byte, 131) }, []string{"duid"}},
		"a range the wrong way round":  {addrs("2001:db8:100::200", "2001:db8:100::100"), []string{"ranges[1]"}},
		"a range outside":              {addrs("2001:db8:100::200", "2001:db8:101::100"), []string{"ranges[1]"}},
		"a range of IPv4":              {addrs("192.0.2.1", "192.0.2.9"), []string{"ranges[1]"}},
		"two ranges that overlap":      {addrs("2001:db8:100::ffff", "2001:db8:100::1:0"), []string{"ranges[1]"}},
		"two that touch":               {addrs("2001:db8:100::1:0", "2001:db8:100::1:0"), nil},
		"a prefix with host bits":      {delegate("2001:db8:300:1::/48", 56), []string{"prefixes[1].prefix"}},
		"a prefix over the subnet":     {delegate("2001:db8::/32", 56), []string{"prefixes[1].prefix", "prefixes[1].prefix"}},
		"two prefixes that overlap":    {delegate("2001:db8:200:8000::/49", 56), []string{"prefixes[1].prefix"}},
		"too short a length":           {delegate("2001:db8:300::/48", 47), []string{"prefixes[1].length"}},
		"too long a length":            {delegate("2001:db8:300::/48", 128), []string{"prefixes[1].length"}},
		"the whole prefix":             {delegate("2001:db8:300::/48", 48), nil},
		"a prefix of IPv4":             {delegate("192.0.2.0/24", 56), []string{"prefixes[1].prefix"}},
		"a DNS server of IPv4":         {func(c *dhcpd.SegmentConfig6) { c.DNS = append(c.DNS, serverIP) }, []string{"dns[1]"}},
		"no domain":                    {func(c *dhcpd.SegmentConfig6) { c.Search = []string{"a.example.", "a..b", ""} }, []string{"search[1]", "search[2]"}},
		"a label of 64":                {func(c *dhcpd.SegmentConfig6) { c.Search = []string{strings.Repeat("a", 64)} }, []string{"search[0]"}},
		"too short a lease":            {func(c *dhcpd.SegmentConfig6) { c.Lease = 9 * time.Second }, []string{"lease"}},
		"for ever":                     {func(c *dhcpd.SegmentConfig6) { c.Lease = (1<<32 - 1) * time.Second }, []string{"lease"}},
		"preferred for too long":       {func(c *dhcpd.SegmentConfig6) { c.Preferred = 13 * time.Hour }, []string{"preferred"}},
		"T1 after T2":                  {func(c *dhcpd.SegmentConfig6) { c.T1, c.T2 = 2*time.Hour, time.Hour }, []string{"t1"}},
		"T2 after the preferred":       {func(c *dhcpd.SegmentConfig6) { c.T2 = 8 * time.Hour }, []string{"t2"}},
		"option 0":                     {option(0, 1), []string{"options[0].code"}},
		"the server's own option":      {option(2, 4), []string{"options[0].code"}},
		"a prefix as an option":        {option(25, 12), []string{"options[0].code"}},
		"a time of 3 bytes":            {option(82, 3), []string{"options[0]"}},
		"a long option":                {option(59, 1025), []string{"options[0]"}},
		"an option twice":              {func(c *dhcpd.SegmentConfig6) { c.Options = []dhcpd.Option6{{Code: 59}, {Code: 59}} }, []string{"options[1].code"}},
		"a host of nobody":             {host(func(r *dhcpd.Reservation6) { r.MAC = nil }), []string{"hosts[1]"}},
		"a host of two":                {host(func(r *dhcpd.Reservation6) { r.Port = "tap0" }), []string{"hosts[1]"}},
		"a multicast MAC":              {host(func(r *dhcpd.Reservation6) { r.MAC = []byte{1, 0, 0, 0, 0, 1} }), []string{"hosts[1].mac"}},
		"a short client":               {host(func(r *dhcpd.Reservation6) { r.MAC, r.DUID = nil, []byte{1} }), []string{"hosts[1].duid"}},
		"a host outside":               {host(func(r *dhcpd.Reservation6) { r.IP = netip.MustParseAddr("2001:db8::9") }), []string{"hosts[1].ip"}},
		"a host of IPv4":               {host(func(r *dhcpd.Reservation6) { r.IP = serverIP }), []string{"hosts[1].ip", "hosts[1].ip"}},
		"a host at the server's":       {host(func(r *dhcpd.Reservation6) { r.IP = server6 }), []string{"hosts[1].ip"}},
		"a host at the routers'":       {host(func(r *dhcpd.Reservation6) { r.IP = addr6(0) }), []string{"hosts[1].ip"}},
		"a host twice":                 {host(func(r *dhcpd.Reservation6) { r.MAC = mac(2) }), []string{"hosts[1].mac"}},
		"an address twice":             {host(func(r *dhcpd.Reservation6) { r.IP = addr6(0x60) }), []string{"hosts[1].ip"}},
		"a host in a range":            {host(func(r *dhcpd.Reservation6) { r.IP = addr6(0x2000) }), nil},
		"a prefix twice":               {host(func(r *dhcpd.Reservation6) { r.Prefix = prefix("2001:db8:200:700::/56") }), []string{"hosts[1].prefix"}},
		"a prefix of another length":   {host(func(r *dhcpd.Reservation6) { r.Prefix = prefix("2001:db8:200:800::/57") }), []string{"hosts[1].prefix"}},
		"a prefix in no delegation":    {host(func(r *dhcpd.Reservation6) { r.Prefix = prefix("2001:db8:999::/50") }), nil},
		"a reserved one over another":  {host(func(r *dhcpd.Reservation6) { r.Prefix = prefix("2001:db8:100::/60") }), []string{"hosts[1].prefix"}},
		"a reserved one not masked":    {host(func(r *dhcpd.Reservation6) { r.Prefix = netip.PrefixFrom(addr6(1), 60) }), []string{"hosts[1].prefix", "hosts[1].prefix"}},
		"an address as a prefix":       {host(func(r *dhcpd.Reservation6) { r.Prefix = one(netip.MustParseAddr("2001:db8:999::")) }), []string{"hosts[1].prefix"}},
		"a host name with a space":     {host(func(r *dhcpd.Reservation6) { r.Hostname = "a b" }), []string{"hosts[1].hostname"}},
		"a host's option":              {host(func(r *dhcpd.Reservation6) { r.Options = []dhcpd.Option6{{Code: 1}} }), []string{"hosts[1].options[0].code"}},
		"an offer of half a second":    {func(c *dhcpd.SegmentConfig6) { c.OfferHold = -1 }, []string{"offer_hold"}},
		"a quarantine of no time":      {func(c *dhcpd.SegmentConfig6) { c.DeclineHold = -1 }, []string{"decline_hold"}},
		"no offers":                    {func(c *dhcpd.SegmentConfig6) { c.MaxOffers = -1 }, []string{"max_offers"}},
		"several faults, all of which": {func(c *dhcpd.SegmentConfig6) { c.Server, c.DNS, c.Lease = addr6(0), []netip.Addr{serverIP}, 1 }, []string{"server", "dns[0]", "lease"}},
	} {
		var got []string
		cfg := config6(tt.edit)
		for _, f := range cfg.Validate() {
			got = append(got, f.Path)
			if f.Msg == "" || strings.Contains(f.Msg, "\n") || strings.Contains(f.Msg, "%!") || strings.Contains(f.Error(), "invalid") {
				t.Errorf("%s: %q", name, f)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: faults at %q, want %q", name, got, tt.want)
		}
		svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore()})
		must(t, err)
		if _, err := svc.Add6(1, cfg); (err == nil) != (tt.want == nil) {
			t.Errorf("%s: Add6: %v", name, err)
		}
	}
}
