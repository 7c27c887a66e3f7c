package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/bench"
	"github.com/uvtep/uvtep/bench/proc"
)

// userHZ is the unit of times below /proc, on every processor that Go knows.
const userHZ = 100

// loadShift is SI_LOAD_SHIFT: sysinfo(2) has load averages in fixed point.
const loadShift = 16

// usage is processor time that was used until now, in seconds.
type usage struct {
	all float64 // by the whole machine
	own float64 // by a system's processes
}

func (u usage) since(before usage) usage { return usage{u.all - before.all, u.own - before.own} }

func usageOf(procs []*proc.Process) (usage, error) {
	all, err := machineTime()
	if err != nil {
		return usage{}, err
	}
	u := usage{all: all}
	for _, p := range procs {
		own, err := p.CPU()
		if err != nil {
			return usage{}, err
		}
		u.own += own.Seconds()
	}
	return u, nil
}

// machineTime is what all processors have worked: the first line of proc(5)'s
// stat, without what was idle, waiting, or taken by a hypervisor. A guest's time
// is part of user and nice.
func machineTime() (float64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 8 || f[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	return ticks(f[1], f[2], f[3], f[6], f[7]) // user, nice, system, irq, softirq
}

// ticks adds up numbers of 1/userHZ seconds.
func ticks(fields ...string) (float64, error) {
	var sum uint64
	for _, f := range fields {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return float64(sum) / userHZ, nil
}

// residentSet is the memory of processes that is in RAM, in bytes.
func residentSet(procs []*proc.Process) (sum uint64, err error) {
	for _, p := range procs {
		n, err := p.Resident()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// thisMachine says what is measured on.
func thisMachine() (Machine, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Machine{}, fmt.Errorf("uname: %w", err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return Machine{}, fmt.Errorf("sysinfo: %w", err)
	}
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return Machine{}, fmt.Errorf("sched_getaffinity: %w", err)
	}
	return Machine{
		About: bench.Machine(), Cores: may.Count(), Memory: uint64(info.Totalram) * uint64(info.Unit),
		Kernel: unix.ByteSliceToString(name.Release[:]), Load: float64(info.Loads[0]) / (1 << loadShift),
	}, nil
}
