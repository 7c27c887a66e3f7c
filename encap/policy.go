package encap

import "encoding/binary"

// Policy is a frame's group policy tag, as the first word of a VXLAN header has
// it with the extension of draft-smith-vxlan-group-policy (Linux: gbp): the G
// flag, the group's number in the lower 16 bits, and what goes with them. 0 is no
// tag.
type Policy uint32

// Flags of a Policy.
const (
	PolicyTagged    Policy = 0x80000000 // G: the packet carries its sender's group
	PolicyDontLearn Policy = 0x00400000 // D: the receiver does not learn the inner source address
	PolicyApplied   Policy = 0x00080000 // A: its policy was applied already, and is not again

	policyGroup Policy = 0xffff
	policyBits         = PolicyTagged | PolicyDontLearn | PolicyApplied | policyGroup
)

// GroupPolicy is the tag of a group, 1..65535; 0 is no tag.
func GroupPolicy(group uint16) Policy {
	if group == 0 {
		return 0
	}
	return PolicyTagged | Policy(group)
}

// Group is the number of the sender's group, 0 where there is no tag.
func (p Policy) Group() uint16 {
	if p&PolicyTagged == 0 {
		return 0
	}
	return uint16(p)
}

// PutPolicyHeader is PutHeader with a group policy tag.
func PutPolicyHeader(b []byte, v VNI, p Policy) {
	binary.BigEndian.PutUint64(b, uint64(flagVNI|p&policyBits)<<32|uint64(v)<<8)
}

// ParsePolicyHeader is ParseHeader where the extension is spoken: its bits are no
// reserved ones. Without the G flag there is no group, and the A flag means
// nothing (draft-smith-vxlan-group-policy): strict refuses both.
func ParsePolicyHeader(b []byte, strict bool) (VNI, Policy, Fault) {
	vni, fault := ParseHeader(b, false)
	if fault != OK {
		return 0, 0, fault
	}
	p := Policy(binary.BigEndian.Uint32(b)) & policyBits
	of := policyBits
	if p&PolicyTagged == 0 {
		p, of = p&PolicyDontLearn, PolicyDontLearn
	}
	if strict {
		rest := binary.BigEndian.Uint64(b) &^ (uint64(of)<<32 | 0xffffff<<8)
		if rest != flagVNI<<32 {
			return 0, 0, Reserved
		}
	}
	return vni, p, OK
}
