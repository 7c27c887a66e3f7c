package dhcpcheck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// Values of option 53 (RFC 2132 section 9.6).
const (
	discover = 1
	offer    = 2
	request  = 3
	decline  = 4
	ack      = 5
	nak      = 6
	release  = 7
	inform   = 8
)

var typeNames = [...]string{"BOOTP", "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM"}

// option is one instance of an option as it stands on the wire.
type option struct {
	code byte
	data []byte
}

func opt(code byte, data ...byte) option        { return option{code, data} }
func optText(code byte, text string) option     { return option{code, []byte(text)} }
func optAddr(code byte, a ...netip.Addr) option { return option{code, flat(a)} }

func flat(addrs []netip.Addr) (b []byte) {
	for _, a := range addrs {
		b = append(b, a.AsSlice()...)
	}
	return b
}

type mac [6]byte

// message is a BOOTP message with its options in their order (RFC 2131 section
// 2). Nothing in it is checked when it is written: tests send what is wrong, too.
type message struct {
	op, htype, hlen, hops          byte
	xid                            uint32
	secs, flags                    uint16
	ciaddr, yiaddr, siaddr, giaddr netip.Addr
	chaddr                         [16]byte
	sname, file                    []byte // at most 64 and 128 bytes
	options                        []option
	noEnd                          bool
}

const (
	headerLen = 240
	snameAt   = 44
	fileAt    = 108
	cookieAt  = 236
	cookie    = 0x63825363
	flagB     = 0x8000
)

func (m *message) bytes() []byte {
	b := make([]byte, headerLen, 600)
	b[0], b[1], b[2], b[3] = m.op, m.htype, m.hlen, m.hops
	binary.BigEndian.PutUint32(b[4:], m.xid)
	binary.BigEndian.PutUint16(b[8:], m.secs)
	binary.BigEndian.PutUint16(b[10:], m.flags)
	for i, a := range []netip.Addr{m.ciaddr, m.yiaddr, m.siaddr, m.giaddr} {
		if a.IsValid() {
			copy(b[12+4*i:], a.AsSlice())
		}
	}
	copy(b[28:44], m.chaddr[:])
	copy(b[snameAt:fileAt], m.sname)
	copy(b[fileAt:cookieAt], m.file)
	binary.BigEndian.PutUint32(b[cookieAt:], cookie)
	for _, o := range m.options {
		b = append(append(b, o.code, byte(len(o.data))), o.data...)
	}
	if !m.noEnd {
		b = append(b, 255)
	}
	for len(b) < 300 && !m.noEnd {
		b = append(b, 0)
	}
	return b
}

// readMessage reads a message and, with it, how its options are laid out. sname
// and file are nil where they carry options.
func readMessage(b []byte) (*message, error) {
	if len(b) < headerLen || binary.BigEndian.Uint32(b[cookieAt:]) != cookie {
		return nil, fmt.Errorf("%d bytes are no DHCP message", len(b))
	}
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	m := &message{
		op: b[0], htype: b[1], hlen: b[2], hops: b[3],
		xid: binary.BigEndian.Uint32(b[4:]), secs: binary.BigEndian.Uint16(b[8:]), flags: binary.BigEndian.Uint16(b[10:]),
		ciaddr: addr(12), yiaddr: addr(16), siaddr: addr(20), giaddr: addr(24), chaddr: [16]byte(b[28:44]),
		sname: bytes.TrimRight(b[snameAt:fileAt], "\x00"), file: bytes.TrimRight(b[fileAt:cookieAt], "\x00"),
	}
	options, ended, err := readOptions(b[headerLen:])
	if err != nil || !ended {
		return nil, errors.Join(err, errors.New("the options have no End"))
	}
	m.options = options
	return m, nil
}

func readOptions(b []byte) (all []option, ended bool, err error) {
	for len(b) > 0 {
		code := b[0]
		b = b[1:]
		switch {
		case code == 0:
			continue
		case code == 255:
			return all, true, nil
		case len(b) == 0 || int(b[0]) > len(b)-1:
			return nil, false, fmt.Errorf("option %d is torn", code)
		}
		n := int(b[0])
		all = append(all, option{code, slices.Clone(b[1 : 1+n])})
		b = b[1+n:]
	}
	return all, false, nil
}

// get is an option's value, its instances joined over all fields (RFC 3396); nil
// if there is none.
func (m *message) get(code byte) []byte {
	all := m.options
	if i := slices.IndexFunc(all, func(o option) bool { return o.code == 52 && len(o.data) == 1 }); i >= 0 {
		for bit, field := range [][]byte{m.file, m.sname} {
			if all[i].data[0]>>bit&1 != 0 {
				more, _, _ := readOptions(field)
				all = append(slices.Clone(all), more...)
			}
		}
	}
	var data []byte
	for _, o := range all {
		if o.code == code {
			data = append(data, o.data...)
			if data == nil {
				data = []byte{}
			}
		}
	}
	return data
}

func (m *message) has(code byte) bool { return m.get(code) != nil }

// codes are the codes of the options field, each instance.
func (m *message) codes() (all []byte) {
	for _, o := range m.options {
		all = append(all, o.code)
	}
	return all
}

func (m *message) typ() byte {
	if d := m.get(53); len(d) == 1 {
		return d[0]
	}
	return 0
}

func (m *message) typeName() string {
	if t := int(m.typ()); t < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", m.typ())
}

// String is what a table says of a reply in a word or two.
func (m *message) String() string {
	if t := m.typ(); t == nak || m.yiaddr.IsUnspecified() {
		return m.typeName()
	}
	return m.typeName() + " of " + short(m.yiaddr)
}

// short is the host part of an address of the checks' subnets.
func short(a netip.Addr) string {
	if netip.MustParsePrefix("192.168.0.0/16").Contains(a) {
		if b := a.As4(); b[2] == 100 {
			return fmt.Sprintf(".%d", b[3])
		}
	}
	return a.String()
}

func TestAMessageIsReadAsItWasWritten(t *testing.T) {
	m := &message{op: 1, htype: 1, hlen: 6, hops: 3, xid: 7, secs: 9, flags: flagB, options: []option{
		opt(53, discover), opt(61, 1, 2), opt(61, 3), opt(52, 3), opt(80),
	}, file: []byte{61, 1, 4, 255}, sname: []byte{61, 1, 5}}
	got, err := readMessage(m.bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got.xid != 7 || got.secs != 9 || got.hops != 3 || got.flags != flagB || got.typ() != discover || !got.has(80) || got.has(81) {
		t.Errorf("read %+v", got)
	}
	if id := got.get(61); !bytes.Equal(id, []byte{1, 2, 3, 4, 5}) {
		t.Errorf("the pieces of option 61 make %x", id)
	}
	if _, err := readMessage((&message{noEnd: true}).bytes()); err == nil {
		t.Error("a message without End was read")
	}
	if _, _, err := readOptions([]byte{61, 2, 1}); err == nil {
		t.Error("a torn option was read")
	}
}
