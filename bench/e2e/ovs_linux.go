package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/uvtep/uvtep/bench/proc"
)

// ovsSchemas are where distributions keep the database's schema.
var ovsSchemas = []string{"/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema"}

// raiseOVS starts a private Open vSwitch on each host, which takes over the
// underlay interface, as its documents say for tunnels in the userspace
// datapath: one bridge has the interface and the host's address, the other one
// the tunnel and the guest.
func (s *system) raiseOVS(ctx context.Context) error {
	for _, program := range []string{"ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed", program)
		}
	}
	version, err := proc.Output(ctx, nil, "ovs-vswitchd", "--version")
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(version, "\n")
	s.Version = line[strings.LastIndexByte(line, ' ')+1:]
	schema, err := ovsSchema()
	if err != nil {
		return err
	}
	for i := range s.hosts {
		if err := s.startOVS(ctx, i, schema); err != nil {
			return err
		}
	}
	return nil
}

func ovsSchema() (string, error) {
	for _, file := range ovsSchemas {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("the schema of Open vSwitch's database is in none of %s", strings.Join(ovsSchemas, ", "))
}

func (s *system) startOVS(ctx context.Context, i int, schema string) error {
	dir := filepath.Join(s.world.dir, fmt.Sprintf("ovs%d", i+1))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	env := []string{"OVS_RUNDIR=" + dir, "OVS_LOGDIR=" + dir, "OVS_DBDIR=" + dir, "OVS_SYSCONFDIR=" + dir}
	if _, err := proc.Output(ctx, env, "ovsdb-tool", "create", in("conf.db"), schema); err != nil {
		return err
	}
	db, err := s.spawn(i, env, "ovsdb-server", in("conf.db"), "--remote=punix:"+in("db.sock"), "--unixctl="+in("db.ctl"), "-vconsole:warn")
	if err != nil {
		return err
	}
	if err := db.Await(ctx, func() bool { return exists(in("db.sock")) }); err != nil {
		return err
	}
	vsctl := func(args ...string) error {
		_, err := proc.Output(ctx, env, "ovs-vsctl", append([]string{"--db=unix:" + in("db.sock"), "--timeout=10"}, args...)...)
		return err
	}
	if err := vsctl("--no-wait", "init"); err != nil {
		return err
	}
	switchd, err := s.spawn(i, env, "ovs-vswitchd", "unix:"+in("db.sock"), "--unixctl="+in("switch.ctl"), "-vconsole:warn")
	if err != nil {
		return err
	}
	if err := switchd.Await(ctx, func() bool { return exists(in("switch.ctl")) }); err != nil {
		return err
	}
	err = vsctl(
		"add-br", "underlay0", "--", "set", "bridge", "underlay0", "datapath_type=netdev",
		"--", "add-port", "underlay0", underlayIf,
		"--", "add-br", "overlay0", "--", "set", "bridge", "overlay0", "datapath_type=netdev",
		"--", "add-port", "overlay0", "tunnel0", "--", "set", "interface", "tunnel0", "type=vxlan",
		"options:local_ip="+hostAddr(i).String(), "options:remote_ip="+hostAddr(1-i).String(),
		fmt.Sprintf("options:key=%d", vni), fmt.Sprintf("options:dst_port=%d", vxlanPort), "options:csum=true",
		"--", "add-port", "overlay0", "guest0", "--", "set", "interface", "guest0", "type=internal",
	)
	if err != nil {
		return errors.Join(err, errors.New(switchd.LastLine()))
	}
	return inside(s.hosts[i], func(h *netlink.Handle) error {
		if err := setUp(h, "underlay0"); err != nil {
			return err
		}
		if err := number4(h, "underlay0", hostAddr(i)); err != nil {
			return err
		}
		link, err := h.LinkByName("guest0")
		if err != nil {
			return fmt.Errorf("guest0: %w", err)
		}
		return hand(h, link, s.guests[i], guestIf)
	})
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
