package config

import (
	"encoding/binary"
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

// serverOwns are the options that the exchange itself sets, and why.
var serverOwns = map[int64]string{
	1: "the subnet's mask", 50: "the client's", 51: "the key lease", 52: "the server's own", 53: "the server's own",
	54: "the key server", 55: "the client's", 56: "the server's own", 57: "the client's", 58: "the key t1", 59: "the key t2",
	61: "the client's", 80: "the server's own", 81: "the server's own", 82: "the relay's", 90: "the client's", 118: "the client's",
}

// ownKeys are the options that have a key of their own beside options.
var ownKeys = [...]map[int64]string{
	forServer: {3: "gateway", 6: "dns", 12: "hostname, in hosts", 15: "domain", 26: "mtu", 121: "routes"},
	forRelay:  {3: "gateway", 6: "dns", 12: "hostname, in hosts"},
	forClient: {12: "hostname, in hosts"},
}

// layout is what the value of an option consists of (RFC 2132 and others).
type layout struct {
	unit   int  // length of one element, bytes
	many   bool // one element or more, not exactly one
	number bool // a number, not addresses
}

var layouts = func() map[int64]layout {
	m := make(map[int64]layout)
	set := func(l layout, codes ...int64) {
		for _, c := range codes {
			m[c] = l
		}
	}
	set(layout{unit: 4, many: true}, 3, 4, 5, 6, 7, 8, 9, 10, 11, 41, 42, 44, 45, 48, 49, 65, 69, 70, 71, 72, 73, 74, 75, 76, 138, 150)
	set(layout{unit: 4}, 16, 28, 32)
	set(layout{unit: 8, many: true}, 21, 33)
	set(layout{unit: 1, number: true}, 19, 20, 23, 27, 29, 30, 31, 34, 36, 37, 39, 46, 116)
	set(layout{unit: 2, number: true}, 13, 22, 26)
	set(layout{unit: 4, number: true}, 2, 24, 35, 38, 108, 211)
	return m
}()

func (s *source) options(p path, raw []rawOption, in scope) []Option {
	var out []Option
	first := registry[uint8]{}
	for i := range raw {
		at := p.index(i)
		s.missing(at.key("code"), "an option needs its number")
		code := s.integer(at.key("code"), raw[i].Code, 1, 254, 0)
		o := s.option(at, &raw[i], code)
		if code == 0 {
			continue
		}
		if why, owned := serverOwns[code]; owned {
			s.fault(at.key("code"), "option %d is not for configuration: it is %s", code, why)
			continue
		}
		if key, has := ownKeys[in][code]; has {
			s.fault(at.key("code"), "option %d has a key of its own: %s", code, key)
			continue
		}
		o.Code = uint8(code)
		if other, taken := first.claim(o.Code, at.key("code")); taken {
			s.fault(at.key("code"), "option %d is listed twice, also as %s", code, s.other(other))
			continue
		}
		out = append(out, o)
	}
	return out
}

// option reads the value of one option and checks its length; code is 0 where
// it is not known.
func (s *source) option(p path, raw *rawOption, code int64) Option {
	var o Option
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
		return o
	}
	if !s.has(at) {
		return o
	}
	switch {
	case strings.HasSuffix(string(at), ".ip"):
		o.Form = FormIP
		for i, v := range *raw.IP {
			a, ok := s.ipv4(at.index(i), v)
			if !ok {
				return o
			}
			o.Data = append(o.Data, a.AsSlice()...)
		}
	case strings.HasSuffix(string(at), ".text"):
		o.Form, o.Data = FormText, []byte(*raw.Text)
	case strings.HasSuffix(string(at), ".hex"):
		o.Data, _ = s.hex(at, *raw.Hex)
	default:
		o.Form, o.Data = FormNumber, s.optionNumber(at, *raw.Number, code)
	}
	if s.has(at) {
		s.optionLength(at, o, code)
	}
	return o
}

func (s *source) optionNumber(p path, n, code int64) []byte {
	l, known := layouts[code]
	if !known || !l.number {
		if code != 0 {
			s.fault(p, "the width of a number in option %d is not known: write it as hex", code)
		}
		return nil
	}
	lo, hi := int64(0), int64(1)<<(8*l.unit)-1
	if code == 2 { // the time offset is signed (RFC 2132, section 3.4)
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

func (s *source) optionLength(p path, o Option, code int64) {
	l, known := layouts[code]
	switch n := len(o.Data); {
	case n == 0:
		s.fault(p, "is empty")
	case n > maxOption:
		s.fault(p, "has %d bytes; an option has at most %d", n, maxOption)
	case known && l.many && n%l.unit != 0:
		s.fault(p, "has %d bytes; option %d takes a multiple of %d", n, code, l.unit)
	case known && !l.many && n != l.unit:
		s.fault(p, "has %d bytes; option %d takes %d", n, code, l.unit)
	}
}

// addresses reads the value of an option of addresses.
func (o Option) addresses() []netip.Addr {
	var out []netip.Addr
	for b := o.Data; len(b) >= 4; b = b[4:] {
		out = append(out, netip.AddrFrom4([4]byte(b)))
	}
	return out
}

// number reads the value of an option that was written as a number.
func (o Option) number() int64 {
	var wide [8]byte
	copy(wide[8-len(o.Data):], o.Data)
	n := int64(binary.BigEndian.Uint64(wide[:]))
	if o.Code == 2 {
		return int64(int32(n))
	}
	return n
}
