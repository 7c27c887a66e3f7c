package dhcpd_test

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
)

// The disk may have got any part of what was being written when the power went:
// every sector is the old one or the new one. The store has every lease of before
// then, and once its header is on the disk every one of the last transaction.
func TestAWriteThatThePowerCutShortLosesNoLease(t *testing.T) {
	const (
		sector = 512
		header = 2 * 4096 // the two meta pages, which are written when all else is on the disk
	)
	dir := t.TempDir()
	file := filepath.Join(dir, "leases.db")
	random := rand.New(rand.NewPCG(4, 4))
	store, err := dhcpd.OpenBolt(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { store.Close() }()
	read := func() []byte {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	start := time.UnixMilli(1700000000000)
	has := map[int]time.Time{} // client and when its lease ends
	kept, gained := 0, 0
	for round := range 100 {
		before, had := read(), maps.Clone(has)
		var changes []dhcpd.Change
		for range 1 + random.IntN(60) {
			k := random.IntN(3000)
			if _, ok := has[k]; ok && random.IntN(3) == 0 {
				delete(has, k)
				changes = append(changes, dhcpd.Change{Segment: 100, Delete: true, Lease: dhcpd.Lease{IP: wideIP(k)}})
				continue
			}
			has[k] = start.Add(time.Duration(round+1) * time.Minute)
			changes = append(changes, dhcpd.Change{Segment: 100, Lease: dhcpd.Lease{
				IP: wideIP(k), State: dhcpd.StateBound, HType: 1, CHAddr: string(wideMAC(k)), Hostname: "guest", Start: start, Expires: has[k],
			}})
		}
		if err := store.Commit(changes); err != nil {
			t.Fatal(err)
		}
		after := read()

		torn := bytes.Clone(after)
		copy(torn, before)
		whole := random.IntN(2) == 0 // all but the header is on the disk
		for at := header; at < len(after); at += sector {
			if end := min(at+sector, len(after)); whole || random.IntN(2) == 0 {
				copy(torn[at:end], after[at:end])
			}
		}
		if whole { // the header, but not all of it: a sector has the whole of it, or less on some disks
			for page := 0; page < header; page += 4096 {
				copy(torn[page:page+random.IntN(100)], after[page:])
			}
		}
		name := filepath.Join(dir, "torn.db")
		if err := os.WriteFile(name, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		found := loaded(t, name)
		switch {
		case maps.EqualFunc(found, had, time.Time.Equal):
			kept++
		case whole && maps.EqualFunc(found, has, time.Time.Equal):
			gained++
		default:
			t.Fatalf("round %d: %d leases are there; %d were before, %d after", round, len(found), len(had), len(has))
		}
	}
	if kept < 50 || gained < 5 {
		t.Errorf("%d times the store was as before, %d times as after", kept, gained)
	}
}

// loaded is what a store has of segment 100: whose lease ends when.
func loaded(t *testing.T, file string) map[int]time.Time {
	t.Helper()
	store, err := dhcpd.OpenBolt(file)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	found := map[int]time.Time{}
	err = store.Load(100, func(l dhcpd.Lease) error {
		b := l.IP.As4()
		found[int(b[1])<<16|int(b[2])<<8|int(b[3])-256] = l.Expires
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The database makes its file larger than what it has in use, so that a file may
// lose its end and be sound: wherever it is cut, it is refused or has every lease.
func TestAFileThatIsCutShortIsRefusedOrHasEveryLease(t *testing.T) {
	for _, n := range []int{4, 400} {
		_, image := full(t, n)
		name := filepath.Join(t.TempDir(), "cut.db")
		refused := 0
		for size := 0; size <= len(image); size += 2048 {
			if err := os.WriteFile(name, image[:size], 0o600); err != nil {
				t.Fatal(err)
			}
			store, err := dhcpd.OpenBolt(name)
			if errors.Is(err, dhcpd.ErrStoreDamaged) {
				refused++
				continue
			}
			if err != nil {
				t.Fatalf("cut to %d bytes: %v", size, err)
			}
			found := len(leases(t, store, 100))
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			if found != n {
				t.Errorf("%d bytes of %d have %d leases of %d", size, len(image), found, n)
			}
		}
		if refused < 4 {
			t.Errorf("%d leases: %d cuts were refused", n, refused)
		}
	}
}
