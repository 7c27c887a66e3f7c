package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/netns"
)

// wireFeatures are what makes a veth pair behave like a cable: nothing longer
// than an MTU is handed over, and what arrives may be merged. The patterns stand
// for the kernel's names; "tso" is what ethtool calls the first one.
var wireFeatures = []struct {
	pattern string
	on      bool
}{
	{"tx-tcp*-segmentation", false},
	{"tx-generic-segmentation", false},
	{"tx-udp_tnl-segmentation", false},
	{"tx-udp_tnl-csum-segmentation", false},
	{"tx-udp-segmentation", false},
	{"rx-gro", true},
}

// wired says which of an interface's features have to be how on a cable.
func wired(features map[string]bool) map[string]bool {
	want := map[string]bool{}
	for name := range features {
		for _, f := range wireFeatures {
			if ok, _ := path.Match(f.pattern, name); ok {
				want[name] = f.on
			}
		}
	}
	return want
}

// ethFeatures is ETH_SS_FEATURES, the set of strings that name the features.
const ethFeatures = 4

// featureNameLen is ETH_GSTRING_LEN.
const featureNameLen = 32

// features reads which of an interface's features are active, by name.
func features(ns, ifname string) (map[string]bool, error) {
	var active map[string]bool
	err := ethtool(ns, ifname, func(call ethtoolCall) error {
		names, err := featureNames(call)
		if err != nil {
			return err
		}
		active, err = activeFeatures(call, names)
		return err
	})
	return active, err
}

// setFeatures switches features of an interface on and off. Names that the
// kernel does not know are left out; a feature that stays as it was is an error.
func setFeatures(ns, ifname string, want map[string]bool) error {
	return ethtool(ns, ifname, func(call ethtoolCall) error {
		names, err := featureNames(call)
		if err != nil {
			return err
		}
		// struct ethtool_sfeatures: command, size, then (valid, requested) pairs.
		b := make([]uint32, 2+2*words(len(names)))
		b[0], b[1] = unix.ETHTOOL_SFEATURES, uint32(words(len(names)))
		for i, name := range names {
			if on, ok := want[name]; ok {
				bit := uint32(1) << (i % 32)
				b[2+2*(i/32)] |= bit
				if on {
					b[3+2*(i/32)] |= bit
				}
			}
		}
		if err := call(b); err != nil {
			return fmt.Errorf("set features: %w", err)
		}
		have, err := activeFeatures(call, names)
		if err != nil {
			return err
		}
		for name, on := range want {
			if now, ok := have[name]; ok && now != on {
				return fmt.Errorf("the feature %s cannot be switched to %t", name, on)
			}
		}
		return nil
	})
}

// words is how many 32-bit words hold n bits.
func words(n int) int { return (n + 31) / 32 }

func featureNames(call ethtoolCall) ([]string, error) {
	// struct ethtool_sset_info: command, reserved, a mask of 64 bits, a count.
	info := []uint32{unix.ETHTOOL_GSSET_INFO, 0, 1 << ethFeatures, 0, 0}
	if err := call(info); err != nil {
		return nil, fmt.Errorf("count features: %w", err)
	}
	n := int(info[4])
	// struct ethtool_gstrings: command, set, count, names.
	b := make([]uint32, 3+n*featureNameLen/4)
	b[0], b[1], b[2] = unix.ETHTOOL_GSTRINGS, ethFeatures, uint32(n)
	if err := call(b); err != nil {
		return nil, fmt.Errorf("name features: %w", err)
	}
	text := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b[3:]))), n*featureNameLen)
	names := make([]string, n)
	for i := range names {
		name, _, _ := bytes.Cut(text[i*featureNameLen:(i+1)*featureNameLen], []byte{0})
		names[i] = string(name)
	}
	return names, nil
}

func activeFeatures(call ethtoolCall, names []string) (map[string]bool, error) {
	// struct ethtool_gfeatures: command, size, then (available, requested,
	// active, never changed) for each word.
	b := make([]uint32, 2+4*words(len(names)))
	b[0], b[1] = unix.ETHTOOL_GFEATURES, uint32(words(len(names)))
	if err := call(b); err != nil {
		return nil, fmt.Errorf("read features: %w", err)
	}
	active := map[string]bool{}
	for i, name := range names {
		if name != "" {
			active[name] = b[2+4*(i/32)+2]>>(i%32)&1 == 1
		}
	}
	return active, nil
}

// ethtoolCall makes one SIOCETHTOOL request out of a command's structure.
type ethtoolCall func(request []uint32) error

// ethtool calls fn with a way to ask and tell an interface of a namespace.
func ethtool(ns, ifname string, fn func(ethtoolCall) error) error {
	err := netns.Do(ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return fn(func(request []uint32) error {
			var ifr struct {
				name [unix.IFNAMSIZ]byte
				data unsafe.Pointer
				_    [16]byte // of the union that data is part of
			}
			if len(ifname) >= len(ifr.name) {
				return errors.New("the interface's name is too long")
			}
			copy(ifr.name[:], ifname)
			ifr.data = unsafe.Pointer(unsafe.SliceData(request))
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
			runtime.KeepAlive(request)
			if errno != 0 {
				return errno
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("%s in %s: %w", ifname, ns, err)
	}
	return nil
}
