package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
)

// guestFiles is where .ci/guest puts what virtual machines boot.
const guestFiles = "../../bin/guest"

// inits is the program that a virtual machine runs: it loads the drivers of its
// network card, gets an address by DHCP, and sends echo requests to the address
// that the kernel's command line has as peer= until one is answered.
const inits = `#!/busybox sh
/busybox mkdir /bin /sbin /usr /usr/bin /usr/sbin /proc /sys
/busybox --install -s
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
for m in virtio_ring virtio virtio_mmio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net; do
  [ ! -e /$m.ko ] || insmod /$m.ko
done
ip link set eth0 up
until udhcpc -i eth0 -f -q -n -t 5 -T 1 -O mtu -s /lease; do :; done
until ping -c 1 -W 1 $peer; do :; done
echo "reached $peer"
while :; do sleep 60; done
`

// lease is what udhcpc runs with what it was given.
const lease = `#!/busybox sh
[ $1 = bound ] || exit 0
ip addr add $ip/$mask dev $interface
ip link set $interface mtu $mtu
echo "bound $ip mtu $(cat /sys/class/net/$interface/mtu)"
`

// image is a kernel, and what it has for a disk, where everybody may read them.
type image struct{ kernel, disk string }

func newImage(t *testing.T) image {
	t.Helper()
	nettest.Need(t, "qemu-system-x86_64")
	kernel, err := os.ReadFile(filepath.Join(guestFiles, "vmlinuz"))
	if errors.Is(err, fs.ErrNotExist) {
		nettest.Missing(t, "this test boots a kernel that .ci/guest gets; run make deps")
	}
	if err != nil {
		t.Fatal(err)
	}
	var disk archive
	disk.add("init", []byte(inits))
	disk.add("lease", []byte(lease))
	all, err := os.ReadDir(guestFiles)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if name := f.Name(); name == "busybox" || strings.HasSuffix(name, ".ko") {
			b, err := os.ReadFile(filepath.Join(guestFiles, name))
			if err != nil {
				t.Fatal(err)
			}
			disk.add(name, b)
		}
	}
	dir := openDir(t)
	i := image{filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")}
	for path, data := range map[string][]byte{i.kernel: kernel, i.disk: disk.end()} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

// openDir is a directory of the test's own that everybody can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// archive is a cpio archive as the kernel unpacks it before it runs /init
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	bytes.Buffer
	files int
}

// add adds a program; its name is that of a file in the root directory.
func (a *archive) add(name string, data []byte) { a.entry(name, 0o100755, data) }

func (a *archive) entry(name string, mode int, data []byte) {
	a.files++
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.files, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(data)
	a.pad()
}

func (a *archive) pad() { a.Write(make([]byte, -a.Len()&3)) }

func (a *archive) end() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.Bytes()
}

// vm is a virtual machine that runs.
type vm struct {
	cmd    *exec.Cmd
	serial *nettest.Log
}

// boot boots a machine in a namespace, on a network device of QEMU, until the test
// ends. It is emulated: that takes a second or two, and is the same everywhere.
func (i image) boot(t *testing.T, ns *nettest.NS, netdev, mac, peer string, as *syscall.Credential) *vm {
	t.Helper()
	m := &vm{serial: &nettest.Log{}}
	m.cmd = exec.Command("qemu-system-x86_64", "-M", "pc,accel=tcg", "-m", "128", "-nodefaults", "-no-user-config", "-display", "none",
		"-serial", "stdio", "-no-reboot", "-kernel", i.kernel, "-initrd", i.disk, "-append", "console=ttyS0 quiet panic=-1 peer="+peer,
		"-netdev", netdev, "-device", "virtio-net-pci,netdev=n,romfile=,mac="+mac)
	m.cmd.Stdout, m.cmd.Stderr = m.serial, m.serial
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	ns.Start(m.cmd)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the machine %s printed:\n%s", mac, m.serial)
		}
	})
	return m
}

// says waits until a machine has printed something.
func (m *vm) says(t *testing.T, what string) {
	t.Helper()
	select {
	case <-m.serial.Wrote(what):
	case <-time.After(bootPatience):
		t.Fatalf("the machine never said %q", what)
	}
}
