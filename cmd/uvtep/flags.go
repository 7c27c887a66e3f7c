package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
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

// clientIDFlag adds --client-id; without it the identifier is "".
func clientIDFlag(f *pflag.FlagSet, help string) *string {
	var v clientIDValue
	f.Var(&v, "client-id", help)
	return (*string)(&v)
}

// clientIDValue is option 61 in hexadecimal, as the API has it.
type clientIDValue string

func (v *clientIDValue) String() string { return string(*v) }
func (v *clientIDValue) Set(s string) error {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) < 2 || len(b) > 255 {
		return errors.New("not 2 to 255 bytes in hexadecimal, the type byte first, such as ff0102")
	}
	*v = clientIDValue(hex.EncodeToString(b))
	return nil
}
func (*clientIDValue) Type() string { return "HEX" }

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

// exactlyOne wants one of two flags.
func exactlyOne(c *cobra.Command, a, b string) error {
	switch {
	case c.Flags().Changed(a) && c.Flags().Changed(b):
		return usagef("--%s and --%s exclude each other", a, b)
	case !c.Flags().Changed(a) && !c.Flags().Changed(b):
		return usagef("--%s or --%s is needed", a, b)
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
