package daemon

import (
	"net/netip"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/vtep"
)

func (d *server) DHCP(vni encap.VNI) ([]control.DHCPServer, error) {
	return each(d, vni, func(s *vtep.Segment) []control.DHCPServer {
		var out []control.DHCPServer
		c := s.Config()
		if srv := s.DHCP(); srv != nil && c.DHCP != nil {
			out = append(out, dhcpServer(s.VNI(), c.DHCP.Server.Subnet, c.DHCP.Server.Server, srv.Stats()))
		}
		if srv := s.DHCP6(); srv != nil && c.DHCP6 != nil {
			out = append(out, dhcpServer(s.VNI(), c.DHCP6.Server.Subnet, c.DHCP6.Server.Server, srv.Stats()))
		}
		return out
	})
}

// LeaseStore implements control.Reader.
func (d *server) LeaseStore() dhcpd.CommitStats { return d.dhcp.Stats() }

func dhcpServer(vni encap.VNI, subnet netip.Prefix, server netip.Addr, st dhcpd.Stats) control.DHCPServer {
	out := control.DHCPServer{
		VNI: vni, Family: "ipv4", Subnet: subnet, Server: server,
		Pool: st.Pool, Used: st.Used, Bound: st.Bound, Offered: st.Offered, Declined: st.Declined, Reserved: st.Reserved,
		Received: map[string]uint64{}, Sent: map[string]uint64{}, Outcomes: map[string]uint64{},
		Probes: st.Probes, ProbeConflicts: st.ProbeConflicts, ProbesSkipped: st.ProbesSkipped,
	}
	// By type (RFC 2132 section 9.6, RFC 8415 section 7.3).
	types := [dhcpd.MessageTypes]string{1: "discover", "offer", "request", "decline", "ack", "nak", "release", "inform"}
	if subnet.Addr().Is6() {
		out.Family = "ipv6"
		types = [dhcpd.MessageTypes]string{1: "solicit", "advertise", "request", "confirm", "renew", "rebind", "reply", "release", "decline", "reconfigure", "information_request"}
	}
	for i, name := range types {
		if n := st.In[i]; n > 0 && name != "" {
			out.Received[name] = n
		}
		if n := st.Out[i]; n > 0 && name != "" {
			out.Sent[name] = n
		}
	}
	for i, n := range st.Outcomes {
		if n > 0 {
			out.Outcomes[dhcpd.Outcome(i).String()] = n
		}
	}
	return out
}
