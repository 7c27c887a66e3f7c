package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/control"
)

// vniFlag adds --vni; without it the VNI is 0.
func vniFlag(f *pflag.FlagSet, help string) *encap.VNI {
	var v vniValue
	f.Var(&v, "vni", help)
	return (*encap.VNI)(&v)
}

type vniValue encap.VNI

func (v *vniValue) String() string {
	if *v == 0 {
		return ""
	}
	return encap.VNI(*v).String()
}

func (v *vniValue) Set(s string) error {
	n, err := encap.ParseVNI(s)
	*v = vniValue(n)
	return err
}
func (*vniValue) Type() string { return "N" }

// macFlag adds --mac; without it the MAC is 0.
func macFlag(f *pflag.FlagSet, help string) *fdb.MAC {
	var m macValue
	f.Var(&m, "mac", help)
	return (*fdb.MAC)(&m)
}

type macValue fdb.MAC

func (m *macValue) String() string {
	if *m == 0 {
		return ""
	}
	return fdb.MAC(*m).String()
}

func (m *macValue) Set(s string) error {
	v, err := fdb.ParseMAC(s)
	if err != nil {
		return errors.New("not a hardware address such as 02:00:00:00:00:01")
	}
	*m = macValue(v)
	return nil
}
func (*macValue) Type() string { return "MAC" }

// addrFlag adds a flag that is an IP address; without it the address is the zero
// Addr.
func addrFlag(f *pflag.FlagSet, name, help string) *netip.Addr {
	var a addrValue
	f.Var(&a, name, help)
	return (*netip.Addr)(&a)
}

type addrValue netip.Addr

func (a *addrValue) String() string {
	if !netip.Addr(*a).IsValid() {
		return ""
	}
	return netip.Addr(*a).String()
}

func (a *addrValue) Set(s string) error {
	v, err := netip.ParseAddr(s)
	if err != nil {
		return errors.New("not an IP address such as 10.9.0.2")
	}
	*a = addrValue(v)
	return nil
}
func (*addrValue) Type() string { return "IP" }

// leaseFlag adds --ip, which is an address or a prefix of IPv6; of the first the
// length is 0.
func leaseFlag(f *pflag.FlagSet, help string) *leaseValue {
	var v leaseValue
	f.Var(&v, "ip", help)
	return &v
}

type leaseValue struct {
	addr   netip.Addr
	length int
}

func (v *leaseValue) String() string {
	switch {
	case !v.addr.IsValid():
		return ""
	case v.length == 0:
		return v.addr.String()
	}
	return netip.PrefixFrom(v.addr, v.length).String()
}

func (v *leaseValue) Set(s string) error {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4() || p.Bits() == 0 || p.Bits() == 128 || p != p.Masked() {
			return errors.New("not a prefix that can be delegated, such as 2001:db8:200::/56")
		}
		*v = leaseValue{p.Addr(), p.Bits()}
		return nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return errors.New("not an IP address such as 192.168.100.10, nor a prefix such as 2001:db8:200::/56")
	}
	*v = leaseValue{addr: a}
	return nil
}
func (*leaseValue) Type() string { return "IP" }

// bindingsValue is a flag that may be repeated: a MAC and an address or prefix.
type bindingsValue []control.Binding

func (v *bindingsValue) String() string { return "" }

func (v *bindingsValue) Set(s string) error {
	hw, ip, ok := strings.Cut(s, "=")
	m, err := fdb.ParseMAC(hw)
	if _, e := netip.ParseAddr(ip); e != nil {
		_, e = netip.ParsePrefix(ip)
		err = errors.Join(err, e)
	}
	if !ok || err != nil {
		return errors.New("not a station and its address such as 02:00:00:00:00:01=192.168.100.10")
	}
	*v = append(*v, control.Binding{MAC: m, IP: ip})
	return nil
}
func (*bindingsValue) Type() string { return "MAC=IP" }

// duidFlag adds --duid; without it the identifier is "".
func duidFlag(f *pflag.FlagSet, help string) *string {
	v := idValue{lo: 3, hi: 130, example: "3 to 130 bytes in hexadecimal, the type first, such as 00030001020000000001"}
	f.Var(&v, "duid", help)
	return &v.text
}

// clientIDFlag adds --client-id; without it the identifier is "".
func clientIDFlag(f *pflag.FlagSet, help string) *string {
	v := idValue{lo: 2, hi: 255, example: "2 to 255 bytes in hexadecimal, the type byte first, such as ff0102"}
	f.Var(&v, "client-id", help)
	return &v.text
}

// idValue is an identifier of lo..hi bytes in hexadecimal, as the API has it.
type idValue struct {
	text, example string
	lo, hi        int
}

func (v *idValue) String() string { return v.text }
func (v *idValue) Set(s string) error {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) < v.lo || len(b) > v.hi {
		return errors.New("not " + v.example)
	}
	v.text = hex.EncodeToString(b)
	return nil
}
func (*idValue) Type() string { return "HEX" }

// noArgs refuses words that belong to no flag.
func noArgs(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case c.Flags().Lookup("config") != nil:
		return usagef("%q belongs to no flag; the file is named with -c", args[0])
	}
	return usagef("%q belongs to no flag", args[0])
}

// exactlyOne wants one of several flags.
func exactlyOne(c *cobra.Command, names ...string) error {
	given := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !c.Flags().Changed(n) })
	switch {
	case len(given) > 1:
		return usagef("--%s and --%s exclude each other", given[0], given[1])
	case len(given) == 0:
		last := len(names) - 1
		return usagef("--%s or --%s is needed", strings.Join(names[:last], ", --"), names[last])
	}
	return nil
}

// require makes flags required.
func require(c *cobra.Command, names ...string) {
	for _, n := range names {
		if err := c.MarkFlagRequired(n); err != nil {
			panic(err) // no such flag: a fault of the program
		}
	}
}

// jsonFlag adds -j.
func jsonFlag(f *pflag.FlagSet) *bool { return f.BoolP("json", "j", false, "print JSON, for programs") }

// writeJSON prints one JSON value for a program.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
