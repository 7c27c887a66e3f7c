package main

import (
	"encoding/json"
	"io"
	"net/netip"

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

// macFlag adds --mac.
func macFlag(f *pflag.FlagSet, help string) *fdb.MAC {
	var m fdb.MAC
	f.TextVar(&m, "mac", fdb.MAC(0), help)
	f.Lookup("mac").DefValue = ""
	return &m
}

// addrFlag adds a flag that is an IP address.
func addrFlag(f *pflag.FlagSet, name, help string) *netip.Addr {
	var a netip.Addr
	f.TextVar(&a, name, netip.Addr{}, help)
	f.Lookup(name).DefValue = ""
	return &a
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
