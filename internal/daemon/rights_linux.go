package daemon

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/tap"
)

// checkRights tells early, and in one line, what would fail later in many ways.
func checkRights() error {
	if !capable(unix.CAP_NET_ADMIN) {
		return errors.New("not permitted to make TAP devices: CAP_NET_ADMIN is missing; run uvtep as root, or give its file the capability (setcap cap_net_admin+ep)")
	}
	return nil
}

// checkPlace is checkRights for where a TAP belongs.
func checkPlace(c tap.Config) error {
	if c.NetNS != "" && !capable(unix.CAP_SYS_ADMIN) {
		return fmt.Errorf("tap %s: not permitted to enter namespace %s: CAP_SYS_ADMIN is missing; run uvtep as root, or give its file that capability too (setcap cap_net_admin,cap_sys_admin+ep)", c.Name, c.NetNS)
	}
	return nil
}

// capable tells whether this program has a capability. Where that cannot be
// known it says yes: what fails will say so.
func capable(which int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&hdr, &data[0]) != nil || data[which/32].Effective&(1<<(which%32)) != 0
}
