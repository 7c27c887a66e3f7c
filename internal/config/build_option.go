package config

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
)

// maxOption is the most that one option may hold, bytes: four instances of 255
// (RFC 3396). More never fits beside the rest in a reply of 1,500.
const maxOption = 4 * 255

// A scope is where options are written. The server and a relay subnet have keys
// of their own for what every client needs; a client's options may override it.
type scope uint8

const (
	forServer scope = iota
	forRelay
	forClient
)

// serverOwns tells whose an option is that the exchange itself sets; it is empty
// for all others.
func serverOwns(code int64) string {
	switch code {
	case 1:
		return "the subnet's mask"
	case 50, 55, 57, 61, 90, 118:
		return "the client's"
	case 51:
		return "the key lease"
	case 52, 53, 56, 80, 81:
		return "the server's own"
	case 54:
		return "the key server"
	case 58:
		return "the key t1"
	case 59:
		return "the key t2"
	case 82:
		return "the relay's"
	}
	return ""
}

// ownKey is the key that stands for an option beside `options`, or "".
func ownKey(in scope, code int64) string {
	if code == 12 {
		return "hostname, in hosts"
	}
	if in == forClient {
		return ""
	}
	switch code {
	case 3:
		return "gateway"
	case 6:
		return "dns"
	}
	if in == forRelay {
		return ""
	}
	switch code {
	case 15:
		return "domain"
	case 26:
		return "mtu"
	case 121:
		return "routes"
	}
	return ""
}

// layout is what the value of an option consists of.
type layout struct {
	unit   int  // length of one element, bytes; 0 = not known
	many   bool // one element or more, not exactly one
	number bool // a number, not addresses
	signed bool
}

// layoutOf knows the options of RFC 2132, and a few of later ones, whose length
// is bound.
func layoutOf(code int64) layout {
	switch code {
	case 3, 4, 5, 6, 7, 8, 9, 10, 11, 41, 42, 44, 45, 48, 49, 65, 69, 70, 71, 72, 73, 74, 75, 76, 138, 150:
		return layout{unit: 4, many: true}
	case 21, 33:
		return layout{unit: 8, many: true}
	case 16, 28, 32:
		return layout{unit: 4}
	case 19, 20, 23, 27, 29, 30, 31, 34, 36, 37, 39, 46, 116:
		return layout{unit: 1, number: true}
	case 13, 22, 26:
		return layout{unit: 2, number: true}
	case 2: // the time offset (RFC 2132, section 3.4)
		return layout{unit: 4, number: true, signed: true}
	case 24, 35, 38, 108, 211:
		return layout{unit: 4, number: true}
	}
	return layout{}
}

func (s *source) options(p path, raw []rawOption, in scope) []Option {
	key := func(code int64) string { return ownKey(in, code) }
	return options(s, p, raw, optionSpace{v4, 254, serverOwns, key, layoutOf})
}

// An optionSpace is what the options of one family are numbered by, in one scope.
type optionSpace struct {
	family     family
	last       int64
	serverOwns func(code int64) string
	ownKey     func(code int64) string
	layoutOf   func(code int64) layout
}

func options[T interface{ written() (int64, optionText) }](s *source, p path, raw []T, of optionSpace) []Option {
	var out []Option
	first := registry[uint16]{}
	for i := range raw {
		at := p.index(i)
		number := at.key("code")
		code, v := raw[i].written()
		s.missing(number, "an option needs its number")
		code = s.integer(number, code, 1, of.last, 0)
		if why := of.serverOwns(code); why != "" {
			s.fault(number, "option %d is not for configuration: it is %s", code, why)
			code = 0
		} else if key := of.ownKey(code); key != "" {
			s.fault(number, "option %d has a key of its own: %s", code, key)
			code = 0
		}
		o := Option{Code: uint16(code)}
		o.Data, o.Form = s.optionValue(at, v, code, of.layoutOf(code), of.family)
		if code == 0 {
			continue
		}
		if other, taken := first.claim(o.Code, number); taken {
			s.fault(number, "option %d is listed twice, also as %s", code, s.other(other))
			continue
		}
		out = append(out, o)
	}
	return out
}

