package dhcpd

// ServerDUID is the server identifier (option 2) that the service goes by: DUID
// or, without one, a DUID-LL (RFC 8415 section 11.4) of the interface identifier
// in Server, an EUI-64, so that it stays the same wherever the address does.
func (c SegmentConfig6) ServerDUID() []byte {
	if c.DUID != nil {
		return c.DUID
	}
	const hardwareEUI64 = 27 // IANA, ARP hardware types
	a := c.Server.As16()
	return append([]byte{0, 3, 0, hardwareEUI64}, a[8:]...)
}
