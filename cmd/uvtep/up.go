package main

import (
	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/daemon"
	"github.com/uvtep/uvtep/internal/observe"
)

func upCommand(b observe.Build) *cobra.Command {
	c := &cobra.Command{
		Use: "up --local IP --vni N", Short: "Start one segment without a configuration file, in the foreground", Args: noArgs,
		Example: "  uvtep up --local 10.9.0.1 --vni 100 --peer 10.9.0.2 --dhcp 192.168.100.0/24",
	}
	var u daemon.Up
	f := c.Flags()
	f.StringVar(&u.Local, "local", "", "this VTEP's address, IPv4 or IPv6; one of this host's")
	f.Int64Var(&u.VNI, "vni", 0, "VXLAN network identifier, 1 to 16777215")
	f.StringArrayVar(&u.Peers, "peer", nil, "remote VTEP to replicate to; may be repeated")
	f.StringVar(&u.Group, "group", "", "multicast group to flood to; accepts packets from everyone")
	f.StringVar(&u.Device, "dev", "", "interface for multicast (default: the route decides)")
	f.Int64Var(&u.Port, "port", encap.Port, "UDP port")
	f.StringVar(&u.TAP, "tap", "", "TAP device; created if it is not there (default tap and the VNI)")
	f.StringVar(&u.NetNS, "netns", "", "network namespace, name or path, that its kernel side is moved to")
	f.StringVar(&u.Bridge, "bridge", "", "Linux bridge that its kernel side is enslaved to")
	f.StringVar(&u.DHCP, "dhcp", "", "serve DHCP: the subnet, such as 192.168.100.0/24")
	printConfig := f.Bool("print-config", false, "print the equal configuration file and exit")
	f.StringVar(&u.Socket, "socket", "", "control socket (default "+config.DefaultSocket+", or one of its own where another answers)")
	http := f.String("http", config.DefaultHTTP, "loopback `ADDR` and port of metrics and read-only API; \"\" is off")
	verbose := verboseFlag(c)
	require(c, "local", "vni")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if f.Changed("http") {
			u.HTTP = http
		}
		cfg, err := u.Config()
		if err != nil {
			return usageError{err}
		}
		if *printConfig {
			_, err := c.OutOrStdout().Write(cfg.YAML())
			return err
		}
		return daemon.Run(c.Context(), u.Options(cfg, logger(c.ErrOrStderr(), *verbose), b))
	}
	return c
}
