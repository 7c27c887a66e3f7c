package daemon

import (
	"errors"

	"golang.org/x/sys/unix"
)

// checkRights tells early, and in one line, what would fail later in many ways.
func checkRights() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return nil // what fails will say so
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("not permitted to make TAP devices: CAP_NET_ADMIN is missing; run uvtep as root, or give its file the capability (setcap cap_net_admin+ep)")
	}
	return nil
}
