package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// arpStats counts, a line a CPU, what became of the kernel's one table of
// neighbours for all namespaces.
const arpStats = "/proc/net/stat/arp_cache"

// fullTimes is how often the table was full, since boot; 0 if the kernel does
// not tell.
func fullTimes(stats string) (n uint64) {
	head, rest, _ := strings.Cut(stats, "\n")
	column := -1
	for i, name := range strings.Fields(head) {
		if name == "table_fulls" {
			column = i
		}
	}
	for line := range strings.Lines(rest) {
		if fields := strings.Fields(line); column >= 0 && column < len(fields) {
			count, _ := strconv.ParseUint(fields[column], 16, 64) // what is no number counts as none
			n += count
		}
	}
	return n
}

func neighboursFull() uint64 {
	b, err := os.ReadFile(arpStats)
	if err != nil {
		return 0
	}
	return fullTimes(string(b))
}

// explain adds to the error of a large lab what is likely to be its cause.
func (l *Lab) explain(err error) error {
	if neighboursFull() == l.full {
		return err
	}
	return fmt.Errorf("%w; meanwhile the kernel's neighbour table was full: sysctl -w net.ipv4.neigh.default.gc_thresh3=16384", err)
}
