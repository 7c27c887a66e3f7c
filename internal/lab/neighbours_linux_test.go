package lab

import "testing"

func TestAFullNeighbourTableIsCountedOnEveryCPU(t *testing.T) {
	const stats = `entries  allocs   table_fulls
0000035d 00000724 0000000a
0000035d 000006be 00000010
`
	if n := fullTimes(stats); n != 26 {
		t.Errorf("%d, want 26", n)
	}
	if n := fullTimes("entries\n00000001\n"); n != 0 {
		t.Errorf("a kernel that does not count: %d", n)
	}
}
