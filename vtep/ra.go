package vtep

import (
	"net/netip"
	"time"
)

// RAConfig asks for router advertisements in a segment (RFC 4861 section 6.2).
type RAConfig struct {
	Managed, Other bool       // the M and the O flag
	Prefixes       []RAPrefix // option 3
	DNS            []netip.Addr
	Search         []string
	MTU            int           // option 5; 0 = the segment's, negative = not sent
	Lifetime       time.Duration // as a default router; 0 = not one
	Interval       time.Duration // longest time between two; 0 = 10 min
}

// RAPrefix is a prefix that is announced.
type RAPrefix struct {
	Prefix             netip.Prefix
	OnLink, Autonomous bool          // the L and the A flag
	Valid, Preferred   time.Duration // 0 = 30 days and 7 days
}
