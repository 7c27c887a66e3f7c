package dhcpd

import (
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// status6 is what a whole message is answered.
type status6 struct {
	code iana.StatusCode
	text string
}

const (
	portServer6 = 547
	portClient6 = 546
)

// answer builds the reply, says where it goes (RFC 8415 sections 18.3.10 and
// 19.3), and hands it to the commit loop if it is to wait for the disk.
func (s *Server6) answer(c *call6, typ dhcpv6.MessageType, st *status6) Outcome {
	m := c.m
	w := make(writer6, 0, maxReply6)
	ends := w.wrap(m.relays)
	w = append(w, byte(typ), m.xid[0], m.xid[1], m.xid[2])
	w.option(dhcpv6.OptionServerID, s.duid)
	if m.clientID != nil {
		w.option(dhcpv6.OptionClientID, m.clientID)
	}
	if st != nil {
		w.status(st.code, st.text)
	}
	if m.typ == dhcpv6.MessageTypeSolicit && typ == dhcpv6.MessageTypeReply {
		w.option(dhcpv6.OptionRapidCommit, nil)
	}
	given, refused := 0, 0
	for i := range c.ias {
		w.ia(&c.ias[i], &s.times)
		if c.ias[i].b != nil {
			given++
		} else {
			refused++
		}
	}
	if st == nil {
		s.configure(c, &w)
	}
	for i := len(ends) - 1; i >= 0; i-- {
		w.end(ends[i])
	}
	s.out[typ]++
	c.out = Reply{Payload: w, Dst: c.req.Src, DstPort: portClient6, DstMAC: c.req.SrcMAC}
	if len(m.relays) > 0 {
		c.out.DstPort = portServer6
	}
	switch {
	case len(c.parts) > 0:
		s.push(c)
		return Pending
	case given == 0 && refused > 0 && c.bad != Answered:
		return c.bad
	}
	return Answered
}

// configure writes the options that the client asked for, as far as they fit:
// those of its reservation before those of the segment.
func (s *Server6) configure(c *call6, w *writer6) {
	put := func(o Option6) {
		if c.m.wants(dhcpv6.OptionCode(o.Code)) && len(*w)+4+len(o.Data) <= maxReply6 {
			w.option(dhcpv6.OptionCode(o.Code), o.Data)
		}
	}
	var own []Option6
	hostname := ""
	if c.h != nil {
		own, hostname = c.h.Options, c.h.Hostname
	}
	for _, o := range own {
		put(o)
	}
	for _, o := range s.opts {
		if !slices.ContainsFunc(own, func(h Option6) bool { return h.Code == o.Code }) {
			put(o)
		}
	}
	domain := ""
	if len(s.cfg.Search) > 0 {
		domain = s.cfg.Search[0]
	}
	const around = 8 // at most: the option's head, flags, the length of a first label and two ends
	fits := len(*w)+around+len(c.m.fqdn)+len(hostname)+len(domain) <= maxReply6
	if fits && c.m.fqdn != nil && c.m.asked != nil && c.m.wants(dhcpv6.OptionFQDN) {
		w.fqdn(c.m.fqdn, hostname, domain)
	}
}
