package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/lab"
)

func labCommand() *cobra.Command {
	c := group(&cobra.Command{Use: "lab", Short: "VTEP hosts and guests in network namespaces of this machine"})
	c.AddCommand(labUpCommand(), labDemoCommand(), labShowCommand(), labGraphCommand(), labExecCommand(), labDownCommand())
	return c
}

func labNameFlag(f *pflag.FlagSet) *string {
	return f.String("name", "lab", "`NAME` of the lab: letters and digits")
}

// load finds a lab by name.
func load(name string) (*lab.Lab, error) {
	return lab.Load(lab.Options{Name: name, Program: asTyped()})
}

// labFlags adds what a lab is made of.
func labFlags(f *pflag.FlagSet, vnis ...encap.VNI) func() (lab.Options, error) {
	var o lab.Options
	list := vniList(vnis)
	f.StringVar(&o.Name, "name", "lab", "`NAME` of the lab: letters and digits")
	f.IntVar(&o.Hosts, "hosts", 2, "make `N` VTEP hosts")
	f.IntVar(&o.Guests, "guests", 2, "make `N` guests of each VNI, spread over the hosts in turn")
	f.Var(&list, "vni", "segments; may be repeated, or a list with commas")
	f.TextVar(&o.Subnet, "subnet", netip.MustParsePrefix(lab.DefaultSubnet), "subnet `CIDR` of the guests, the same in every VNI")
	f.Uint16Var(&o.Port, "port", encap.Port, "UDP port `N` of the tunnel")
	f.IntVar(&o.MTU, "mtu", 1500, "underlay MTU of `N` bytes")
	f.BoolVar(&o.IPv6, "ipv6", false, "IPv6 underlay")
	return func() (lab.Options, error) {
		o.Program = asTyped()
		for _, name := range []string{"hosts", "guests", "port", "mtu"} {
			if f.Lookup(name).Value.String() == "0" {
				return o, usagef("--%s 0 makes no lab", name)
			}
		}
		for _, v := range list {
			o.VNIs = append(o.VNIs, uint32(v))
		}
		return o, nil
	}
}

// vniList is a flag of several VNIs. The first use replaces the default.
type vniList []encap.VNI

func (l *vniList) String() string {
	var words []string
	for _, v := range *l {
		words = append(words, v.String())
	}
	return strings.Join(words, ",")
}

func (l *vniList) Set(s string) error {
	var all vniList
	for word := range strings.SplitSeq(s, ",") {
		v, err := encap.ParseVNI(word)
		if err != nil {
			return err
		}
		all = append(all, v)
	}
	*l = all
	return nil
}

func (*vniList) Type() string { return "N,N" }

// labContext also ends when the terminal goes away or nobody reads the output
// any longer: a lab must be taken down then too.
func labContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE)
}

// labError tells wrong options from a lab that failed.
func labError(err error) error {
	if errors.Is(err, lab.ErrOptions) {
		return usageError{err}
	}
	return err
}

// asTyped is how the user called this program, for lines to be copied.
func asTyped() string {
	name := os.Args[0]
	if !strings.Contains(name, string(filepath.Separator)) {
		name = filepath.Base(name)
	}
	if os.Getenv("SUDO_UID") != "" {
		return "sudo " + name
	}
	return name
}
