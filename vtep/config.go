package vtep

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// Accept says whose packets are decapsulated.
type Accept uint8

const (
	// AcceptPeers takes packets of a segment from that segment's known VTEPs only.
	AcceptPeers Accept = iota
	// AcceptAny takes packets from everyone and learns who sends.
	AcceptAny
)

// Offload is a set of what a kernel can do for many segments at once.
type Offload uint8

const (
	OffloadTUNGSO Offload = 1 << iota // TAP devices hand over super-frames (TSO, USO)
	OffloadTUNGRO                     // TAP devices take super-frames
	OffloadUDPGSO                     // many datagrams leave in one system call
	OffloadUDPGRO                     // a flow's datagrams arrive as one

	OffloadAll = OffloadTUNGSO | OffloadTUNGRO | OffloadUDPGSO | OffloadUDPGRO
)

// ofTAPs is what the set asks of TAP devices.
func (o Offload) ofTAPs() tap.Offload {
	var of tap.Offload
	if o&OffloadTUNGSO != 0 {
		of |= tap.Checksum | tap.ReadTSO | tap.ReadUSO
	}
	if o&OffloadTUNGRO != 0 {
		of |= tap.Checksum | tap.WriteTSO | tap.WriteUSO
	}
	return of
}

// ofUnderlay is what the set asks of the underlay.
func (o Offload) ofUnderlay() underlay.Offload {
	var of underlay.Offload
	if o&OffloadUDPGSO != 0 {
		of |= underlay.GSO
	}
	if o&OffloadUDPGRO != 0 {
		of |= underlay.GRO
	}
	return of
}

// offload is what is asked of the kernel.
func (c Config) offload() Offload { return OffloadAll &^ c.NoOffload }

// Config describes a VTEP. Only Local must be set.
type Config struct {
	Local      netip.Addr // this VTEP's address, one of this host's
	Port       uint16     // UDP port; 0 = 4789
	Device     string     // interface for multicast; "" = the one that has Local
	Workers    int        // 0 = one a core
	Accept     Accept     // whose packets are decapsulated
	Strict     bool       // drop packets that set reserved bits of the VXLAN header
	NoChecksum bool       // send without outer UDP checksums
	ZeroSum6   bool       // accept packets without them over IPv6 (RFC 6935); NoChecksum does, too
	DF         DF         // the don't-fragment flag of outer IPv4 headers
	Fragment   bool       // a last resort: what is too big for the path leaves in fragments; DF is DFClear then
	GBP        bool       // group policy tags are read and written (draft-smith-vxlan-group-policy)
	TTL        uint8      // of outer headers; 0 = 64
	InheritTTL bool       // the inner header's TTL instead, where there is one
	TOS        *uint8     // DSCP of outer headers; nil inherits the inner one's
	Logger     *slog.Logger
	Clock      func() time.Time // nil = time.Now
	NoOffload  Offload          // what is not asked of the kernel; the rest is, where it has it
	BusyPoll   time.Duration    // how long a worker looks for more before it sleeps; 0 = DefaultBusyPoll, negative = not at all
	MaxMACs    int              // learned MACs of all segments together; 0 = no limit
	DHCP       *dhcpd.Service   // whose Run runs beside the VTEP's and ends before it, so that its last answers leave; nil = segments have no DHCP

	// Events, if not nil, is told what happens, by whichever goroutine caused it:
	// a worker too, so it must not wait. Locks of the VTEP may be held.
	Events func(Event)

	// OpenTAP and OpenUnderlay reach the operating system; nil means the real
	// one. Tests give the doubles of taptest and underlaytest.
	OpenTAP      tap.Opener
	OpenUnderlay underlay.Opener
}

// DefaultBusyPoll is a little longer than a frame takes to a neighbour and its
// answer back, and so short that nobody misses the time.
const DefaultBusyPoll = 30 * time.Microsecond

// Defaults of a segment.
const (
	DefaultAgeing  = 300 * time.Second
	DefaultMaxMACs = 8192

	DefaultMACMoves       = 5
	DefaultMACMovesWithin = 180 * time.Second
)

