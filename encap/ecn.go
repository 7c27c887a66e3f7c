package encap

// The two ECN bits of a TOS or traffic class byte (RFC 3168 section 5).
const (
	NotECT  uint8 = 0
	ECT1    uint8 = 1
	ECT0    uint8 = 2
	CE      uint8 = 3
	ecnMask uint8 = 3
)

// OuterTOS is the outer header's TOS byte for an inner one: its DSCP is the
// inner one's if dscp is negative, else the upper six bits of dscp; its ECN
// field is always the inner one's (RFC 6040 section 4.1, normal mode).
func OuterTOS(inner uint8, dscp int) uint8 {
	if dscp < 0 {
		return inner
	}
	return uint8(dscp)&^ecnMask | inner&ecnMask
}

// InnerECN is the ECN field that an inner header leaves the tunnel with, by
// RFC 6040 section 4.2. drop is true where the packet must not be forwarded:
// congestion was marked on the way and the inner header cannot say so. Only the
// ECN bits of both TOS bytes count.
func InnerECN(outer, inner uint8) (ecn uint8, drop bool) {
	outer, inner = outer&ecnMask, inner&ecnMask
	switch {
	case inner == NotECT:
		return NotECT, outer == CE
	case outer == CE:
		return CE, false
	case inner == ECT0 && outer == ECT1:
		return ECT1, false
	}
	return inner, false
}
