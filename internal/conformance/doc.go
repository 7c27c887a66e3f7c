// Package conformance holds what an overlay's peers and guests rely on as one
// check each, and runs the same checks against this program and against the
// kernel's bridge and vxlan driver, which is the oracle. A check sees frames
// only: it has guests at the switch's ports and two remote VTEPs that are a
// sniffer and a socket, and reads what comes out byte for byte. The package has
// nothing but tests; what they find is the table in docs/conformance.md.
package conformance