// SegmentConfig describes a segment. Only VNI must be set.
type SegmentConfig struct {
	VNI        encap.VNI
	Name       string        // "" = vni and the number
	MTU        int           // bytes; 0 = the underlay's less the overhead
	Peers      []netip.Addr  // head-end replication
	Group      netip.Addr    // multicast group that floods go to; the zero Addr = none
	Device     string        // interface that it is joined and sent on; "" = Config.Device
	NoLearning bool          // do not learn source MACs
	Ageing     time.Duration // of learned MACs; 0 = DefaultAgeing, negative = never
	MaxMACs    int           // learned MACs at most; 0 = DefaultMaxMACs, negative = no limit
	FDB        []StaticEntry

	// A MAC that moved MACMoves times within MACMovesWithin is held for as long
	// where it was before, and frames from it that come elsewhere are dropped.
	// 0 = DefaultMACMoves and DefaultMACMovesWithin, negative MACMoves = never.
	MACMoves       int
	MACMovesWithin time.Duration

	Suppress   Suppress          // which requests for known neighbours are answered instead of flooded
	Neighbours []StaticNeighbour // who has an address, for Suppress
	DHCP       *DHCPConfig       // nil = no DHCP in this segment
	DHCP6      *DHCP6Config      // nil = no DHCPv6 in this segment
	RA         *RAConfig         // nil = no router advertisements

	ProtectedMACs []fdb.MAC // may be sources on trusted ports and in the tunnel only
}

// Suppress is a set of kinds of requests that are answered, where the answer is
// known, instead of being flooded.
type Suppress uint8

const (
	SuppressARP Suppress = 1 << iota // ARP requests
	SuppressND                       // neighbour solicitations
)

// StaticNeighbour says for good which MAC has an address.
type StaticNeighbour struct {
	IP  netip.Addr
	MAC fdb.MAC
}

// StaticEntry binds a MAC for good: to the remote VTEP Dst, or to the local port
// named Port.
type StaticEntry struct {
	MAC  fdb.MAC
	Dst  netip.Addr
	Port string
}

// PortConfig describes a port, a TAP unless it says otherwise. Only Name must be
// set, or Stream, or NIC.
type PortConfig struct {
	Name     string           // of the TAP, created if it is not there; "" = the last element of Stream, or NIC
	Stream   string           // path of a Unix socket that QEMU connects to (-netdev stream), instead of a TAP
	NIC      string           // interface whose frames enter the segment, all of them, instead of a TAP; NetNS is where it is
	Trunk    string           // a TAP that is a port of several segments, told apart by 802.1Q tag; Name, if it is "", is made of it and VLAN
	Pair     string           // one end of a pair that joins two segments, instead of a TAP
	VLAN     uint16           // 1..4094: what the port has on the trunk; what the pair takes out of this segment. 0: on a trunk, what has no tag; of a pair, everything
	NetNS    string           // namespace that the kernel side is moved to; "" = stay
	Rename   string           // its name there; "" = keep
	Bridge   string           // Linux bridge that it is enslaved to
	MAC      net.HardwareAddr // hardware address of the kernel side; nil = the kernel's choice
	Isolated bool             // exchanges no frames with other isolated ports
	MaxMACs  int              // learned MACs at most; 0 = the segment's limit

	MaxLeases int       // DHCP leases of the clients behind it, IPv4 and IPv6 each; 0 = no limit
	DHCPRate  int       // DHCP messages a second that are served; 0 = no limit
	Bind      Bind      // which stations may send
	Addresses []Address // that may, whatever is leased
	Trust     Trust     // whether it may send what servers and routers do

	DHCPCheckMAC bool // the DHCP client must be the frame's source (relayed messages aside)

	Storm Storm // of what is flooded; the zero Storm = no limit

	GBP      uint16   // group of its frames, which they carry as a tag; 0 = none. Needs Config.GBP
	GBPAllow []uint16 // groups whose frames it gets, 0 being those without a tag; nil = all frames. Needs Config.GBP

	Device tap.Device // opened elsewhere; nil = by Config.OpenTAP. The VTEP closes it, also where it cannot be attached
}

// Errors to be told apart by errors.Is; the text around them says on what.
var (
	ErrExists   = errors.New("already exists")
	ErrNotFound = errors.New("not found")
	ErrClosed   = errors.New("the VTEP is closed")
	ErrRunning  = errors.New("the VTEP is running")
	ErrInvalid  = errors.New("invalid configuration")
)

