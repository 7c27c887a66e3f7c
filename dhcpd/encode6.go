package dhcpd

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// maxReply6 is what fits into the least MTU of IPv6 (RFC 8200 section 5) behind
// the headers of IP and UDP. Options that the client can do without are left
// out of a longer reply.
const maxReply6 = 1280 - 40 - 8

// writer6 builds a message. Options are nested by begin and end.
type writer6 []byte

// begin starts an option, which lasts until the end of the same position.
func (w *writer6) begin(code dhcpv6.OptionCode) (at int) {
	at = len(*w)
	*w = binary.BigEndian.AppendUint16(*w, uint16(code))
	*w = append(*w, 0, 0)
	return at
}

func (w *writer6) end(at int) {
	binary.BigEndian.PutUint16((*w)[at+2:], uint16(len(*w)-at-4))
}

func (w *writer6) option(code dhcpv6.OptionCode, data []byte) {
	at := w.begin(code)
	*w = append(*w, data...)
	w.end(at)
}

// status is option 13 (RFC 8415 section 21.13).
func (w *writer6) status(code iana.StatusCode, text string) {
	at := w.begin(dhcpv6.OptionStatusCode)
	*w = binary.BigEndian.AppendUint16(*w, uint16(code))
	*w = append(*w, text...)
	w.end(at)
}

// item is an address or a prefix of an identity association with its lifetimes
// (RFC 8415 sections 21.6 and 21.22).
func (w *writer6) item(p netip.Prefix, pd bool, preferred, valid uint32) {
	ip := p.Addr().As16()
	if !pd {
		at := w.begin(dhcpv6.OptionIAAddr)
		*w = append(*w, ip[:]...)
		*w = binary.BigEndian.AppendUint32(*w, preferred)
		*w = binary.BigEndian.AppendUint32(*w, valid)
		w.end(at)
		return
	}
	at := w.begin(dhcpv6.OptionIAPrefix)
	*w = binary.BigEndian.AppendUint32(*w, preferred)
	*w = binary.BigEndian.AppendUint32(*w, valid)
	*w = append(*w, byte(p.Bits()))
	*w = append(*w, ip[:]...)
	w.end(at)
}

// lifetimes are those of all leases, in seconds.
type lifetimes struct{ valid, preferred, t1, t2 uint32 }

func newLifetimes(c *SegmentConfig6) lifetimes {
	s := func(d time.Duration) uint32 { return uint32(min(int64(d/time.Second), math.MaxUint32-1)) }
	return lifetimes{s(c.Lease), s(c.Preferred), s(c.T1), s(c.T2)}
}

// iaReply is what an identity association is answered.
type iaReply struct {
	*ia
	b      *binding6      // nil: nothing is given
	gone   []netip.Prefix // what the client must no longer use
	status iana.StatusCode
	text   string
}

// ia writes an identity association. T1 and T2 are zero where nothing is to be
// renewed.
func (w *writer6) ia(r *iaReply, t *lifetimes) {
	at := w.begin(r.code)
	*w = binary.BigEndian.AppendUint32(*w, r.id)
	if r.code != dhcpv6.OptionIATA {
		var t1, t2 uint32
		if r.b != nil {
			t1, t2 = t.t1, t.t2
		}
		*w = binary.BigEndian.AppendUint32(*w, t1)
		*w = binary.BigEndian.AppendUint32(*w, t2)
	}
	pd := r.code == dhcpv6.OptionIAPD
	if r.b != nil {
		w.item(r.b.prefix, pd, t.preferred, t.valid)
	}
	for _, p := range r.gone {
		w.item(p, pd, 0, 0)
	}
	if r.status != iana.StatusSuccess {
		w.status(r.status, r.text)
	}
	w.end(at)
}

// wrap writes a RELAY-REPL for each relay, innermost last, up to the message
// within, and returns where its options end (RFC 8415 section 19.3).
func (w *writer6) wrap(relays []relay6) (ends []int) {
	for _, r := range relays {
		*w = append(*w, r.head...)
		(*w)[len(*w)-relayHeader] = byte(dhcpv6.MessageTypeRelayReply)
		if id := findOption(r.options, dhcpv6.OptionInterfaceID); id != nil {
			w.option(dhcpv6.OptionInterfaceID, id)
		}
		w.echo(r.options)
		ends = append(ends, w.begin(dhcpv6.OptionRelayMsg))
	}
	return ends
}

// echo writes the options that the relay wants back (RFC 4994), each once.
func (w *writer6) echo(options []byte) {
	const most = 8
	list := findOption(options, dhcpv6.OptionEchoRequest)
	done := []dhcpv6.OptionCode{dhcpv6.OptionInterfaceID, dhcpv6.OptionRelayMsg, dhcpv6.OptionEchoRequest}
	for i := 0; i+2 <= len(list) && i < 2*most; i += 2 {
		code := dhcpv6.OptionCode(binary.BigEndian.Uint16(list[i:]))
		if slices.Contains(done, code) {
			continue
		}
		done = append(done, code)
		if data := findOption(options, code); data != nil {
			w.option(code, data)
		}
	}
}

// domainName is names in DNS wire format (RFC 8415 section 10).
func domainNames(names []string) []byte {
	var b []byte
	for _, n := range names {
		b = append(appendLabels(b, n), 0)
	}
	return b
}

// Flags of option 39 (RFC 4704 section 4.1).
const (
	fqdn6Server   = 1 << 0 // S: the server does the AAAA record
	fqdn6Override = 1 << 1 // O: the server did not do as the client asked
	fqdn6NoUpdate = 1 << 2 // N: the server does no updates
)

// fqdn writes the answer to option 39: no updates are done, a partial name is
// completed by the domain, an empty one is the reservation's.
func (w *writer6) fqdn(request []byte, hostname, domain string) {
	if len(request) == 0 {
		return
	}
	at := w.begin(dhcpv6.OptionFQDN)
	flags := byte(fqdn6NoUpdate)
	if request[0]&fqdn6Server != 0 {
		flags |= fqdn6Override
	}
	*w = appendName(append(*w, flags), request[1:], hostname, domain)
	w.end(at)
}