// optionText is the value of an option as it is written, for DHCPv4 and DHCPv6.
type optionText struct {
	ip     []string
	text   *string
	hex    *hexText
	number *int64
}

// optionValue reads the value of one option and checks its length; code is 0
// where it has had its fault.
func (s *source) optionValue(p path, v optionText, code int64, l layout, f family) (data []byte, form Form) {
	var at path
	for _, key := range []string{"ip", "text", "hex", "number"} {
		here := p.key(key)
		if _, there := s.places[here]; !there {
			continue
		}
		if at != "" {
			s.fault(here, "an option has one value: %s is there already", s.other(at))
			continue
		}
		at = here
	}
	if at == "" {
		s.fault(p, "has no value: ip, text, hex or number is needed")
		return nil, FormHex
	}
	if !s.has(at) {
		return nil, FormHex
	}
	switch {
	case strings.HasSuffix(string(at), ".ip"):
		form = FormIP
		for i, text := range v.ip {
			a, ok := s.ofFamily(at.index(i), text, f)
			if !ok {
				return data, form
			}
			data = append(data, a.AsSlice()...)
		}
	case strings.HasSuffix(string(at), ".text"):
		form, data = FormText, []byte(*v.text)
	case strings.HasSuffix(string(at), ".hex"):
		data, _ = s.hex(at, *v.hex)
	default:
		if code == 0 {
			return nil, FormNumber // how wide it is nobody knows; the code has its fault already
		}
		form, data = FormNumber, s.optionNumber(at, *v.number, code, l)
	}
	if s.has(at) {
		s.optionLength(at, len(data), code, l)
	}
	return data, form
}

func (s *source) optionNumber(p path, n, code int64, l layout) []byte {
	if !l.number {
		s.fault(p, "the width of a number in option %d is not known: write it as hex", code)
		return nil
	}
	lo, hi := int64(0), int64(1)<<(8*l.unit)-1
	if l.signed {
		lo, hi = -1<<31, 1<<31-1
	}
	if n < lo || n > hi {
		s.fault(p, "%d is outside %d..%d", n, lo, hi)
		return nil
	}
	var wide [8]byte
	binary.BigEndian.PutUint64(wide[:], uint64(n))
	return append([]byte(nil), wide[8-l.unit:]...)
}

func (s *source) optionLength(p path, n int, code int64, l layout) {
	switch {
	case n == 0:
		s.fault(p, "is empty")
	case n > maxOption:
		s.fault(p, "has %d bytes; an option has at most %d", n, maxOption)
	case l.unit > 0 && l.many && n%l.unit != 0:
		s.fault(p, "has %d bytes; option %d takes a multiple of %d", n, code, l.unit)
	case l.unit > 0 && !l.many && n != l.unit:
		s.fault(p, "has %d bytes; option %d takes %d", n, code, l.unit)
	}
}

// optionTextOf is the text that optionValue read; size is an address's.
func optionTextOf(o Option, size int, l layout) (v optionText) {
	switch o.Form {
	case FormIP:
		for b := o.Data; len(b) >= size; b = b[size:] {
			a, _ := netip.AddrFromSlice(b[:size])
			v.ip = append(v.ip, a.String())
		}
	case FormText:
		text := string(o.Data)
		v.text = &text
	case FormNumber:
		n := numberOf(o.Data, l)
		v.number = &n
	default:
		text := hexText(hex.EncodeToString(o.Data))
		v.hex = &text
	}
	return v
}

// numberOf reads the value of an option that was written as a number.
func numberOf(data []byte, l layout) int64 {
	var wide [8]byte
	copy(wide[8-len(data):], data)
	n := int64(binary.BigEndian.Uint64(wide[:]))
	if l.signed {
		return int64(int32(n))
	}
	return n
}