func (c Config) withDefaults() (Config, error) {
	if !c.Local.IsValid() || c.Local.IsUnspecified() || c.Local.IsMulticast() {
		return c, fmt.Errorf("local address %v: %w: it must be a unicast address of this host", c.Local, ErrInvalid)
	}
	c.Local = c.Local.Unmap()
	if c.Port == 0 {
		c.Port = encap.Port
	}
	if c.Workers <= 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.TTL == 0 {
		c.TTL = 64
	}
	if c.Fragment {
		c.DF = DFClear
	}
	if c.BusyPoll == 0 {
		c.BusyPoll = DefaultBusyPoll
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.OpenTAP == nil {
		c.OpenTAP = tap.Open
	}
	if c.OpenUnderlay == nil {
		c.OpenUnderlay = underlay.Open
	}
	return c, nil
}

// check completes a segment's configuration and says what is wrong with it.
func (c SegmentConfig) check(v Config, mtu int) (SegmentConfig, error) {
	bad := func(format string, a ...any) (SegmentConfig, error) {
		return c, fmt.Errorf("segment %v: %w: %s", c.VNI, ErrInvalid, fmt.Sprintf(format, a...))
	}
	if !c.VNI.Valid() {
		return bad("the VNI is outside 1..%d", encap.MaxVNI)
	}
	if c.Name == "" {
		c.Name = "vni" + c.VNI.String()
	}
	if c.MTU == 0 {
		c.MTU = mtu
	}
	if c.MTU < 68 || c.MTU > 65535 {
		return bad("the MTU %d is outside 68..65535", c.MTU)
	}
	if c.Ageing == 0 {
		c.Ageing = DefaultAgeing
	}
	if c.MaxMACs == 0 {
		c.MaxMACs = DefaultMaxMACs
	}
	c.MACMoves = cmp.Or(c.MACMoves, DefaultMACMoves)
	if c.MACMovesWithin = cmp.Or(c.MACMovesWithin, DefaultMACMovesWithin); c.MACMovesWithin < time.Second {
		return bad("%v is no time for a MAC to move in: a second at least", c.MACMovesWithin)
	}
	c.Peers, c.FDB = slices.Clone(c.Peers), slices.Clone(c.FDB)
	for i, p := range c.Peers {
		if err := checkPeer(v, p); err != nil {
			return bad("%v", err)
		}
		c.Peers[i] = p.Unmap()
	}
	for i, e := range c.FDB {
		if err := e.check(v, c); err != nil {
			return bad("static entry %v: %v", e.MAC, err)
		}
		c.FDB[i].Dst = e.Dst.Unmap()
	}
	c.Neighbours = slices.Clone(c.Neighbours)
	for _, n := range c.Neighbours {
		if !n.IP.IsValid() || n.IP.Is4In6() || n.IP.Zone() != "" || !isStation(n.IP) || n.MAC.IsZero() || n.MAC.IsGroup() || n.MAC > fdb.Broadcast {
			return bad("neighbour %v of %v: it takes the addresses of a station", n.IP, n.MAC)
		}
	}
	for _, m := range c.ProtectedMACs {
		if m.IsZero() || m.IsGroup() || m > fdb.Broadcast {
			return bad("protected MAC %v is no station's", m)
		}
	}
	if c.RA != nil {
		if err := c.RA.check(c.MTU); err != nil {
			return bad("%v", err)
		}
	}
	if c.Device != "" && !c.Group.IsValid() {
		return bad("the device %s is for a group, and there is none", c.Device)
	}
	if c.Group.IsValid() {
		if !c.Group.IsMulticast() || c.Group.Is4() != v.Local.Is4() {
			return bad("group %v is not a multicast address of the family of %v", c.Group, v.Local)
		}
		if v.Accept != AcceptAny {
			return bad("group %v needs AcceptAny: its senders are not known beforehand", c.Group)
		}
	}
	return c, nil
}

// check says why the entry cannot be one of the segment's.
func (e StaticEntry) check(v Config, c SegmentConfig) error {
	switch {
	case e.MAC.IsZero() || e.MAC.IsGroup() || e.MAC > fdb.Broadcast:
		return fmt.Errorf("%w: give a unicast address", fdb.ErrNotStation)
	case c.served() && e.MAC == serviceMAC(v.Local, uint32(c.VNI)):
		return fmt.Errorf("%w: it cannot be bound elsewhere", fdb.ErrOwnMAC)
	case e.Port != "" && e.Dst.IsValid():
		return errors.New("it is either behind a port or behind a remote VTEP")
	case e.Port != "":
		return nil
	}
	return checkPeer(v, e.Dst)
}

var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func checkPeer(v Config, a netip.Addr) error {
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Unmap() == broadcast4:
		return fmt.Errorf("peer %v is not a unicast address", a)
	case a.Unmap().Is4() != v.Local.Is4():
		return fmt.Errorf("peer %v is not of the family of %v", a, v.Local)
	case a.Unmap() == v.Local:
		return fmt.Errorf("peer %v is this VTEP itself", a)
	}
	return nil
}

// tableConfig is what the forwarding database has to know.
func (c SegmentConfig) tableConfig() fdb.Config {
	t := fdb.Config{MaxMACs: max(c.MaxMACs, 0), Moves: max(c.MACMoves, 0), MovesWithin: fdb.Seconds(c.MACMovesWithin / time.Second)}
	if c.Ageing > 0 {
		t.Ageing = fdb.Seconds(max(c.Ageing/time.Second, 1))
	}
	return t
}
