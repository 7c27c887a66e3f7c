package frame

// ARPLen is the length of an ARP packet for IPv4 over Ethernet (RFC 826), bytes.
const ARPLen = 28

// Operations of ARP.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ARP is a view of the ARP packet at Info.L3, ARPLen bytes.
type ARP []byte

// ARP is the frame's ARP packet; ok is false if it has none that is complete and
// for IPv4 over Ethernet.
func (f *Frame) ARP() (p ARP, ok bool) {
	if f.Info.EtherType != TypeARP || f.Info.L3 == 0 {
		return nil, false
	}
	p = ARP(f.Bytes()[f.Info.L3:][:ARPLen])
	ok = p[0] == 0 && p[1] == 1 && p[2] == 8 && p[3] == 0 && p[4] == 6 && p[5] == 4
	return p, ok
}

// Op is the operation.
func (p ARP) Op() uint16 { return uint16(p[6])<<8 | uint16(p[7]) }

// SetOp sets the operation.
func (p ARP) SetOp(op uint16) { p[6], p[7] = byte(op>>8), byte(op) }

// The four addresses: 6, 4, 6 and 4 bytes.
func (p ARP) SenderMAC() []byte { return p[8:14] }
func (p ARP) SenderIP() []byte  { return p[14:18] }
func (p ARP) TargetMAC() []byte { return p[18:24] }
func (p ARP) TargetIP() []byte  { return p[24:28] }
